//! Where records come from: partitions that can be read again from any offset.

pub mod embedded;

use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};

/// A topic in a replayable log. An implementor guarantees that the records at given offsets never change, and that an
/// offset it hands out is durable: a reader never sees what a crash of the log could take back.
pub trait LogSource: Send + Sync {
    /// Identity of the topic: another one under the same name is another topic.
    fn topic_id(&self) -> &str;

    /// Its partitions, with the offsets at which they start and end now.
    fn partitions(&self) -> Result<Vec<PartitionExtent>>;

    /// The first offset whose record has this timestamp (milliseconds since 1970 UTC) or a later one; the end if none.
    fn offset_at(&self, partition: Partition, timestamp: i64) -> Result<Offset>;

    /// Opens a partition for reading at an offset. An offset before the start of the log is refused, never moved.
    fn open(&self, partition: Partition, at: Offset) -> Result<Box<dyn PartitionReader>>;
}

/// How far a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionExtent {
    /// Which.
    pub partition: Partition,
    /// The first offset that is still there.
    pub start: Offset,
    /// The offset after the last readable record.
    pub end: Offset,
    /// The log's leader epoch.
    pub leader_epoch: i32,
    /// Bytes on disk.
    pub bytes: u64,
}

/// One partition, read in order.
pub trait PartitionReader: Send {
    /// Replaces the content of `block` by the next records, about `max_bytes` of them, none at or past `until`.
    ///
    /// Never waits: no records means that there are none yet (or that `until` is reached). `block.next_offset` is the
    /// position after the call, also when no record was returned (control records and holes are passed over).
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()>;
}
