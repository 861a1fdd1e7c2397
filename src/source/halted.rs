//! A topic that is read up to the middle and no further: whoever reads it stands there, and can be killed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{LogSource, PartitionExtent, PartitionReader};
use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};

/// A topic whose readers get nothing from `middle` on.
pub struct Halted {
    /// The topic.
    pub log: Arc<dyn LogSource>,
    /// By partition; others are read to their end.
    pub middle: BTreeMap<Partition, Offset>,
}

impl LogSource for Halted {
    fn topic_id(&self) -> &str {
        self.log.topic_id()
    }

    fn partitions(&self) -> Result<Vec<PartitionExtent>> {
        self.log.partitions()
    }

    fn offsets_at(&self, timestamp: i64) -> Result<BTreeMap<Partition, Offset>> {
        self.log.offsets_at(timestamp)
    }

    fn verify(&self) -> Result<()> {
        self.log.verify()
    }

    fn committed(&self, group: &str) -> Result<BTreeMap<Partition, Offset>> {
        self.log.committed(group)
    }

    fn publish(&self, group: &str, positions: &BTreeMap<Partition, Offset>) {
        self.log.publish(group, positions);
    }

    fn not_replayable(&self) -> Result<Option<String>> {
        self.log.not_replayable()
    }

    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        let reader = self.log.open(partition, at, leader_epoch)?;
        Ok(match self.middle.get(&partition) {
            Some(middle) => Box::new(Halting { reader, middle: *middle }),
            None => reader,
        })
    }
}

struct Halting {
    reader: Box<dyn PartitionReader>,
    middle: Offset,
}

impl PartitionReader for Halting {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        let until = until.map_or(self.middle, |until| until.min(self.middle));
        self.reader.poll(block, max_bytes, Some(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogDir, NewRecord, Retention, WriterOptions};
    use crate::source::embedded::EmbeddedSource;

    #[test]
    fn nothing_comes_from_the_middle_on() {
        let root = tempfile::tempdir().unwrap();
        let topic = LogDir::open(root.path()).create_topic("t", 2, Retention::default()).unwrap();
        for partition in topic.partitions() {
            let mut writer = topic.writer(partition, WriterOptions::default()).unwrap();
            (0..10).for_each(|_| writer.push(&NewRecord { value: Some(b"{}"), ..NewRecord::default() }).unwrap());
            writer.flush().unwrap();
        }
        let halted = Halted { log: Arc::new(EmbeddedSource::new(topic)), middle: [(Partition(0), Offset(4))].into() };
        let read = |partition: i32, until: i64| {
            let mut reader = halted.open(Partition(partition), Offset(0), None).unwrap();
            let (mut block, mut count) = (RecordBlock::default(), 0);
            for _ in 0..3 {
                reader.poll(&mut block, 1 << 20, Some(Offset(until))).unwrap();
                count += block.len();
            }
            (count, block.next_offset.0)
        };
        assert_eq!([read(0, 10), read(0, 3), read(1, 10)], [(4, 4), (3, 3), (10, 10)]);
    }
}
