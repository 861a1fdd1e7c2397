//! The next state of a name: a snapshot of its own over the manifest list of the version's newest one.

use std::collections::{BTreeSet, HashMap};

use iceberg::spec::{MAIN_BRANCH, Operation, Schema, Snapshot, Summary, TableMetadata};

use super::turns::{self, Turns};
use super::view;
use super::{BY_TURN, GC_BY, GC_ENABLED, SHOWS_CHECKPOINT, SHOWS_SNAPSHOT, SHOWS_TABLE, SHOWS_VERSION, json};
use crate::error::{Error, Result};
use crate::table::catalog::Table;
use crate::table::expiry::{Forgotten, Retention, expired};
use crate::table::field_ids::meanings;
use crate::table::name::TableName;
use crate::table::snapshot::{Built, ROWS, check_supported, next_location};
use crate::table::{PRIMARY_KEY_PROPERTY, iceberg_error};
use crate::time;

/// What a summary says about the position, as the version's newest commit says it.
const POSITION: [&str; 4] = ["kappa.job", "kappa.offsets", "kappa.closed", "kappa.account"];

/// The state of the name `base` that shows `version` as it is, after `turns`; with a view, if it is to have one from now on.
///
/// # Errors
/// `Refused` if the version has no snapshot, or columns under ids that mean something else in the name.
pub(super) fn project(
    base: &Table,
    version: &Table,
    turns: &Turns,
    view: Option<&TableName>,
    now: i64,
    retention: &Retention,
) -> Result<Built> {
    let Some(shown) = version.metadata().current_snapshot() else { return Err(empty(version)) };
    let schema = version.metadata().current_schema();
    check_supported(version)?;
    check_supported(base)?;
    check_columns(base, version)?;
    let metadata = base.metadata();
    let failed = |error| iceberg_error(&format!("turn {}", base.name()), error);
    let is_new = metadata.current_snapshot_id().is_none();
    let previous = (!is_new).then(|| base.metadata_location().to_owned());
    let builder = metadata.clone().into_builder(previous).add_current_schema(schema.as_ref().clone()).map_err(failed)?;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(time::random_positive_i64())
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(metadata.next_sequence_number().max(shown.sequence_number()))
        .with_timestamp_ms(now.max(metadata.last_updated_ms()))
        .with_manifest_list(shown.manifest_list())
        .with_summary(Summary { operation: Operation::Overwrite, additional_properties: summary(version, turns)? })
        .with_schema_id(number_of(schema, metadata))
        .build();
    let snapshot_id = snapshot.snapshot_id();
    let builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(failed)?;
    let gone = if is_new { Vec::new() } else { expired(base, retention, now) };
    let forgotten = gone.iter().filter_map(|id| Forgotten::of(metadata, *id)).collect();
    let builder = gone
        .iter()
        .fold(builder.remove_snapshots(&gone), |builder, id| builder.remove_statistics(*id).remove_partition_statistics(*id))
        .set_properties(properties(version, turns, view)?)
        .map_err(failed)?;
    let key = if version.property(PRIMARY_KEY_PROPERTY).is_none() { vec![PRIMARY_KEY_PROPERTY.to_owned()] } else { vec![] };
    let built = builder.remove_properties(&key).and_then(|builder| builder.build()).map_err(failed)?;
    let location = next_location(base, &built.metadata)?;
    let table = base.next(built.metadata, location);
    let expired_metadata = built.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
    Ok(Built { table, snapshot_id, forgotten, expired_metadata })
}

/// The number that a schema gets in a name: that of the same, or a new one.
fn number_of(schema: &Schema, name: &TableMetadata) -> i32 {
    let highest = || name.schemas_iter().map(|other| other.schema_id()).max().unwrap_or_default();
    name.schemas_iter().find(|other| is_same(other, schema)).map_or_else(|| highest() + 1, |other| other.schema_id())
}

/// Whether schemas differ in nothing but their numbers.
fn is_same(one: &Schema, other: &Schema) -> bool {
    let identifiers = |schema: &Schema| schema.identifier_field_ids().collect::<BTreeSet<i32>>();
    one.as_struct() == other.as_struct() && identifiers(one) == identifiers(other)
}

fn summary(version: &Table, turns: &Turns) -> Result<HashMap<String, String>> {
    let current = turns.current().ok_or_else(|| Error::internal("a name without a turn"))?;
    let metadata = version.metadata();
    let shown = metadata.current_snapshot().ok_or_else(|| empty(version))?;
    let counts = shown.summary().additional_properties.iter();
    let mut summary: HashMap<String, String> = counts
        .filter(|(key, _)| key.starts_with("total-") || *key == ROWS)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    // Behind what another tool has merged stands kappa's commit.
    if let Some((marker, of)) = version.marker() {
        let said = |key: &&str| Some(((*key).to_owned(), version.summary(Some(of), key)?.to_owned()));
        summary.extend(POSITION.iter().filter_map(said));
        summary.insert(SHOWS_CHECKPOINT.to_owned(), marker.checkpoint.to_string());
    }
    summary.extend([
        (SHOWS_VERSION.to_owned(), current.version.clone()),
        (SHOWS_TABLE.to_owned(), version.name().to_string()),
        (SHOWS_SNAPSHOT.to_owned(), shown.snapshot_id().to_string()),
        (BY_TURN.to_owned(), current.id.clone()),
    ]);
    Ok(summary)
}

fn properties(version: &Table, turns: &Turns, view: Option<&TableName>) -> Result<HashMap<String, String>> {
    let key = version.property(PRIMARY_KEY_PROPERTY).map(|key| (PRIMARY_KEY_PROPERTY.to_owned(), key.to_owned()));
    let own = [
        (turns::PROPERTY.to_owned(), json(turns)?),
        (GC_ENABLED.to_owned(), "false".to_owned()),
        (GC_BY.to_owned(), "kappa".to_owned()),
    ];
    let view = view.map(|view| (view::PROPERTY.to_owned(), view.to_string()));
    Ok(own.into_iter().chain(key).chain(view).collect())
}

fn empty(version: &Table) -> Error {
    Error::refused("nothing_yet", format!("table {} has nothing yet: no checkpoint of its version is in it", version.name()))
        .hint("run its job until it has committed, then promote it")
}

/// Columns are read by their ids: one that a snapshot of the name has under another type cannot be read as the new one.
fn check_columns(base: &Table, version: &Table) -> Result<()> {
    let schema = version.metadata().current_schema();
    // Schemas of snapshots that are gone mean nothing any more.
    let metadata = base.metadata();
    let shown = || metadata.snapshots().filter_map(|snapshot| metadata.schema_by_id(snapshot.schema_id()?));
    // Earlier releases looked at fewer columns: a name that they have turned goes on, and back.
    if shown().any(|old| is_same(old, schema)) {
        return Ok(());
    }
    let new = meanings(schema);
    for old in shown() {
        for (id, (name, meaning)) in meanings(old) {
            let Some((new_name, new_meaning)) = new.get(&id) else { continue };
            if !meaning.is_readable_as(new_meaning) {
                let message = format!(
                    "column {new_name} ({new_meaning}) of table {} has the id under which {} has held {name} ({meaning})",
                    version.name(),
                    base.name()
                );
                return Err(Error::refused("other_columns", message).hint(
                    "readers tell columns by their ids, and would take one for the other: reprocess into a new table by a job of \
                     the same name, which gives columns of another type ids of their own; or promote it under a new name",
                ));
            }
        }
    }
    Ok(())
}
