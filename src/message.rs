//! What travels: newtypes for everything that is counted, and blocks of records as a source hands them over.

pub mod order;
pub mod varint;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use varint::Cursor;

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

    /// Where it starts; 0 for null.
    #[inline]
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
    /// The epoch of the leader that wrote these records, where the log tells: a block has records of one.
    pub leader_epoch: Option<i32>,
}

impl RecordBlock {
    /// Empties the block and keeps its memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.records.clear();
        self.leader_epoch = None;
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

/// The headers of a record in Kafka's wire form, one by one: name and value.
#[derive(Clone, Debug)]
pub struct HeaderIter<'a> {
    bytes: &'a [u8],
    left: i64,
}

impl<'a> HeaderIter<'a> {
    /// Over the bytes that [`RecordBlock::headers`] gives; empty bytes are no headers.
    pub fn new(mut bytes: &'a [u8]) -> Self {
        let left = if bytes.is_empty() { 0 } else { varint(&mut bytes).unwrap_or(-1) };
        Self { bytes, left }
    }

    fn header(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let name_length = usize::try_from(varint(&mut self.bytes)?).ok()?;
        let name = self.bytes.split_off(..name_length)?;
        let value = match varint(&mut self.bytes)? {
            -1 => None,
            length => Some(self.bytes.split_off(..usize::try_from(length).ok()?)?),
        };
        Some((name, value))
    }
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let header = if self.left > 0 { self.header() } else { None };
        self.left = if header.is_some() { self.left - 1 } else { 0 };
        Some(header.ok_or_else(|| Error::corruption("record", "the headers of a record are damaged")))
    }
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut cursor = Cursor::new(bytes, 0);
    let value = cursor.varint()?;
    *bytes = bytes.get(cursor.at()..)?;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_one_by_one_and_damage_is_an_error() {
        let bytes = [4, 2, b'a', 2, b'x', 2, b'b', 1];
        let headers: Vec<_> = HeaderIter::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(headers, [(&b"a"[..], Some(&b"x"[..])), (b"b", None)]);
        for cut in 1..bytes.len() {
            assert!(HeaderIter::new(&bytes[..cut]).any(|header| header.is_err()), "{cut}");
        }
        assert_eq!(HeaderIter::new(&[]).count(), 0);
    }
}
