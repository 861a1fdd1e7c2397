//! The embedded log as a source.

use std::path::PathBuf;

use super::{LogSource, PartitionExtent, PartitionReader};
use crate::error::Result;
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

    fn open(&self, partition: Partition, at: Offset) -> Result<Box<dyn PartitionReader>> {
        Ok(Box::new(self.topic.reader(partition, at)?))
    }
}

impl PartitionReader for LogReader {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        LogReader::poll(self, block, max_bytes, until)
    }
}
