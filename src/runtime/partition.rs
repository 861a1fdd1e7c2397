//! A partition as one worker reads it: where it is, how far it may go, and what is shared with those who watch.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};
use crate::protocol::checkpoint::PartitionAck;
use crate::protocol::event_time::{PartitionTime, SourceCounts};
use crate::protocol::progress::PartitionProgress;
use crate::source::PartitionReader;

/// Bytes asked for at a time: enough to make a read worth it, little enough to stay in the cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Records decoded at a time.
pub const BATCH_RECORDS: usize = 8192;

/// A partition in the hands of a worker.
pub struct PartitionTask {
    /// Which source of the job.
    pub source: usize,
    /// Which partition.
    pub partition: Partition,
    /// How far event time has come.
    pub time: PartitionTime,
    /// The account.
    pub counts: SourceCounts,
    reader: Box<dyn PartitionReader>,
    block: RecordBlock,
    /// The next record of the block.
    cursor: usize,
    /// The next record to process.
    next: Offset,
    /// Where to stop.
    end: Option<Offset>,
    /// Records handed out at a time.
    batch: usize,
    leader_epoch: Option<i32>,
    progress: Arc<PartitionProgress>,
}

impl PartitionTask {
    /// A partition to read from `start.next` to `end`.
    pub fn new(
        source: usize,
        partition: Partition,
        start: PartitionAck,
        end: Option<Offset>,
        reader: Box<dyn PartitionReader>,
        progress: Arc<PartitionProgress>,
    ) -> Self {
        let task = Self {
            source,
            partition,
            time: start.time,
            counts: start.counts,
            reader,
            block: RecordBlock::default(),
            cursor: 0,
            next: start.next,
            end,
            batch: BATCH_RECORDS,
            leader_epoch: start.leader_epoch,
            progress,
        };
        task.publish();
        task
    }

    /// Hands out at most so many records at a time.
    pub fn with_batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }

    /// Whether it is at its end.
    pub fn at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Reads on past the end.
    pub fn unbound(&mut self) {
        self.end = None;
    }

    /// Fetches if nothing is left, and gives the next records to work on: the block and a range of it.
    pub fn fetch(&mut self) -> Result<Option<(RecordBlock, std::ops::Range<usize>)>> {
        if self.at_end() {
            return Ok(None);
        }
        if self.cursor >= self.block.len() {
            self.block.clear();
            self.cursor = 0;
            self.reader.poll(&mut self.block, BLOCK_BYTES, self.end)?;
            if self.block.is_empty() {
                if self.block.next_offset > self.next {
                    self.next = self.block.next_offset;
                    self.leader_epoch = None;
                }
                self.publish();
                return Ok(None);
            }
        }
        let range = self.cursor..(self.cursor + self.batch).min(self.block.len());
        Ok(Some((std::mem::take(&mut self.block), range)))
    }

    /// The offset of a record of the block at hand.
    pub fn offset_of(&self, record: usize) -> Option<i64> {
        self.block.records.get(record).map(|record| record.offset)
    }

    /// Gives the block back after the records up to `done` were worked on.
    pub fn advance(&mut self, block: RecordBlock, done: usize) {
        self.next = match block.records.get(done) {
            Some(record) => Offset(record.offset),
            None => block.next_offset,
        };
        // What lies between the last record and the next may be of another leader.
        let follows = done.checked_sub(1).and_then(|last| block.records.get(last)).is_some_and(|r| r.offset + 1 == self.next.0);
        self.leader_epoch = block.leader_epoch.filter(|_| follows);
        self.block = block;
        self.cursor = done;
        self.publish();
    }

    fn publish(&self) {
        self.progress.next.store(self.next.0, Relaxed);
        self.progress.read.store(self.counts.read, Relaxed);
        self.progress.accepted_max.store(self.time.accepted_max.unwrap_or(i64::MIN), Relaxed);
    }

    /// Where it is: what a barrier records.
    pub fn ack(&self) -> PartitionAck {
        PartitionAck { next: self.next, time: self.time, counts: self.counts, leader_epoch: self.leader_epoch }
    }
}
