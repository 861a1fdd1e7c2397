//! The two sparse indexes of a segment, in Kafka's format. They are hints: a reader checks what an entry says against the
//! batch it points to, and does without when they differ.
//!
//! - `.index`: last offset of a batch relative to the segment's base (u32), position of the batch (u32), big endian
//! - `.timeindex`: greatest timestamp so far (i64), last offset of the batch that holds it, relative (u32), big endian

use std::fs;

use super::files::PartitionDir;

/// An entry of the offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The last offset of a batch.
    pub last_offset: i64,
    /// Where the batch starts in the segment.
    pub position: u64,
}

/// An entry of the time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The greatest timestamp up to and including that batch.
    pub timestamp: i64,
    /// The last offset of the batch that holds it.
    pub last_offset: i64,
}

/// Encodes an entry of the offset index.
pub fn offset_entry(base: i64, entry: OffsetEntry) -> [u8; 8] {
    let relative = ((entry.last_offset - base) as u64) << 32;
    (relative | (entry.position & 0xffff_ffff)).to_be_bytes()
}

/// Encodes an entry of the time index.
pub fn time_entry(base: i64, entry: TimeEntry) -> [u8; 12] {
    let mut out = [0; 12];
    out[..8].copy_from_slice(&entry.timestamp.to_be_bytes());
    out[8..].copy_from_slice(&((entry.last_offset - base) as u32).to_be_bytes());
    out
}

/// The offset index of a segment, as far as it rises. None if it cannot be read.
pub fn offsets(dir: &PartitionDir, base: i64) -> Vec<OffsetEntry> {
    let bytes = fs::read(dir.file(base, "index")).unwrap_or_default();
    let mut entries: Vec<OffsetEntry> = Vec::with_capacity(bytes.len() / 8);
    for chunk in bytes.as_chunks::<8>().0 {
        let both = u64::from_be_bytes(*chunk);
        let entry = OffsetEntry { last_offset: base + (both >> 32) as i64, position: both & 0xffff_ffff };
        let rises = entries.last().is_none_or(|last| last.last_offset < entry.last_offset && last.position < entry.position);
        if !rises || entry.position == 0 {
            break;
        }
        entries.push(entry);
    }
    entries
}

/// The time index of a segment, or nothing if any of it is not as it was written: its last entry speaks for the whole.
pub fn whole_times(dir: &PartitionDir, base: i64) -> Vec<TimeEntry> {
    let bytes = fs::read(dir.file(base, "timeindex")).unwrap_or_default();
    let entries = rising_times(base, &bytes);
    if entries.len() * 12 == bytes.len() { entries } else { Vec::new() }
}

/// The time index of a segment, as far as it rises. None if it cannot be read.
pub fn times(dir: &PartitionDir, base: i64) -> Vec<TimeEntry> {
    rising_times(base, &fs::read(dir.file(base, "timeindex")).unwrap_or_default())
}

fn rising_times(base: i64, bytes: &[u8]) -> Vec<TimeEntry> {
    let mut entries: Vec<TimeEntry> = Vec::with_capacity(bytes.len() / 12);
    for chunk in bytes.as_chunks::<12>().0 {
        let (Some(timestamp), Some(relative)) = (chunk.first_chunk::<8>(), chunk.last_chunk::<4>()) else { break };
        let entry = TimeEntry {
            timestamp: i64::from_be_bytes(*timestamp),
            last_offset: base + i64::from(u32::from_be_bytes(*relative)),
        };
        let rises = entries.last().is_none_or(|last| last.timestamp < entry.timestamp && last.last_offset < entry.last_offset);
        if !rises {
            break;
        }
        entries.push(entry);
    }
    entries
}

/// The last entry at or before an offset.
pub fn at_or_before(entries: &[OffsetEntry], offset: i64) -> Option<OffsetEntry> {
    entries.get(entries.partition_point(|entry| entry.last_offset <= offset).checked_sub(1)?).copied()
}
