//! Parts of instants in a time zone. One loop over a slice; the offset of the last row is kept, since rows that are near
//! each other in a log are near each other in time.
//!
//! **Truncation** is of local time, mapped back to an instant. For intervals of more than an hour that is the earliest
//! instant that shows the truncated local time: a day has one group, whatever its clocks do, and where clocks jump over
//! midnight the day starts at the jump. For intervals of an hour and less the offset of the row is kept where it still
//! holds, so that an hour that occurs twice is two groups (as in Polars).

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType as ArrowType;

use super::Kernel;
use super::cast::change_unit;
use super::map::{Primitive, Slice, i32s, i64s, try_map1};
use super::value::Value;
use crate::error::{Error, Result};
use crate::plan::display;
use crate::plan::expr::Function;
use crate::plan::schema::{DataType, TimeUnit};
use crate::plan::time_zones::{ZoneTable, ZoneTables};
use crate::plan::truncate::{Every, civil_from_days};

const DAY: i64 = 86_400;

/// A function of an instant or a date.
#[derive(Debug)]
pub(super) struct Time {
    part: Part,
    /// Of the instants; none for dates.
    unit: Option<TimeUnit>,
    zone: Arc<ZoneTable>,
    text: String,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Date,
    Truncate(Every),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Weekday,
    Epoch(TimeUnit),
}

impl Time {
    pub(super) fn new(function: &Function, from: &DataType, zones: &ZoneTables, text: &str) -> Result<Self> {
        let part = match function {
            Function::DtDate { .. } => Part::Date,
            Function::DtTruncate { every, .. } => Part::Truncate(Every::parse(every)?),
            Function::DtYear { .. } => Part::Year,
            Function::DtMonth { .. } => Part::Month,
            Function::DtDay { .. } => Part::Day,
            Function::DtHour { .. } => Part::Hour,
            Function::DtMinute { .. } => Part::Minute,
            Function::DtSecond { .. } => Part::Second,
            Function::DtWeekday { .. } => Part::Weekday,
            Function::DtEpoch { unit } => Part::Epoch(*unit),
            other => return Err(Error::internal(format!("{} is not a function of time", other.method()))),
        };
        let unit = match from {
            DataType::Timestamp(unit) => Some(*unit),
            _ => None,
        };
        // A date is a day wherever it is.
        let zone = match function.time_zone() {
            Some(name) if unit.is_some() => Arc::new(zones.get(name)?.clone()),
            _ => Arc::new(ZoneTable { name: "UTC".to_owned(), transitions: vec![(0, 0)] }),
        };
        Ok(Self { part, unit, zone, text: text.to_owned() })
    }

    fn instants<const PER_SECOND: i64>(&self, arg: Slice<'_, i64>, unit: TimeUnit) -> Result<ArrayRef> {
        let int = ArrowType::Int32;
        let day_of = |local: i64| local.div_euclid(DAY);
        match self.part {
            Part::Date => self.local::<PER_SECOND, i32>(arg, &ArrowType::Date32, |local| i32::try_from(day_of(local)).ok()),
            Part::Year => self.local::<PER_SECOND, _>(arg, &int, |local| i32::try_from(civil_from_days(day_of(local)).0).ok()),
            Part::Month => self.local::<PER_SECOND, _>(arg, &int, |local| Some(civil_from_days(day_of(local)).1 as i32)),
            Part::Day => self.local::<PER_SECOND, _>(arg, &int, |local| Some(civil_from_days(day_of(local)).2 as i32)),
            Part::Hour => self.local::<PER_SECOND, _>(arg, &int, |local| Some((local.rem_euclid(DAY) / 3600) as i32)),
            Part::Minute => self.local::<PER_SECOND, _>(arg, &int, |local| Some((local.rem_euclid(3600) / 60) as i32)),
            Part::Second => self.local::<PER_SECOND, _>(arg, &int, |local| Some(local.rem_euclid(60) as i32)),
            Part::Weekday => self.local::<PER_SECOND, _>(arg, &int, |local| Some(weekday(day_of(local)))),
            Part::Epoch(to) => try_map1(arg, &ArrowType::Int64, |v| change_unit(v, unit, to), |row, v| self.failed(row, v)),
            Part::Truncate(every) => {
                let to = DataType::Timestamp(unit).to_arrow();
                let mut zone = Truncation { cursor: Cursor::new(&self.zone), every, last: None };
                try_map1(
                    arg,
                    &to,
                    |v| zone.truncate(v.div_euclid(PER_SECOND))?.checked_mul(PER_SECOND),
                    |row, v| self.failed(row, v),
                )
            }
        }
    }

    /// A function of local seconds.
    fn local<const PER_SECOND: i64, O: Primitive>(
        &self,
        arg: Slice<'_, i64>,
        to: &ArrowType,
        f: impl Fn(i64) -> Option<O>,
    ) -> Result<ArrayRef> {
        let mut cursor = Cursor::new(&self.zone);
        try_map1(arg, to, |v| f(cursor.local(v.div_euclid(PER_SECOND))?), |row, v| self.failed(row, v))
    }

    fn dates(&self, arg: &Value) -> Result<ArrayRef> {
        let days = i32s(arg)?;
        let fail = |row, v: i32| self.failed(row, i64::from(v));
        match self.part {
            Part::Date => Ok(arg.array().clone()),
            Part::Year => try_map1(days, &ArrowType::Int32, |v| i32::try_from(civil_from_days(v.into()).0).ok(), fail),
            Part::Month => try_map1(days, &ArrowType::Int32, |v| Some(civil_from_days(v.into()).1 as i32), fail),
            Part::Day => try_map1(days, &ArrowType::Int32, |v| Some(civil_from_days(v.into()).2 as i32), fail),
            Part::Weekday => try_map1(days, &ArrowType::Int32, |v| Some(weekday(v.into())), fail),
            Part::Truncate(every) => {
                try_map1(days, &ArrowType::Date32, |v| i32::try_from(every.first_day(v.into())).ok(), fail)
            }
            Part::Hour | Part::Minute | Part::Second | Part::Epoch(_) => {
                Err(Error::internal(format!("{} of a date", self.text)))
            }
        }
    }

    fn failed(&self, row: usize, value: i64) -> Error {
        let shown = match self.unit {
            Some(unit) => display::instant(value, unit).unwrap_or_else(|| format!("{value} {}", unit.name())),
            None => display::date(value).unwrap_or_else(|| format!("{value} days")),
        };
        Error::data("time_out_of_range", format!("{}: the result for {shown} is out of range", self.text))
            .with("row", row)
            .hint("check the unit of the column: a count of milliseconds declared as seconds gives such times")
    }
}

impl Kernel for Time {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let [arg] = args else { return Err(Error::internal("one argument")) };
        let array = match self.unit {
            None => self.dates(arg)?,
            Some(unit @ TimeUnit::Second) => self.instants::<1>(i64s(arg)?, unit)?,
            Some(unit @ TimeUnit::Millisecond) => self.instants::<1_000>(i64s(arg)?, unit)?,
            Some(unit @ TimeUnit::Microsecond) => self.instants::<1_000_000>(i64s(arg)?, unit)?,
            Some(unit @ TimeUnit::Nanosecond) => self.instants::<1_000_000_000>(i64s(arg)?, unit)?,
        };
        Ok(Value::like(array, args))
    }

    fn fallible(&self) -> bool {
        match (self.part, self.unit) {
            (Part::Truncate(_), _) => true,
            (Part::Epoch(to), Some(from)) => to.per_second() > from.per_second(),
            (_, unit) => matches!(unit, Some(TimeUnit::Second | TimeUnit::Millisecond)),
        }
    }
}

/// Monday is 1. 1970-01-01 was a Thursday.
fn weekday(day: i64) -> i32 {
    (day + 3).rem_euclid(7) as i32 + 1
}

/// Walks a zone's table: the stretch of the last instant is looked at first.
struct Cursor<'a> {
    table: &'a ZoneTable,
    from: i64,
    until: i64,
    offset: i64,
}

impl<'a> Cursor<'a> {
    fn new(table: &'a ZoneTable) -> Self {
        let mut cursor = Self { table, from: 0, until: 0, offset: 0 };
        cursor.seek(0);
        cursor
    }

    #[inline]
    fn offset(&mut self, utc: i64) -> i64 {
        if utc < self.from || utc >= self.until {
            self.seek(utc);
        }
        self.offset
    }

    #[inline]
    fn local(&mut self, utc: i64) -> Option<i64> {
        utc.checked_add(self.offset(utc))
    }

    #[cold]
    fn seek(&mut self, utc: i64) {
        let transitions = &self.table.transitions;
        let position = self.table.position(utc);
        let (from, offset) = transitions.get(position).copied().unwrap_or_default();
        self.from = if position == 0 { i64::MIN } else { from };
        // The last stretch includes the greatest instant: one more look there does no harm.
        self.until = transitions.get(position + 1).map_or(i64::MAX, |(until, _)| *until);
        self.offset = i64::from(offset);
    }
}

/// The start of the interval that an instant lies in, both in seconds.
pub(super) fn truncate(table: &ZoneTable, every: Every, utc: i64) -> Option<i64> {
    Truncation { cursor: Cursor::new(table), every, last: None }.truncate(utc)
}

/// Whether an interval is so short that where clocks are put back it comes twice.
pub(super) fn is_repeated(every: Every) -> bool {
    matches!(every, Every::Seconds(step) if step <= 3600)
}

struct Truncation<'a> {
    cursor: Cursor<'a>,
    every: Every,
    /// The last truncated local time that was looked up, and its earliest instant.
    last: Option<(i64, i64)>,
}

impl Truncation<'_> {
    /// The start of the interval that an instant lies in, both in seconds.
    fn truncate(&mut self, utc: i64) -> Option<i64> {
        let local = self.cursor.local(utc)?;
        let floor = match self.every {
            Every::Seconds(step) => local.checked_sub(local.rem_euclid(step))?,
            calendar => calendar.first_day(local.div_euclid(DAY)).checked_mul(DAY)?,
        };
        if is_repeated(self.every) {
            let same_offset = floor.checked_sub(self.cursor.offset)?;
            if same_offset >= self.cursor.from {
                return Some(same_offset);
            }
        }
        if let Some((known, start)) = self.last
            && known == floor
        {
            return Some(start);
        }
        let start = self.cursor.table.earliest(floor);
        self.last = Some((floor, start));
        Some(start)
    }
}
