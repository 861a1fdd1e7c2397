//! What a run tells: events while it runs, a report at its end. Presentation is left to whoever listens.

use std::collections::BTreeMap;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::Serialize;

use crate::checkpoint::manifest::{Manifest, Mode, SourceCounts};
use crate::protocol::checkpoint::MemoryUse;

/// Something happened. Times are milliseconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Started {
        /// The job's name.
        job: String,
        /// The tables it writes, and topics as `kafka:TOPIC`.
        tables: Vec<String>,
        /// Live or reprocess.
        mode: Mode,
        /// What it reads.
        topics: Vec<StartedTopic>,
        /// Whether it goes on from an earlier run.
        resumed: bool,
        /// Now.
        time_ms: i64,
    },
    /// How far it is. About once a second.
    Progress {
        /// Records read in this run.
        events: u64,
        /// Records a second, over the last few seconds.
        rate: f64,
        /// The event time that has been reached in all partitions still behind.
        event_time_ms: Option<i64>,
        /// The Monday of its week.
        week_of: Option<String>,
        /// `visible`: the watermark without partitions that are read to their end.
        watermark_ms: Option<i64>,
        /// Where groups expire: the partition that they wait for, `TOPIC/PARTITION`, while others that are read are further.
        held_by: Option<String>,
        /// How much of the way to the frozen end is done, 0 to 1.
        fraction: Option<f64>,
        /// At this rate.
        seconds_left: Option<f64>,
        /// Records between the position and the end of the log.
        lag: u64,
        /// While retention moves the start of a log: the least share of a partition's records that lies between its start
        /// and the position. At 0 records are lost before they are read.
        retention: Option<f64>,
        /// Now.
        time_ms: i64,
    },
    /// A checkpoint is committed.
    Checkpoint {
        /// Its number.
        checkpoint: u64,
        /// From the barrier to the catalog.
        duration_ms: f64,
        /// The longest that a worker stood still.
        stall_ms: f64,
        /// State on disk.
        state_bytes: u64,
        /// What is held in memory.
        memory: MemoryUse,
        /// Rows that it changed.
        rows_changed: u64,
        /// Now.
        time_ms: i64,
    },
    /// A preview that halts stands in the middle, and that is committed.
    Halted {
        /// Now.
        time_ms: i64,
    },
    /// The position is at the end as it was when the run began.
    CaughtUp {
        /// Now.
        time_ms: i64,
        /// When the end was frozen.
        head_time_ms: i64,
        /// Whether that end was the head of the log, and not what `--until` names.
        at_head: bool,
    },
    /// Something to know.
    Notice {
        /// `info` or `warning`.
        level: &'static str,
        /// The text.
        message: String,
        /// Now.
        time_ms: i64,
    },
    /// The run is over.
    Complete {
        /// How.
        outcome: Outcome,
        /// Records read in this run.
        events: u64,
        /// How long it took.
        seconds: f64,
        /// The tables.
        tables: Vec<TableRows>,
        /// Now.
        time_ms: i64,
    },
}

/// A topic at the start of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StartedTopic {
    /// Its name.
    pub topic: String,
    /// How many partitions.
    pub partitions: usize,
    /// Where reading starts, in words.
    pub from: String,
    /// Records to read before the run is at the end of the log.
    pub records: u64,
}

/// A table or topic at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableRows {
    /// Its name; of a topic `kafka:TOPIC`.
    pub table: String,
    /// Rows in it; of a topic the records that were written to it.
    pub rows: u64,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The frozen end was reached.
    Complete,
    /// A live run was stopped.
    Stopped,
    /// A reprocess was stopped before its end: the same command resumes it.
    Interrupted,
}

/// The report of a run. Counts are since the domain's start, over all sources.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// The tables.
    pub tables: Vec<TableRows>,
    /// Live or reprocess.
    pub mode: Mode,
    /// How it ended.
    pub outcome: Outcome,
    /// Records read.
    pub read: u64,
    /// Records used, by the first output.
    pub used: u64,
    /// Records left out by filters, by the first output.
    pub filtered: u64,
    /// Records left out as their group had expired, by the first output.
    pub expired: u64,
    /// Late records: used ones and dropped ones.
    pub late: u64,
    /// Records that could not be decoded.
    pub bad: u64,
    /// Records below the domain's event-time floor.
    pub below_floor: u64,
    /// Records that were deleted from the log before they were read: `--allow-gaps` went on without them.
    pub lost: u64,
    /// Records read in this run.
    pub events: u64,
    /// How long this run took.
    pub seconds: f64,
    /// `visible` at the end, milliseconds since 1970 UTC.
    pub watermark_ms: Option<i64>,
    /// Where groups expire: `closed` at the end, milliseconds since 1970 UTC.
    pub closed_ms: Option<i64>,
    /// Where groups expire: the partition that `closed` is of, `TOPIC/PARTITION`, if another is so much further that groups wait.
    pub held_by: Option<String>,
    /// The number of the last checkpoint.
    pub checkpoints: u64,
    /// The version.
    pub version: String,
    /// By topic and partition, the next offset.
    pub position: BTreeMap<String, BTreeMap<i32, i64>>,
    /// The most memory that the process had, bytes.
    pub peak_memory_bytes: u64,
    /// The most of each part of `--memory` at any checkpoint.
    pub memory: MemoryUse,
}

/// The account of all sources.
pub fn total_counts(manifest: &Manifest) -> SourceCounts {
    let mut counts = SourceCounts::default();
    manifest.sources.iter().flat_map(|source| source.partitions.values()).for_each(|partition| counts.add(&partition.counts));
    counts
}

/// Events that wait for a listener. One that never listens costs a bounded amount of memory: the oldest are forgotten.
const WAITING: usize = 1024;

/// Tells events; never waits.
#[derive(Clone, Debug)]
pub struct Teller {
    sender: Sender<Event>,
    oldest: Receiver<Event>,
}

impl Teller {
    /// A teller, and where to listen.
    pub fn new() -> (Self, Receiver<Event>) {
        let (sender, receiver) = bounded(WAITING);
        (Self { sender, oldest: receiver.clone() }, receiver)
    }

    /// Tells an event.
    pub fn tell(&self, mut event: Event) {
        while let Err(TrySendError::Full(back)) = self.sender.try_send(event) {
            let _ = self.oldest.try_recv();
            event = back;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_listener_the_newest_are_kept() {
        let (teller, events) = Teller::new();
        (0..WAITING as i64 + 5).for_each(|i| teller.tell(Event::CaughtUp { time_ms: i, head_time_ms: 0, at_head: true }));
        assert_eq!(events.len(), WAITING);
        assert_eq!(events.try_recv(), Ok(Event::CaughtUp { time_ms: 5, head_time_ms: 0, at_head: true }));
    }
}
