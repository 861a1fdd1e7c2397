//! `job.explain()`: the plan as text, with types, keys and the columns that are read.

use std::fmt::Write;

use super::expr::NamedExpr;
use super::fingerprint::fingerprint;
use super::logical::{JobPlan, LatePolicy, Node, Read};
use super::lower::{Lowered, lower};
use super::schema::Schema;
use super::validate::shape_of;
use crate::error::Result;

/// The plan as an indented tree: for each output its kind, columns and primary key, then its steps from the table down
/// to the topic, expressions as their author wrote them.
///
/// # Errors
/// A `PlanError` if the plan is not valid.
pub fn explain(plan: &JobPlan) -> Result<String> {
    let lowered = lower(plan)?;
    let mut out = String::new();
    line(&mut out, 0, &format!("job {}", plan.job));
    line(&mut out, 0, &format!("fingerprint {}", fingerprint(plan)?));
    for ((i, output), pipeline) in plan.outputs.iter().enumerate().zip(&lowered.pipelines) {
        let name = output.name.as_deref().map_or_else(|| format!("output {i}"), |name| format!("output {name}"));
        let kind = match (pipeline.primary_key.as_slice(), &output.to) {
            ([], None) => "append".to_owned(),
            ([], Some(to)) if to.key.is_empty() => format!("append to topic {}, without keys", to.topic),
            ([], Some(to)) => format!("append to topic {}, key ({})", to.topic, to.key.join(", ")),
            (keys, None) => format!("upsert, primary key ({})", keys.join(", ")),
            (keys, Some(to)) => format!("upsert, primary key ({}), to topic {}", keys.join(", "), to.topic),
        };
        out.push('\n');
        line(&mut out, 0, &format!("{name}: {kind}"));
        columns(&mut out, 1, &pipeline.schema);
        steps(&mut out, 1, &output.plan, &lowered)?;
    }
    Ok(out)
}

fn line(out: &mut String, depth: usize, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{:indent$}{text}", "", indent = depth * 2);
}

fn columns(out: &mut String, depth: usize, schema: &Schema) {
    let width = schema.fields.iter().map(|field| field.name.chars().count()).max().unwrap_or(0);
    for field in &schema.fields {
        let null = if field.nullable { "" } else { " not null" };
        line(out, depth, &format!("{:width$}  {}{null}", field.name, field.data_type));
    }
}

fn steps(out: &mut String, depth: usize, node: &Node, lowered: &Lowered) -> Result<()> {
    match node {
        Node::Read(read) => describe_read(out, depth, read, lowered),
        Node::Filter { predicate, .. } => line(out, depth, &format!("└ filter {predicate}")),
        Node::Select { columns, .. } => line(out, depth, &format!("└ select {}", list(columns))),
        Node::WithColumns { columns, .. } => line(out, depth, &format!("└ with_columns {}", list(columns))),
        Node::Aggregate { keys, aggregates, expire_after_ms, .. } => {
            line(out, depth, &format!("└ group_by {}", list(keys)));
            let types = shape_of(node)?.schema;
            for column in aggregates {
                let data_type = types.find(&column.name).map_or(String::new(), |(_, field)| field.data_type.to_string());
                line(out, depth + 1, &format!("agg {column}: {data_type}"));
            }
            if let Some(after_ms) = expire_after_ms {
                let after = duration(*after_ms);
                line(
                    out,
                    depth + 1,
                    &format!("groups expire {after} after the end of their interval: records after that are left out"),
                );
            }
        }
    }
    match node.input() {
        Some(input) => steps(out, depth + 1, input, lowered),
        None => Ok(()),
    }
}

fn list(columns: &[NamedExpr]) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn describe_read(out: &mut String, depth: usize, read: &Read, lowered: &Lowered) {
    line(out, depth, &format!("└ read {}", read.topic));
    let late = match read.late {
        LatePolicy::Keep => "kept",
        LatePolicy::Drop => "dropped",
        LatePolicy::DeadLetter => "in the dead-letter table",
    };
    let order = duration(read.max_out_of_orderness_ms);
    line(out, depth + 1, &format!("event time {}, late after {order}: {late}", read.event_time));
    if let Some(source) = lowered.sources.iter().find(|source| source.read.id == read.id) {
        let all = read.schema.fields.len() + read.metadata.len();
        line(out, depth + 1, &format!("{} of {all} columns used:", source.schema.fields.len()));
        for field in &source.schema.fields {
            line(out, depth + 2, &format!("{}: {}", field.name, field.data_type));
        }
    }
}

/// `90s`, `1500ms`, `2h`: the largest unit that divides it.
pub fn duration(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.into_iter().find(|(length, _)| ms != 0 && ms % length == 0) {
        Some((length, unit)) => format!("{}{unit}", ms / length),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
