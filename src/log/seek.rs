//! From timestamps to offsets.
//!
//! The time index speeds this up and is never trusted: the entry that is used must agree with the batch that it names.
//! Where it does not, the records themselves are read.

use std::fs::File;

use super::batch::{BatchHeader, HEADER};
use super::extent::{self, Extent};
use super::files::{PartitionDir, read_full};
use super::index::{self, TimeEntry};
use super::reader::LogReader;
use crate::error::Result;
use crate::message::{Offset, RecordBlock};

const CHUNK: usize = 1 << 20;

/// The first offset whose record has this timestamp or a later one; the end if none.
pub fn offset_at(dir: &PartitionDir, timestamp: i64) -> Result<Offset> {
    let extent = extent::read(dir)?;
    let mut bases = dir.segments()?;
    bases.retain(|base| *base <= extent.segment);
    for (index, base) in bases.iter().enumerate() {
        let next = bases.get(index + 1).copied().unwrap_or(extent.end);
        if next > extent.start && newest_timestamp(dir, &extent, *base, next)? >= timestamp {
            return find(dir, &extent, *base, timestamp);
        }
    }
    Ok(Offset(extent.end))
}

/// The greatest timestamp in the segment from `base` to `next`; [`i64::MIN`] if it is empty.
pub fn newest_timestamp(dir: &PartitionDir, extent: &Extent, base: i64, next: i64) -> Result<i64> {
    if base == extent.segment {
        return Ok(extent.max_timestamp);
    }
    match index::whole_times(dir, base).last() {
        Some(entry) if agrees(dir, base, *entry) => Ok(entry.timestamp),
        _ => {
            let mut newest = i64::MIN;
            let read = |block: &RecordBlock| {
                newest = block.records.iter().map(|record| record.timestamp).fold(newest, i64::max);
                None::<()>
            };
            read_until(dir, base.max(extent.start), next, read)?;
            Ok(newest)
        }
    }
}

fn find(dir: &PartitionDir, extent: &Extent, base: i64, timestamp: i64) -> Result<Offset> {
    let entries = index::whole_times(dir, base);
    let before = entries.partition_point(|entry| entry.timestamp < timestamp).checked_sub(1);
    let entry = before.and_then(|index| entries.get(index)).filter(|entry| entry.last_offset < extent.end);
    let from = match entry {
        Some(entry) if agrees(dir, base, *entry) => entry.last_offset + 1,
        _ => base,
    };
    let first = |block: &RecordBlock| block.records.iter().find(|record| record.timestamp >= timestamp).map(|r| r.offset);
    let found = read_until(dir, from.max(extent.start), extent.end, first)?;
    Ok(Offset(found.unwrap_or(extent.end)))
}

/// Reads blocks until `look` finds something or `until` is reached.
fn read_until<T>(
    dir: &PartitionDir,
    from: i64,
    until: i64,
    mut look: impl FnMut(&RecordBlock) -> Option<T>,
) -> Result<Option<T>> {
    let mut reader = LogReader::open(dir.clone(), Offset(from))?;
    let mut block = RecordBlock::default();
    loop {
        reader.poll(&mut block, CHUNK, Some(Offset(until)))?;
        if block.is_empty() {
            return Ok(None);
        }
        if let Some(found) = look(&block) {
            return Ok(Some(found));
        }
    }
}

/// Whether the batch that ends at the entry's offset has the entry's timestamp as its greatest.
fn agrees(dir: &PartitionDir, base: i64, entry: TimeEntry) -> bool {
    let Ok(file) = File::open(dir.file(base, "log")) else { return false };
    let mut position = index::at_or_before(&index::offsets(dir, base), entry.last_offset).map_or(0, |entry| entry.position);
    let mut head = [0; HEADER];
    while matches!(read_full(&file, &mut head, position), Ok(HEADER)) {
        let Ok(header) = BatchHeader::parse(&head) else { return false };
        if header.last_offset() >= entry.last_offset {
            return header.last_offset() == entry.last_offset && header.max_timestamp == entry.timestamp;
        }
        position += header.size as u64;
    }
    false
}
