//! What names ask of versions: which serve, and what it costs that others are kept or made ready beside them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::VersionStatus;
use crate::durable::size::bytes_below;
use crate::error::Result;
use crate::job::outputs::{JOB_PROPERTY, VERSION_PROPERTY};
use crate::table::retire::Retired;
use crate::table::{Catalog, Table, files};

/// By version, what the catalog says.
pub type Held = BTreeMap<String, Tables>;

/// The tables of a version.
#[derive(Default)]
pub struct Tables {
    /// Their names.
    pub names: Vec<String>,
    /// The job that made them.
    job: String,
    /// Names that show one of them.
    pub serves: BTreeSet<String>,
    /// Names that have done so and do no more, and until when, milliseconds since 1970 UTC.
    served: BTreeMap<String, i64>,
    retired: Option<Retired>,
    locations: Vec<String>,
}

/// A version that runs beside the one of its job that serves, and what that costs: see its process, rate and state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standby {
    /// Why it runs.
    pub kind: Kind,
    /// The names that a rollback would give back to it; else those of the version beside it.
    pub names: Vec<String>,
    /// Since when it serves no more, milliseconds since 1970 UTC.
    pub since_ms: Option<i64>,
    /// Its tables, on disk.
    pub table_bytes: u64,
}

/// Why a version runs that serves no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Old: a rollback finds it as fresh as what it replaces.
    Warm,
    /// New, and not at its end yet.
    CatchingUp,
    /// New, and to be promoted.
    Ready,
}

/// What the tables of a catalog say, by version.
///
/// # Errors
/// Those of the catalog. A table that cannot be loaded holds nothing that can be said. What a name shows, the name says.
pub fn held(catalog: &Catalog) -> Result<Held> {
    let tables: Vec<Table> = catalog.list()?.iter().filter_map(|name| catalog.load(name).ok().flatten()).collect();
    let mut held = Held::new();
    for table in &tables {
        let Some(version) = table.property(VERSION_PROPERTY) else { continue };
        let of = held.entry(version.to_owned()).or_default();
        of.names.push(table.name().to_string());
        of.job = table.property(JOB_PROPERTY).unwrap_or_default().to_owned();
        of.locations.push(table.location().to_owned());
        of.retired = of.retired.take().or(table.retired().ok().flatten());
    }
    let names = tables.iter().filter_map(|name| Some((name.name().to_string(), name.turns().ok()??)));
    for (name, turns) in names {
        for table in tables.iter().filter(|table| turns.all().iter().any(|turn| turn.uuid == table.uuid())) {
            let Some(of) = table.property(VERSION_PROPERTY).and_then(|version| held.get_mut(version)) else { continue };
            if turns.current().is_some_and(|turn| turn.uuid == table.uuid()) {
                of.serves.insert(name.clone());
            } else {
                of.served.extend(turns.shown_until(table.uuid()).map(|until| (name.clone(), until)));
            }
        }
    }
    Ok(held)
}

/// Says of each version which names it serves, and of those that run beside one what they cost.
pub fn note(versions: &mut [VersionStatus], held: &Held) {
    for it in versions {
        let Some(tables) = held.get(&it.version) else { continue };
        it.serves = tables.serves.iter().cloned().collect();
        it.retired = tables.retired.clone().filter(|_| tables.serves.is_empty());
        it.standby = standby(it, tables, held);
    }
}

fn standby(it: &VersionStatus, tables: &Tables, held: &Held) -> Option<Standby> {
    let facts = it.facts.as_ref()?;
    let runs = facts.process.as_ref().is_some_and(|process| process.is_running != Some(false));
    if !runs || !tables.serves.is_empty() {
        return None;
    }
    let (kind, names): (_, BTreeSet<&String>) = if tables.served.is_empty() {
        let beside = held.values().filter(|other| other.job == tables.job).flat_map(|other| &other.serves);
        (if facts.mode == "reprocess" { Kind::CatchingUp } else { Kind::Ready }, beside.collect())
    } else {
        (Kind::Warm, tables.served.keys().collect())
    };
    if names.is_empty() {
        return None;
    }
    let bytes = |location: &String| files::path_of(location).map_or(0, |path| bytes_below(&path));
    let table_bytes = tables.locations.iter().map(bytes).sum();
    let names = names.into_iter().cloned().collect();
    Some(Standby { kind, names, since_ms: tables.served.values().max().copied(), table_bytes })
}
