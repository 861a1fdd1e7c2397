//! `serving`: which names there are, what they show and have shown.

use serde::Serialize;

use crate::error::Result;
use crate::protocol::position::Position;
use crate::table::serving::Turn;
use crate::table::{Catalog, Table, TableName};

/// A name.
#[derive(Clone, Debug, Serialize)]
pub struct Name {
    /// The name.
    pub name: String,
    /// The table that it shows.
    pub table: Option<String>,
    /// Whether that table is still there.
    pub is_there: bool,
    /// Its version.
    pub version: Option<String>,
    /// The name's snapshot, and when it was made, milliseconds since 1970 UTC.
    pub snapshot_id: Option<i64>,
    /// See `snapshot_id`.
    pub snapshot_ms: Option<i64>,
    /// Rows.
    pub rows: u64,
    /// The checkpoint that it shows, and the newest that the version's table has.
    pub checkpoint: Option<u64>,
    /// See `checkpoint`.
    pub newest: Option<u64>,
    /// Where the version was in the log then.
    pub offsets: Option<Position>,
    /// How far all partitions had come then.
    pub closed: Option<String>,
    /// The view that turns with it.
    pub view: Option<String>,
    /// Whether another tool has committed to the name since.
    pub is_foreign: bool,
    /// What a rollback would show.
    pub before: Option<String>,
    /// Its turns, the last at the end.
    pub turns: Vec<Turn>,
}

/// All names of the catalog.
///
/// # Errors
/// Those of the catalog.
pub fn list(catalog: &Catalog) -> Result<Vec<Name>> {
    let names = catalog.list()?.into_iter().filter_map(|name| catalog.load(&name).transpose());
    names.filter_map(|table| table.and_then(|table| of_table(catalog, &table)).transpose()).collect()
}

/// One name.
///
/// # Errors
/// `Refused` if there is none.
pub fn show(catalog: &Catalog, name: &TableName) -> Result<Name> {
    let table = catalog.require(name)?;
    super::promote::turns_of(&table)?;
    of_table(catalog, &table)?.ok_or_else(|| crate::error::Error::internal("a name without turns"))
}

fn of_table(catalog: &Catalog, table: &Table) -> Result<Option<Name>> {
    let Some(turns) = table.turns()? else { return Ok(None) };
    let current = turns.current();
    let version = match current {
        Some(turn) => catalog.load_same(&turn.table, turn.uuid)?,
        None => None,
    };
    let says = |key| table.summary(None, key).filter(|text| !text.is_empty());
    let newest = version.as_ref().and_then(Table::marker).map(|(marker, _)| marker.checkpoint);
    Ok(Some(Name {
        name: table.name().to_string(),
        table: current.map(|turn| turn.table.to_string()),
        is_there: version.is_some(),
        version: current.map(|turn| turn.version.clone()),
        snapshot_id: table.current_snapshot_id(),
        snapshot_ms: table.metadata().current_snapshot().map(|snapshot| snapshot.timestamp_ms()),
        rows: table.row_count(),
        checkpoint: says("kappa.serving.checkpoint").and_then(|text| text.parse().ok()),
        newest,
        offsets: says("kappa.offsets").and_then(|text| serde_json::from_str(text).ok()),
        closed: says("kappa.closed").map(str::to_owned),
        view: table.view().map(|view| view.to_string()),
        is_foreign: table.current_snapshot_id().is_some() && says("kappa.serving.turn").is_none(),
        before: turns.before().map(|turn| turn.table.to_string()),
        turns: turns.all().to_vec(),
    }))
}
