//! Which rows can be compared: those whose groups are whole in both tables.

use arrow::datatypes::DataType;
use serde::Serialize;

use super::columns::Columns;
use super::compare::Window;
use super::side::Subject;
use crate::error::Result;
use crate::operator::eval::interval::truncated;
use crate::plan::interval::{Truncation, time_column};

/// The bounds of what is compared, milliseconds since 1970 UTC, and what they mean for the rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Bounds {
    /// Groups from here on are whole in both; none: all are.
    pub complete_from_ms: Option<i64>,
    /// Groups up to here are whole; none: nothing is cut off there.
    pub until_ms: Option<i64>,
    /// The column of the rows by which they are in or out; none: rows cannot be told apart by time, and all were compared.
    pub column: Option<String>,
    /// Partitions whose records may still come for what was compared.
    pub left_out: Vec<String>,
}

/// How a version's rows tell their time.
struct TimeColumn<'a> {
    name: &'a str,
    steps: Vec<Truncation>,
    subject: &'a Subject,
}

/// The rows that are compared. `until`: `visible` of the one that a table of unknown position is compared with.
pub fn window(
    columns: &Columns,
    subjects: [&Subject; 2],
    complete_from_ms: Option<i64>,
    until: Option<(i64, Vec<String>)>,
) -> Result<(Bounds, Option<Window>)> {
    let (until_ms, left_out) = until.map_or((None, Vec::new()), |(until, left_out)| (Some(until), left_out));
    let mut bounds = Bounds { complete_from_ms, until_ms, column: None, left_out };
    if complete_from_ms.is_none() && until_ms.is_none() {
        return Ok((bounds, None));
    }
    let names = || columns.key.iter().map(|column| column.name.as_str());
    let time = |subject: &'_ Subject| {
        subject.plan().and_then(|plan| time_column(plan, names()).map(|(name, steps)| (name.to_owned(), steps)))
    };
    let times: Vec<_> = subjects.into_iter().filter_map(|subject| Some((subject, time(subject)?))).collect();
    let times: Vec<TimeColumn<'_>> =
        times.iter().map(|(subject, (name, steps))| TimeColumn { name, steps: steps.clone(), subject }).collect();
    let Some(first) = times.first() else { return Ok((bounds, None)) };
    let Some(place) = columns.all().position(|column| column.name == first.name) else { return Ok((bounds, None)) };
    bounds.column = Some(first.name.to_owned());
    let is_day = columns.all().nth(place).is_some_and(|column| column.data_type == DataType::Date32);
    let mut window = Window { place, low: None, high: None };
    // Where the two truncate differently, what is whole in both is between the narrower bounds.
    for time in times.iter().filter(|time| time.name == first.name) {
        if let Some(from) = complete_from_ms {
            window.low = window.low.max(time.first_whole(from, is_day)?);
        }
        if let Some(until) = until_ms {
            let last = time.last_whole(until, is_day)?;
            window.high = window.high.map_or(last, |high| last.map(|last| high.min(last)));
        }
    }
    Ok((bounds, Some(window)))
}

impl TimeColumn<'_> {
    /// The first value of which no event time is before `ms`, in days or microseconds.
    fn first_whole(&self, ms: i64, is_day: bool) -> Result<Option<i64>> {
        if self.steps.is_empty() {
            return Ok(Some(ms.saturating_mul(1000)));
        }
        Ok(self.truncated(ms.saturating_sub(1), is_day)?.map(|value| value.saturating_add(1)))
    }

    /// The last value of which all event times are before `ms`.
    fn last_whole(&self, ms: i64, is_day: bool) -> Result<Option<i64>> {
        if self.steps.is_empty() {
            return Ok(Some(ms.saturating_mul(1000).saturating_sub(1)));
        }
        Ok(self.truncated(ms, is_day)?.map(|value| value.saturating_sub(1)))
    }

    fn truncated(&self, ms: i64, is_day: bool) -> Result<Option<i64>> {
        let Some(manifest) = &self.subject.manifest else { return Ok(None) };
        let value = truncated(&self.steps, &manifest.time_zones, ms)?;
        Ok(value.map(|value| if is_day { value } else { value.saturating_mul(1000) }))
    }
}
