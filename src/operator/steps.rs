//! Chains of stateless steps: filters and projections, with columns dropped as soon as nothing later uses them.

use std::collections::BTreeSet;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, filter_record_batch};
use arrow::datatypes::UInt32Type;

use super::eval::Evaluator;
use crate::error::Result;
use crate::plan::expr::{Expr, NamedExpr};
use crate::plan::lower::Step;
use crate::plan::schema::{Field, Schema};
use crate::plan::time_zones::ZoneTables;
use crate::plan::typing::{field_of, resolve};

/// Rows with where they came from. The positions are kept only where something needs them.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The columns.
    pub batch: RecordBatch,
    /// For each row its event time (in the unit of its column) and its offset.
    pub order: Option<(Int64Array, Int64Array)>,
    /// For each row the watermark of its partition when it was read, milliseconds; `i64::MIN` before there is one.
    pub watermarks: Option<Int64Array>,
}

impl Rows {
    /// One of them.
    pub fn one(&self, row: usize) -> Self {
        let order = self.order.as_ref().map(|(times, offsets)| (times.slice(row, 1), offsets.slice(row, 1)));
        let watermarks = self.watermarks.as_ref().map(|watermarks| watermarks.slice(row, 1));
        Self { batch: self.batch.slice(row, 1), order, watermarks }
    }

    /// Those for which the mask is true.
    pub fn filter(self, mask: &BooleanArray) -> Result<Self> {
        let batch = filter_record_batch(&self.batch, mask)?;
        Self { batch, ..self }.with_places_filtered(mask)
    }

    fn with_places_filtered(mut self, mask: &BooleanArray) -> Result<Self> {
        if let Some((times, offsets)) = &self.order {
            self.order = Some((filter_i64(times, mask)?, filter_i64(offsets, mask)?));
        }
        if let Some(watermarks) = &self.watermarks {
            self.watermarks = Some(filter_i64(watermarks, mask)?);
        }
        Ok(self)
    }
}

/// A compiled chain.
pub struct Steps {
    steps: Vec<Compiled>,
    output: Schema,
}

enum Compiled {
    /// The condition, and which columns are kept.
    Filter(Evaluator, Vec<usize>),
    Project(Vec<Evaluator>, arrow::datatypes::SchemaRef),
}

impl Steps {
    /// Compiles steps over `input`. `used`: the columns of the result that are needed, all if `None`.
    pub fn compile(steps: &[Step], input: &Schema, used: Option<&BTreeSet<String>>, zones: &ZoneTables) -> Result<Self> {
        let live = liveness(steps, used);
        let mut schema = input.clone();
        let mut compiled = Vec::with_capacity(steps.len());
        for (step, live) in steps.iter().zip(live) {
            match step {
                Step::Filter(predicate) => {
                    let condition = Evaluator::compile(predicate, &schema, zones)?;
                    let keep = |(i, field): (usize, &Field)| live.as_ref().is_none_or(|l| l.contains(&field.name)).then_some(i);
                    let kept: Vec<usize> = schema.fields.iter().enumerate().filter_map(keep).collect();
                    schema = Schema { fields: kept.iter().map(|i| schema.fields[*i].clone()).collect() };
                    compiled.push(Compiled::Filter(condition, kept));
                }
                Step::Project(columns) => {
                    let columns: Vec<&NamedExpr> =
                        columns.iter().filter(|column| live.as_ref().is_none_or(|l| l.contains(&column.name))).collect();
                    let evaluators =
                        columns.iter().map(|column| Evaluator::compile(&column.expr, &schema, zones)).collect::<Result<_>>()?;
                    schema = projected(&columns, &schema)?;
                    compiled.push(Compiled::Project(evaluators, schema.to_arrow()));
                }
            }
        }
        Ok(Self { steps: compiled, output: schema })
    }

    /// The columns of the result.
    pub fn output(&self) -> &Schema {
        &self.output
    }

    /// Runs the chain: rows that a filter does not accept are gone.
    pub fn apply(&self, mut rows: Rows) -> Result<Rows> {
        for step in &self.steps {
            match step {
                Compiled::Filter(condition, kept) => {
                    let mask = condition.filter_mask(&rows.batch)?;
                    if mask.true_count() == mask.len() {
                        rows.batch = rows.batch.project(kept)?;
                        continue;
                    }
                    rows.batch = filtered(&rows.batch, kept, &mask)?;
                    rows = rows.with_places_filtered(&mask)?;
                }
                Compiled::Project(evaluators, schema) => rows.batch = project(&rows.batch, evaluators, schema)?,
            }
        }
        Ok(rows)
    }

    /// Runs the chain over results of a grouping: the rows that are accepted, and which those are of the rows given; `None`:
    /// all. Behind a filter nothing is computed for rows that it does not accept.
    pub fn apply_numbered(&self, mut batch: RecordBatch) -> Result<(RecordBatch, Option<UInt32Array>)> {
        let mut numbers: Option<UInt32Array> = None;
        for step in &self.steps {
            match step {
                Compiled::Filter(condition, kept) => {
                    let mask = condition.filter_mask(&batch)?;
                    if mask.true_count() == mask.len() {
                        batch = batch.project(kept)?;
                        continue;
                    }
                    let before = numbers.unwrap_or_else(|| (0..batch.num_rows() as u32).collect());
                    numbers = Some(filter(&before, &mask)?.as_primitive::<UInt32Type>().clone());
                    batch = filtered(&batch, kept, &mask)?;
                }
                Compiled::Project(evaluators, schema) => batch = project(&batch, evaluators, schema)?,
            }
        }
        Ok((batch, numbers))
    }
}

fn filtered(batch: &RecordBatch, kept: &[usize], mask: &BooleanArray) -> Result<RecordBatch> {
    let columns = batch.project(kept)?;
    Ok(filter_record_batch(&columns, mask)?)
}

fn filter_i64(values: &Int64Array, mask: &BooleanArray) -> Result<Int64Array> {
    let values: ArrayRef = filter(values, mask)?;
    Ok(Int64Array::from(values.to_data()))
}

fn project(batch: &RecordBatch, evaluators: &[Evaluator], schema: &arrow::datatypes::SchemaRef) -> Result<RecordBatch> {
    let columns = evaluators.iter().map(|e| e.evaluate(batch)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

fn projected(columns: &[&NamedExpr], input: &Schema) -> Result<Schema> {
    let field = |column: &&NamedExpr| field_of(&column.name, &resolve(&column.expr, input)?);
    Ok(Schema { fields: columns.iter().map(field).collect::<Result<_>>()? })
}

/// For each step the columns that are needed after it.
fn liveness(steps: &[Step], used: Option<&BTreeSet<String>>) -> Vec<Option<BTreeSet<String>>> {
    let mut live = used.cloned();
    let mut result = Vec::with_capacity(steps.len());
    for step in steps.iter().rev() {
        result.push(live.clone());
        match step {
            Step::Filter(predicate) => {
                if let Some(live) = &mut live {
                    columns_of(predicate, live);
                }
            }
            Step::Project(columns) => {
                let mut before = BTreeSet::new();
                let needed = |column: &&NamedExpr| live.as_ref().is_none_or(|l| l.contains(&column.name));
                columns.iter().filter(needed).for_each(|column| columns_of(&column.expr, &mut before));
                live = Some(before);
            }
        }
    }
    result.reverse();
    result
}

/// Adds the columns that an expression reads.
pub fn columns_of(expr: &Expr, out: &mut BTreeSet<String>) {
    match expr {
        Expr::Column(name) => {
            out.insert(name.clone());
        }
        Expr::Literal(_) => {}
        Expr::Call { args, .. } => args.iter().for_each(|arg| columns_of(arg, out)),
        Expr::Cast { input, .. } => columns_of(input, out),
        Expr::Aggregate(aggregate) => {
            aggregate.input.iter().chain(&aggregate.filter).for_each(|inner| columns_of(inner, out));
        }
    }
}
