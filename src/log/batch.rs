//! The header of Kafka's record batch, version 2: where each field lies, and what makes a batch whole.

use std::ops::Range;

/// Bytes before the first record.
pub const HEADER: usize = 61;
/// Bytes that the batch's length field does not count: the base offset and itself.
pub const PREFIX: usize = 12;
/// The greatest batch that is written or believed, header included. A greater length is damage.
pub const MAX_BATCH: usize = 128 << 20;
/// The greatest offset that a batch may start at: what is added to it later always fits.
pub const MAX_OFFSET: i64 = i64::MAX - (1 << 33);
/// The greatest size of the records of one batch once they are decompressed.
pub const MAX_RECORDS: usize = 256 << 20;

pub(super) const AT_LENGTH: usize = 8;
pub(super) const AT_EPOCH: usize = 12;
pub(super) const AT_MAGIC: usize = 16;
pub(super) const AT_CRC: usize = 17;
pub(super) const AT_ATTRIBUTES: usize = 21;
pub(super) const AT_LAST_DELTA: usize = 23;
pub(super) const AT_BASE_TIMESTAMP: usize = 27;
pub(super) const AT_MAX_TIMESTAMP: usize = 35;
pub(super) const AT_PRODUCER: usize = 43;
pub(super) const AT_COUNT: usize = 57;

const APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// How the records of a batch are packed. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// As they are: records are read without a copy.
    #[default]
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    pub(super) fn attribute(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }
}

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of its first record.
    pub base_offset: i64,
    /// Its size in bytes, header included.
    pub size: usize,
    /// The leader epoch it was written in.
    pub leader_epoch: i32,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    /// The timestamp that the deltas of the records count from.
    pub base_timestamp: i64,
    /// The greatest timestamp of its records.
    pub max_timestamp: i64,
    /// How many records it holds.
    pub count: i32,
}

impl BatchHeader {
    /// Reads a header from the front of `bytes`; says what cannot be if it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let Some(head) = bytes.first_chunk::<HEADER>() else { return Err("the batch's header is cut off") };
        let length = i32_at(head, AT_LENGTH);
        let header = Self {
            base_offset: i64_at(head, 0),
            size: usize::try_from(length).unwrap_or(0) + PREFIX,
            leader_epoch: i32_at(head, AT_EPOCH),
            crc: i32_at(head, AT_CRC) as u32,
            attributes: i16::from_be_bytes([head[AT_ATTRIBUTES], head[AT_ATTRIBUTES + 1]]),
            last_offset_delta: i32_at(head, AT_LAST_DELTA),
            base_timestamp: i64_at(head, AT_BASE_TIMESTAMP),
            max_timestamp: i64_at(head, AT_MAX_TIMESTAMP),
            count: i32_at(head, AT_COUNT),
        };
        if head[AT_MAGIC] != 2 {
            return Err("the batch's version is not 2");
        }
        if header.size < HEADER || header.size > MAX_BATCH {
            return Err("the batch's length is out of bounds");
        }
        if header.base_offset < 0 || header.last_offset_delta < 0 || header.count < 0 {
            return Err("a number in the batch's header is negative");
        }
        if header.base_offset > MAX_OFFSET {
            return Err("the batch's offset is out of bounds");
        }
        Ok(header)
    }

    /// The offset of its last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Whether `batch`, its whole bytes, has the checksum that the header names.
    pub fn is_intact(&self, batch: &[u8]) -> bool {
        batch.len() == self.size && batch.get(AT_ATTRIBUTES..).is_some_and(|body| crc32c::crc32c(body) == self.crc)
    }

    /// Where the records lie in a batch that starts at `at`.
    pub fn records_at(&self, at: usize) -> Range<usize> {
        at + HEADER..at + self.size
    }

    /// How the records are packed; `None` if in a way that is not known here.
    pub fn compression(&self) -> Option<Compression> {
        match self.attributes & 7 {
            0 => Some(Compression::None),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Whether it holds markers of transactions instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Whether its records belong to a transaction, which this log does not know.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether all records have the greatest timestamp, that of the append.
    pub fn has_append_time(&self) -> bool {
        self.attributes & APPEND_TIME != 0
    }
}

fn i32_at(head: &[u8; HEADER], at: usize) -> i32 {
    i32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

fn i64_at(head: &[u8; HEADER], at: usize) -> i64 {
    (i64::from(i32_at(head, at)) << 32) | i64::from(i32_at(head, at + 4) as u32)
}
