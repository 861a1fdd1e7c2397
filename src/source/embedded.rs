//! The embedded log as a source.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{LogSource, PartitionExtent, PartitionReader};
use crate::error::{Error, Result};
use crate::log::{LogDir, LogReader, Topic};
use crate::message::{Offset, Partition, RecordBlock};

/// A topic of a log in a directory.
#[derive(Clone, Debug)]
pub struct EmbeddedSource {
    topic: Topic,
    id: String,
}

impl EmbeddedSource {
    /// The topic in the log at `root`. The error for an unknown one names those that are near.
    pub fn open(root: impl Into<PathBuf>, topic: &str) -> Result<Self> {
        Ok(Self::new(LogDir::open(root).topic(topic)?))
    }

    /// A topic that was found already.
    pub fn new(topic: Topic) -> Self {
        Self { id: topic.id().to_string(), topic }
    }

    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl LogSource for EmbeddedSource {
    fn topic_id(&self) -> &str {
        &self.id
    }

    fn partitions(&self) -> Result<Vec<PartitionExtent>> {
        let one = |partition| {
            let extent = self.topic.extent(partition)?;
            Ok(PartitionExtent {
                partition,
                start: extent.start,
                end: extent.end,
                leader_epoch: extent.leader_epoch,
                bytes: extent.bytes,
            })
        };
        self.topic.partitions().map(one).collect()
    }

    fn offset_at(&self, partition: Partition, timestamp: i64) -> Result<Offset> {
        self.topic.offset_at(partition, timestamp)
    }

    fn verify(&self) -> Result<()> {
        // Its directory is held by what is open in it.
        Ok(())
    }

    fn committed(&self, group: &str) -> Result<BTreeMap<Partition, Offset>> {
        Err(Error::refused("no_groups", format!("the embedded log has no consumer groups, and none called {group:?}"))
            .hint("use --from earliest, a time, or PARTITION:OFFSET,…"))
    }

    fn publish(&self, _: &str, _: &BTreeMap<Partition, Offset>) {}

    fn not_replayable(&self) -> Result<Option<String>> {
        Ok(None)
    }

    fn open(&self, partition: Partition, at: Offset, _: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(self.topic.reader(partition, at)?))
    }
}

impl PartitionReader for LogReader {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        LogReader::poll(self, block, max_bytes, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogDir, NewRecord, Retention, WriterOptions};

    #[test]
    fn the_log_is_a_source() {
        let root = tempfile::tempdir().unwrap();
        let topic = LogDir::open(root.path()).create_topic("t", 2, Retention::default()).unwrap();
        let mut writer = topic.writer(Partition(1), WriterOptions { batch_bytes: 100, ..WriterOptions::default() }).unwrap();
        for timestamp in 1_000..1_050 {
            writer.push(&NewRecord { value: Some(b"{}"), timestamp, ..NewRecord::default() }).unwrap();
        }
        writer.flush().unwrap();
        let source = EmbeddedSource::open(root.path(), "t").unwrap();
        assert_eq!(source.topic_id(), topic.id().to_string());
        let partitions = source.partitions().unwrap();
        assert_eq!((partitions[0].end, partitions[1].end, partitions[1].start), (Offset(0), Offset(50), Offset(0)));
        assert_eq!(source.offset_at(Partition(1), 1_007).unwrap(), Offset(7));
        let mut reader = source.open(Partition(1), Offset(7), None).unwrap();
        let mut block = RecordBlock::default();
        reader.poll(&mut block, 1 << 20, Some(Offset(12))).unwrap();
        let offsets: Vec<i64> = block.records.iter().map(|record| record.offset).collect();
        assert_eq!((offsets, block.partition, block.next_offset), ((7..12).collect(), Partition(1), Offset(12)));
        assert!(EmbeddedSource::open(root.path(), "u").is_err());
    }
}
