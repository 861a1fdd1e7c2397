//! Totals of each day: what is in both tables, what differs, and the sums of numbers in each.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Decimal128Builder, Float64Builder, RecordBatch, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema};

use super::columns::{Column, Columns, is_number};
use super::partitions::Which;
use crate::error::Result;
use crate::operator::accumulator::float_sum::FloatSum;

/// More days than this are not told apart: a time in the wrong unit must not fill the memory.
const MOST_DAYS: usize = 40_000;
/// Of a sum that is shown.
const DIGITS: u8 = 38;

/// The totals by day.
pub struct Days {
    /// The numbers that are summed up, and where they are among the compared columns.
    numbers: Vec<(usize, Column)>,
    /// Where the day is among the compared columns.
    place: usize,
    name: String,
    days: HashMap<Option<i32>, Day>,
    /// Rows of days that are not told apart.
    beyond: u64,
}

#[derive(Clone, Default)]
struct Day {
    rows: [u64; 2],
    only: [u64; 2],
    changed: u64,
    sums: [Vec<Sum>; 2],
}

/// A count of a day.
type Count = fn(&Day) -> u64;

/// The sum of no values is null, and so is one that does not fit.
#[derive(Clone)]
enum Sum {
    Exact(Option<i128>, bool),
    Float(Box<FloatSum>, bool),
}

impl Sum {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Float32 | DataType::Float64 => Self::Float(Box::default(), false),
            _ => Self::Exact(Some(0), false),
        }
    }

    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Exact(sum, any), Self::Exact(more, some)) => {
                *sum = sum.zip(*more).and_then(|(sum, more)| sum.checked_add(more));
                *any |= some;
            }
            (Self::Float(sum, any), Self::Float(more, some)) => {
                sum.merge(more);
                *any |= some;
            }
            _ => {}
        }
    }
}

impl Days {
    /// By the first day or time of the compared columns; none without one.
    pub fn new(columns: &Columns) -> Option<Self> {
        let day = |column: &Column| matches!(column.data_type, DataType::Date32 | DataType::Timestamp(..));
        let place = columns.all().position(day)?;
        let name = columns.all().nth(place)?.name.clone();
        // The numbers of a key are names: their sums say nothing.
        let values = columns.key.len();
        let number = |(place, column): (usize, &Column)| (place, column.clone());
        let counts = |(place, column): &(usize, Column)| is_number(&column.data_type) && (columns.multiset || *place >= values);
        let numbers = columns.all().enumerate().map(number).filter(counts).collect();
        Some(Self { numbers, place, name, days: HashMap::new(), beyond: 0 })
    }

    /// The column that days are taken from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds rows of a table: the compared columns, those of the key first.
    pub fn add_rows(&mut self, which: Which, columns: &[ArrayRef]) -> Result<()> {
        let Some(days) = columns.get(self.place).map(days_of).transpose()? else { return Ok(()) };
        // Rows of one day are mostly together: each run is looked up once.
        let mut at = 0;
        let numbers: Vec<Numbers> =
            self.numbers.iter().filter_map(|(place, _)| columns.get(*place)).map(Numbers::of).collect::<Result<_>>()?;
        while at < days.len() {
            let day = value(&days, at);
            let end = (at + 1..days.len()).find(|next| value(&days, *next) != day).unwrap_or(days.len());
            if let Some(day) = self.day(day, (end - at) as u64) {
                day.rows[which as usize] += (end - at) as u64;
                for (sum, numbers) in day.sums[which as usize].iter_mut().zip(&numbers) {
                    numbers.add(at..end, sum);
                }
            }
            at = end;
        }
        Ok(())
    }

    /// Counts rows that are in one table only: the compared columns, and how many of each.
    pub fn add_only(&mut self, which: Which, columns: &[ArrayRef], counts: &[u64]) -> Result<()> {
        let Some(days) = columns.get(self.place).map(days_of).transpose()? else { return Ok(()) };
        for (row, count) in counts.iter().enumerate() {
            if let Some(day) = self.day(value(&days, row), *count) {
                day.only[which as usize] += count;
            }
        }
        Ok(())
    }

    /// Counts rows that changed.
    pub fn add_changed(&mut self, columns: &[ArrayRef], changed: &[bool]) -> Result<()> {
        let Some(days) = columns.get(self.place).map(days_of).transpose()? else { return Ok(()) };
        for (row, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
            if let Some(day) = self.day(value(&days, row), 1) {
                day.changed += 1;
            }
        }
        Ok(())
    }

    fn day(&mut self, day: Option<i32>, rows: u64) -> Option<&mut Day> {
        if self.days.len() >= MOST_DAYS && !self.days.contains_key(&day) {
            self.beyond += rows;
            return None;
        }
        let numbers = &self.numbers;
        Some(self.days.entry(day).or_insert_with(|| {
            let sums = || numbers.iter().map(|(_, column)| Sum::of(&column.data_type)).collect();
            Day { sums: [sums(), sums()], ..Day::default() }
        }))
    }

    /// Adds the totals of another thread.
    pub fn merge(&mut self, other: Self) {
        self.beyond += other.beyond;
        for (day, more) in other.days {
            let rows = more.rows.iter().sum();
            let Some(day) = self.day(day, rows) else { continue };
            for which in [0, 1] {
                day.rows[which] += more.rows[which];
                day.only[which] += more.only[which];
                day.sums[which].iter_mut().zip(&more.sums[which]).for_each(|(sum, more)| sum.merge(more));
            }
            day.changed += more.changed;
        }
    }

    /// A row for each day, in order; at last the one of null.
    pub fn table(&self) -> Result<RecordBatch> {
        let mut days: Vec<(&Option<i32>, &Day)> = self.days.iter().collect();
        days.sort_unstable_by_key(|(day, _)| (day.is_none(), **day));
        let mut fields = vec![Field::new("day", DataType::Date32, true)];
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(days.iter().map(|(day, _)| **day).collect::<Date32Array>())];
        let counts: [(&str, Count); 5] = [
            ("rows_a", |day| day.rows[0]),
            ("rows_b", |day| day.rows[1]),
            ("only_in_a", |day| day.only[0]),
            ("only_in_b", |day| day.only[1]),
            ("changed", |day| day.changed),
        ];
        for (name, count) in counts {
            fields.push(Field::new(name, DataType::Int64, false));
            let column: UInt64Array = days.iter().map(|(_, day)| Some(count(day))).collect();
            arrays.push(cast(&column, &DataType::Int64)?);
        }
        for (index, (_, column)) in self.numbers.iter().enumerate() {
            for (which, suffix) in [(0, "a"), (1, "b")] {
                let sums: Vec<Option<&Sum>> = days.iter().map(|(_, day)| day.sums[which].get(index)).collect();
                let array = sums_array(&sums, &column.data_type)?;
                fields.push(Field::new(format!("{}_{suffix}", column.name), array.data_type().clone(), true));
                arrays.push(array);
            }
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    /// The summed columns.
    pub fn numbers(&self) -> impl Iterator<Item = &str> {
        self.numbers.iter().map(|(_, column)| column.name.as_str())
    }

    /// Rows of days that are not told apart, because there are too many.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }
}

fn sums_array(sums: &[Option<&Sum>], data_type: &DataType) -> Result<ArrayRef> {
    if matches!(data_type, DataType::Float32 | DataType::Float64) {
        let mut builder = Float64Builder::new();
        for sum in sums {
            builder.append_option(match sum {
                Some(Sum::Float(sum, true)) => Some(sum.round()),
                _ => None,
            });
        }
        return Ok(Arc::new(builder.finish()));
    }
    let scale = if let DataType::Decimal128(_, scale) = data_type { *scale } else { 0 };
    let mut builder = Decimal128Builder::new().with_precision_and_scale(DIGITS, scale)?;
    let most = 10_i128.pow(u32::from(DIGITS));
    for sum in sums {
        builder.append_option(match sum {
            Some(Sum::Exact(Some(sum), true)) if (-most..most).contains(sum) => Some(*sum),
            _ => None,
        });
    }
    Ok(Arc::new(builder.finish()))
}

/// A column of numbers that are summed up.
enum Numbers {
    Integer(ArrayRef),
    Decimal(ArrayRef),
    Float(ArrayRef),
}

impl Numbers {
    fn of(column: &ArrayRef) -> Result<Self> {
        Ok(match column.data_type() {
            DataType::Decimal128(..) => Self::Decimal(column.clone()),
            DataType::Float32 | DataType::Float64 => Self::Float(cast(column, &DataType::Float64)?),
            _ => Self::Integer(cast(column, &DataType::Int64)?),
        })
    }

    fn add(&self, rows: std::ops::Range<usize>, to: &mut Sum) {
        match (self, to) {
            (Self::Integer(column), Sum::Exact(sum, any)) => {
                let column = column.as_primitive::<Int64Type>();
                add_exact(rows.filter(|row| column.is_valid(*row)).map(|row| i128::from(column.value(row))), sum, any);
            }
            (Self::Decimal(column), Sum::Exact(sum, any)) => {
                let column = column.as_primitive::<Decimal128Type>();
                add_exact(rows.filter(|row| column.is_valid(*row)).map(|row| column.value(row)), sum, any);
            }
            (Self::Float(column), Sum::Float(sum, any)) => {
                let column = column.as_primitive::<Float64Type>();
                for row in rows.filter(|row| column.is_valid(*row)) {
                    sum.add(column.value(row));
                    *any = true;
                }
            }
            _ => {}
        }
    }
}

fn add_exact(values: impl Iterator<Item = i128>, sum: &mut Option<i128>, any: &mut bool) {
    for value in values {
        *sum = sum.and_then(|sum| sum.checked_add(value));
        *any = true;
    }
}

/// The day of each value of a day or time, by UTC.
fn days_of(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(if *column.data_type() == DataType::Date32 {
        column.clone()
    } else {
        // Without its zone: a cast to days goes by the zone, and UTC is what is meant.
        let plain = cast(column, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))?;
        let micros = plain.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let day = |micros: i64| i32::try_from(micros.div_euclid(86_400_000_000)).unwrap_or(i32::MAX);
        Arc::new(micros.unary::<_, Date32Type>(day))
    })
}

fn value(days: &ArrayRef, row: usize) -> Option<i32> {
    let days = days.as_primitive::<Date32Type>();
    days.is_valid(row).then(|| days.value(row))
}
