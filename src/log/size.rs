//! How many bytes lie between two offsets. For people: an index that lies gives a wrong number, and nothing else.

use std::fs::{self, File};

use super::batch::{BatchHeader, HEADER};
use super::extent;
use super::files::{PartitionDir, read_full};
use super::index;
use crate::error::Result;
use crate::message::Offset;

/// The bytes on disk of the batches between two offsets; of a batch that both sides have a part in, the second has it all.
pub fn bytes_between(dir: &PartitionDir, from: Offset, until: Offset) -> Result<u64> {
    let extent = extent::read(dir)?;
    let mut bases = dir.segments()?;
    bases.retain(|base| *base <= extent.segment);
    let mut bytes = 0;
    for (index, base) in bases.iter().enumerate() {
        let next = bases.get(index + 1).copied().unwrap_or(extent.end);
        if next <= from.0 || *base >= until.0 {
            continue;
        }
        let size = if *base == extent.segment {
            extent.position
        } else {
            // Retention may delete it in between.
            fs::metadata(dir.file(*base, "log")).map_or(0, |metadata| metadata.len())
        };
        let begin = if from.0 <= *base { 0 } else { position_of(dir, *base, from.0, size) };
        let end = if until.0 >= next { size } else { position_of(dir, *base, until.0, size) };
        bytes += end.saturating_sub(begin);
    }
    Ok(bytes)
}

/// Where the batch that holds an offset begins in a segment of this size.
fn position_of(dir: &PartitionDir, base: i64, offset: i64, size: u64) -> u64 {
    let Ok(file) = File::open(dir.file(base, "log")) else { return size };
    let mut position = index::at_or_before(&index::offsets(dir, base), offset).map_or(0, |entry| entry.position);
    let mut head = [0; HEADER];
    while position < size && matches!(read_full(&file, &mut head, position), Ok(HEADER)) {
        match BatchHeader::parse(&head) {
            Ok(header) if header.last_offset() < offset => position += header.size as u64,
            _ => break,
        }
    }
    position.min(size)
}

#[cfg(test)]
mod tests {
    use crate::log::{LogDir, NewRecord, Retention, WriterOptions};
    use crate::message::{Offset, Partition};

    #[test]
    fn parts_of_a_partition_add_up_to_it() {
        let root = tempfile::tempdir().unwrap();
        let topic = LogDir::open(root.path()).create_topic("t", 1, Retention::default()).unwrap();
        let options = WriterOptions { batch_bytes: 300, segment_bytes: 4_000, ..WriterOptions::default() };
        let mut writer = topic.writer(Partition(0), options).unwrap();
        for timestamp in 0..500 {
            writer.push(&NewRecord { value: Some(b"0123456789"), timestamp, ..NewRecord::default() }).unwrap();
        }
        writer.flush().unwrap();
        let whole = topic.extent(Partition(0)).unwrap();
        assert!(topic.dir(Partition(0)).unwrap().segments().unwrap().len() > 2);
        let between = |from, until| topic.bytes_between(Partition(0), Offset(from), Offset(until)).unwrap();
        assert_eq!(between(0, 500), whole.bytes);
        for cut in [1, 77, 250, 499] {
            assert_eq!(between(0, cut) + between(cut, 500), whole.bytes, "{cut}");
        }
        let half = between(125, 375) as f64 / whole.bytes as f64;
        assert!((0.45..0.55).contains(&half), "{half}");
        assert_eq!(between(40, 40), 0);
    }
}
