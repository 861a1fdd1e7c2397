//! What leads from one state of a table to the next, in the words of the REST protocol. A pure function: the server applies it
//! and writes the metadata file itself.

use std::collections::{HashMap, HashSet};

use iceberg::spec::{MAIN_BRANCH, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};

use crate::error::{Error, Result};
use crate::table::metadata::Refs;

/// What must still hold for the table to be moved: it is the same table, and nobody has committed since.
pub(super) fn requirements(base: &TableMetadata) -> Vec<TableRequirement> {
    vec![
        TableRequirement::UuidMatch { uuid: base.uuid() },
        TableRequirement::RefSnapshotIdMatch { r#ref: MAIN_BRANCH.to_owned(), snapshot_id: base.current_snapshot_id() },
    ]
}

/// The updates from `base` to `next`, whose branches are in `refs`.
///
/// # Errors
/// A change that this does not put into words: a bug, since only part of the next state would be published.
pub(super) fn updates(base: &TableMetadata, next: &TableMetadata, refs: &Refs) -> Result<Vec<TableUpdate>> {
    check_the_rest_is_the_same(base, next)?;
    let mut updates = schemas(base, next);
    let before: HashSet<i64> = base.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
    let after: HashSet<i64> = next.snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
    let mut added: Vec<_> = next.snapshots().filter(|snapshot| !before.contains(&snapshot.snapshot_id())).collect();
    added.sort_unstable_by_key(|snapshot| snapshot.sequence_number());
    updates.extend(added.into_iter().map(|snapshot| TableUpdate::AddSnapshot { snapshot: snapshot.as_ref().clone() }));
    match next.current_snapshot_id() {
        Some(current) if base.current_snapshot_id() != Some(current) => {
            // The server keeps what its branch says about retention only if it is told so.
            let reference = refs.main_at(current)?;
            updates.push(TableUpdate::SetSnapshotRef { ref_name: MAIN_BRANCH.to_owned(), reference });
        }
        None if base.current_snapshot_id().is_some() => return Err(unspoken("main was taken away")),
        _ => {}
    }
    updates.extend(properties(base, next));
    let mut gone: Vec<i64> = before.difference(&after).copied().collect();
    gone.sort_unstable();
    if !gone.is_empty() {
        updates.push(TableUpdate::RemoveSnapshots { snapshot_ids: gone });
    }
    Ok(updates)
}

fn schemas(base: &TableMetadata, next: &TableMetadata) -> Vec<TableUpdate> {
    let known: HashSet<i32> = base.schemas_iter().map(|schema| schema.schema_id()).collect();
    let mut new: Vec<_> = next.schemas_iter().filter(|schema| !known.contains(&schema.schema_id())).collect();
    new.sort_unstable_by_key(|schema| schema.schema_id());
    let mut updates: Vec<_> =
        new.into_iter().map(|schema| TableUpdate::AddSchema { schema: schema.as_ref().clone() }).collect();
    if next.current_schema_id() != base.current_schema_id() {
        updates.push(TableUpdate::SetCurrentSchema { schema_id: next.current_schema_id() });
    }
    updates
}

fn properties(base: &TableMetadata, next: &TableMetadata) -> Vec<TableUpdate> {
    let changed = next.properties().iter().filter(|(key, value)| base.properties().get(*key) != Some(value));
    let changed: HashMap<String, String> = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
    let removed = base.properties().keys().filter(|key| !next.properties().contains_key(*key));
    let removals: Vec<String> = removed.cloned().collect();
    let set = (!changed.is_empty()).then_some(TableUpdate::SetProperties { updates: changed });
    let remove = (!removals.is_empty()).then_some(TableUpdate::RemoveProperties { removals });
    set.into_iter().chain(remove).collect()
}

fn check_the_rest_is_the_same(base: &TableMetadata, next: &TableMetadata) -> Result<()> {
    let same = [
        ("identity", base.uuid() == next.uuid()),
        ("location", base.location() == next.location()),
        ("format", base.format_version() == next.format_version()),
        ("partitioning", base.partition_specs_iter().eq(next.partition_specs_iter())),
        ("default partitioning", base.default_partition_spec_id() == next.default_partition_spec_id()),
        ("default sort order", base.default_sort_order_id() == next.default_sort_order_id()),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(unspoken(&format!("another {what}"))),
        None => Ok(()),
    }
}

fn unspoken(what: &str) -> Error {
    Error::internal(format!("a commit to a REST catalog makes a change that it cannot say: {what}"))
}
