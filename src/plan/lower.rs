//! From the logical plan to a description of what the runtime sets up: sources with the columns that are used, and one
//! pipeline per output. Still no operators, no threads: the description can be printed and tested.

use super::expr::{AggregateFunction, Expr, NamedExpr};
use super::logical::Read;
use super::schema::{DataType, Schema};

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
    /// Stateless steps on the rows that an aggregate makes. Where a filter is not true, the row is deleted.
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
    /// The plain aggregates. Expressions over them are steps in `after`.
    pub calls: Vec<AggregateCall>,
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
    /// The type of the result.
    pub output_type: DataType,
}
