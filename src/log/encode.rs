//! Records to batches.

use std::io::Write;

use super::batch::{
    AT_ATTRIBUTES, AT_BASE_TIMESTAMP, AT_COUNT, AT_CRC, AT_EPOCH, AT_LAST_DELTA, AT_LENGTH, AT_MAGIC, AT_MAX_TIMESTAMP,
    AT_PRODUCER, Compression, HEADER, MAX_BATCH, PREFIX,
};
use crate::error::{Error, Result};
use crate::message::varint;

/// The greatest record, key, value and headers together, that may be appended: 64 MiB.
pub const MAX_RECORD: usize = 64 << 20;

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name; names may occur more than once.
    pub name: &'a str,
    /// Its value, or null.
    pub value: Option<&'a [u8]>,
}

/// A record to append.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The payload, or null.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since 1970 UTC: when it was made, or is appended.
    pub timestamp: i64,
}

impl NewRecord<'_> {
    fn headers_size(&self) -> usize {
        let one = |h: &Header<'_>| varint::size(h.name.len() as i64) + h.name.len() + field_size(h.value);
        varint::size(self.headers.len() as i64) + self.headers.iter().map(one).sum::<usize>()
    }

    /// An upper bound of its size in a batch.
    pub fn size_bound(&self) -> usize {
        30 + field_size(self.key) + field_size(self.value) + self.headers_size()
    }
}

#[inline]
fn field_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |b| varint::size(b.len() as i64) + b.len())
}

#[inline]
fn put_field(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.push(1),
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

/// What [`BatchBuilder::finish`] made.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// The offset of the last record.
    pub last_offset: i64,
    /// The greatest timestamp.
    pub max_timestamp: i64,
}

/// Collects records into one batch. Its memory is kept from batch to batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    raw: Vec<u8>,
    packed: Vec<u8>,
    compression: Compression,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch whose records will be packed so.
    pub fn new(compression: Compression) -> Self {
        Self { compression, ..Self::default() }
    }

    /// How many records it holds.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Its size so far, before compression.
    pub fn size(&self) -> usize {
        self.raw.len()
    }

    /// Adds a record.
    #[inline]
    pub fn push(&mut self, record: &NewRecord<'_>) {
        if self.count == 0 {
            self.raw.resize(HEADER, 0);
            self.base_timestamp = record.timestamp;
            self.max_timestamp = record.timestamp;
        }
        let time = record.timestamp.wrapping_sub(self.base_timestamp);
        let offset = i64::from(self.count);
        let headers = if record.headers.is_empty() { 1 } else { record.headers_size() };
        let length =
            1 + varint::size(time) + varint::size(offset) + field_size(record.key) + field_size(record.value) + headers;
        let out = &mut self.raw;
        varint::put(out, length as i64);
        out.push(0);
        varint::put(out, time);
        varint::put(out, offset);
        put_field(out, record.key);
        put_field(out, record.value);
        varint::put(out, record.headers.len() as i64);
        for header in record.headers {
            put_field(out, Some(header.name.as_bytes()));
            put_field(out, header.value);
        }
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
    }

    /// Closes the batch, which must hold a record: packs it, and fills in its header. [`Self::bytes`] are then what goes to disk.
    pub fn finish(&mut self, base_offset: i64, leader_epoch: i32) -> Result<Finished> {
        if self.count == 0 {
            return Err(Error::internal("a batch without records was finished"));
        }
        if self.compression != Compression::None {
            self.pack()?;
        }
        let (count, base, max) = (self.count, self.base_timestamp, self.max_timestamp);
        let attributes = self.compression.attribute();
        let bytes = if self.compression == Compression::None { &mut self.raw } else { &mut self.packed };
        if bytes.len() > MAX_BATCH {
            return Err(Error::internal(format!("a batch of {} bytes was built", bytes.len())));
        }
        let length = (bytes.len() - PREFIX) as i32;
        bytes[..AT_LENGTH].copy_from_slice(&base_offset.to_be_bytes());
        bytes[AT_LENGTH..AT_EPOCH].copy_from_slice(&length.to_be_bytes());
        bytes[AT_EPOCH..AT_MAGIC].copy_from_slice(&leader_epoch.to_be_bytes());
        bytes[AT_MAGIC] = 2;
        bytes[AT_ATTRIBUTES..AT_LAST_DELTA].copy_from_slice(&attributes.to_be_bytes());
        bytes[AT_LAST_DELTA..AT_BASE_TIMESTAMP].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[AT_BASE_TIMESTAMP..AT_MAX_TIMESTAMP].copy_from_slice(&base.to_be_bytes());
        bytes[AT_MAX_TIMESTAMP..AT_PRODUCER].copy_from_slice(&max.to_be_bytes());
        // Producer id, epoch and sequence are all −1: nobody in particular.
        bytes[AT_PRODUCER..AT_COUNT].fill(0xff);
        bytes[AT_COUNT..HEADER].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[AT_ATTRIBUTES..]);
        bytes[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        Ok(Finished { last_offset: base_offset + i64::from(count) - 1, max_timestamp: max })
    }

    fn pack(&mut self) -> Result<()> {
        let failed = |error: std::io::Error| Error::internal(format!("compress a batch: {error}"));
        self.packed.clear();
        self.packed.resize(HEADER, 0);
        let records = self.raw.get(HEADER..).unwrap_or_default();
        if self.compression == Compression::Lz4 {
            // Kafka's readers want independent blocks.
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, &mut self.packed);
            encoder.write_all(records).map_err(failed)?;
            encoder.finish().map_err(|error| Error::internal(format!("compress a batch: {error}")))?;
        } else {
            let mut encoder = zstd::stream::write::Encoder::new(&mut self.packed, 3).map_err(failed)?;
            encoder.write_all(records).map_err(failed)?;
            encoder.finish().map_err(failed)?;
        }
        Ok(())
    }

    /// The finished batch.
    pub fn bytes(&self) -> &[u8] {
        if self.compression == Compression::None { &self.raw } else { &self.packed }
    }

    /// Starts the next batch.
    pub fn clear(&mut self) {
        self.raw.clear();
        self.count = 0;
    }
}
