//! How far a version is in its topics, and how far retention is behind it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::manifest::SourceState;
use crate::config::Settings;
use crate::error::Result;
use crate::job::watch::RetentionClock;
use crate::message::{Offset, Partition};
use crate::source::peek::first_timestamp;
use crate::source::{self, LogSource, PartitionExtent, Reading};

/// A topic that a version reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TopicStatus {
    /// Its name.
    pub topic: String,
    /// By partition, the next record to read.
    pub position: BTreeMap<i32, i64>,
    /// Records behind the end; none where the log does not answer.
    pub lag: Option<u64>,
    /// Of the partition that retention is the closest to.
    pub retention: Option<Retention>,
    /// Why the rest is not known.
    pub problem: Option<String>,
}

/// How far a position is ahead of the start of its partition, which retention moves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retention {
    /// Which partition.
    pub partition: i32,
    /// Records between the two; negative: so many are gone.
    pub records: i64,
    /// The share of the records that are kept.
    pub share: f64,
    /// By the timestamps of records, milliseconds; none where they do not tell.
    pub ms: Option<i64>,
    /// Records that were not read are about to go, or are gone.
    pub is_close: bool,
}

impl TopicStatus {
    /// What to look after.
    pub fn warnings(&self) -> Vec<String> {
        let mut found: Vec<String> = self.problem.iter().map(|problem| format!("topic {}: {problem}", self.topic)).collect();
        if let Some(Retention { partition, records, share, is_close: true, .. }) = self.retention {
            let topic = &self.topic;
            found.push(if records < 0 {
                format!("{} records of partition {partition} of topic {topic} are gone before they were read", -records)
            } else {
                format!(
                    "retention is close: partition {partition} of topic {topic} is read {records} records ({:.0} % of it) after the \
                     start of its log, which moves",
                    share * 100.0
                )
            });
        }
        found
    }
}

/// The topics that were asked about: each once.
pub struct Logs<'a> {
    settings: &'a Settings,
    known: BTreeMap<String, Result<Known>>,
}

#[derive(Clone)]
struct Known {
    log: Arc<dyn LogSource>,
    extents: Vec<PartitionExtent>,
}

impl<'a> Logs<'a> {
    /// Of these settings.
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, known: BTreeMap::new() }
    }

    fn open(&self, topic: &str) -> Result<Arc<dyn LogSource>> {
        source::open(topic, self.settings, Reading::default())
    }

    fn known(&mut self, topic: &str) -> Result<Known> {
        if let Some(known) = self.known.get(topic) {
            return known.clone();
        }
        let known = self.open(topic).and_then(|log| Ok(Known { extents: log.partitions()?, log }));
        self.known.insert(topic.to_owned(), known.clone());
        known
    }

    /// How far a version is in a topic. One that is finished reads no more: no record of it can be lost.
    pub fn look(&mut self, state: &SourceState, is_finished: bool) -> TopicStatus {
        let position = state.partitions.iter().map(|(partition, state)| (*partition, state.next.0)).collect();
        let status = TopicStatus { topic: state.topic.clone(), position, ..TopicStatus::default() };
        let known = match self.known(&state.topic) {
            Ok(known) if known.log.topic_id() == state.topic_id => known,
            Ok(_) => {
                let problem = Some("it was deleted and made again: this version reads one that is gone".to_owned());
                return TopicStatus { problem, ..status };
            }
            Err(error) => return TopicStatus { problem: Some(error.to_string()), ..status },
        };
        let mut retention = closest(state, &known.extents);
        if let Some(clock) = &mut retention {
            clock.is_close &= !is_finished;
            // Another's end is not of interest either.
            clock.ms = if is_finished { None } else { self.age(state, &known.extents, clock).unwrap_or_default() };
        }
        TopicStatus { lag: Some(lag(state, &known.extents)), retention, ..status }
    }

    /// How much later the record at the position was written than the first that is kept.
    fn age(&self, state: &SourceState, extents: &[PartitionExtent], clock: &Retention) -> Result<Option<i64>> {
        let partition = Partition(clock.partition);
        let (extent, next) =
            match (extents.iter().find(|extent| extent.partition == partition), state.partitions.get(&partition.0)) {
                (Some(extent), Some(state)) => (extent, state.next),
                _ => return Ok(None),
            };
        let at = Offset(next.0.clamp(extent.start.0, extent.end.0 - 1));
        let timestamp = |at| first_timestamp(self.open(&state.topic)?.as_ref(), partition, at, extent.end);
        Ok(timestamp(at)?.zip(timestamp(extent.start)?).map(|(position, start)| position - start))
    }
}

/// Records behind the end. Partitions that the version has not found yet are behind as a whole.
fn lag(state: &SourceState, extents: &[PartitionExtent]) -> u64 {
    let behind = |extent: &PartitionExtent| {
        let next = state.partitions.get(&extent.partition.0).map_or(extent.start, |partition| partition.next);
        (extent.end.0 - next.0.max(extent.start.0)).max(0).unsigned_abs()
    };
    extents.iter().map(behind).sum()
}

/// The partition that retention is the closest to.
fn closest(state: &SourceState, extents: &[PartitionExtent]) -> Option<Retention> {
    let clock = |extent: &PartitionExtent| {
        let partition = state.partitions.get(&extent.partition.0)?;
        let (start, end, next) = (extent.start.0, extent.end.0, partition.next.0);
        let clock = RetentionClock::of(extent, partition.start.0, next);
        (end > start).then(|| Retention {
            partition: extent.partition.0,
            records: next - start,
            share: (next - start) as f64 / (end - start) as f64,
            ms: None,
            is_close: clock.is_some_and(|clock| clock.is_close()),
        })
    };
    extents.iter().filter_map(clock).min_by(|a, b| a.share.total_cmp(&b.share))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::PartitionState;
    use crate::protocol::event_time::PartitionTime;

    fn extent(partition: i32, start: i64, end: i64) -> PartitionExtent {
        PartitionExtent { partition: Partition(partition), start: Offset(start), end: Offset(end), bytes: 0 }
    }

    fn state(positions: &[(i32, i64)]) -> SourceState {
        let at = |next| PartitionState { next: Offset(next), ..PartitionState::beginning(Offset(0), PartitionTime::default()) };
        SourceState {
            topic: "t".into(),
            topic_id: "id".into(),
            floor_ms: None,
            complete_from_ms: None,
            partitions: positions.iter().map(|(partition, next)| (*partition, at(*next))).collect(),
        }
    }

    #[test]
    fn lag_is_of_all_partitions_also_of_new_ones() {
        let state = state(&[(0, 50), (1, 100)]);
        assert_eq!(lag(&state, &[extent(0, 0, 100), extent(1, 0, 100), extent(2, 5, 10)]), 55);
        // What is gone cannot be caught up with.
        assert_eq!(lag(&state, &[extent(0, 80, 100), extent(1, 0, 100)]), 20);
    }

    #[test]
    fn retention_is_close_where_it_moves_and_a_fifth_is_left() {
        let state = state(&[(0, 120), (1, 900)]);
        let clock = closest(&state, &[extent(0, 100, 200), extent(1, 100, 1_000)]).unwrap();
        assert_eq!((clock.partition, clock.records, clock.is_close), (0, 20, false));
        let clock = closest(&state, &[extent(0, 101, 201), extent(1, 100, 1_000)]).unwrap();
        assert_eq!((clock.partition, clock.records, clock.is_close), (0, 19, true));
        // A log that forgets nothing is no danger, however new the version is.
        assert!(!closest(&state, &[extent(0, 0, 10_000)]).unwrap().is_close);
        let warned = |start| {
            let retention = closest(&state, &[extent(0, start, 500)]);
            TopicStatus { topic: "t".into(), retention, ..TopicStatus::default() }.warnings()
        };
        assert!(
            warned(119)[0].starts_with("retention is close: partition 0 of topic t is read 1 records (0 % of it)"),
            "{:?}",
            warned(119)
        );
        assert_eq!(warned(150), ["30 records of partition 0 of topic t are gone before they were read"]);
        assert!(warned(0).is_empty());
    }
}
