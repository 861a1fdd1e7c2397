//! What coordinator and workers say to each other, and the decisions about checkpoints as pure functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::event_time::{PartitionTime, SourceCounts};
use super::progress::Adoption;
use crate::error::Error;
use crate::message::{Epoch, Offset, Partition};

/// From the coordinator to a worker.
#[derive(Clone, Debug)]
pub enum Command {
    /// End the epoch here: finish the batch at hand, then let the barrier go through.
    Barrier(Epoch),
    /// The state of the epoch is in a checkpoint: it may be written to again.
    Taken {
        /// Which.
        epoch: Epoch,
        /// The least watermark over all partitions as of its barrier, milliseconds: what it makes final need not be kept.
        closed_ms: Option<i64>,
    },
    /// Read nothing more before the next barrier.
    Hold,
    /// Stop each partition where it is, or at a place.
    Pause(Option<PausePlace>),
    /// Read on from where partitions were stopped.
    Resume,
    /// Read on past the frozen ends.
    Unbound,
    /// Read this partition too.
    Adopt(Adoption),
    /// Stop now. What was not checkpointed never happened.
    Shutdown,
}

/// By source and partition, where to stop. A partition that is not named stops where it is.
pub type PausePlace = Arc<BTreeMap<(usize, Partition), Offset>>;

/// From a worker to the coordinator.
#[derive(Debug)]
pub enum Report {
    /// The barrier has passed all of the worker's operators; state is flushed and files are durable.
    Ack(Box<Ack>),
    /// All partitions of the worker are at their frozen ends.
    AtEnd {
        /// Which worker.
        worker: usize,
    },
    /// All partitions of the worker are where they were to stop, or at their frozen ends.
    AtPause {
        /// Which worker.
        worker: usize,
    },
    /// A topic has a partition that it had not.
    Grown(Adoption),
    /// Too much changed in this epoch: end it early.
    WantsBarrier,
    /// The worker has stopped for good.
    Failed(Error),
    /// The worker has stopped because it was told to.
    Stopped,
}

/// What a worker contributes to a checkpoint.
#[derive(Debug, Default)]
pub struct Ack {
    /// Which worker.
    pub worker: usize,
    /// Which epoch.
    pub epoch: Epoch,
    /// Its partitions, by (source, partition), as of the barrier.
    pub partitions: BTreeMap<(usize, Partition), PartitionAck>,
    /// By output: what it did in this epoch.
    pub outputs: Vec<OutputAck>,
    /// How long its records stood still for the barrier, microseconds.
    pub stall_us: u64,
    /// What it holds in memory.
    pub memory: MemoryUse,
}

/// What is held in memory, in bytes, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Partial results that were not sent yet, and what keeps them from being sent twice.
    pub partial_results: u64,
    /// Groups and values that operators keep over the state, and what waits for the state to be read.
    pub caches: u64,
    /// RocksDB: write buffers, blocks, indexes and filters.
    pub rocksdb: u64,
}

impl MemoryUse {
    /// Adds what another holds.
    pub fn add(&mut self, other: Self) {
        self.partial_results += other.partial_results;
        self.caches += other.caches;
        self.rocksdb += other.rocksdb;
    }

    /// Each part as it is or as another has it, whichever is more.
    pub fn raise(&mut self, other: Self) {
        self.partial_results = self.partial_results.max(other.partial_results);
        self.caches = self.caches.max(other.caches);
        self.rocksdb = self.rocksdb.max(other.rocksdb);
    }
}

/// A partition as of a barrier.
#[derive(Clone, Copy, Debug)]
pub struct PartitionAck {
    /// The next record to read.
    pub next: Offset,
    /// How far event time has come.
    pub time: PartitionTime,
    /// The account since the domain's start.
    pub counts: SourceCounts,
    /// The epoch of the leader that wrote the record before `next`, if it is known.
    pub leader_epoch: Option<i32>,
}

impl PartitionAck {
    /// Before the first record.
    pub fn at(next: Offset, time: PartitionTime) -> Self {
        Self { next, time, counts: SourceCounts::default(), leader_epoch: None }
    }
}

/// What a worker did for an output in an epoch.
#[derive(Clone, Debug, Default)]
pub struct OutputAck {
    /// Records that a filter left out.
    pub filtered: u64,
    /// Records that came when their group had expired.
    pub expired: u64,
    /// Records that were used.
    pub used: u64,
    /// Rows written or deleted.
    pub rows_changed: u64,
    /// Files staged.
    pub files: Vec<StagedFile>,
    /// Files of dead letters staged.
    pub dead_letters: Vec<StagedFile>,
}

/// A file that a manifest lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagedFile {
    /// What is in it.
    pub content: StagedContent,
    /// Where: a URL under the table's location; for records a path relative to the version's directory.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub checksum: u32,
    /// The table format's own description of a data file, as JSON.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data_file: serde_json::Value,
}

/// What is in a staged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedContent {
    /// Rows of the table.
    Data,
    /// Keys whose earlier rows go away: those of the new rows, and those retracted.
    DeletedKeys,
    /// Records of a topic, as Kafka's record batches.
    Records,
}

/// Whether a barrier is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierDecision {
    /// Not yet.
    Wait,
    /// Begin one.
    Begin,
    /// Not now, and nothing more is to be read until there can be one.
    Hold,
}

/// What the decision about a barrier depends on.
#[derive(Clone, Copy, Debug)]
pub struct BarrierFacts {
    /// One is under way.
    pub in_flight: bool,
    /// Manifests that are durable but not confirmed by the catalog.
    pub unconfirmed: usize,
    /// Records were read since the last one.
    pub moved: bool,
    /// The interval has passed.
    pub due: bool,
    /// It has passed long ago.
    pub overdue: bool,
    /// A worker asked for one, the job is to stop, or the end is reached.
    pub wanted: bool,
}

/// A job with this many unconfirmed manifests begins no further barrier: a slow catalog slows the job.
pub const MAX_UNCONFIRMED: usize = 4;

/// Whether to begin a barrier now. One at a time; none where nothing moved, unless somebody waits for it. While the catalog is
/// away, an epoch grows no further than an overdue one has: it must be delivered in one piece.
pub fn decide_barrier(facts: BarrierFacts) -> BarrierDecision {
    let full = facts.unconfirmed >= MAX_UNCONFIRMED;
    let reason = facts.wanted || (facts.due && facts.moved);
    match (facts.in_flight, full) {
        (false, false) if reason => BarrierDecision::Begin,
        (false, true) if facts.overdue && facts.moved => BarrierDecision::Hold,
        _ => BarrierDecision::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_begins_when_due_and_something_moved_or_when_wanted() {
        let facts = BarrierFacts { in_flight: false, unconfirmed: 0, moved: true, due: true, overdue: true, wanted: false };
        assert_eq!(decide_barrier(facts), BarrierDecision::Begin);
        assert_eq!(decide_barrier(BarrierFacts { moved: false, ..facts }), BarrierDecision::Wait);
        assert_eq!(decide_barrier(BarrierFacts { due: false, ..facts }), BarrierDecision::Wait);
        assert_eq!(decide_barrier(BarrierFacts { moved: false, due: false, wanted: true, ..facts }), BarrierDecision::Begin);
        assert_eq!(decide_barrier(BarrierFacts { in_flight: true, wanted: true, ..facts }), BarrierDecision::Wait);
        let full = BarrierFacts { unconfirmed: MAX_UNCONFIRMED, ..facts };
        assert_eq!(decide_barrier(full), BarrierDecision::Hold);
        assert_eq!(decide_barrier(BarrierFacts { wanted: true, overdue: false, ..full }), BarrierDecision::Wait);
        assert_eq!(decide_barrier(BarrierFacts { in_flight: true, ..full }), BarrierDecision::Wait);
        assert_eq!(decide_barrier(BarrierFacts { moved: false, ..full }), BarrierDecision::Wait);
    }
}
