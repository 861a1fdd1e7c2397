//! What becomes of the version that a name leaves: its process goes on, so that a rollback is as fresh as what it replaces, or it is
//! retired. And what a rollback finds that nobody has kept.

use std::path::Path;

use super::status::facts::is_running;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::VersionDir;
use crate::error::Result;
use crate::process;
use crate::protocol::cutover::missing;
use crate::protocol::position::Position;
use crate::protocol::version::TOPIC_SCHEME;
use crate::query::diff::side::Subject;
use crate::table::marker::VERSION;
use crate::table::retire::Retired;
use crate::table::{Catalog, Table, TableName};
use crate::time::{format_utc, now_ms};

/// The process that runs a version; none if it is known that nobody does.
pub fn runner(checkpoints: &Path, manifest: &Manifest) -> Option<String> {
    let holder = manifest.holder.as_ref()?;
    let lock = VersionDir::new(checkpoints, &manifest.version).lock_path();
    (is_running(holder, &lock) != Some(false)).then(|| holder.process.clone())
}

/// What is to be written into the version that a name leaves without keeping it, and what somebody should know about it. Nothing is
/// written where other names show it.
///
/// # Errors
/// Those of the catalog.
pub fn retired(
    catalog: &Catalog,
    checkpoints: &Path,
    from: &Subject,
    turn: (&TableName, &TableName),
    moved: &[(TableName, TableName)],
) -> Result<(Option<Retired>, String)> {
    let ((name, to), old) = (turn, from.table.name());
    let (mut tables, mut why) = (vec![from.table.clone()], Vec::new());
    for output in from.manifest.iter().flat_map(|manifest| &manifest.outputs) {
        if let Some(topic) = output.table.strip_prefix(TOPIC_SCHEME) {
            why.push(format!("it writes topic {topic}"));
            continue;
        }
        if output.table == old.to_string() {
            continue;
        }
        let table = catalog.load(&TableName::parse(&output.table, "")?)?;
        tables.extend(table.filter(|table| table.property(VERSION) == from.table.property(VERSION)));
    }
    let goes =
        |name: &TableName| moved.iter().any(|(moved, to)| moved == name && tables.iter().all(|table| table.name() != to));
    let shown = tables.iter().map(|table| catalog.shown_by(table)).collect::<Result<Vec<_>>>()?;
    let staying: Vec<String> = shown.iter().flatten().filter(|name| !goes(name)).map(ToString::to_string).collect();
    if !staying.is_empty() {
        why.push(format!("its version shows in {} too", staying.join(", ")));
    }
    if !why.is_empty() {
        return Ok((None, format!("{old} is kept warm all the same: {}", why.join(", "))));
    }
    let others = tables.iter().zip(&shown).filter(|(table, names)| names.is_empty() && table.name() != old);
    let others: Vec<String> = others.map(|(table, _)| table.name().to_string()).collect();
    let others = match others.join(", ") {
        none if none.is_empty() => none,
        others => format!("; its version writes {others} too, which no name shows"),
    };
    let retired = Retired { at_ms: now_ms(), name: name.clone(), table: to.clone(), by: process::describe() };
    let note = match from.manifest.as_ref().and_then(|manifest| runner(checkpoints, manifest)) {
        Some(process) => format!("{process}, which keeps {old} up to date, is asked to stop: it looks every 2 s{others}"),
        None => {
            format!("no process runs {old}; who starts it again is refused, until kappa rollback {name} or --force{others}")
        }
    };
    Ok((Some(retired), note))
}

/// What somebody should know of a version that is shown again and that no process has kept up to date.
pub fn cold(checkpoints: &Path, name: &TableName, from: Option<&Table>, to: &Table) -> Option<String> {
    // Where its checkpoints are elsewhere nobody knows.
    let manifest = Subject::of(to.clone(), checkpoints).ok()?.manifest?;
    if runner(checkpoints, &manifest).is_some() {
        return None;
    }
    let table = to.name();
    let last = to.written_ms().map_or_else(String::new, |ms| format!(", its last commit was at {}", format_utc(ms)));
    let retired = to.retired().ok().flatten();
    let retired = retired.map_or_else(String::new, |it| format!(" since it was retired at {}", format_utc(it.at_ms)));
    let behind = from.and_then(|from| Some((from.name(), missing(&position(from)?, &position(to)?))));
    let behind = behind.filter(|(_, records)| *records > 0);
    let behind = behind.map_or_else(String::new, |(from, records)| format!(", {records} records behind {from}"));
    Some(format!("no process runs {table}{retired}{last}{behind}: {name} stays there until its job is started again"))
}

/// Where a table's newest commit is in the log.
fn position(table: &Table) -> Option<Position> {
    let (_, snapshot) = table.marker()?;
    serde_json::from_str(table.summary(Some(snapshot), "kappa.offsets")?).ok()
}
