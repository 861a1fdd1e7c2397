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
            Ok(PartitionExtent { partition, start: extent.start, end: extent.end, bytes: extent.bytes })
        };
        self.topic.partitions().map(one).collect()
    }

    fn offsets_at(&self, timestamp: i64) -> Result<BTreeMap<Partition, Offset>> {
        self.topic.partitions().map(|partition| Ok((partition, self.topic.offset_at(partition, timestamp)?))).collect()
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

    fn bytes_between(&self, partition: Partition, from: Offset, until: Offset) -> Result<Option<u64>> {
        self.topic.bytes_between(partition, from, until).map(Some)
    }

    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        let now = self.topic.epoch_before(partition, at)?;
        if let (Some(then), Some(now)) = (leader_epoch, now)
            && then != now
        {
            let message = format!("the log was cut below offset {at} since it was read, and written again");
            return Err(Error::refused("log_truncated", message)
                .with("partition", partition)
                .with("leader_epoch_then", then)
                .with("leader_epoch_now", now)
                .hint("records that were read are gone: reprocess into a new table"));
        }

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
    fn a_log_that_was_cut_and_written_again_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let topic = LogDir::open(root.path()).create_topic("t", 1, Retention::default()).unwrap();
        let write = |values: std::ops::Range<i64>| {
            let mut writer = topic.writer(Partition(0), WriterOptions::default()).unwrap();
            for timestamp in values {
                writer.push(&NewRecord { value: Some(b"{}"), timestamp, ..NewRecord::default() }).unwrap();
                writer.flush().unwrap();
            }
        };
        write(0..5);
        let source = EmbeddedSource::open(root.path(), "t").unwrap();
        let mut block = RecordBlock::default();
        source.open(Partition(0), Offset(0), None).unwrap().poll(&mut block, 1 << 20, None).unwrap();
        let epoch = block.leader_epoch;
        assert_eq!((block.len(), epoch), (5, Some(0)));
        assert!(source.open(Partition(0), Offset(5), epoch).is_ok());
        // The tail is torn: the last batch is cut in half, and the end that was published is older.
        let segment = std::fs::read_dir(root.path().join("t/0")).unwrap().map(|entry| entry.unwrap().path());
        let segment = segment.into_iter().find(|path| path.extension().is_some_and(|e| e == "log")).unwrap();
        let bytes = std::fs::read(&segment).unwrap();
        std::fs::write(&segment, &bytes[..bytes.len() - 10]).unwrap();
        std::fs::remove_file(root.path().join("t/0/extent")).unwrap();
        write(100..103);
        let error = source.open(Partition(0), Offset(5), epoch).map(drop).unwrap_err();
        assert_eq!(error.code(), "log_truncated", "{error}");
        // Before the cut nothing has changed, and a block has records of one epoch.
        let mut reader = source.open(Partition(0), Offset(3), epoch).unwrap();
        reader.poll(&mut block, 1 << 20, None).unwrap();
        assert_eq!((block.len(), block.leader_epoch), (1, Some(0)));
        reader.poll(&mut block, 1 << 20, None).unwrap();
        assert_eq!((block.len(), block.leader_epoch), (3, Some(1)));
    }

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
        assert_eq!(source.offsets_at(1_007).unwrap()[&Partition(1)], Offset(7));
        let mut reader = source.open(Partition(1), Offset(7), None).unwrap();
        let mut block = RecordBlock::default();
        reader.poll(&mut block, 1 << 20, Some(Offset(12))).unwrap();
        let offsets: Vec<i64> = block.records.iter().map(|record| record.offset).collect();
        assert_eq!((offsets, block.partition, block.next_offset), ((7..12).collect(), Partition(1), Offset(12)));
        assert!(EmbeddedSource::open(root.path(), "u").is_err());
    }
}
