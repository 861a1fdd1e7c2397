//! Appending to one partition.

use super::batch::{Compression, HEADER};
use super::encode::{BatchBuilder, MAX_RECORD, NewRecord};
use super::extent::{Extent, Publisher};
use super::files::{PartitionDir, WriterLock};
use super::recover::{self, Truncation};
use super::retention::{self, Retention};
use super::segment::ActiveSegment;
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};
use crate::protocol::failpoint;

/// When appended records become durable, and so readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Before each append returns.
    EachAppend,
    /// Whenever this many bytes are waiting, and at an explicit flush.
    EveryBytes(u64),
    /// At an explicit flush only.
    Explicit,
}

/// How a partition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// A segment is ended before it would grow beyond this: default 1 GiB, below 2 GiB.
    pub segment_bytes: u64,
    /// A batch is closed at about this size, before compression: default 128 KiB.
    pub batch_bytes: usize,
    /// There is an index entry for about this many bytes: default 4 KiB, as in Kafka.
    pub index_interval: u64,
    /// How batches are packed: default not at all.
    pub compression: Compression,
    /// When records become durable: default every 64 MiB.
    pub flush: Flush,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            batch_bytes: 128 << 10,
            index_interval: 4 << 10,
            compression: Compression::None,
            flush: Flush::EveryBytes(64 << 20),
        }
    }
}

impl WriterOptions {
    fn check(&self) -> Result<()> {
        if !(1024..1 << 31).contains(&self.segment_bytes) {
            return Err(Error::config(
                "log.segment_bytes",
                format!("a segment of {} bytes is not possible", self.segment_bytes),
            )
            .hint("a segment has between 1 KiB and 2 GiB"));
        }
        if self.batch_bytes > 16 << 20 {
            return Err(Error::config("log.batch_bytes", format!("a batch of {} bytes is not possible", self.batch_bytes))
                .hint("a batch has at most 16 MiB; larger records get a batch each"));
        }
        Ok(())
    }
}

/// The one writer of a partition. Records that were not flushed when it is dropped were never acknowledged, and are gone.
///
/// After an error the writer is closed for good: whether a failed write or sync reached the disk is not known until the
/// partition is opened again.
#[derive(Debug)]
pub struct PartitionWriter {
    dir: PartitionDir,
    _lock: WriterLock,
    options: WriterOptions,
    active: ActiveSegment,
    publisher: Publisher,
    builder: BatchBuilder,
    /// The offset of the builder's first record.
    next: i64,
    unsynced: u64,
    is_closed: bool,
    truncation: Option<Truncation>,
}

impl PartitionWriter {
    /// Takes the partition's lock, finds its end, and cuts off a torn tail.
    pub fn open(dir: PartitionDir, options: WriterOptions) -> Result<Self> {
        options.check()?;
        let lock = WriterLock::acquire(&dir)?;
        let recovered = recover::recover(&dir, options.index_interval)?;
        Ok(Self {
            _lock: lock,
            options,
            next: recovered.publisher.current().end,
            active: recovered.active,
            publisher: recovered.publisher,
            builder: BatchBuilder::new(options.compression),
            unsynced: 0,
            is_closed: false,
            truncation: recovered.truncation,
            dir,
        })
    }

    /// The torn tail that opening has cut off, if there was one.
    pub fn truncation(&self) -> Option<&Truncation> {
        self.truncation.as_ref()
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        Partition(self.dir.partition)
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> Offset {
        Offset(self.next + i64::from(self.builder.count()))
    }

    /// The offset up to which records are durable, and visible to readers.
    pub fn durable_end(&self) -> Offset {
        Offset(self.publisher.current().end)
    }

    /// Appends records under the flush policy; the offset of the first.
    pub fn append(&mut self, records: &[NewRecord<'_>]) -> Result<Offset> {
        let first = self.end();
        for record in records {
            self.push(record)?;
        }
        if self.options.flush == Flush::EachAppend {
            self.flush()?;
        }
        Ok(first)
    }

    /// Appends one record; it becomes durable later, except that [`Flush::EveryBytes`] is kept.
    #[inline]
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<()> {
        let size = record.size_bound();
        if size > MAX_RECORD {
            return Err(self.too_large(size));
        }
        if self.is_closed || self.builder.size() + size > self.options.batch_bytes.max(HEADER) {
            self.write_batch()?;
        }
        self.builder.push(record);
        Ok(())
    }

    /// Makes all records durable and visible; the offset after the last.
    pub fn flush(&mut self) -> Result<Offset> {
        self.write_batch()?;
        let result = self.publish();
        self.guard(result)?;
        Ok(self.durable_end())
    }

    /// Deletes whole segments that the retention no longer keeps, from the start, never the active one.
    /// Returns how many bytes were deleted.
    pub fn enforce_retention(&mut self, retention: &Retention, now_ms: i64) -> Result<u64> {
        let Some((start, bytes)) = retention::overdue(&self.dir, self.publisher.current(), retention, now_ms)? else {
            return Ok(0);
        };
        let result = self.publisher.publish(Extent { start, ..*self.publisher.current() });
        self.guard(result)?;
        failpoint::hit("L4");
        retention::remove_before(&self.dir, start)?;
        Ok(bytes)
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        let what = format!("a record of {size} bytes is too large");
        self.dir.named(Error::data("log.record_too_large", what)).hint("a record has at most 64 MiB with its key and headers")
    }

    fn guard<T>(&mut self, result: Result<T>) -> Result<T> {
        self.is_closed |= result.is_err();
        result
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.is_closed {
            let what = "an earlier append failed, so this writer is closed";
            return Err(self
                .dir
                .named(Error::new(crate::error::ErrorKind::Unavailable, "log.closed", what))
                .hint("open the partition again: that finds out what is durable"));
        }
        if self.builder.count() == 0 {
            return Ok(());
        }
        let result = self.write_built();
        self.guard(result)?;
        match self.options.flush {
            Flush::EveryBytes(limit) if self.unsynced >= limit => {
                let result = self.publish();
                self.guard(result)
            }
            _ => Ok(()),
        }
    }

    fn write_built(&mut self) -> Result<()> {
        let finished = self.builder.finish(self.next, self.publisher.current().leader_epoch)?;
        let size = self.builder.bytes().len() as u64;
        let is_full = self.active.position + size > self.options.segment_bytes;
        let is_wide = finished.last_offset - self.active.base > i64::from(i32::MAX);
        if self.active.position > 0 && (is_full || is_wide) {
            self.publish()?;
            self.active.seal()?;
            self.active = ActiveSegment::create(&self.dir, self.next, self.options.index_interval)?;
        }
        self.active.append(self.builder.bytes(), finished.last_offset, finished.max_timestamp)?;
        self.next = finished.last_offset + 1;
        self.unsynced += size;
        self.builder.clear();
        Ok(())
    }

    fn publish(&mut self) -> Result<()> {
        if self.next == self.publisher.current().end {
            return Ok(());
        }
        self.active.sync()?;
        self.publisher.publish(Extent {
            end: self.next,
            segment: self.active.base,
            position: self.active.position,
            max_timestamp: self.active.newest.timestamp,
            max_timestamp_offset: self.active.newest.last_offset,
            ..*self.publisher.current()
        })?;
        self.unsynced = 0;
        Ok(())
    }
}
