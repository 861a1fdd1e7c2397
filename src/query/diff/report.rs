//! What a comparison found: numbers as a document, rows as Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use serde::Serialize;

use super::columns::{Columns, SchemaDifference};
use super::encode::Encoder;
use super::findings::{ColumnChange, Counts, Example, Findings};
use super::side::Side;
use super::window::Bounds;
use crate::error::Result;

/// A comparison of two tables.
pub struct Diff {
    /// What was found, in numbers.
    pub report: Report,
    /// Rows of the same key that differ: the key, then each column of both. The first by their key.
    pub changed: RecordBatch,
    /// Rows of the first table that the second has not.
    pub only_in_a: RecordBatch,
    /// Rows of the second table that the first has not.
    pub only_in_b: RecordBatch,
    /// Totals by day; without rows where no column is a day or a time.
    pub by_day: RecordBatch,
}

/// What was found, in numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first table.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// Under which this is kept, for a promote.
    pub proof: Option<String>,
    /// Whether both were at one position of the log.
    pub same_position: bool,
    /// Whether versions that run were asked to take a checkpoint there, and did.
    pub met: bool,
    /// Which rows were compared.
    pub bounds: Bounds,
    /// Whether anything differs.
    pub differs: bool,
    /// What rows were matched by; empty: they were compared as multisets.
    pub key: Vec<String>,
    /// How the columns differ.
    pub schema: Vec<SchemaDifference>,
    /// How many rows.
    pub counts: Counts,
    /// How the values differ.
    pub columns: Vec<ColumnChange>,
    /// The column by which `by_day` is.
    pub day: Option<String>,
    /// The columns that `by_day` has sums of.
    pub numbers: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// When it was made, milliseconds since 1970 UTC.
    pub made_ms: i64,
    /// How long it took.
    pub seconds: f64,
    /// Bytes that went through the disk.
    pub spilled_bytes: u64,
}

/// Rows of the findings as Arrow.
pub struct Tables {
    /// See [`Diff`].
    pub changed: RecordBatch,
    /// See [`Diff`].
    pub only: [RecordBatch; 2],
    /// See [`Diff`].
    pub by_day: RecordBatch,
}

/// Brings the examples and the days to columns.
pub fn tables(columns: &Columns, findings: Findings) -> Result<Tables> {
    let by_day = match &findings.days {
        Some(days) => days.table()?,
        None => RecordBatch::new_empty(Arc::new(Schema::empty())),
    };
    let encoder = &findings.encoder;
    let [a, b] = findings.only;
    let only = [only(columns, encoder, &a.sorted())?, only(columns, encoder, &b.sorted())?];
    Ok(Tables { changed: changed(columns, encoder, &findings.changed.sorted())?, only, by_day })
}

fn keys(columns: &Columns, encoder: &Encoder, examples: &[Example]) -> Result<(Vec<Field>, Vec<ArrayRef>)> {
    let arrays = encoder.keys(examples.iter().map(|example| example.key.as_slice()))?;
    let fields = columns.key.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)).collect();
    Ok((fields, arrays))
}

fn values(encoder: &Encoder, examples: &[Example], which: usize) -> Result<Vec<ArrayRef>> {
    encoder.values(examples.iter().map(|example| example.values[which].as_slice()))
}

/// Rows of one table; of a multiset, with how often they are there more than in the other.
fn only(columns: &Columns, encoder: &Encoder, examples: &[Example]) -> Result<RecordBatch> {
    let (mut fields, mut arrays) = keys(columns, encoder, examples)?;
    fields.extend(columns.values.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true)));
    arrays.extend(values(encoder, examples, 0)?);
    if columns.multiset {
        fields.push(Field::new(free(&fields, "rows"), DataType::Int64, false));
        arrays.push(Arc::new(examples.iter().map(|it| i64::try_from(it.count).ok()).collect::<Int64Array>()));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// Rows of both tables: of each column the two values beside each other.
fn changed(columns: &Columns, encoder: &Encoder, examples: &[Example]) -> Result<RecordBatch> {
    let (mut fields, mut arrays) = keys(columns, encoder, examples)?;
    let (a, b) = (values(encoder, examples, 0)?, values(encoder, examples, 1)?);
    for ((column, a), b) in columns.values.iter().zip(a).zip(b) {
        for (array, suffix) in [(a, "a"), (b, "b")] {
            let name = free(&fields, &format!("{}_{suffix}", column.name));
            fields.push(Field::new(name, column.data_type.clone(), true));
            arrays.push(array);
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// A name that no column has yet.
fn free(fields: &[Field], name: &str) -> String {
    let mut name = name.to_owned();
    while fields.iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    name
}
