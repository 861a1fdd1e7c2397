//! What a version does to a record up to the grouping, and which records are of a key: read off its stored plan.

use std::collections::{BTreeMap, BTreeSet};

use super::cause::Fate;
use super::key::Key;
use crate::checkpoint::manifest::Manifest;
use crate::error::{Error, Result};
use crate::message::Offset;
use crate::operator::steps::columns_of;
use crate::plan::expr::{AggregateExpr, Expr, NamedExpr};
use crate::plan::logical::{BadRecordPolicy, LatePolicy, Output};
use crate::plan::lower::{AggregateSpec, PipelineSpec, RegroupSpec, SourceSpec, Step, lower};
use crate::plan::time_zones::ZoneTables;
use crate::protocol::event_time::PartitionTime;

/// The way of a version's records.
#[derive(Clone, Debug)]
pub struct Path {
    /// The output, as it was written.
    pub output: Output,
    /// What is read. Late records are kept and bad ones told of: what becomes of them is judged here.
    pub source: SourceSpec,
    /// The topic's identity.
    pub topic_id: String,
    /// What the version does with late records.
    pub late: LatePolicy,
    /// Records with an event time below are left out, milliseconds since 1970 UTC.
    pub floor_ms: Option<i64>,
    /// By partition, where the domain begins, and where its time does.
    pub starts: BTreeMap<i32, (Offset, PartitionTime)>,
    /// Records that were gone before the version could read them.
    pub lost: u64,
    /// The steps up to the grouping, in order. Stage n is step n + 1 of the plan: step 0 reads.
    pub stages: Vec<Stage>,
    /// The first grouping, if there is one.
    pub aggregate: Option<AggregateSpec>,
    /// Columns of the key: name, how it comes of a row before the grouping, and which value is asked for.
    pub key: Vec<(String, Expr, Option<String>)>,
    /// What rows bring to the row of the key.
    pub parts: Vec<Part>,
    /// The version's own.
    pub zones: ZoneTables,
}

/// A step.
#[derive(Clone, Debug)]
pub enum Stage {
    /// Leaves rows out.
    Filter(Expr),
    /// Makes columns: always a [`Step::Project`].
    Project(Step),
}

/// A part of the row of a key that comes of a row before the grouping: the input of an aggregate, or a column of the table.
#[derive(Clone, Debug)]
pub struct Part {
    /// The column it makes.
    pub name: String,
    /// Of what; none: rows are counted.
    pub input: Option<Expr>,
    /// Only rows for which this is true.
    pub filter: Option<Expr>,
}

impl Part {
    /// Whether it is more than a column that is shown anyway.
    pub fn is_worth_a_column(&self) -> bool {
        self.filter.is_some() || !matches!(self.input, None | Some(Expr::Column(_)))
    }
}

impl Path {
    /// The way of the records of a version into one of its tables.
    ///
    /// # Errors
    /// `Refused` where it cannot be said of a record which key it is of.
    pub fn of(manifest: &Manifest, table: &str, key: &Key) -> Result<Self> {
        let lowered = lower(&manifest.plan)?;
        let number = manifest.outputs.iter().position(|output| output.table == table);
        let found = number.and_then(|number| {
            let pipeline = lowered.pipelines.get(number)?;
            Some((manifest.plan.outputs.get(number)?, pipeline, lowered.sources.get(pipeline.source)?))
        });
        let (output, pipeline, source) =
            found.ok_or_else(|| Error::internal(format!("table {table} is no output of its version")))?;
        let state = manifest.sources.iter().find(|state| state.topic == source.read.topic);
        let state = state.ok_or_else(|| Error::internal(format!("topic {} is not in the manifest", source.read.topic)))?;
        let begins = |(number, state): (&i32, &crate::checkpoint::manifest::PartitionState)| {
            (*number, (state.start, PartitionTime::found_at(state.time.found_at_ms)))
        };
        let mut source = source.clone();
        let late = std::mem::replace(&mut source.read.late, LatePolicy::Keep);
        source.read.on_bad_record = BadRecordPolicy::DeadLetter;
        Ok(Self {
            output: output.clone(),
            source,
            topic_id: state.topic_id.clone(),
            late,
            floor_ms: state.floor_ms,
            starts: state.partitions.iter().map(begins).collect(),
            lost: state.partitions.values().map(|partition| partition.lost).sum(),
            stages: pipeline.before.iter().map(stage).collect(),
            aggregate: pipeline.aggregate.clone(),
            key: keys(pipeline, table, key)?,
            parts: parts(pipeline),
            zones: manifest.time_zones.clone(),
        })
    }

    /// Why a fate came to a record, where the plan says it.
    pub fn why(&self, fate: Fate) -> Option<String> {
        match fate {
            Fate::Filtered(step) => match self.stages.get(step.checked_sub(1)?)? {
                Stage::Filter(predicate) => Some(predicate.to_string()),
                Stage::Project(_) => None,
            },
            _ => None,
        }
    }

    /// Columns that steps make, by their names: those of the topic are known anyway.
    pub fn made(&self) -> BTreeSet<String> {
        let mut made = BTreeSet::new();
        for stage in &self.stages {
            let Stage::Project(Step::Project(columns)) = stage else { continue };
            let of_a_step = |column: &&NamedExpr| match &column.expr {
                Expr::Column(name) => *name != column.name || made.contains(name),
                _ => true,
            };
            made = columns.iter().filter(of_a_step).map(|column| column.name.clone()).collect();
        }
        made
    }
}

fn stage(step: &Step) -> Stage {
    match step {
        Step::Filter(predicate) => Stage::Filter(predicate.clone()),
        Step::Project(_) => Stage::Project(step.clone()),
    }
}

fn parts(pipeline: &PipelineSpec) -> Vec<Part> {
    let Some(aggregate) = &pipeline.aggregate else {
        let column = |name: &String| Part { name: name.clone(), input: Some(Expr::Column(name.clone())), filter: None };
        return pipeline.schema.fields.iter().map(|field| column(&field.name)).collect();
    };
    let call = |call: &crate::plan::lower::AggregateCall| Part {
        name: call.name.clone(),
        input: call.input.clone(),
        filter: call.filter.clone(),
    };
    aggregate.calls.iter().map(call).collect()
}

/// How the columns of the key come of a row before the first grouping.
fn keys(pipeline: &PipelineSpec, table: &str, key: &Key) -> Result<Vec<(String, Expr, Option<String>)>> {
    let expr = |name: &String| {
        let Some(aggregate) = &pipeline.aggregate else { return Ok(Expr::Column(name.clone())) };
        let last = pipeline.regroup.as_ref().map_or(aggregate, |regroup| &regroup.aggregate);
        let place = pipeline.primary_key.iter().position(|column| column == name);
        let expr = place.and_then(|place| last.keys.get(place)).map(|key| key.expr.clone());
        let expr = expr.ok_or_else(|| Error::internal(format!("column {name} is not of the key of {table}")))?;
        match &pipeline.regroup {
            None => Ok(expr),
            Some(regroup) => through(&expr, regroup, aggregate).ok_or_else(|| {
                let message = format!("{name} of table {table} comes of values of its first grouping, not of records");
                Error::refused("not_a_record_key", message)
                    .hint("which records are of it cannot be said: explain a key of the first grouping, written as a table of its own")
            }),
        }
    };
    key.iter().map(|(name, value)| Ok((name.clone(), expr(name)?, value.clone()))).collect()
}

/// An expression over the rows of a first grouping as one over the rows before it, if it is of its key alone.
fn through(expr: &Expr, regroup: &RegroupSpec, first: &AggregateSpec) -> Option<Expr> {
    let mut expr = expr.clone();
    for step in regroup.between.iter().rev() {
        if let Step::Project(columns) = step {
            expr = with_columns_replaced(&expr, columns)?;
        }
    }
    let mut used = BTreeSet::new();
    columns_of(&expr, &mut used);
    let is_key = |name: &String| first.keys.iter().any(|key| key.name == *name);
    if used.iter().all(is_key) { with_columns_replaced(&expr, &first.keys) } else { None }
}

/// An expression with the columns that it reads replaced by what makes them; none if one of them is not made there.
fn with_columns_replaced(expr: &Expr, columns: &[NamedExpr]) -> Option<Expr> {
    let boxed = |expr: &Expr| with_columns_replaced(expr, columns).map(Box::new);
    Some(match expr {
        Expr::Column(name) => columns.iter().find(|column| column.name == *name)?.expr.clone(),
        Expr::Literal(_) => expr.clone(),
        Expr::Call { function, args } => {
            let args = args.iter().map(|arg| with_columns_replaced(arg, columns)).collect::<Option<_>>()?;
            Expr::Call { function: function.clone(), args }
        }
        Expr::Cast { input, to, strict } => Expr::Cast { input: boxed(input)?, to: to.clone(), strict: *strict },
        Expr::Aggregate(AggregateExpr { .. }) => return None,
    })
}
