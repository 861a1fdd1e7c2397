//! What a plan does otherwise than another, step by step, in words.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::explain::duration;
use crate::plan::expr::NamedExpr;
use crate::plan::logical::{JobPlan, Node, Output, Read};

/// A part of a step that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The name of the output, where a job has several.
    pub output: Option<String>,
    /// Of which step what: `filter`, `agg merchants`, `column amount`.
    pub what: String,
    /// As it was; none: it was not there.
    pub before: Option<String>,
    /// As it is; none: it is gone.
    pub after: Option<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(output) = &self.output {
            write!(f, "{output}: ")?;
        }
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{}: {before} → {after}", self.what),
            (None, Some(after)) => write!(f, "{} is new: {after}", self.what),
            (Some(before), None) => write!(f, "{} is gone: {before}", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

/// What changes from one plan to another. Plans of the same fingerprint are not to be asked about: they may be written in
/// different ways, and do the same.
///
/// # Errors
/// An internal error; it does not happen.
pub fn changes(before: &JobPlan, after: &JobPlan) -> Result<Vec<Change>> {
    let mut found = Vec::new();
    if let ([before], [after]) = (before.outputs.as_slice(), after.outputs.as_slice()) {
        compare(None, before, after, &mut found)?;
        return Ok(found);
    }
    let whole = |output: &Output, is_new: bool| {
        let text = Some(steps(&output.plan).map(|steps| steps.iter().map(Step::text).collect::<Vec<_>>().join("; ")));
        let (before, after) = if is_new { (None, text) } else { (text, None) };
        let what = format!("output {}", name(output));
        Ok::<_, Error>(Change { output: None, what, before: before.transpose()?, after: after.transpose()? })
    };
    for output in &before.outputs {
        match after.outputs.iter().find(|other| other.name == output.name) {
            Some(other) => compare(Some(name(output)), output, other, &mut found)?,
            None => found.push(whole(output, false)?),
        }
    }
    for output in after.outputs.iter().filter(|output| before.outputs.iter().all(|other| other.name != output.name)) {
        found.push(whole(output, true)?);
    }
    Ok(found)
}

fn name(output: &Output) -> String {
    output.name.clone().unwrap_or_else(|| "(without a name)".to_owned())
}

fn compare(output: Option<String>, before: &Output, after: &Output, found: &mut Vec<Change>) -> Result<()> {
    let changes = pairs(before, after)?.into_iter().flat_map(|pair| pair.changes);
    found.extend(changes.map(|change| Change { output: output.clone(), ..change }));
    Ok(())
}

/// Two steps that stand beside each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Which step of the one plan, from the topic on; none: it has no such step.
    pub before: Option<usize>,
    /// Which of the other.
    pub after: Option<usize>,
    /// How they differ; nothing: they are the same.
    pub changes: Vec<Change>,
}

/// The steps of two outputs beside each other, in order.
///
/// # Errors
/// An internal error; it does not happen.
pub fn pairs(before: &Output, after: &Output) -> Result<Vec<Pair>> {
    let (before, after) = (steps(&before.plan)?, steps(&after.plan)?);
    let (mut at, mut other) = (0..before.len(), 0..after.len());
    let pair = |pair| {
        let whole = |step: &Step, is_new: bool| {
            let (text, what) = (Some(step.text()), step.kind.to_owned());
            let (before, after) = if is_new { (None, text) } else { (text, None) };
            Change { output: None, what, before, after }
        };
        let mut changes = Vec::new();
        match pair {
            (Some(before), Some(after)) => Step::changes(before, after, &mut changes),
            (Some(before), None) => changes.push(whole(before, false)),
            (None, Some(after)) => changes.push(whole(after, true)),
            (None, None) => {}
        }
        // All steps of either plan come, in their order.
        let (before, after) = (pair.0.and_then(|_| at.next()), pair.1.and_then(|_| other.next()));
        Pair { before, after, changes }
    };
    Ok(align(&before, &after).into_iter().map(pair).collect())
}

/// A step, by its parts.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    kind: &'static str,
    parts: Vec<Part>,
}

/// What can change by itself.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    what: String,
    /// As its author would write it.
    text: String,
    /// As the plan holds it: the text leaves out the types of literals.
    exact: String,
}

impl Step {
    fn text(&self) -> String {
        let part = |part: &Part| match part.what.split_once(' ') {
            Some((_, name)) if name != part.text => format!("{name}={}", part.text),
            _ => part.text.clone(),
        };
        match self.kind {
            "read" => self.parts.first().map(part).unwrap_or_default(),
            _ => self.parts.iter().map(part).collect::<Vec<_>>().join(", "),
        }
    }

    fn changes(&self, after: &Self, found: &mut Vec<Change>) {
        let mut add = |what: &str, before: Option<String>, after: Option<String>| {
            found.push(Change { output: None, what: what.to_owned(), before, after });
        };
        for part in &self.parts {
            match after.parts.iter().find(|other| other.what == part.what) {
                Some(other) if other.text != part.text => add(&part.what, Some(part.text.clone()), Some(other.text.clone())),
                Some(other) if other != part => add(&part.what, Some(part.exact.clone()), Some(other.exact.clone())),
                Some(_) => {}
                None => add(&part.what, Some(part.text.clone()), None),
            }
        }
        for part in after.parts.iter().filter(|part| self.parts.iter().all(|other| other.what != part.what)) {
            add(&part.what, None, Some(part.text.clone()));
        }
        if found.is_empty() && self != after {
            let order = |step: &Self| Some(step.parts.iter().map(|part| part.what.clone()).collect::<Vec<_>>().join(", "));
            let what = format!("order in {}", self.kind);
            found.push(Change { output: None, what, before: order(self), after: order(after) });
        }
    }
}

/// The steps of an output, from the topic on.
fn steps(node: &Node) -> Result<Vec<Step>> {
    let mut found = node.input().map(steps).transpose()?.unwrap_or_default();
    found.push(match node {
        Node::Read(read) => Step { kind: "read", parts: read_parts(read)? },
        Node::Filter { predicate, .. } => {
            let part = Part { what: "filter".to_owned(), text: predicate.to_string(), exact: json(predicate)? };
            Step { kind: "filter", parts: vec![part] }
        }
        Node::Select { columns, .. } => Step { kind: "select", parts: columns_of("select", columns)? },
        Node::WithColumns { columns, .. } => Step { kind: "with_columns", parts: columns_of("with_columns", columns)? },
        Node::Aggregate { keys, aggregates, expire_after_ms, .. } => {
            let mut parts = columns_of("group_by", keys)?;
            parts.extend(columns_of("agg", aggregates)?);
            parts.extend(expire_after_ms.map(|ms| plain("expire_after", duration(ms))));
            Step { kind: "group_by", parts }
        }
    });
    Ok(found)
}

fn columns_of(step: &str, columns: &[NamedExpr]) -> Result<Vec<Part>> {
    let part = |column: &NamedExpr| {
        let (text, exact) = (column.expr.to_string(), json(&column.expr)?);
        Ok(Part { what: format!("{step} {}", column.name), text, exact })
    };
    columns.iter().map(part).collect()
}

fn read_parts(read: &Read) -> Result<Vec<Part>> {
    let mut parts = vec![
        plain("topic", read.topic.clone()),
        plain("event_time", read.event_time.clone()),
        plain("max_out_of_orderness", duration(read.max_out_of_orderness_ms)),
        plain("max_future", duration(read.max_future_ms)),
        plain("late", word(&read.late)?),
        plain("on_bad_record", word(&read.on_bad_record)?),
    ];
    parts.extend(read.schema.fields.iter().map(|field| plain(&format!("column {}", field.name), field.data_type.to_string())));
    for column in &read.metadata {
        parts.push(plain(&format!("metadata {}", column.name), word(&column.kind)?));
    }
    Ok(parts)
}

fn plain(what: &str, text: String) -> Part {
    Part { what: what.to_owned(), exact: text.clone(), text }
}

fn word(value: &impl Serialize) -> Result<String> {
    Ok(json(value)?.trim_matches('"').to_owned())
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("a part of a plan as JSON: {error}")))
}

/// Puts steps beside each other: first those that are the same, as many as there are in one order; between them those of one
/// kind, in their order.
fn align<'a>(before: &'a [Step], after: &'a [Step]) -> Vec<(Option<&'a Step>, Option<&'a Step>)> {
    let mut pairs = Vec::new();
    let (mut at, mut other) = (0, 0);
    for (same, with) in common(before, after).into_iter().chain([(before.len(), after.len())]) {
        pair_kinds(&before[at..same], &after[other..with], &mut pairs);
        pairs.extend(before.get(same).zip(after.get(with)).map(|(step, same)| (Some(step), Some(same))));
        (at, other) = (same + 1, with + 1);
    }
    pairs
}

fn pair_kinds<'a>(before: &'a [Step], after: &'a [Step], pairs: &mut Vec<(Option<&'a Step>, Option<&'a Step>)>) {
    let mut next = 0;
    for step in before {
        match after.iter().skip(next).position(|other| other.kind == step.kind) {
            Some(skipped) => {
                pairs.extend(after[next..next + skipped].iter().map(|new| (None, Some(new))));
                pairs.push((Some(step), after.get(next + skipped)));
                next += skipped + 1;
            }
            None => pairs.push((Some(step), None)),
        }
    }
    pairs.extend(after[next..].iter().map(|new| (None, Some(new))));
}

/// The longest common subsequence, by positions.
fn common(before: &[Step], after: &[Step]) -> Vec<(usize, usize)> {
    let width = after.len() + 1;
    let mut lengths = vec![0_usize; (before.len() + 1) * width];
    for i in (0..before.len()).rev() {
        for j in (0..after.len()).rev() {
            lengths[i * width + j] = if before[i] == after[j] {
                lengths[(i + 1) * width + j + 1] + 1
            } else {
                lengths[(i + 1) * width + j].max(lengths[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < before.len() && j < after.len() {
        if before[i] == after[j] {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if lengths[(i + 1) * width + j] >= lengths[i * width + j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    found
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
