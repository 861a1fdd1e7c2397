//! Which snapshots a table may forget. A pure decision: without it a job with short checkpoints would grow a metadata file
//! without end.
//!
//! A snapshot is as old as the time since another took its place: a reader that has just planned on it has time to read.
//! Forgetting is of metadata only; the files go afterwards ([`super::maintenance`]).

use std::collections::HashSet;
use std::time::Duration;

use iceberg::spec::{SnapshotRef, TableMetadata};
use serde::{Deserialize, Serialize};

use super::catalog::Table;

/// How long snapshots stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// All of them.
    pub all: Duration,
    /// After that, the last of each hour.
    pub hourly: Duration,
    /// Snapshots go in groups of at least this many, since each time rewrites the history.
    pub at_least: usize,
}

impl Default for Retention {
    fn default() -> Self {
        Self { all: Duration::from_secs(3600), hourly: Duration::from_secs(7 * 24 * 3600), at_least: 16 }
    }
}

/// A snapshot that a table has forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub(super) snapshot: SnapshotRef,
    /// The files of statistics that other tools have made of it.
    pub(super) statistics: Vec<String>,
}

impl Forgotten {
    /// A snapshot of a table, with all that goes with it.
    pub(super) fn of(metadata: &TableMetadata, id: i64) -> Option<Self> {
        let snapshot = metadata.snapshot_by_id(id)?.clone();
        let statistics = statistics(metadata).filter(|(of, _)| *of == id).map(|(_, path)| path.to_owned());
        Some(Self { snapshot, statistics: statistics.collect() })
    }
}

/// The files of statistics that a table names, each with its snapshot.
pub(super) fn statistics(metadata: &TableMetadata) -> impl Iterator<Item = (i64, &str)> {
    let of_columns = metadata.statistics_iter().map(|file| (file.snapshot_id, file.statistics_path.as_str()));
    let of_partitions = metadata.partition_statistics_iter().map(|file| (file.snapshot_id, file.statistics_path.as_str()));
    of_columns.chain(of_partitions)
}

const HOUR_MS: i64 = 3_600_000;

/// Snapshots that are dated later than now and stay.
const MOST_TO_COME: usize = 1000;

/// The snapshots of a table that may go at `now` (milliseconds since 1970 UTC). Those that a branch or tag names stay.
pub(super) fn expired(table: &Table, retention: &Retention, now: i64) -> Vec<i64> {
    let key = |snapshot: &SnapshotRef| (snapshot.timestamp_ms(), snapshot.sequence_number(), snapshot.snapshot_id());
    let mut snapshots: Vec<_> = table.metadata().snapshots().map(key).collect();
    // Many have the same time where the clock was set back: they are in the order of their commits all the same.
    snapshots.sort_unstable();
    let snapshots: Vec<(i64, i64)> = snapshots.into_iter().map(|(time, _, id)| (time, id)).collect();
    let gone = choose(&snapshots, &table.named_snapshots(), retention, now);
    if gone.len() < retention.at_least { Vec::new() } else { gone }
}

/// Of (time, snapshot) pairs, in the order of their commits, those that may go.
///
/// Where the clock was ahead and is right again, snapshots are dated later than now, for as long as it was ahead. Their ages are
/// not known: the newest few stay, else a table would grow until the clock has come so far.
fn choose(snapshots: &[(i64, i64)], named: &HashSet<i64>, retention: &Retention, now: i64) -> Vec<i64> {
    let to_come = snapshots.iter().rev().take_while(|(time, _)| *time > now).count();
    let newest = snapshots.len() - to_come.min(MOST_TO_COME);
    let age = |time: i64| now.saturating_sub(time);
    // Longer than there is time is for ever.
    let [all, hourly] = [retention.all, retention.hourly].map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    let mut gone = Vec::new();
    for (index, (time, id)) in snapshots.iter().enumerate() {
        let next = snapshots.get(index + 1).map(|(time, _)| *time);
        let last_of_hour = next.is_none_or(|next| next.div_euclid(HOUR_MS) != time.div_euclid(HOUR_MS));
        let superseded = next.unwrap_or(now);
        let is_young = age(superseded) <= all && (*time <= now || index >= newest);
        let stays = is_young || (age(*time) <= hourly && last_of_hour) || named.contains(id);
        if !stays {
            gone.push(*id);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_last_hour_and_one_an_hour_before_stay() {
        let retention = Retention::default();
        let now = 1000 * HOUR_MS + HOUR_MS / 2;
        // One a minute for ten days.
        let snapshots: Vec<(i64, i64)> = (0..14_400).rev().map(|minute| (now - minute * 60_000, minute)).collect();
        let gone: HashSet<i64> = choose(&snapshots, &HashSet::from([14_399]), &retention, now).into_iter().collect();
        let kept: Vec<i64> = (0..14_400).filter(|minute| !gone.contains(minute)).collect();
        // The newest of an hour ago was current until 59 minutes ago.
        assert_eq!(kept[..62], (0..=61).collect::<Vec<_>>());
        // The last minute of each full hour: 31 minutes ago, then 91, 151 …
        assert_eq!(kept[62..65], [91, 151, 211]);
        assert_eq!(kept.len(), 62 + 167 + 1);
        assert_eq!(kept.last(), Some(&14_399));
    }

    #[test]
    fn a_snapshot_that_was_current_until_now_stays() {
        let retention = Retention::default();
        let burst: Vec<(i64, i64)> = (0..20).map(|second| (10 * HOUR_MS + second * 1000, second)).collect();
        let after = (11 * HOUR_MS - 1000, 20);
        let now = 11 * HOUR_MS + 25_000;
        let all: Vec<_> = burst.into_iter().chain([after, (now, 21)]).collect();
        let gone = choose(&all, &HashSet::new(), &retention, now);
        assert!(gone.contains(&3) && !gone.contains(&19), "{gone:?}");
    }

    #[test]
    fn what_stays_for_ever_does() {
        let snapshots: Vec<(i64, i64)> = (0..9).map(|hour| (hour * HOUR_MS, hour)).collect();
        let ever = Retention { all: Duration::MAX, ..Retention::default() };
        assert!(choose(&snapshots, &HashSet::new(), &ever, 10_000 * HOUR_MS).is_empty());
        let hourly = Retention { hourly: Duration::MAX, ..Retention::default() };
        assert!(choose(&snapshots, &HashSet::new(), &hourly, 10_000 * HOUR_MS).is_empty());
    }

    #[test]
    fn a_clock_that_was_set_back_expires_nothing() {
        let snapshots = vec![(5 * HOUR_MS, 1), (6 * HOUR_MS, 2)];
        assert!(choose(&snapshots, &HashSet::new(), &Retention::default(), 0).is_empty());
    }

    /// The clock was a year ahead for one commit. Those after it have its time, and do not pile up until that year is over.
    #[test]
    fn a_clock_that_was_ahead_and_is_right_again_does_not_keep_everything() {
        let (now, ahead) = (100 * HOUR_MS, 9_000 * HOUR_MS);
        let before: Vec<(i64, i64)> = (0..10).map(|second| (now - 20_000 + second * 1000, second)).collect();
        let all: Vec<(i64, i64)> = before.iter().copied().chain((10..5_000).map(|id| (ahead, id))).collect();
        let gone: HashSet<i64> = choose(&all, &HashSet::from([4_999, 2_000]), &Retention::default(), now).into_iter().collect();
        let kept: Vec<i64> = (0..5_000).filter(|id| !gone.contains(id)).collect();
        assert_eq!(kept, (0..10).chain([2_000]).chain(4_000..5_000).collect::<Vec<_>>());
        // While it is ahead, all before are as old as it says, but for the one that was current until now and those with a name.
        let gone = choose(&all[..11], &HashSet::from([5, 10]), &Retention::default(), ahead);
        assert_eq!(gone, [0, 1, 2, 3, 4, 6, 7, 8]);
    }
}
