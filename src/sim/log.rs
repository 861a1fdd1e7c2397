//! A log behind a keeper: slow, away now and then, and stingy with records.

use std::collections::BTreeMap;
use std::sync::Arc;

use kappa::error::Result;
use kappa::message::{Offset, Partition, RecordBlock};
use kappa::source::{LogSource, PartitionExtent, PartitionReader};

use super::keeper::Keeper;
use super::script::{Kind, LogAct};

pub struct FaultyLog {
    pub log: Arc<dyn LogSource>,
    pub keeper: Arc<Keeper>,
    /// Bytes that a fetch asks for at most.
    pub fetch: Option<usize>,
}

impl FaultyLog {
    fn pass<T>(&self, act: LogAct, does: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.keeper.enter(Kind::Log(act))?;
        let done = does()?;
        self.keeper.leave(Kind::Log(act), number)?;
        Ok(done)
    }
}

impl LogSource for FaultyLog {
    fn topic_id(&self) -> &str {
        self.log.topic_id()
    }

    fn partitions(&self) -> Result<Vec<PartitionExtent>> {
        self.pass(LogAct::Extents, || self.log.partitions())
    }

    fn offsets_at(&self, timestamp: i64) -> Result<BTreeMap<Partition, Offset>> {
        self.log.offsets_at(timestamp)
    }

    fn verify(&self) -> Result<()> {
        self.pass(LogAct::Verify, || self.log.verify())
    }

    fn committed(&self, group: &str) -> Result<BTreeMap<Partition, Offset>> {
        self.log.committed(group)
    }

    fn publish(&self, _: &str, _: &BTreeMap<Partition, Offset>) {}

    fn not_replayable(&self) -> Result<Option<String>> {
        self.log.not_replayable()
    }

    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        let reader = self.pass(LogAct::Open, || self.log.open(partition, at, leader_epoch))?;
        Ok(Box::new(FaultyReader { reader, partition, keeper: self.keeper.clone(), fetch: self.fetch }))
    }
}

struct FaultyReader {
    reader: Box<dyn PartitionReader>,
    partition: Partition,
    keeper: Arc<Keeper>,
    fetch: Option<usize>,
}

impl PartitionReader for FaultyReader {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        self.keeper.alive()?;
        self.reader.poll(block, self.fetch.unwrap_or(max_bytes), until)?;
        if block.is_empty() { Ok(()) } else { self.keeper.fetched(self.partition.0, block.next_offset.0) }
    }
}
