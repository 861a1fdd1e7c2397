//! What the numbers of a plan mean: how fast the log grows, what a whole reprocess costs by a sample of it, and what speaks
//! against it. Facts in, findings out.

use serde::Serialize;

use super::range::{PartitionRange, TopicRange};
use crate::checkpoint::manifest::SourceState;
use crate::time::format_utc;

/// Below this a reprocess gets through, but leaves little for whatever else the machine does.
const AMPLE: f64 = 5.0;
/// A log that is younger than a window is divided by its age, and by this at least: it may have been filled at once.
const LEAST_MS: i64 = 60_000;
/// A log to which nothing was written for so long does not grow.
const IDLE_MS: i64 = 86_400_000;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something to know.
    Info,
    /// Something to decide about.
    Warning,
    /// A reprocess would not do what is wanted of it.
    Refused,
}

/// What speaks for a second look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What it is, for programs.
    pub code: &'static str,
    /// What it is.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Finding {
    /// One.
    pub fn new(level: Level, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level, code, message: message.into(), hint: hint.into() }
    }
}

/// Records that were written in a window of time that ends with the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How long it is.
    pub window_ms: i64,
    /// How many.
    pub records: i64,
}

/// Records a second that are written to a log: the most that one of the windows says. `age_ms`: between its first and its newest
/// record, if all of it is known; `idle_ms`: since the newest. None if nothing is written to it.
pub fn growth(windows: &[Written], age_ms: Option<i64>, idle_ms: i64) -> Option<f64> {
    let rate = |written: &Written| {
        let length = age_ms.map_or(written.window_ms, |age| written.window_ms.min(age)).max(LEAST_MS);
        written.records as f64 * 1e3 / length as f64
    };
    let most = windows.iter().map(rate).fold(0.0, f64::max);
    (most > 0.0 && idle_ms < IDLE_MS).then_some(most)
}

/// What a part of what would be read took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Records that were read.
    pub records: u64,
    /// How long that took.
    pub seconds: f64,
    /// State on disk at its end.
    pub state_bytes: u64,
    /// Files of its tables.
    pub output_bytes: u64,
}

/// What the whole takes, by a sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Records a second.
    pub records_per_second: f64,
    /// How long a reprocess takes.
    pub seconds: f64,
    /// State on disk at its end: at most so much, since keys of the sample come again.
    pub state_bytes: u64,
    /// Files of its tables: at most.
    pub output_bytes: u64,
    /// The sample was all that there is.
    pub exact: bool,
}

/// Of `records`, by a sample of them.
pub fn cost(sample: &Sample, records: u64) -> Option<Cost> {
    if sample.records == 0 {
        return None;
    }
    let factor = records as f64 / sample.records as f64;
    let scaled = |bytes: u64| (bytes as f64 * factor).ceil() as u64;
    // A sample that is too short for the clock took a millisecond.
    let records_per_second = sample.records as f64 / sample.seconds.max(1e-3);
    Some(Cost {
        records_per_second,
        seconds: records as f64 / records_per_second,
        state_bytes: scaled(sample.state_bytes),
        output_bytes: scaled(sample.output_bytes),
        exact: records == sample.records,
    })
}

/// How many times faster than it grows a log is read; none: it does not grow.
pub fn headroom(records_per_second: f64, growth: Option<f64>) -> Option<f64> {
    growth.map(|growth| records_per_second / growth)
}

/// What a headroom means.
pub fn judge_headroom(headroom: Option<f64>) -> Option<Finding> {
    let headroom = headroom.filter(|headroom| *headroom < AMPLE)?;
    let message = format!("the log is read {headroom:.1} times as fast as it grows");
    Some(if headroom < 1.0 {
        let hint =
            "it would never reach the head: give it more threads or a faster machine, or reprocess a part (--from, --until)";
        Finding::new(Level::Refused, "headroom", message, hint)
    } else {
        let hint = "it reaches the head, slowly, and a live job on this machine would have little to spare: more threads, or a quieter hour";
        Finding::new(Level::Warning, "headroom", message, hint)
    })
}

/// Whether what `table` was built from is still there, where it is to be built again from the log's beginning.
pub fn judge_retention(table: &str, then: &SourceState, now: &TopicRange) -> Option<Finding> {
    let topic = &now.topic;
    if then.topic_id != now.topic_id {
        let message = format!("topic {topic} is another one than {table} was built from");
        let hint = "it was deleted and made again: the two cannot be compared record by record";
        return Some(Finding::new(Level::Refused, "topic_recreated", message, hint));
    }
    let lost = |range: &PartitionRange| {
        let began = then.partitions.get(&range.partition)?.start.0;
        (range.log_start > began).then(|| (range.partition, range.log_start - began))
    };
    let lost: Vec<(i32, i64)> = now.partitions.iter().filter_map(lost).collect();
    let (partition, _) = lost.iter().max_by_key(|(_, records)| *records)?;
    let records: i64 = lost.iter().map(|(_, records)| records).sum();
    let first =
        now.written_ms.map_or_else(String::new, |(first, _)| format!(", whose first record is now of {}", format_utc(first)));
    let message = format!(
        "{records} records of topic {topic} that {table} was built from are gone, in {} of {} partitions{first}; most in partition {partition}",
        lost.len(),
        now.partitions.len()
    );
    let hint = "a reprocess would lack them: keep the old version for that time, and reprocess from a later one (--from TIME)";
    Some(Finding::new(Level::Refused, "retention_gap", message, hint))
}

/// Whether what is written fits on the disk: output, and the state beside its last checkpoint.
pub fn judge_disk(cost: &Cost, free_bytes: u64) -> Option<Finding> {
    let needed = cost.output_bytes.saturating_add(cost.state_bytes.saturating_mul(2));
    (needed > free_bytes).then(|| {
        let (needed, free) = (needed >> 20, free_bytes >> 20);
        let message = format!("it may need up to {needed} MiB on the disk of the checkpoints, which has {free} MiB free");
        Finding::new(
            Level::Warning,
            "disk",
            message,
            "make room, or point the settings checkpoints and warehouse at a larger disk",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::checkpoint::manifest::PartitionState;
    use crate::message::Offset;
    use crate::protocol::event_time::PartitionTime;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn the_fastest_window_counts_and_a_young_log_is_divided_by_its_age() {
        let written = |window_ms, records| Written { window_ms, records };
        let windows = [written(HOUR, 7_200), written(24 * HOUR, 86_400)];
        assert_eq!(growth(&windows, Some(72 * HOUR), 0), Some(2.0));
        assert_eq!(growth(&windows, None, 0), Some(2.0));
        assert_eq!(growth(&[written(HOUR, 1_200), written(24 * HOUR, 1_200)], Some(600_000), 0), Some(2.0));
        // Filled at once.
        assert_eq!(growth(&[written(HOUR, 1_200)], Some(3), 0), Some(20.0));
        assert_eq!(growth(&[written(HOUR, 0)], None, 0), None);
        assert_eq!(growth(&windows, None, 25 * HOUR), None);
    }

    #[test]
    fn a_sample_stands_for_the_whole() {
        let sample = Sample { records: 1_000, seconds: 2.0, state_bytes: 100, output_bytes: 3 };
        let whole = cost(&sample, 10_500).unwrap();
        assert_eq!((whole.records_per_second, whole.seconds), (500.0, 21.0));
        assert_eq!((whole.state_bytes, whole.output_bytes, whole.exact), (1_050, 32, false));
        assert!(cost(&sample, 1_000).unwrap().exact);
        assert_eq!(cost(&Sample::default(), 5), None);
    }

    #[test]
    fn headroom_is_fine_then_a_warning_then_refused() {
        let level = |rate, growth| judge_headroom(headroom(rate, growth)).map(|finding| finding.level);
        assert_eq!(level(1.0, None), None);
        assert_eq!(level(500.0, Some(100.0)), None);
        assert_eq!(level(499.0, Some(100.0)), Some(Level::Warning));
        assert_eq!(level(100.0, Some(100.0)), Some(Level::Warning));
        assert_eq!(level(99.0, Some(100.0)), Some(Level::Refused));
    }

    fn range(starts: &[i64]) -> TopicRange {
        let partition = |(partition, start): (i32, &i64)| PartitionRange {
            partition,
            start: *start,
            end: 100,
            log_start: *start,
            log_end: 100,
        };
        let partitions = (0..).zip(starts).map(partition).collect();
        TopicRange { topic: "t".into(), topic_id: "one".into(), partitions, written_ms: Some((0, 9)), ..TopicRange::default() }
    }

    #[test]
    fn records_that_a_version_was_built_from_are_missed() {
        let beginning = |start| PartitionState::beginning(Offset(start), PartitionTime::default());
        let partitions = BTreeMap::from([(0, beginning(5)), (1, beginning(10))]);
        let mut then =
            SourceState { topic: "t".into(), topic_id: "one".into(), floor_ms: None, complete_from_ms: None, partitions };
        assert_eq!(judge_retention("v3", &then, &range(&[5, 10])), None);
        // A partition that was found later has no beginning that could be missed.
        assert_eq!(judge_retention("v3", &then, &range(&[0, 0, 40])), None);
        let gap = judge_retention("v3", &then, &range(&[7, 30])).unwrap();
        assert_eq!((gap.level, gap.code), (Level::Refused, "retention_gap"));
        assert!(
            gap.message.starts_with("22 records of topic t that v3 was built from are gone, in 2 of 2 partitions"),
            "{gap:?}"
        );
        assert!(gap.message.ends_with("of 1970-01-01T00:00:00Z; most in partition 1"), "{gap:?}");
        then.topic_id = "two".into();
        assert_eq!(judge_retention("v3", &then, &range(&[5, 10])).unwrap().code, "topic_recreated");
    }

    #[test]
    fn a_disk_that_is_too_small_is_a_warning() {
        let sample = Sample { records: 1, seconds: 1.0, state_bytes: 10, output_bytes: 5 };
        let cost = cost(&sample, 1).unwrap();
        assert_eq!(judge_disk(&cost, 25), None);
        assert_eq!(judge_disk(&cost, 24).map(|finding| finding.level), Some(Level::Warning));
    }
}
