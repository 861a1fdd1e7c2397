//! Event time: which records are late, and how far time has come. Pure functions of offsets and event times; no clock.

use serde::{Deserialize, Serialize};

/// How many later records must agree with one that jumps far ahead.
const CONFIRMATIONS: u8 = 3;

/// The bounds of a read, in the unit of its event-time column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBounds {
    /// How many of the unit make a second.
    pub per_second: i64,
    /// How far behind the greatest event time a record is still on time.
    pub out_of_orderness: i64,
    /// How far ahead of it a record is still believed at once.
    pub max_future: i64,
}

impl TimeBounds {
    /// The bounds that a read declares in milliseconds. A bound finer than the unit is rounded down, which changes no
    /// comparison of whole units.
    pub fn new(per_second: i64, max_out_of_orderness_ms: i64, max_future_ms: i64) -> Self {
        let convert = |ms: i64| (i128::from(ms) * i128::from(per_second) / 1000).min(i128::from(i64::MAX)) as i64;
        Self { per_second, out_of_orderness: convert(max_out_of_orderness_ms), max_future: convert(max_future_ms) }
    }

    /// An event time in milliseconds since 1970 UTC, rounded down.
    pub fn to_ms(self, time: i64) -> i64 {
        (i128::from(time) * 1000).div_euclid(i128::from(self.per_second)) as i64
    }

    /// The first event time at or after a moment in milliseconds since 1970 UTC.
    pub fn from_ms(self, ms: i64) -> i64 {
        let scaled = i128::from(ms) * i128::from(self.per_second);
        (-(-scaled).div_euclid(1000)) as i64
    }
}

/// How far event time has come in one partition. It is part of every checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionTime {
    /// The greatest accepted event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_max: Option<i64>,
    /// A record far ahead that later records have not confirmed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// Where `closed` was, milliseconds, when the partition was found: what was final then stays final. None for partitions
    /// of the domain's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_at_ms: Option<i64>,
}

/// A record far ahead of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its event time.
    pub time: i64,
    /// How many records in a row agreed with it.
    pub confirmations: u8,
}

/// What was found out about one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// It came later than allowed.
    pub late: bool,
    /// It jumped too far ahead to be believed by itself.
    pub jumped: bool,
}

impl PartitionTime {
    /// Judges the next good record of the partition and moves time on.
    #[inline]
    pub fn observe(&mut self, time: i64, bounds: &TimeBounds) -> Judgement {
        let Some(max) = self.accepted_max else {
            self.accepted_max = Some(time);
            return Judgement::default();
        };
        if self.candidate.is_none() {
            if time <= max {
                return Judgement { late: time < max.saturating_sub(bounds.out_of_orderness), jumped: false };
            }
            if time <= max.saturating_add(bounds.max_future) {
                self.accepted_max = Some(time);
                return Judgement::default();
            }
        }
        self.observe_far(time, max, bounds)
    }

    #[cold]
    fn observe_far(&mut self, time: i64, mut max: i64, bounds: &TimeBounds) -> Judgement {
        if let Some(candidate) = &mut self.candidate {
            if time >= candidate.time.saturating_sub(bounds.out_of_orderness) {
                candidate.confirmations += 1;
                if candidate.confirmations < CONFIRMATIONS {
                    return Judgement { late: false, jumped: time > max.saturating_add(bounds.max_future) };
                }
                max = candidate.time;
                self.accepted_max = Some(max);
            }
            self.candidate = None;
        }
        let late = time < max.saturating_sub(bounds.out_of_orderness);
        let jumped = time > max.saturating_add(bounds.max_future);
        if jumped {
            self.candidate = Some(Candidate { time, confirmations: 0 });
        } else if time > max {
            self.accepted_max = Some(time);
        }
        Judgement { late, jumped }
    }

    /// Of a partition that is found while others have come to this `closed`.
    pub fn found_at(closed_ms: Option<i64>) -> Self {
        Self { found_at_ms: closed_ms, ..Self::default() }
    }

    /// The partition's watermark: no record at or after this position is on time if it is below this. In milliseconds. It only
    /// rises, and for a partition that was found later it is never behind the `closed` of then.
    pub fn watermark_ms(&self, bounds: &TimeBounds) -> Option<i64> {
        let own = self.accepted_max.map(|max| bounds.to_ms(max.saturating_sub(bounds.out_of_orderness)));
        own.max(self.found_at_ms)
    }
}

/// Records of one partition by what became of them at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// All that were read.
    pub read: u64,
    /// Could not be decoded.
    pub bad: u64,
    /// Below the domain's event-time floor.
    pub below_floor: u64,
    /// Late, and left out.
    pub late_dropped: u64,
    /// Late, and used.
    pub late_kept: u64,
    /// Far ahead of their partition.
    pub jumped: u64,
}

impl SourceCounts {
    /// Adds up.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.bad += other.bad;
        self.below_floor += other.below_floor;
        self.late_dropped += other.late_dropped;
        self.late_kept += other.late_kept;
        self.jumped += other.jumped;
    }
}

/// What the frontiers are computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionFrontier {
    /// The partition's own watermark, milliseconds; none before its first record.
    pub watermark_ms: Option<i64>,
    /// Whether it is read to its end.
    pub at_end: bool,
}

/// `closed`: the least watermark over ALL partitions, a pure function of the position vector. It alone may finalise.
pub fn closed(partitions: &[PartitionFrontier]) -> Option<i64> {
    partitions.iter().map(|p| p.watermark_ms).min().flatten()
}

/// Which partition holds `closed` back: the one whose watermark is the least, while another is further by at least `lead_ms`.
pub fn holder(partitions: &[PartitionFrontier], lead_ms: i64) -> Option<usize> {
    let (at, least) = partitions.iter().enumerate().min_by_key(|(_, partition)| partition.watermark_ms)?;
    let greatest = partitions.iter().filter_map(|partition| partition.watermark_ms).max()?;
    least.watermark_ms.is_none_or(|least| greatest.saturating_sub(least) >= lead_ms).then_some(at)
}

/// `visible`: without partitions that are read to their end. For progress and for early results only. Where all are
/// read to their end, the greatest watermark: everything there is has been seen.
pub fn visible(partitions: &[PartitionFrontier]) -> Option<i64> {
    let behind = partitions.iter().filter(|p| !p.at_end).map(|p| p.watermark_ms).min();
    behind.unwrap_or_else(|| partitions.iter().filter_map(|p| p.watermark_ms).max())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: TimeBounds = TimeBounds { per_second: 1000, out_of_orderness: 10, max_future: 100 };

    /// `.` on time, `L` late, `J` jumped.
    fn judge(times: &[i64]) -> (String, PartitionTime) {
        let mut time = PartitionTime::default();
        let judge = |t: &i64| match time.observe(*t, &BOUNDS) {
            Judgement { late: true, .. } => 'L',
            Judgement { jumped: true, .. } => 'J',
            _ => '.',
        };
        let drawing = times.iter().map(judge).collect();
        (drawing, time)
    }

    #[test]
    fn late_is_behind_the_greatest_earlier_time_by_more_than_the_bound() {
        assert_eq!(judge(&[50, 40, 39, 60, 50, 49]).0, "..L..L");
    }

    #[test]
    fn the_first_record_is_accepted_wherever_it_lies() {
        let (drawing, time) = judge(&[1 << 60, 5]);
        assert_eq!((drawing.as_str(), time.accepted_max), (".L", Some(1 << 60)));
    }

    #[test]
    fn a_lone_jump_moves_nothing() {
        let (drawing, time) = judge(&[50, 1000, 51, 45]);
        assert_eq!((drawing.as_str(), time.accepted_max, time.candidate), (".J..", Some(51), None));
    }

    #[test]
    fn three_that_agree_make_a_jump_count() {
        let (drawing, time) = judge(&[50, 1000, 1001, 995, 1002, 51]);
        assert_eq!((drawing.as_str(), time.accepted_max), (".JJJ.L", Some(1002)));
        let (_, time) = judge(&[50, 1000, 1001, 995]);
        assert_eq!(time.accepted_max, Some(50));
    }

    #[test]
    fn a_jump_that_is_not_confirmed_may_give_way_to_another() {
        let (drawing, time) = judge(&[50, 5000, 1000, 1000, 1000, 1000]);
        assert_eq!((drawing.as_str(), time.accepted_max), (".JJJJ.", Some(1000)));
    }

    #[test]
    fn bounds_finer_than_the_unit_round_down() {
        let bounds = TimeBounds { per_second: 1, out_of_orderness: 0, max_future: 1 };
        assert_eq!((bounds.to_ms(-1), bounds.from_ms(1001), bounds.from_ms(-1500)), (-1000, 2, -1));
    }

    #[test]
    fn a_partition_that_is_found_later_begins_where_closed_was() {
        let mut time = PartitionTime::found_at(Some(500));
        assert_eq!(time.watermark_ms(&BOUNDS), Some(500));
        // Which of its records are late is its own affair.
        assert_eq!(time.observe(300, &BOUNDS), Judgement::default());
        assert!(time.observe(289, &BOUNDS).late);
        assert_eq!(time.watermark_ms(&BOUNDS), Some(500));
        assert!([400, 500, 600, 700].iter().all(|at| !time.observe(*at, &BOUNDS).late));
        assert_eq!(time.watermark_ms(&BOUNDS), Some(690));
        assert_eq!(PartitionTime::found_at(None).watermark_ms(&BOUNDS), None);
    }

    #[test]
    fn frontiers() {
        let p = |watermark_ms, at_end| PartitionFrontier { watermark_ms, at_end };
        assert_eq!(closed(&[p(Some(5), false), p(None, true)]), None);
        assert_eq!(holder(&[p(Some(5), false), p(None, true), p(Some(1), true)], 9), Some(1));
        let behind = [p(Some(5), false), p(Some(3), true), p(Some(4), true)];
        assert_eq!((holder(&behind, 2), holder(&behind, 3)), (Some(1), None));
        assert_eq!((holder(&[p(None, false)], 0), holder(&[], 0)), (None, None));
        assert_eq!(visible(&[p(Some(5), false), p(None, true)]), Some(5));
        assert_eq!(closed(&[p(Some(5), true), p(Some(3), true)]), Some(3));
        assert_eq!(visible(&[p(Some(5), true), p(Some(3), true)]), Some(5));
        assert_eq!(visible(&[p(None, false), p(Some(3), true)]), None);
    }

    /// Rule of lateness without jumps, in one line.
    fn late_by_definition(times: &[i64]) -> Vec<bool> {
        (0..times.len()).map(|i| times[..i].iter().max().is_some_and(|max| times[i] < max - BOUNDS.out_of_orderness)).collect()
    }

    proptest! {
        #[test]
        fn without_jumps_lateness_is_the_definition(times in proptest::collection::vec(0..100i64, 0..200)) {
            let mut time = PartitionTime::default();
            let late: Vec<bool> = times.iter().map(|t| time.observe(*t, &BOUNDS).late).collect();
            prop_assert_eq!(late, late_by_definition(&times));
        }

        #[test]
        fn state_is_all_there_is(times in proptest::collection::vec(0..2000i64, 0..60), cut in 0..60usize) {
            let (mut whole, mut first) = (PartitionTime::default(), PartitionTime::default());
            let straight: Vec<_> = times.iter().map(|t| whole.observe(*t, &BOUNDS)).collect();
            let cut = cut.min(times.len());
            let mut resumed: Vec<_> = times[..cut].iter().map(|t| first.observe(*t, &BOUNDS)).collect();
            let text = serde_json::to_string(&first).unwrap();
            let mut second: PartitionTime = serde_json::from_str(&text).unwrap();
            resumed.extend(times[cut..].iter().map(|t| second.observe(*t, &BOUNDS)));
            prop_assert_eq!((straight, whole), (resumed, second));
        }
    }
}
