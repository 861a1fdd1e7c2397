//! Group keys that truncate the event time to an interval: what `expire_after` goes by. Which keys those are is read off
//! their expressions, through the steps before the grouping down to the event time of the topic.

use super::expr::{Expr, Function, NamedExpr};
use super::logical::Node;
use super::schema::DataType;
use super::truncate::Every;
use crate::error::{Error, Result};

/// Slices of time hold at least this much, milliseconds.
const LEAST_SLICE_MS: i64 = 60_000;
/// Into about how many slices `expire_after` is cut.
const SLICES: i64 = 16;

/// When groups expire.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpirySpec {
    /// So long after the end of the group's interval, milliseconds.
    pub after_ms: i64,
    /// The keys that truncate the event time, at least one. The interval that ends first is the group's.
    pub keys: Vec<IntervalKey>,
}

/// A group key that truncates the event time.
#[derive(Clone, Debug, PartialEq)]
pub struct IntervalKey {
    /// Its place in the group key.
    pub column: usize,
    /// What is done to the event time, in order; at least one.
    pub steps: Vec<Truncation>,
}

/// A step from the event time to the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// To the local day.
    Date {
        /// Whose.
        time_zone: String,
    },
    /// To the beginning of a local interval.
    Instant {
        /// How long it is.
        every: Every,
        /// Whose.
        time_zone: String,
    },
    /// From a day to the first one of an interval.
    Days {
        /// How long it is.
        every: Every,
    },
}

impl ExpirySpec {
    /// Groups whose intervals end in the same slice of time have their state in one place and lose it at once: so that short
    /// intervals do not make many places. A part of the format of the state.
    pub fn slice_ms(&self) -> i64 {
        (self.after_ms / SLICES).max(LEAST_SLICE_MS)
    }
}

/// When the groups of a grouping over `input` expire.
///
/// # Errors
/// A `PlanError` where no key truncates the event time; where the rows are grouped for the second time, and the first
/// grouping does not expire at least as early.
pub fn expiry_of(input: &Node, keys: &[NamedExpr], after_ms: i64) -> Result<ExpirySpec> {
    if after_ms < 0 {
        return Err(Error::plan("invalid_duration", "expire_after cannot be negative"));
    }
    check_first_grouping(input, after_ms)?;
    let key = |(column, key): (usize, &NamedExpr)| Some(IntervalKey { column, steps: truncations(&key.expr, input)? });
    let found: Vec<_> = keys.iter().enumerate().filter_map(key).filter(|key| !key.steps.is_empty()).collect();
    if found.is_empty() {
        let (time, names) = (&input.read().event_time, keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", "));
        let message = format!("expire_after, but no group key of ({names}) truncates the event time {time:?}");
        return Err(Error::plan("no_interval", message).hint(format!(
            "state can only go when no record of its group is to come: add a key such as day=col({time:?}).dt.date() or \
             hour=col({time:?}).dt.truncate(\"1h\"), or leave expire_after out"
        )));
    }
    Ok(ExpirySpec { after_ms, keys: found })
}

/// Records are left out where they are read, by the first grouping: the second can only drop what that one lets no record
/// come to any more.
fn check_first_grouping(input: &Node, after_ms: i64) -> Result<()> {
    let mut below = Some(input);
    while let Some(node) = below {
        match node {
            Node::Aggregate { expire_after_ms: Some(first), .. } if *first <= after_ms => return Ok(()),
            Node::Aggregate { .. } => {
                let message = "expire_after of a second group_by needs one of the first that is not longer";
                return Err(Error::plan("first_grouping_lasts_longer", message)
                    .hint("give the first agg the same expire_after: a row of it that may still change cannot be final here"));
            }
            _ => below = node.input(),
        }
    }
    Ok(())
}

/// The first of the named columns of a step's rows that is the event time, whole or truncated, and what is done to it for that.
pub fn time_column<'a>(rows: &Node, names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, Vec<Truncation>)> {
    names.into_iter().find_map(|name| Some((name, truncations(&Expr::Column(name.to_owned()), rows)?)))
}

/// What an expression over the rows of a step does to the event time; none where it is of anything else. Nothing is done
/// where it is the event time itself.
fn truncations(expr: &Expr, rows: &Node) -> Option<Vec<Truncation>> {
    match expr {
        Expr::Column(name) => match rows {
            Node::Read(read) => (read.event_time == *name).then(Vec::new),
            Node::Filter { input, .. } => truncations(expr, input),
            Node::Select { input, columns } => truncations(&find(columns, name)?.expr, input),
            Node::WithColumns { input, columns } => match find(columns, name) {
                Some(column) => truncations(&column.expr, input),
                None => truncations(expr, input),
            },
            Node::Aggregate { input, keys, .. } => truncations(&find(keys, name)?.expr, input),
        },
        // Of another unit it is still the same instant: whatever is cut off lies within its second.
        Expr::Cast { input, to: DataType::Timestamp(_), strict: true } => {
            let steps = truncations(input, rows)?;
            (!is_date(&steps)).then_some(steps)
        }
        Expr::Call { function, args } => {
            let [arg] = args.as_slice() else { return None };
            let mut steps = truncations(arg, rows)?;
            match function {
                // A date stays what it is.
                Function::DtDate { .. } if is_date(&steps) => {}
                Function::DtDate { time_zone } => steps.push(Truncation::Date { time_zone: time_zone.clone() }),
                Function::DtTruncate { every, time_zone } => {
                    let every = Every::parse(every).ok()?;
                    steps.push(if is_date(&steps) {
                        Truncation::Days { every }
                    } else {
                        Truncation::Instant { every, time_zone: time_zone.clone() }
                    });
                }
                _ => return None,
            }
            Some(steps)
        }
        Expr::Cast { .. } | Expr::Literal(_) | Expr::Aggregate(_) => None,
    }
}

fn find<'a>(columns: &'a [NamedExpr], name: &str) -> Option<&'a NamedExpr> {
    columns.iter().find(|column| column.name == name)
}

fn is_date(steps: &[Truncation]) -> bool {
    matches!(steps.last(), Some(Truncation::Date { .. } | Truncation::Days { .. }))
}

#[cfg(test)]
#[path = "interval_tests.rs"]
mod tests;
