//! What others may look at while a partition is read. Numbers only; never part of a decision about results.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use super::event_time::PartitionTime;
use crate::message::{Offset, Partition};

/// How far a partition is.
#[derive(Debug, Default)]
pub struct PartitionProgress {
    /// The next record to read.
    pub next: AtomicI64,
    /// Records read since the domain's start.
    pub read: AtomicU64,
    /// The greatest accepted event time, in the unit of its column; `i64::MIN` before the first.
    pub accepted_max: AtomicI64,
}

/// A partition that was found while its topic was read.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// Which source.
    pub source: usize,
    /// Which partition.
    pub partition: Partition,
    /// Its first record.
    pub start: Offset,
    /// Where its time begins.
    pub time: PartitionTime,
    /// For those who watch.
    pub progress: Arc<PartitionProgress>,
}
