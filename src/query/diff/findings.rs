//! What differs: counted by column and by day, with examples of each kind.

use std::collections::BinaryHeap;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use serde::Serialize;

use super::columns::{Column, Columns, is_number};
use super::days::Days;
use super::encode::Encoder;
use super::partitions::Which;
use crate::error::Result;

/// Rows that are looked at together.
const CHUNK: usize = 4096;

/// How many rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of the first table.
    pub rows_a: u64,
    /// Of the second.
    pub rows_b: u64,
    /// Equal in both.
    pub same: u64,
    /// In both, and as good as equal.
    pub within_tolerance: u64,
    /// In both, with different values.
    pub changed: u64,
    /// In the first only.
    pub only_in_a: u64,
    /// In the second only.
    pub only_in_b: u64,
    /// Rows of the first table that were not compared.
    pub outside_a: u64,
    /// Rows of the second table that were not compared.
    pub outside_b: u64,
}

/// How a column differs, in rows of the same key.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ColumnChange {
    /// Its name.
    pub column: String,
    /// Rows in which it differs.
    pub changed: u64,
    /// Rows in which it differs by no more than its tolerance.
    pub within_tolerance: u64,
    /// Of those that changed, rows with a value in the first table and null in the second.
    pub became_null: u64,
    /// The other way round.
    pub was_null: u64,
    /// The greatest distance of two numbers.
    pub largest: Option<f64>,
}

/// A row that differs, as bytes. By its key, so that of many the first are kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Example {
    /// Its key.
    pub key: Vec<u8>,
    /// What the tables have beside the key; the second is empty where the row is in one only.
    pub values: [Vec<u8>; 2],
    /// How often.
    pub count: u64,
}

/// The first rows of a kind, by their key.
#[derive(Debug, Default)]
pub struct Examples {
    heap: BinaryHeap<Example>,
    limit: usize,
}

impl Examples {
    fn new(limit: usize) -> Self {
        Self { heap: BinaryHeap::new(), limit }
    }

    fn offer(&mut self, key: &[u8], values: [&[u8]; 2], count: u64) {
        let full = self.heap.len() >= self.limit;
        if full && self.heap.peek().is_none_or(|last| *last.key <= *key) {
            return;
        }
        self.heap.push(Example { key: key.to_vec(), values: values.map(<[u8]>::to_vec), count });
        if full {
            self.heap.pop();
        }
    }

    fn merge(&mut self, other: Self) {
        other.heap.into_iter().for_each(|it| self.offer(&it.key, [&it.values[0], &it.values[1]], it.count));
    }

    /// In the order of their keys.
    pub fn sorted(self) -> Vec<Example> {
        self.heap.into_sorted_vec()
    }
}

/// Rows that wait to be looked at: bytes of their key, then of both values.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    ends: Vec<[usize; 3]>,
    counts: Vec<u64>,
}

impl Chunk {
    fn push(&mut self, parts: [&[u8]; 3], count: u64) {
        let ends = parts.map(|part| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        });
        self.ends.push(ends);
        self.counts.push(count);
    }

    fn part(&self, part: usize) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(move |row| self.get(row, part))
    }

    fn get(&self, row: usize, part: usize) -> &[u8] {
        let ends = self.ends.get(row).copied().unwrap_or_default();
        let before = row.checked_sub(1).and_then(|row| self.ends.get(row)).map_or(0, |ends| ends[2]);
        let start = part.checked_sub(1).map_or(before, |part| ends[part]);
        self.bytes.get(start..ends[part]).unwrap_or_default()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.counts.clear();
    }
}

/// What one thread has found.
pub struct Findings {
    values: Vec<Column>,
    /// Brings rows to columns.
    pub encoder: Encoder,
    /// How many rows.
    pub counts: Counts,
    /// By compared column that is not of the key.
    pub columns: Vec<ColumnChange>,
    /// By day.
    pub days: Option<Days>,
    /// Rows that changed.
    pub changed: Examples,
    /// Rows in one table only.
    pub only: [Examples; 2],
    differing: Chunk,
    single: [Chunk; 2],
}

impl Findings {
    /// Nothing yet; at most `examples` rows of each kind will be kept.
    pub fn new(columns: &Columns, examples: usize) -> Result<Self> {
        let change = |column: &Column| ColumnChange { column: column.name.clone(), ..ColumnChange::default() };
        Ok(Self {
            values: columns.values.clone(),
            encoder: Encoder::new(columns)?,
            counts: Counts::default(),
            columns: columns.values.iter().map(change).collect(),
            days: Days::new(columns),
            changed: Examples::new(examples),
            only: [Examples::new(examples), Examples::new(examples)],
            differing: Chunk::default(),
            single: [Chunk::default(), Chunk::default()],
        })
    }

    /// A row of both tables whose values are not the same bytes.
    pub fn differs(&mut self, key: &[u8], a: &[u8], b: &[u8]) -> Result<()> {
        self.differing.push([key, a, b], 1);
        if self.differing.counts.len() < CHUNK { Ok(()) } else { self.look_at_differing() }
    }

    /// A row that only one table has, `count` times.
    pub fn only(&mut self, which: Which, key: &[u8], values: &[u8], count: u64) -> Result<()> {
        match which {
            Which::A => self.counts.only_in_a += count,
            Which::B => self.counts.only_in_b += count,
        }
        self.only[which as usize].offer(key, [values, &[]], count);
        let chunk = &mut self.single[which as usize];
        if self.days.is_some() {
            chunk.push([key, values, &[]], count);
        }
        if chunk.counts.len() < CHUNK { Ok(()) } else { self.look_at_single(which) }
    }

    /// Looks at what waits.
    pub fn finish(&mut self) -> Result<()> {
        self.look_at_differing()?;
        [Which::A, Which::B].into_iter().try_for_each(|which| self.look_at_single(which))
    }

    /// Adds what another thread has found.
    pub fn merge(&mut self, other: Self) {
        let (to, from) = (&mut self.counts, &other.counts);
        for (to, from) in [
            (&mut to.rows_a, from.rows_a),
            (&mut to.rows_b, from.rows_b),
            (&mut to.same, from.same),
            (&mut to.within_tolerance, from.within_tolerance),
            (&mut to.changed, from.changed),
            (&mut to.only_in_a, from.only_in_a),
            (&mut to.only_in_b, from.only_in_b),
            (&mut to.outside_a, from.outside_a),
            (&mut to.outside_b, from.outside_b),
        ] {
            *to += from;
        }
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            to.changed += from.changed;
            to.within_tolerance += from.within_tolerance;
            to.became_null += from.became_null;
            to.was_null += from.was_null;
            to.largest = larger(to.largest, from.largest);
        }
        if let Some((to, from)) = self.days.as_mut().zip(other.days) {
            to.merge(from);
        }
        self.changed.merge(other.changed);
        self.only.iter_mut().zip(other.only).for_each(|(to, from)| to.merge(from));
    }

    fn look_at_single(&mut self, which: Which) -> Result<()> {
        let chunk = &mut self.single[which as usize];
        if chunk.counts.is_empty() {
            return Ok(());
        }
        if let Some(days) = &mut self.days {
            let mut columns = self.encoder.keys(chunk.part(0))?;
            columns.extend(self.encoder.values(chunk.part(1))?);
            days.add_only(which, &columns, &chunk.counts)?;
        }
        chunk.clear();
        Ok(())
    }

    fn look_at_differing(&mut self) -> Result<()> {
        let chunk = &mut self.differing;
        let rows = chunk.counts.len();
        if rows == 0 {
            return Ok(());
        }
        let (a, b) = (self.encoder.values(chunk.part(1))?, self.encoder.values(chunk.part(2))?);
        let mut changed = vec![false; rows];
        for (((column, change), a), b) in self.values.iter().zip(&mut self.columns).zip(&a).zip(&b) {
            compare(column, a, b, change, &mut changed)?;
        }
        let count = changed.iter().filter(|changed| **changed).count() as u64;
        self.counts.changed += count;
        self.counts.within_tolerance += rows as u64 - count;
        if let Some(days) = self.days.as_mut().filter(|_| count > 0) {
            let mut columns = self.encoder.keys(chunk.part(0))?;
            columns.extend(a);
            days.add_changed(&columns, &changed)?;
        }
        for (row, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
            self.changed.offer(chunk.get(row, 0), [chunk.get(row, 1), chunk.get(row, 2)], 1);
        }
        chunk.clear();
        Ok(())
    }
}

/// Compares a column of rows of the same key; says in `changed` in which it differs beyond its tolerance.
fn compare(column: &Column, a: &ArrayRef, b: &ArrayRef, change: &mut ColumnChange, changed: &mut [bool]) -> Result<()> {
    let distances = is_number(&column.data_type).then(|| distances(a, b)).transpose()?;
    for (row, _) in differing(a, b)?.iter().enumerate().filter(|(_, differs)| *differs == Some(true)) {
        let distance = distances.as_ref().and_then(|distances| distances.get(row).copied().flatten());
        if distance.zip(column.tolerance).is_some_and(|(distance, tolerance)| distance <= tolerance) {
            change.within_tolerance += 1;
            continue;
        }
        change.changed += 1;
        change.became_null += u64::from(b.is_null(row));
        change.was_null += u64::from(a.is_null(row));
        change.largest = larger(change.largest, distance);
        if let Some(changed) = changed.get_mut(row) {
            *changed = true;
        }
    }
    Ok(())
}

/// In which rows two columns differ. Null is a value.
fn differing(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    if !a.data_type().is_nested() {
        return Ok(distinct(a, b)?);
    }
    let converter = RowConverter::new(vec![SortField::new(a.data_type().clone())])?;
    let (a, b) = (converter.convert_columns(std::slice::from_ref(a))?, converter.convert_columns(std::slice::from_ref(b))?);
    Ok(a.iter().zip(b.iter()).map(|(a, b)| Some(a != b)).collect())
}

/// How far numbers are from each other; none where one is null or no number.
fn distances(a: &ArrayRef, b: &ArrayRef) -> Result<Vec<Option<f64>>> {
    let both = |row: usize| a.is_valid(row) && b.is_valid(row);
    Ok(match a.data_type() {
        DataType::Decimal128(_, scale) => {
            let (a, b) = (a.as_primitive::<Decimal128Type>(), b.as_primitive::<Decimal128Type>());
            let unit = 10_f64.powi(i32::from(*scale));
            let distance = |row: usize| a.value(row).abs_diff(b.value(row)) as f64 / unit;
            (0..a.len()).map(|row| both(row).then(|| distance(row))).collect()
        }
        DataType::Float32 | DataType::Float64 => {
            let (x, y) = (arrow::compute::cast(a, &DataType::Float64)?, arrow::compute::cast(b, &DataType::Float64)?);
            let (x, y) = (x.as_primitive::<Float64Type>(), y.as_primitive::<Float64Type>());
            let distance = |row: usize| (x.value(row) - y.value(row)).abs();
            (0..a.len()).map(|row| both(row).then(|| distance(row)).filter(|distance| !distance.is_nan())).collect()
        }
        _ => {
            let (x, y) = (arrow::compute::cast(a, &DataType::Int64)?, arrow::compute::cast(b, &DataType::Int64)?);
            let (x, y) = (x.as_primitive::<Int64Type>(), y.as_primitive::<Int64Type>());
            let distance = |row: usize| x.value(row).abs_diff(y.value(row)) as f64;
            (0..a.len()).map(|row| both(row).then(|| distance(row))).collect()
        }
    })
}

fn larger(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.into_iter().chain(b).reduce(f64::max)
}
