//! `preview`: a new plan, and the plan of the version that serves, over the same last hours of the log. Here it is decided what is run,
//! over which part of the log, and into which tables; the runs are ordinary ones, and so is the comparison of what they make.
//!
//! [`widen`] back to where groups begin; [`sides`] the plans and their tables; [`price`] of the full run, by what the preview took.

pub mod price;
pub mod sides;
pub mod widen;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::sides::{Side, against, new_side, old_side, pairs};
use self::widen::group_begin;
use super::plan::range::newest_event_time;
use crate::checkpoint::manifest::SourceState;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::job::domain::{MARGIN_MS, new_domain};
use crate::job::options::Position;
use crate::job::preview::Vectors;
use crate::plan::logical::JobPlan;
use crate::plan::lower::SourceSpec;
use crate::source::{self, Reading};
use crate::table::Catalog;
use crate::time::{format_utc, now_ms};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How much of the log, by event time.
    pub last_ms: i64,
    /// By output, the tables that the full run would make.
    pub output_tables: BTreeMap<String, String>,
    /// The version to compare with, by a name that shows it or by its table.
    pub against: Option<String>,
    /// Whether the new plan is run a second time.
    pub certify: bool,
    /// Begins where the log does, if that is later: groups may lack records then, the same in both.
    pub allow_gaps: bool,
}

/// No group begins before the year 1.
const EARLIEST_MS: i64 = -62_135_596_800_000;

/// What is run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scope {
    /// How much was asked for.
    pub last_ms: i64,
    /// What that counts back from: the newest event time of the log, or now if that is to come; milliseconds since 1970 UTC.
    pub until_ms: i64,
    /// Where groups begin that hold the event time that it counts back to. Records before are left out.
    pub from_ms: i64,
    /// Event time may be ahead of a record's timestamp by so much.
    pub margin_ms: i64,
    /// By topic and partition, from where to where all of them read.
    pub vectors: Vectors,
    /// How many records that is.
    pub records: u64,
    /// The new plan.
    pub new: Side,
    /// The new plan once more.
    pub again: Option<Side>,
    /// The plan of the version to compare with.
    pub old: Option<Side>,
    /// By output, the tables that are compared: the old plan's, and the new one's.
    pub pairs: Vec<(String, [String; 2])>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// Decides what is run.
///
/// # Errors
/// The plan is not valid, there is no such version, the log does not reach back so far, or does not answer.
pub fn scope(job: JobPlan, options: &Options, settings: &Settings) -> Result<Scope> {
    if options.last_ms <= 0 {
        return Err(Error::config("usage", "a preview of no time has nothing to show").hint("--preview 24h"));
    }
    let catalog = Catalog::of(settings)?;
    let mut notes = Vec::new();
    let old = against(&job, options, &catalog, settings, &mut notes)?;
    let mut new = new_side(job, &options.output_tables, settings)?;
    let mut old = old.map(|old| old_side(old, &new, settings)).transpose()?;
    let specs: Vec<SourceSpec> = [Some(&new), old.as_ref()].into_iter().flatten().flat_map(Side::sources).collect();
    let mut newest = None;
    for spec in &specs {
        newest = newest.max(newest_event_time(spec, settings)?);
    }
    // A clock that is ahead is no reason to see nothing.
    let until_ms = newest.map_or_else(now_ms, |newest| newest.min(now_ms()));
    let asked_ms = until_ms.saturating_sub(options.last_ms).max(EARLIEST_MS);
    let mut from_ms = asked_ms;
    for side in [Some(&new), old.as_ref()].into_iter().flatten() {
        for group in side.groups(&mut notes)? {
            from_ms = from_ms.min(group_begin(&group, side.zones(), asked_ms)?).max(EARLIEST_MS);
        }
    }
    let mut vectors = Vectors::new();
    for spec in &specs {
        if !vectors.contains_key(&spec.read.topic) {
            vectors.insert(spec.read.topic.clone(), vector(spec, from_ms, options.allow_gaps, settings)?);
        }
    }
    [Some(&mut new), old.as_mut()].into_iter().flatten().for_each(|side| side.read(from_ms, &vectors));
    let records = vectors.values().flat_map(BTreeMap::values).map(|(start, end)| (end - start).unsigned_abs()).sum();
    let again = options.certify.then(|| new.again());
    let pairs = old.as_ref().map(|old| pairs(&new, old, &mut notes)).unwrap_or_default();
    let last_ms = options.last_ms;
    Ok(Scope { last_ms, until_ms, from_ms, margin_ms: MARGIN_MS, vectors, records, new, again, old, pairs, notes })
}

/// From where to where a topic is read.
fn vector(spec: &SourceSpec, from_ms: i64, allow_gaps: bool, settings: &Settings) -> Result<BTreeMap<i32, (i64, i64)>> {
    let log = source::open(&spec.read.topic, settings, Reading::default())?;
    let domain = new_domain(spec, log.as_ref(), &Position::Time(from_ms), Some(&Position::Head), allow_gaps);
    let SourceState { partitions, .. } = domain.map_err(|error| {
        if error.code() != "retention_gap" {
            return error;
        }
        let message = format!(
            "topic {} may not reach back to {}, where groups begin that the preview would show",
            spec.read.topic,
            format_utc(from_ms)
        );
        let places = error.context().iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
        Error::refused("retention_gap", message)
            .with("at", places)
            .hint("ask for less: --preview 1h; or --allow-gaps: what is gone is missing in both")
    })?;
    Ok(partitions.iter().map(|(number, state)| (*number, (state.start.0, state.end.unwrap_or(state.start).0))).collect())
}

#[cfg(test)]
mod tests;
