//! Which snapshots a table may forget. A pure decision: without it a job with short checkpoints would grow a metadata file
//! without end.
//!
//! A snapshot is as old as the time since another took its place: a reader that has just planned on it has time to read.
//! Forgetting is of metadata only; the files go afterwards ([`super::maintenance`]).

use std::collections::HashSet;
use std::time::Duration;

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

const HOUR_MS: i64 = 3_600_000;

/// The snapshots of a table that may go at `now` (milliseconds since 1970 UTC). Those that a branch or tag names stay.
pub(super) fn expired(table: &Table, retention: &Retention, now: i64) -> Vec<i64> {
    let snapshots = table.metadata().snapshots().map(|snapshot| (snapshot.timestamp_ms(), snapshot.snapshot_id()));
    let gone = choose(snapshots.collect(), &table.named_snapshots(), retention, now);
    if gone.len() < retention.at_least { Vec::new() } else { gone }
}

/// Of (time, snapshot) pairs those that may go.
fn choose(mut snapshots: Vec<(i64, i64)>, named: &HashSet<i64>, retention: &Retention, now: i64) -> Vec<i64> {
    snapshots.sort_unstable();
    let age = |time: i64| now.saturating_sub(time);
    let (all, hourly) = (retention.all.as_millis() as i64, retention.hourly.as_millis() as i64);
    let mut gone = Vec::new();
    for (index, (time, id)) in snapshots.iter().enumerate() {
        let next = snapshots.get(index + 1).map(|(time, _)| *time);
        let last_of_hour = next.is_none_or(|next| next.div_euclid(HOUR_MS) != time.div_euclid(HOUR_MS));
        let superseded = next.unwrap_or(now);
        let stays = age(superseded) <= all || (age(*time) <= hourly && last_of_hour) || named.contains(id);
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
        let snapshots: Vec<(i64, i64)> = (0..14_400).map(|minute| (now - minute * 60_000, minute)).collect();
        let gone: HashSet<i64> = choose(snapshots, &HashSet::from([14_399]), &retention, now).into_iter().collect();
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
        let all = burst.into_iter().chain([after, (now, 21)]).collect();
        let gone = choose(all, &HashSet::new(), &retention, now);
        assert!(gone.contains(&3) && !gone.contains(&19), "{gone:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_expires_nothing() {
        let snapshots = vec![(5 * HOUR_MS, 1), (6 * HOUR_MS, 2)];
        assert!(choose(snapshots, &HashSet::new(), &Retention::default(), 0).is_empty());
    }
}
