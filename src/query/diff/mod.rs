//! `diff`: two tables, at one position of the log, compared by key or as multisets of rows.
//!
//! In reading order: [`side`] what is known of a table; [`columns`] which columns are compared, and as what; [`window`] which
//! rows; [`compare`] puts rows, as bytes ([`encode`]), in [`partitions`] and compares those; [`findings`] counts what differs, by
//! column and by day ([`days`]); [`report`] hands it over.

pub mod columns;
pub mod compare;
mod days;
pub(super) mod encode;
pub mod findings;
mod partitions;
pub mod report;
pub mod side;
pub mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::columns::Columns;
use self::compare::{Batches, Input, Limits};
use self::report::{Diff, Report, tables};
use self::side::{Subject, check_topics};
use crate::error::Result;
use crate::protocol::position::newest_common;
use crate::table::scan::Parts;
use crate::table::{Catalog, TableName};
use crate::time::{instant, now_ms};

/// How tables are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// By column, how far numbers may be apart and still be the same.
    pub tolerance: BTreeMap<String, f64>,
    /// What tells rows apart; none: the tables' primary key. Empty: nothing, they are compared as multisets.
    pub key: Option<Vec<String>>,
    /// Rows of each kind that are kept as examples.
    pub examples: usize,
    /// Bytes of memory for rows; what goes beyond goes through the disk.
    pub memory_bytes: usize,
    /// Threads; default: the machine's cores.
    pub threads: Option<usize>,
    /// How long versions that run are waited for, to take a checkpoint at one position; 0: they are not asked.
    pub rendezvous_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { tolerance: BTreeMap::new(), key: None, examples: 1000, memory_bytes: 512 << 20, threads: None, rendezvous_ms: 0 }
    }
}

/// Compares two tables of a catalog. `go_on` is asked now and then whether to.
///
/// # Errors
/// `Refused` if there is no such table, no position in common, or nothing that can be compared; see [`compare::compare`].
pub fn diff(
    catalog: &Catalog,
    checkpoints: &Path,
    names: [&TableName; 2],
    options: &Options,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Diff> {
    let began = instant();
    let [a, b] = [Subject::load(catalog, checkpoints, names[0])?, Subject::load(catalog, checkpoints, names[1])?];
    let (snapshots, same_position) = snapshots(&a, &b)?;
    let ours = [(&a, snapshots[0]), (&b, snapshots[1])].into_iter().find(|(it, _)| it.is_ours() && !same_position);
    let until = ours.map(|(ours, snapshot)| ours.visible(snapshot)).transpose()?.flatten();
    let sides = [a.side(snapshots[0])?, b.side(snapshots[1])?];
    let parts =
        [Parts::plan(catalog.manifests(), &a.table, snapshots[0])?, Parts::plan(catalog.manifests(), &b.table, snapshots[1])?];
    let key = key(&a, &b, options)?;
    let columns = Columns::choose(&parts[0].schema(), &parts[1].schema(), &key, &options.tolerance)?;
    let complete_from = sides.iter().filter_map(|side| side.complete_from_ms).max();
    let (bounds, window) = window::window(&columns, [&a, &b], complete_from, until)?;
    let notes = notes(&[&a, &b], same_position, &bounds);

    let names: Vec<String> = columns.all().map(|column| column.name.clone()).collect();
    let inputs = [input(&sides[0].table, &parts[0], &names)?, input(&sides[1].table, &parts[1], &names)?];
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or_else(cores).clamp(1, 64);
    let limits = Limits { memory: options.memory_bytes, threads, examples: options.examples };
    let (findings, spilled_bytes) = compare::compare(&columns, &inputs, window.as_ref(), limits, go_on)?;

    let [a, b] = sides;
    let counts = findings.counts;
    let report = Report {
        a,
        b,
        proof: None,
        same_position,
        met: false,
        bounds,
        differs: !columns.differences.is_empty() || counts.changed + counts.only_in_a + counts.only_in_b > 0,
        key,
        schema: columns.differences.clone(),
        counts,
        columns: findings.columns.clone(),
        day: findings.days.as_ref().map(|days| days.name().to_owned()),
        numbers: findings.days.iter().flat_map(|days| days.numbers().map(str::to_owned)).collect(),
        notes: notes.into_iter().chain(findings.days.as_ref().and_then(too_many_days)).collect(),
        made_ms: now_ms(),
        seconds: began.elapsed().as_secs_f64(),
        spilled_bytes,
    };
    let tables = tables(&columns, findings)?;
    let [only_in_a, only_in_b] = tables.only;
    Ok(Diff { report, changed: tables.changed, only_in_a, only_in_b, by_day: tables.by_day })
}

/// Which snapshots of two tables are compared, and whether they are at one position of the log: the newest that both have. Of a
/// table that is not kappa's that is not known; then the newest of both.
///
/// # Errors
/// `Refused` if two versions have no position in common.
pub fn snapshots(a: &Subject, b: &Subject) -> Result<([Option<i64>; 2], bool)> {
    if !(a.is_ours() && b.is_ours()) {
        return Ok(([a.table.current_snapshot_id(), b.table.current_snapshot_id()], false));
    }
    check_topics(a, b)?;
    let (of_a, of_b) = newest_common(&a.kept(), &b.kept())?;
    Ok(([Some(of_a), Some(of_b)], true))
}

/// The key that is asked for, or the one that the tables have; of a foreign table ours.
fn key(a: &Subject, b: &Subject, options: &Options) -> Result<Vec<String>> {
    if let Some(key) = &options.key {
        return Ok(key.clone());
    }
    let (of_a, of_b) = (a.table.primary_key()?, b.table.primary_key()?);
    let sorted = |key: &[String]| {
        let mut key = key.to_vec();
        key.sort_unstable();
        key
    };
    if a.is_ours() && b.is_ours() && sorted(&of_a) != sorted(&of_b) {
        let key = |key: &[String]| if key.is_empty() { "no key".to_owned() } else { format!("the key ({})", key.join(", ")) };
        let message = format!("table {} has {}, and table {} has {}", a.table.name(), key(&of_a), b.table.name(), key(&of_b));
        return Err(crate::error::Error::refused("other_key", message)
            .hint("say what to match rows by: --key COLUMN, once for each; or compare whole rows: --no-key"));
    }
    Ok(if of_a.is_empty() { of_b } else { of_a })
}

fn input<'a>(name: &str, parts: &'a Parts, columns: &'a [String]) -> Result<Input<'a>> {
    let groups = parts.parts()?;
    Ok(Input {
        name: name.to_owned(),
        parts: groups.len(),
        rows: parts.rows(),
        open: Box::new(move |part| match groups.get(part) {
            Some(part) => Ok(Box::new(parts.open(part, columns)?) as Batches),
            None => Ok(Box::new(std::iter::empty())),
        }),
    })
}

fn notes(subjects: &[&Subject; 2], same_position: bool, bounds: &window::Bounds) -> Vec<String> {
    let mut notes = Vec::new();
    for subject in subjects {
        let name = subject.table.name();
        if !subject.is_ours() {
            notes.push(format!("{name} is not kappa's: where it is in the log is unknown"));
        } else if subject.manifest.is_none() {
            notes.push(format!("the checkpoints of {name} are elsewhere: its plan and from when on it is whole are unknown"));
        } else if subject.begins_within() {
            notes.push(format!("{name} does not begin at the log's beginning: groups of what lies before are not whole in it"));
        }
    }
    if !same_position && subjects.iter().any(|subject| subject.is_ours()) && bounds.until_ms.is_none() {
        notes.push("how far ours has come in event time is unknown: all of its rows were compared".to_owned());
    }
    if bounds.column.is_none() && (bounds.complete_from_ms.is_some() || bounds.until_ms.is_some()) {
        notes.push("no key column is an event time: rows of groups that are not whole were compared too".to_owned());
    }
    notes
}

fn too_many_days(days: &days::Days) -> Option<String> {
    (days.beyond() > 0).then(|| format!("{} rows are of too many days to be told apart by day", days.beyond()))
}
