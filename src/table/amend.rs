//! Metadata that says something else about the same snapshots. The crate's builder dates what it builds by the clock, and refuses a
//! date before the newest snapshot's: where the clock was set back, a table could not be changed until it has come so far again.

use std::collections::HashMap;

use iceberg::spec::TableMetadata;
use serde_json::{Value, json};

use super::catalog::{Catalog, Table};
use super::files;
use super::snapshot::next_location;
use super::store::Swap;
use crate::error::{Error, Result};

/// Older metadata files that a table names, unless it says otherwise.
const KEPT: usize = 100;

impl Catalog {
    /// The step of a table to other properties, its metadata written. Files that were made are noted in `created`, those that nothing
    /// names afterwards in `expired`.
    pub(super) fn amend(
        &self,
        base: &Table,
        set: HashMap<String, String>,
        removed: &[String],
        created: &mut Vec<String>,
        expired: &mut Vec<String>,
    ) -> Result<Swap> {
        let (next, gone) = with_properties(base, set, removed, self.now_ms())?;
        created.push(next.metadata_location().to_owned());
        self.write_metadata(&next)?;
        expired.extend(gone.into_iter().filter(|url| files::is_below(url, base.location())));
        Ok(base.swap_for(&next))
    }
}

/// The next state of a table, with properties set and removed but with the same snapshots; and the metadata files that fall out of its
/// log.
pub(super) fn with_properties(
    base: &Table,
    set: HashMap<String, String>,
    removed: &[String],
    now: i64,
) -> Result<(Table, Vec<String>)> {
    let metadata = base.metadata();
    let damaged =
        |error: serde_json::Error| Error::internal(format!("metadata of table {}: {error}", base.name())).source(error);
    let mut document = serde_json::to_value(metadata).map_err(damaged)?;
    let mut all = metadata.properties().clone();
    all.retain(|key, _| !removed.contains(key));
    all.extend(set);
    let kept = all.get("write.metadata.previous-versions-max").and_then(|kept| kept.parse().ok()).unwrap_or(KEPT).max(1);
    let mut log: Vec<Value> = document.get("metadata-log").and_then(Value::as_array).cloned().unwrap_or_default();
    log.push(json!({ "metadata-file": base.metadata_location(), "timestamp-ms": metadata.last_updated_ms() }));
    let expired = log.drain(..log.len().saturating_sub(kept)).collect::<Vec<_>>();
    let expired = expired.iter().filter_map(|entry| Some(entry.get("metadata-file")?.as_str()?.to_owned())).collect();
    if let Some(document) = document.as_object_mut() {
        document.insert("properties".to_owned(), json!(all));
        document.insert("metadata-log".to_owned(), Value::Array(log));
        document.insert("last-updated-ms".to_owned(), json!(now.max(metadata.last_updated_ms())));
    }
    let next: TableMetadata = serde_json::from_value(document).map_err(damaged)?;
    let location = next_location(base, &next)?;
    Ok((base.next(next, location), expired))
}
