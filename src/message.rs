//! What travels: newtypes for everything that is counted, and blocks of records as a source hands them over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in a partition: the number of a record, and of the next one to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// A partition of a topic, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub i32);

/// The number of a checkpoint within a version, from 1; also the epoch between two barriers that it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One of the fixed groups that keys are hashed into; state moves between workers by whole groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

macro_rules! display_as_number {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}
display_as_number!(Offset, Partition, Epoch, KeyGroup);

/// A range of bytes in a block, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// No value, as opposed to an empty one.
    pub const NULL: Self = Self { start: 0, len: u32::MAX };

    /// `len` bytes from `start`.
    pub fn new(start: usize, len: usize) -> Self {
        debug_assert!(start + len <= u32::MAX as usize);
        Self { start: start as u32, len: len as u32 }
    }

    /// Where the bytes start.
    pub fn start(self) -> usize {
        self.start as usize
    }

    /// The bytes in `data`, or `None` for null.
    #[inline]
    pub fn get(self, data: &[u8]) -> Option<&[u8]> {
        if self.len == u32::MAX { None } else { data.get(self.start as usize..self.start as usize + self.len as usize) }
    }
}

/// One record, as positions in the block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef {
    /// Its offset in the partition.
    pub offset: i64,
    /// The log's timestamp, milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The key.
    pub key: Span,
    /// The payload.
    pub value: Span,
    /// The headers, in Kafka's wire form: varint count, then (varint length, name, varint length or −1, value) each.
    pub headers: Span,
}

/// Consecutive records of one partition, in offset order, lying in one buffer: nothing is allocated per record.
#[derive(Clone, Debug, Default)]
pub struct RecordBlock {
    /// Where the records come from.
    pub partition: Partition,
    /// The bytes that spans point into.
    pub data: Vec<u8>,
    /// The records, by rising offset. There may be holes.
    pub records: Vec<RecordRef>,
    /// The position after this block: where the next read starts. It may lie past the last record + 1.
    pub next_offset: Offset,
}

impl RecordBlock {
    /// Empties the block and keeps its memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.records.clear();
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The payload of record `index` of this block.
    #[inline]
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.records[index].value.get(&self.data)
    }

    /// The key of record `index` of this block.
    #[inline]
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        self.records[index].key.get(&self.data)
    }

    /// The headers of record `index` of this block, in Kafka's wire form.
    pub fn headers(&self, index: usize) -> Option<&[u8]> {
        self.records[index].headers.get(&self.data)
    }
}
