//! From the logical plan to a description of what the runtime sets up: sources with the columns that are used, and one
//! pipeline per output. Still no operators, no threads: the description can be printed and tested.
//!
//! Columns that nothing uses are left out from the bottom up: what is computed only for them is not computed, and what is
//! not read is not decoded.

mod aggregates;
mod pushdown;

use super::expr::{AggregateFunction, Expr, NamedExpr};
use super::interval::{ExpirySpec, expiry_of};
use super::logical::{JobPlan, Node, Read};
use super::schema::{DataType, Schema};
use super::validate::{Shape, check_plan, shape_of, with_columns_as_select};
use crate::error::{Error, Result};

/// What the runtime sets up for a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Lowered {
    /// Each topic that is read, once.
    pub sources: Vec<SourceSpec>,
    /// One for each output of the plan, in its order.
    pub pipelines: Vec<PipelineSpec>,
}

/// A topic and the columns of it that some pipeline uses.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceSpec {
    /// How it was declared.
    pub read: Read,
    /// Payload columns to decode: those that are used, and always the event time.
    pub payload: Schema,
    /// Payload columns, then the metadata columns that are used: what batches of this source look like.
    pub schema: Schema,
    /// The position of the event time in both.
    pub event_time: usize,
}

/// From a source to a table.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpec {
    /// Which source.
    pub source: usize,
    /// Stateless steps on the source's batches.
    pub before: Vec<Step>,
    /// The grouping, if there is one.
    pub aggregate: Option<AggregateSpec>,
    /// The grouping of the rows that the first one makes, if there is one.
    pub regroup: Option<RegroupSpec>,
    /// Stateless steps on the rows that the last grouping makes. Where a filter is not true, the row is deleted.
    pub after: Vec<Step>,
    /// The columns of the table.
    pub schema: Schema,
    /// For grouped results the columns of the group key, as named in the table; else empty.
    pub primary_key: Vec<String>,
}

/// A stateless step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Rows for which it is true.
    Filter(Expr),
    /// Exactly these columns. `with_columns` is lowered to this.
    Project(Vec<NamedExpr>),
}

/// A grouping.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateSpec {
    /// What the state of this operator is called in checkpoints: stable as long as the plan is the same.
    pub name: String,
    /// The group key, over the input of the aggregate.
    pub keys: Vec<NamedExpr>,
    /// Types of the keys, in order.
    pub key_types: Vec<DataType>,
    /// The plain aggregates. Expressions over them are steps behind the grouping.
    pub calls: Vec<AggregateCall>,
    /// When its groups expire, if they do.
    pub expiry: Option<ExpirySpec>,
}

/// A second grouping, over rows that change: what a row was at the last barrier is taken back, what it is now is added.
#[derive(Clone, Debug, PartialEq)]
pub struct RegroupSpec {
    /// Stateless steps on the rows of the first grouping. Where a filter is not true, the row counts for nothing.
    pub between: Vec<Step>,
    /// The grouping. Its last call counts the rows of each group and is not a column: a group without rows is gone.
    pub aggregate: AggregateSpec,
}

/// One plain aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    /// The column it makes.
    pub name: String,
    /// Which.
    pub function: AggregateFunction,
    /// Of what; absent for `len`.
    pub input: Option<Expr>,
    /// The type of the input.
    pub input_type: Option<DataType>,
    /// Only rows for which this is true.
    pub filter: Option<Expr>,
    /// For `first` and `last`.
    pub ignore_nulls: bool,
    /// Whether rows are also taken back.
    pub retracts: bool,
    /// The type of the result.
    pub output_type: DataType,
}

impl Lowered {
    /// Where groups expire, which waits for the least watermark over all partitions: by how much that must move for some to go
    /// at the least, milliseconds.
    pub fn least_expiry_ms(&self) -> Option<i64> {
        let groupings = self.pipelines.iter().flat_map(PipelineSpec::groupings);
        groupings.filter_map(|grouping| grouping.expiry.as_ref()).map(ExpirySpec::slice_ms).min()
    }
}

impl AggregateSpec {
    /// All expressions over its input.
    pub fn expressions(&self) -> impl Iterator<Item = &Expr> {
        let inputs = self.calls.iter().flat_map(|call| call.input.iter().chain(&call.filter));
        self.keys.iter().map(|key| &key.expr).chain(inputs)
    }
}

impl PipelineSpec {
    /// The groupings, in the order of the data.
    pub fn groupings(&self) -> impl Iterator<Item = &AggregateSpec> {
        self.aggregate.iter().chain(self.regroup.iter().map(|regroup| &regroup.aggregate))
    }
}

/// Lowers a job, checking it whole.
///
/// # Errors
/// A `PlanError` if the plan is not valid.
pub fn lower(plan: &JobPlan) -> Result<Lowered> {
    let shapes = check_plan(plan)?;
    let mut used: Vec<(&Read, Vec<String>)> = Vec::new();
    let mut pipelines = Vec::with_capacity(shapes.len());
    for ((i, output), shape) in plan.outputs.iter().enumerate().zip(shapes) {
        let mut steps = Steps { name: format!("output {i} aggregate"), ..Steps::default() };
        steps.add(&output.plan)?;
        let columns = pushdown::prune(&mut steps, &shape.schema);
        let read = output.plan.read();
        let source = used.iter().position(|(other, _)| other.id == read.id).unwrap_or_else(|| {
            used.push((read, Vec::new()));
            used.len() - 1
        });
        if let Some((_, all)) = used.get_mut(source) {
            all.extend(columns);
        }
        pipelines.push(steps.into_pipeline(source, shape));
    }
    let sources = used.into_iter().map(|(read, columns)| source_spec(read, &columns)).collect::<Result<_>>()?;
    Ok(Lowered { sources, pipelines })
}

fn source_spec(read: &Read, used: &[String]) -> Result<SourceSpec> {
    let is_used = |name: &str| name == read.event_time || used.iter().any(|column| column == name);
    let mut full = read.full_schema();
    full.fields.retain(|field| is_used(&field.name));
    let payload = Schema { fields: read.schema.fields.iter().filter(|field| is_used(&field.name)).cloned().collect() };
    let (event_time, _) =
        payload.find(&read.event_time).ok_or_else(|| Error::internal("a read without its event time passed the check"))?;
    Ok(SourceSpec { read: read.clone(), payload, schema: full, event_time })
}

/// A pipeline in the making.
#[derive(Default)]
struct Steps {
    name: String,
    before: Vec<Step>,
    aggregate: Option<AggregateSpec>,
    regroup: Option<RegroupSpec>,
    after: Vec<Step>,
}

impl Steps {
    fn add(&mut self, node: &Node) -> Result<()> {
        if let Some(input) = node.input() {
            self.add(input)?;
        }
        match node {
            Node::Read(_) => {}
            Node::Filter { predicate, .. } => self.push(Step::Filter(predicate.clone())),
            Node::Select { columns, .. } => self.push(Step::Project(columns.clone())),
            Node::WithColumns { input, columns } => {
                self.push(Step::Project(with_columns_as_select(&shape_of(input)?.schema, columns)));
            }
            Node::Aggregate { input, keys, aggregates, expire_after_ms } => {
                let expiry = expire_after_ms.map(|after_ms| expiry_of(input, keys, after_ms)).transpose()?;
                let split = aggregates::split(&shape_of(input)?.schema, keys, aggregates, self.aggregate.is_some())?;
                self.group(split, expiry)?;
            }
        }
        Ok(())
    }

    /// The first grouping; or the second, and what came behind the first lies between them.
    fn group(&mut self, split: aggregates::Split, expiry: Option<ExpirySpec>) -> Result<()> {
        let aggregates::Split { keys, key_types, calls, project } = split;
        let name = if self.aggregate.is_none() { self.name.clone() } else { format!("{} 2", self.name) };
        let aggregate = AggregateSpec { name, keys, key_types, calls, expiry };
        match (&self.aggregate, &self.regroup) {
            (None, _) => self.aggregate = Some(aggregate),
            (Some(_), None) => self.regroup = Some(RegroupSpec { between: std::mem::take(&mut self.after), aggregate }),
            (Some(_), Some(_)) => return Err(Error::internal("a third grouping passed the check")),
        }
        self.after.extend(project);
        Ok(())
    }

    fn push(&mut self, step: Step) {
        if self.aggregate.is_some() { self.after.push(step) } else { self.before.push(step) }
    }

    fn into_pipeline(self, source: usize, shape: Shape) -> PipelineSpec {
        PipelineSpec {
            source,
            before: self.before,
            aggregate: self.aggregate,
            regroup: self.regroup,
            after: self.after,
            schema: shape.schema,
            primary_key: shape.keys.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
