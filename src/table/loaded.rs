//! A table as it was when it was loaded.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use iceberg::spec::TableMetadata;
use uuid::Uuid;

use super::maintenance::COMPACTION;
use super::marker::{Facts, Marker, OWNER, PUBLISHER};
use super::metadata::{self, Pieces, Refs};
use super::name::TableName;
use super::pin::Pin;
use super::snapshot::ROWS;
use super::store::{Loaded, Swap};
use super::{PREVIEW_PROPERTY, PRIMARY_KEY_PROPERTY, schema, serving};
use crate::error::{Error, Result};

/// A table as it was when it was loaded.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) name: TableName,
    metadata: Arc<TableMetadata>,
    pub(super) metadata_location: String,
    refs: Arc<Refs>,
    /// What was packed for this metadata file, and will be needed for the next.
    pieces: Arc<Mutex<Pieces>>,
}

impl Table {
    pub(super) fn new(name: TableName, metadata: TableMetadata, metadata_location: String, refs: Refs) -> Self {
        let (metadata, refs) = (Arc::new(metadata), Arc::new(refs));
        Self { name, metadata, metadata_location, refs, pieces: Arc::default() }
    }

    /// The state after this one, at another place; branches and tags but for main stay as they are.
    pub(super) fn next(&self, metadata: TableMetadata, metadata_location: String) -> Self {
        Self { metadata: Arc::new(metadata), metadata_location, ..self.clone() }
    }

    pub(super) fn loaded(name: &TableName, loaded: Loaded) -> Self {
        Self::new(name.clone(), loaded.metadata, loaded.location, loaded.refs)
    }

    /// The same with a tag more, and without those of its kind that are old.
    pub(super) fn tagged(&self, pin: &Pin<'_>, now: i64) -> Self {
        let made = |id: i64| self.metadata.snapshot_by_id(id).map(|snapshot| snapshot.timestamp_ms());
        let refs = self.refs.without_old(pin.prefix, now, made);
        let refs = refs.with_tag(&format!("{}{}", pin.prefix, pin.name), pin.snapshot, pin.age);
        Self { refs: Arc::new(refs), ..self.clone() }
    }

    /// Writes the metadata file and makes its content durable.
    pub(super) fn write_metadata(&self) -> Result<()> {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        metadata::write(&self.metadata, &self.refs, &self.metadata_location, &mut pieces)
    }

    /// The snapshots that branches and tags name, main's included.
    pub(super) fn named_snapshots(&self) -> HashSet<i64> {
        self.refs.snapshots().chain(self.metadata.current_snapshot_id()).collect()
    }

    /// When rows were committed to it last, milliseconds since 1970 UTC, as far as is kept: merged files are no news.
    pub fn written_ms(&self) -> Option<i64> {
        let snapshots = self.metadata.snapshots();
        let news = snapshots.filter(|snapshot| !snapshot.summary().additional_properties.contains_key(COMPACTION));
        news.map(|snapshot| snapshot.timestamp_ms()).max()
    }

    /// Its branches and tags, main and those apart whose snapshots are older than they say.
    pub fn tags(&self, now_ms: i64) -> Vec<String> {
        self.refs.standing(now_ms, |id| self.metadata.snapshot_by_id(id).map(|snapshot| snapshot.timestamp_ms()))
    }

    /// Its name.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// What tells it from an earlier or later table of the same name.
    pub fn uuid(&self) -> Uuid {
        self.metadata.uuid()
    }

    /// The URL of its directory.
    pub fn location(&self) -> &str {
        self.metadata.location().trim_end_matches('/')
    }

    /// The step from this state to the next.
    pub(super) fn swap_for(&self, next: &Self) -> Swap {
        Swap {
            name: self.name.clone(),
            from: Some(self.metadata_location.clone()),
            to: next.metadata_location.clone(),
            base: self.metadata.clone(),
            next: next.metadata.clone(),
            refs: next.refs.clone(),
        }
    }

    /// Whether snapshots may be forgotten and files removed: Iceberg's `gc.enabled`, which says that others may share them. Where
    /// kappa has set it, for a name that shows this table, it knows who.
    pub(super) fn may_be_cleaned(&self) -> bool {
        let is_enabled = self.property("gc.enabled").is_none_or(|value| !value.eq_ignore_ascii_case("false"));
        is_enabled || self.property(serving::GC_BY) == Some("kappa")
    }

    /// The whole metadata.
    pub fn metadata(&self) -> &TableMetadata {
        &self.metadata
    }

    /// The URL of the metadata file.
    pub fn metadata_location(&self) -> &str {
        &self.metadata_location
    }

    /// The columns of its rows as kappa reads them.
    pub fn schema(&self) -> Result<SchemaRef> {
        Ok(schema::without_ids(&*schema::to_arrow(self.metadata.current_schema())?))
    }

    /// A table property.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.metadata.properties().get(key).map(String::as_str)
    }

    /// Whether it is a preview: a part of a version, which is replaced by the next.
    pub fn is_preview(&self) -> bool {
        self.property(PREVIEW_PROPERTY).is_some()
    }

    /// The key columns; empty for an append table.
    pub fn primary_key(&self) -> Result<Vec<String>> {
        let Some(json) = self.property(PRIMARY_KEY_PROPERTY) else { return Ok(Vec::new()) };
        serde_json::from_str(json).map_err(|error| {
            Error::corruption("primary_key", format!("table {}: property {PRIMARY_KEY_PROPERTY} is {json:?}", self.name))
                .source(error)
        })
    }

    /// The newest snapshot.
    pub fn current_snapshot_id(&self) -> Option<i64> {
        self.metadata.current_snapshot_id()
    }

    /// What the summary of a snapshot (the newest if none is named) says under `key`, as `kappa.offsets`.
    pub fn summary(&self, snapshot: Option<i64>, key: &str) -> Option<&str> {
        let snapshot = match snapshot {
            Some(id) => self.metadata.snapshot_by_id(id)?,
            None => self.metadata.current_snapshot()?,
        };
        snapshot.summary().additional_properties.get(key).map(String::as_str)
    }

    /// The live rows by the newest summary: exact if kappa wrote it.
    pub fn row_count(&self) -> u64 {
        if let Some(rows) = self.summary(None, ROWS).and_then(|rows| rows.parse().ok()) {
            return rows;
        }
        let total = |key| self.summary(None, key).and_then(|total| total.parse::<u64>().ok()).unwrap_or(0);
        total("total-records").saturating_sub(total("total-position-deletes"))
    }

    /// The newest checkpoint that the table holds, and its snapshot.
    pub fn marker(&self) -> Option<(Marker, i64)> {
        Marker::newest(&self.metadata)
    }

    /// The newest checkpoint of a version's timeline that the table holds, and the owner that published it.
    pub fn delivered(&self, version: &str, timeline: &str) -> Option<(u64, u64)> {
        let ours = Marker { version: version.into(), timeline: timeline.into(), checkpoint: 0, manifest: String::new() };
        let facts = Facts::of(&self.metadata, &ours);
        if let Some((marker, snapshot)) = facts.newest {
            return Some((marker.checkpoint, self.summary(Some(snapshot), OWNER)?.parse().ok()?));
        }
        // All snapshots that could say it have expired. Where main was set back before that, the properties tell too much.
        let current = self.metadata.current_snapshot()?;
        let was_set_back = current.sequence_number() != self.metadata.last_sequence_number();
        let hint = facts.hint.filter(|hint| !facts.complete && !was_set_back && hint.same_timeline(&ours))?;
        Some((hint.checkpoint, self.property(PUBLISHER)?.parse().ok()?))
    }
}
