//! Topics that a job writes: what can be refused before anything runs.

use std::collections::BTreeSet;

use super::logical::{BadRecordPolicy, JobPlan, KafkaTopic, LatePolicy};
use super::names::nearest;
use super::validate::Shape;
use crate::error::{Error, Result};

/// The topic that says what is delivered to the others; no job writes rows to it.
pub const MARKER_TOPIC: &str = "__kappa_commits";

/// Whether each topic is one, is written by one output only, and not read by the same job; and whether what cannot be used
/// has a place to go.
///
/// # Errors
/// A `PlanError` that names the topic.
pub fn check_topics(plan: &JobPlan) -> Result<()> {
    let mut written = BTreeSet::new();
    for output in &plan.outputs {
        let Some(KafkaTopic { topic, .. }) = &output.to else { continue };
        check_written(topic)?;
        if !written.insert(topic.as_str()) {
            return Err(Error::plan("topic_written_twice", format!("two outputs of the job write topic {topic:?}"))
                .hint("give each output its own topic"));
        }
        if plan.outputs.iter().any(|other| other.plan.read().topic == *topic) {
            return Err(Error::plan("topic_read_and_written", format!("topic {topic:?} is read and written by the same job"))
                .hint("write to another topic: the job would read its own results without end"));
        }
        let read = output.plan.read();
        let buries = read.on_bad_record == BadRecordPolicy::DeadLetter || read.late == LatePolicy::DeadLetter;
        let has_table = plan.outputs.iter().any(|other| other.to.is_none() && other.plan.read().id == read.id);
        if buries && !has_table {
            return Err(Error::plan(
                "no_dead_letter_table",
                format!("dead letters of {:?} have no table to go to", read.topic),
            )
            .hint("they lie beside a table: write the stream to a table too, or choose another policy"));
        }
    }
    Ok(())
}

/// Whether it can be the name of a topic: the rule is Kafka's.
///
/// # Errors
/// A `PlanError` that says what a name is.
pub fn check_name(topic: &str) -> Result<()> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !(1..=249).contains(&topic.len()) || !topic.bytes().all(is_legal) || topic == "." || topic == ".." {
        return Err(Error::plan("invalid_topic", format!("{topic:?} cannot be the name of a topic"))
            .hint("a name has 1 to 249 letters, digits, points, underscores and hyphens, and is neither . nor .."));
    }
    Ok(())
}

fn check_written(topic: &str) -> Result<()> {
    check_name(topic)?;
    if topic == MARKER_TOPIC {
        return Err(Error::plan("invalid_topic", format!("topic {topic} holds what kappa notes about its deliveries"))
            .hint("choose another topic"));
    }
    Ok(())
}

/// Whether records can have the key that is asked for.
///
/// # Errors
/// A `PlanError` that names the column.
pub fn check_key(to: &KafkaTopic, shape: &Shape) -> Result<()> {
    if let Some(keys) = &shape.keys {
        return if to.key.is_empty() || to.key == *keys {
            Ok(())
        } else {
            Err(Error::plan("invalid_topic_key", format!("records of topic {:?} cannot have the key {:?}", to.topic, to.key))
                .hint(format!("a grouped result has its group key, ({}): leave key out", keys.join(", "))))
        };
    }
    for (at, name) in to.key.iter().enumerate() {
        if shape.schema.find(name).is_none() {
            let names: Vec<&str> = shape.schema.fields.iter().map(|field| field.name.as_str()).collect();
            let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean {near:?}? "));
            let message = format!("key column {name:?} of topic {:?} is not in the stream", to.topic);
            return Err(Error::plan("unknown_column", message).hint(format!("{near}The columns are {}", names.join(", "))));
        }
        if to.key.iter().take(at).any(|other| other == name) {
            return Err(Error::plan("duplicate_column", format!("key column {name:?} of topic {:?} comes twice", to.topic)));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "topics_tests.rs"]
mod tests;
