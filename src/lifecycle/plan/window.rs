//! A part of a topic that takes itself for the whole, and counts what is read of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};
use crate::source::{LogSource, PartitionExtent, PartitionReader};
use crate::time::instant;

/// By partition, from where to where.
pub type Ranges = BTreeMap<Partition, (Offset, Offset)>;

/// What was read.
#[derive(Debug, Default)]
pub struct Meter {
    first: OnceLock<Instant>,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Meter {
    /// How many records.
    pub fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }

    /// Of how many bytes, as the log hands them out.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How long ago the first came.
    pub fn elapsed(&self) -> Option<Duration> {
        self.first.get().map(Instant::elapsed)
    }
}

/// A part of a topic. What is read of it nobody hears of: no consumer group moves.
pub struct Window {
    /// The whole.
    pub log: Arc<dyn LogSource>,
    /// The part.
    pub ranges: Ranges,
    /// Counts.
    pub meter: Arc<Meter>,
}

impl LogSource for Window {
    fn topic_id(&self) -> &str {
        self.log.topic_id()
    }

    fn partitions(&self) -> Result<Vec<PartitionExtent>> {
        let extent = |(partition, (start, end)): (&Partition, &(Offset, Offset))| PartitionExtent {
            partition: *partition,
            start: *start,
            end: *end,
            bytes: 0,
        };
        Ok(self.ranges.iter().map(extent).collect())
    }

    fn offsets_at(&self, _: i64) -> Result<BTreeMap<Partition, Offset>> {
        Ok(self.ranges.iter().map(|(partition, (start, _))| (*partition, *start)).collect())
    }

    fn verify(&self) -> Result<()> {
        self.log.verify()
    }

    fn committed(&self, _: &str) -> Result<BTreeMap<Partition, Offset>> {
        Ok(BTreeMap::new())
    }

    fn publish(&self, _: &str, _: &BTreeMap<Partition, Offset>) {}

    fn not_replayable(&self) -> Result<Option<String>> {
        // Of the whole that is said elsewhere; what was read of the part is not read again.
        Ok(None)
    }

    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        let reader = self.log.open(partition, at, leader_epoch)?;
        Ok(Box::new(Metered { reader, meter: self.meter.clone() }))
    }
}

struct Metered {
    reader: Box<dyn PartitionReader>,
    meter: Arc<Meter>,
}

impl PartitionReader for Metered {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        self.reader.poll(block, max_bytes, until)?;
        if !block.is_empty() {
            self.meter.first.get_or_init(instant);
            self.meter.records.fetch_add(block.len() as u64, Relaxed);
            self.meter.bytes.fetch_add(block.data.len() as u64, Relaxed);
        }
        Ok(())
    }
}
