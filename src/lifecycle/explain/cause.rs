//! Why a key has another row in one version than in the other: facts of its records in, the cause out.

use serde::Serialize;

/// What becomes of a record in a version, as far as one key goes. The first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The version does not read it: its domain begins later, or does not have the partition.
    NotRead,
    /// It could not be decoded.
    Bad,
    /// Its event time is before the one from which on the version counts.
    BelowFloor,
    /// It came late, and late records are left out.
    Late,
    /// The filter at this step left it out.
    Filtered(usize),
    /// Its row is of another key.
    OtherKey,
    /// It came when its group had expired.
    Expired,
    /// It is in the row of the key.
    Used,
}

impl Fate {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotRead => "not read",
            Self::Bad => "bad record",
            Self::BelowFloor => "below floor",
            Self::Late => "late",
            Self::Filtered(_) => "filtered",
            Self::OtherKey => "other key",
            Self::Expired => "expired",
            Self::Used => "used",
        }
    }
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing is otherwise.
    None,
    /// One has not read what the other has, or it is gone and cannot be looked at any more.
    MissingHistory,
    /// Records that could not be decoded in one.
    BadRecord,
    /// Records that one left out because they came late, or after their group had expired.
    Late,
    /// A step of the plans is not the same.
    ChangedStep,
}

/// How many records are in the row of the key in one version and not in the other, or with other values, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parted {
    /// Not read by one, or below its floor.
    pub missing_history: u64,
    /// Not decoded by one.
    pub bad_record: u64,
    /// Too late for one.
    pub late: u64,
    /// By a step.
    pub changed_step: u64,
}

impl Parted {
    /// Counts records of the same two fates. `same_values`: what they bring is the same where both use them.
    pub fn add(&mut self, a: Fate, b: Fate, same_values: bool, records: u64) {
        match parting(a, b, same_values) {
            Cause::None => {}
            Cause::MissingHistory => self.missing_history += records,
            Cause::BadRecord => self.bad_record += records,
            Cause::Late => self.late += records,
            Cause::ChangedStep => self.changed_step += records,
        }
    }

    /// All.
    pub fn sum(&self) -> u64 {
        self.missing_history + self.bad_record + self.late + self.changed_step
    }
}

/// Why a record counts in one version otherwise than in the other. What neither uses makes no difference, whatever became of it.
pub fn parting(a: Fate, b: Fate, same_values: bool) -> Cause {
    let other = match (a, b) {
        (Fate::Used, Fate::Used) if same_values => return Cause::None,
        (Fate::Used, Fate::Used) => return Cause::ChangedStep,
        (Fate::Used, other) | (other, Fate::Used) => other,
        _ => return Cause::None,
    };
    match other {
        Fate::NotRead | Fate::BelowFloor => Cause::MissingHistory,
        Fate::Bad => Cause::BadRecord,
        Fate::Late | Fate::Expired => Cause::Late,
        Fate::Filtered(_) | Fate::OtherKey | Fate::Used => Cause::ChangedStep,
    }
}

/// What is known once the records were replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the rows of the key differ.
    pub differs: bool,
    /// The records that count otherwise.
    pub parted: Parted,
    /// Whether records are gone from the log that at least one of the versions has read: they may have been of the key.
    pub gone: bool,
    /// Whether the plans differ.
    pub plans_differ: bool,
}

/// The cause. Of several, the one with the most records, and of as many the one that comes first on the way of a record.
///
/// Where no record parts, the difference is made after the records were counted together: by another aggregate, or a step behind
/// it. Only where the plans are the same there is nothing left but records that cannot be looked at any more.
pub fn cause(facts: &Facts) -> Cause {
    if !facts.differs {
        return Cause::None;
    }
    let Parted { missing_history, bad_record, late, changed_step } = facts.parted;
    let counted = [
        (Cause::MissingHistory, missing_history),
        (Cause::BadRecord, bad_record),
        (Cause::Late, late),
        (Cause::ChangedStep, changed_step),
    ];
    let most = counted.into_iter().map(|(_, records)| records).max().unwrap_or(0);
    match counted.into_iter().find(|(_, records)| *records == most && most > 0) {
        Some((cause, _)) => cause,
        None if facts.plans_differ => Cause::ChangedStep,
        None if facts.gone => Cause::MissingHistory,
        None => Cause::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_parts_where_only_one_uses_it_or_both_use_it_otherwise() {
        use Fate::{Bad, BelowFloor, Expired, Filtered, Late, NotRead, OtherKey, Used};
        for (fate, cause) in [
            (NotRead, Cause::MissingHistory),
            (BelowFloor, Cause::MissingHistory),
            (Bad, Cause::BadRecord),
            (Late, Cause::Late),
            (Expired, Cause::Late),
            (Filtered(2), Cause::ChangedStep),
            (OtherKey, Cause::ChangedStep),
        ] {
            assert_eq!((parting(Used, fate, true), parting(fate, Used, true)), (cause, cause));
            assert_eq!(parting(fate, Late, true), Cause::None, "neither uses it");
        }
        assert_eq!((parting(Used, Used, true), parting(Used, Used, false)), (Cause::None, Cause::ChangedStep));
    }

    #[test]
    fn the_cause_is_that_of_the_most_records() {
        let of = |missing_history, bad_record, late, changed_step| {
            let parted = Parted { missing_history, bad_record, late, changed_step };
            cause(&Facts { differs: true, parted, gone: true, plans_differ: true })
        };
        assert_eq!(of(0, 0, 1, 900), Cause::ChangedStep);
        assert_eq!(of(0, 0, 2, 1), Cause::Late);
        assert_eq!(of(0, 7, 7, 7), Cause::BadRecord, "of as many the first on the way");
        assert_eq!(of(7, 7, 0, 0), Cause::MissingHistory);
    }

    #[test]
    fn without_such_records_it_is_what_comes_behind_them_or_what_is_gone() {
        let facts = Facts { differs: true, gone: true, plans_differ: true, ..Facts::default() };
        assert_eq!(cause(&facts), Cause::ChangedStep);
        assert_eq!(cause(&Facts { plans_differ: false, ..facts }), Cause::MissingHistory);
        assert_eq!(cause(&Facts { plans_differ: false, gone: false, ..facts }), Cause::None);
    }

    #[test]
    fn a_row_that_is_the_same_has_no_cause_whatever_its_records_did() {
        let parted = Parted { changed_step: 3, ..Parted::default() };
        assert_eq!(cause(&Facts { differs: false, parted, gone: true, plans_differ: true }), Cause::None);
    }
}
