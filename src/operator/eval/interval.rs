//! When the intervals end that event time is truncated to: the other side of `dt.truncate` and `dt.date`.
//!
//! The end of a group's interval is the first instant from which on no record falls into the group: where clocks are put
//! back into an interval that was over, the end is the second one.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{self as types, DataType as ArrowType};

use super::time::{is_repeated, truncate};
use crate::error::{Error, Result};
use crate::plan::interval::{ExpirySpec, Truncation};
use crate::plan::schema::DataType;
use crate::plan::time_zones::{ZoneTable, ZoneTables};
use crate::plan::truncate::Every;

const DAY: i64 = 86_400;

/// The ends of intervals, for group keys of one plan.
#[derive(Clone, Debug)]
pub struct IntervalEnds {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    column: usize,
    /// Of the key; none for dates.
    per_second: Option<i64>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Date(ZoneTable),
    Instant(Every, ZoneTable),
    Days(Every),
}

impl Step {
    /// The greatest result of it below this: seconds for `Instant`, else days.
    fn greatest_below(&self, bound: i64) -> Option<i64> {
        match self {
            Self::Date(_) => Some(bound.saturating_sub(1)),
            Self::Instant(every, zone) => truncate(zone, *every, bound.saturating_sub(1)),
            Self::Days(every) => Some(every.first_day(bound.saturating_sub(1))),
        }
    }

    /// The first argument (days for `Days`, else seconds) of which, and of all that follow, it makes more than this result.
    fn end(&self, truncated: i64) -> i64 {
        match self {
            Self::Date(zone) => zone.passed(truncated.saturating_add(1).saturating_mul(DAY)),
            Self::Instant(every, zone) => end_of_interval(*every, zone, truncated),
            Self::Days(every) => every.next_first_day(truncated),
        }
    }
}

/// The end of the interval that begins at this instant, in seconds.
fn end_of_interval(every: Every, zone: &ZoneTable, start: i64) -> i64 {
    let position = zone.position(start);
    let stretch = |position: usize| zone.transitions.get(position).map(|(from, offset)| (*from, i64::from(*offset)));
    let until = |position: usize| stretch(position + 1).map_or(i64::MAX, |(until, _)| until);
    let offset = stretch(position).map_or(0, |(_, offset)| offset);
    let local = start.saturating_add(offset);
    let Every::Seconds(step) = every else {
        return zone.passed(every.next_first_day(every.first_day(local.div_euclid(DAY))).saturating_mul(DAY));
    };
    let floor = |local: i64| local.saturating_sub(local.rem_euclid(step));
    let local_end = floor(local).saturating_add(step);
    if !is_repeated(every) {
        return zone.passed(local_end);
    }
    let end = local_end.saturating_sub(offset).min(until(position));
    // Clocks may be put back into the middle of it: what is left of it then belongs to it too.
    match stretch(position + 1) {
        Some((from, offset)) if truncate(zone, every, from) == Some(start) => {
            let again = floor(from.saturating_add(offset)).saturating_add(step).saturating_sub(offset);
            end.max(again.min(until(position + 1)))
        }
        _ => end,
    }
}

impl Key {
    /// The end of the interval of a key's value, milliseconds since 1970 UTC.
    fn end_ms(&self, value: i64) -> i64 {
        let mut end = self.per_second.map_or(value, |per_second| value.div_euclid(per_second));
        for (i, step) in self.steps.iter().enumerate().rev() {
            // At first the key itself; then what the steps behind make more than the key of.
            match if i + 1 == self.steps.len() { Some(end) } else { step.greatest_below(end) } {
                Some(greatest) => end = step.end(greatest),
                None => return i64::MAX,
            }
        }
        end.saturating_mul(1000)
    }
}

impl IntervalEnds {
    /// For group keys of these types.
    pub fn new(spec: &ExpirySpec, key_types: &[DataType], zones: &ZoneTables) -> Result<Self> {
        let key = |key: &crate::plan::interval::IntervalKey| {
            let per_second = match key_types.get(key.column) {
                Some(DataType::Timestamp(unit)) => Some(unit.per_second()),
                Some(DataType::Date) => None,
                _ => return Err(Error::internal("a key that is no time truncates the event time")),
            };
            let step = |step: &Truncation| {
                Ok(match step {
                    Truncation::Date { time_zone } => Step::Date(zones.get(time_zone)?.clone()),
                    Truncation::Instant { every, time_zone } => Step::Instant(*every, zones.get(time_zone)?.clone()),
                    Truncation::Days { every } => Step::Days(*every),
                })
            };
            Ok(Key { column: key.column, per_second, steps: key.steps.iter().map(step).collect::<Result<_>>()? })
        };
        Ok(Self { keys: spec.keys.iter().map(key).collect::<Result<_>>()? })
    }

    /// Which columns of the group key are looked at.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        self.keys.iter().map(|key| key.column)
    }

    /// For each group the end of its interval, milliseconds since 1970 UTC; of several the first. `column` gives the columns
    /// of [`Self::columns`].
    pub fn of(&self, rows: usize, column: impl Fn(usize) -> Result<ArrayRef>) -> Result<Vec<i64>> {
        let mut ends = vec![i64::MAX; rows];
        for key in &self.keys {
            let values = values(&column(key.column)?)?;
            let mut last: Option<(i64, i64)> = None;
            for (end, value) in ends.iter_mut().zip(values) {
                let of_key = match last {
                    Some((same, known)) if same == value => known,
                    _ => key.end_ms(value),
                };
                last = Some((value, of_key));
                *end = (*end).min(of_key);
            }
        }
        Ok(ends)
    }
}

/// What an instant (milliseconds since 1970 UTC) is truncated to: days if the last step makes a day, else milliseconds.
pub fn truncated(steps: &[Truncation], zones: &ZoneTables, ms: i64) -> Result<Option<i64>> {
    let (mut at, mut is_instant) = (Some(ms.div_euclid(1000)), true);
    for step in steps {
        (at, is_instant) = match step {
            Truncation::Date { time_zone } => {
                let zone = zones.get(time_zone)?;
                let local = |at: i64| at.saturating_add(i64::from(zone.offset(at)));
                (at.map(|at| local(at).div_euclid(DAY)), false)
            }
            Truncation::Instant { every, time_zone } => {
                let zone = zones.get(time_zone)?;
                (at.and_then(|at| truncate(zone, *every, at)), true)
            }
            Truncation::Days { every } => (at.map(|day| every.first_day(day)), false),
        };
    }
    Ok(if steps.is_empty() {
        Some(ms)
    } else if is_instant {
        at.and_then(|at| at.checked_mul(1000))
    } else {
        at
    })
}

fn values(column: &ArrayRef) -> Result<Vec<i64>> {
    use arrow::datatypes::TimeUnit as U;
    if column.null_count() > 0 {
        return Err(Error::internal("an event time that is truncated to null"));
    }
    Ok(match column.data_type() {
        ArrowType::Date32 => column.as_primitive::<types::Date32Type>().values().iter().map(|day| i64::from(*day)).collect(),
        ArrowType::Timestamp(U::Second, _) => column.as_primitive::<types::TimestampSecondType>().values().to_vec(),
        ArrowType::Timestamp(U::Millisecond, _) => column.as_primitive::<types::TimestampMillisecondType>().values().to_vec(),
        ArrowType::Timestamp(U::Microsecond, _) => column.as_primitive::<types::TimestampMicrosecondType>().values().to_vec(),
        ArrowType::Timestamp(U::Nanosecond, _) => column.as_primitive::<types::TimestampNanosecondType>().values().to_vec(),
        other => return Err(Error::internal(format!("a key of type {other} truncates the event time"))),
    })
}

#[cfg(test)]
#[path = "interval_tests.rs"]
mod tests;
