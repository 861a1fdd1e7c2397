//! What is known of a table that is compared: which version it is, where it stands in the log, what of it is whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::VersionDir;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::plan::logical::{Node, Read};
use crate::plan::schema::{DataType, Field, TimeUnit};
use crate::protocol::event_time::TimeBounds;
use crate::protocol::position::{Kept, KeptSnapshot, Position};
use crate::table::marker::{CHECKPOINT, Marker, TIMELINE, VERSION};
use crate::table::{Catalog, Table, TableName};

/// One side of a comparison, as the report holds it and as a proof is bound to it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Side {
    /// The table.
    pub table: String,
    /// What tells it from an earlier or later table of that name.
    pub uuid: String,
    /// The version that it belongs to; none: it is not kappa's.
    pub version: Option<String>,
    /// The job that made the version.
    pub job: Option<String>,
    /// Of the version's plan.
    pub fingerprint: Option<String>,
    /// Of the version's checkpoints.
    pub timeline: Option<String>,
    /// A hash of what the version reads, from where on.
    pub domain: Option<String>,
    /// The compared snapshot; none: the table is empty.
    pub snapshot_id: Option<i64>,
    /// When it was made, milliseconds since 1970 UTC.
    pub snapshot_ms: Option<i64>,
    /// The checkpoint that it holds.
    pub checkpoint: Option<u64>,
    /// Where the version was in the log then.
    pub offsets: Option<Position>,
    /// How far all partitions had come then.
    pub closed: Option<String>,
    /// From which event time on its groups are whole, milliseconds since 1970 UTC; none: from the first on.
    pub complete_from_ms: Option<i64>,
    /// Whether newer snapshots of the table were left aside.
    pub older: bool,
}

/// A table and what its version's newest manifest says.
pub struct Subject {
    /// The table.
    pub table: Table,
    /// None if it is not kappa's, or if the checkpoints are elsewhere.
    pub manifest: Option<Manifest>,
    /// Where the version's manifests are.
    dir: Option<VersionDir>,
}

impl Subject {
    /// Loads a table that must exist; of a name, the table of the version that it shows.
    pub fn load(catalog: &Catalog, checkpoints: &Path, name: &TableName) -> Result<Self> {
        let table = catalog.require(name)?;
        let turns = table.turns()?.unwrap_or_default();
        let shown = match turns.current() {
            Some(turn) => catalog.load_same(&turn.table, turn.uuid)?,
            None => None,
        };
        Self::of(shown.unwrap_or(table), checkpoints)
    }

    /// What is known of a table.
    pub fn of(table: Table, checkpoints: &Path) -> Result<Self> {
        let version = table.property(VERSION).and_then(|version| version.parse::<Uuid>().ok());
        let dir = version.map(|version| VersionDir::new(checkpoints, &version.to_string())).filter(VersionDir::exists);
        let manifest = dir.as_ref().map(VersionDir::newest).transpose()?.flatten().map(|sealed| sealed.manifest);
        Ok(Self { table, manifest, dir })
    }

    /// Where its version's manifests are; none if it is not kappa's, or if they are elsewhere.
    pub fn dir(&self) -> Option<&VersionDir> {
        self.dir.as_ref()
    }

    /// Whether a version of kappa's made it.
    pub fn is_ours(&self) -> bool {
        self.table.property(VERSION).is_some()
    }

    /// Its kept snapshots with a position, the newest first: those that lead to what the table is now.
    pub fn kept(&self) -> Kept {
        let metadata = self.table.metadata();
        let (mut snapshots, mut next) = (Vec::new(), metadata.current_snapshot_id());
        // Bounded by the number of snapshots, whatever the parents say.
        for _ in 0..metadata.snapshots().len() {
            let Some(snapshot) = next.and_then(|id| metadata.snapshot_by_id(id)) else { break };
            let id = snapshot.snapshot_id();
            snapshots.extend(self.position(id).map(|position| KeptSnapshot { snapshot: id, position }));
            next = snapshot.parent_snapshot_id();
        }
        Kept { table: self.table.name().to_string(), snapshots }
    }

    fn position(&self, snapshot: i64) -> Option<Position> {
        let text = self.table.summary(Some(snapshot), "kappa.offsets")?;
        serde_json::from_str(text).ok()
    }

    /// How its rows come about.
    pub fn plan(&self) -> Option<&Node> {
        let manifest = self.manifest.as_ref()?;
        let name = self.table.name().to_string();
        let output = manifest.outputs.iter().position(|output| output.table == name)?;
        manifest.plan.outputs.get(output).map(|output| &output.plan)
    }

    /// The manifest of the checkpoint that a snapshot holds, if it is still there; else the newest.
    fn manifest_at(&self, snapshot: Option<i64>) -> Option<Manifest> {
        let checkpoint = self.table.summary(snapshot, CHECKPOINT).and_then(|text| text.parse().ok());
        let exact = self.dir.as_ref().zip(checkpoint).and_then(|(dir, checkpoint)| dir.read(Epoch(checkpoint)).ok());
        exact.map(|sealed| sealed.manifest).or_else(|| self.manifest.clone())
    }

    /// `visible` at a snapshot, and the partitions that it leaves out because they are behind it.
    pub fn visible(&self, snapshot: Option<i64>) -> Result<Option<(i64, Vec<String>)>> {
        let Some(manifest) = self.manifest_at(snapshot) else { return Ok(None) };
        let Some(visible) = manifest.visible_ms else { return Ok(None) };
        let lowered = crate::plan::lower::lower(&manifest.plan)?;
        let bounds: Vec<TimeBounds> = lowered.sources.iter().map(|source| bounds(&source.read)).collect();
        let behind = manifest.frontiers(&bounds).filter(|(_, _, at)| at.watermark_ms.is_none_or(|at| at < visible));
        let name = |source: usize, partition: i32| {
            let topic = manifest.sources.get(source).map_or("", |source| source.topic.as_str());
            format!("{topic}/{partition}")
        };
        Ok(Some((visible, behind.map(|(source, partition, _)| name(source, partition)).collect())))
    }

    /// The facts of a snapshot of it; of the newest if none is named.
    pub fn side(&self, snapshot: Option<i64>) -> Result<Side> {
        let newest = self.table.current_snapshot_id();
        let snapshot_id = snapshot.or(newest);
        let says = |key: &str| self.table.summary(snapshot_id, key).map(str::to_owned);
        let metadata = self.table.metadata();
        let manifest = self.manifest.as_ref();
        let complete_from = |manifest: &Manifest| manifest.sources.iter().filter_map(|source| source.complete_from_ms).max();
        Ok(Side {
            table: self.table.name().to_string(),
            uuid: self.table.uuid().to_string(),
            version: self.table.property(VERSION).map(str::to_owned),
            job: self.table.property("kappa.job").map(str::to_owned),
            fingerprint: manifest.map(|manifest| manifest.fingerprint.clone()),
            timeline: says(TIMELINE).or_else(|| manifest.map(|manifest| manifest.timeline.clone())),
            domain: manifest.map(Manifest::domain_hash).transpose()?,
            snapshot_id,
            snapshot_ms: snapshot_id.and_then(|id| metadata.snapshot_by_id(id)).map(|snapshot| snapshot.timestamp_ms()),
            checkpoint: says(CHECKPOINT).and_then(|text| text.parse().ok()),
            offsets: snapshot_id.and_then(|id| self.position(id)),
            closed: says("kappa.closed").filter(|closed| !closed.is_empty()),
            complete_from_ms: manifest.and_then(complete_from),
            older: self.is_older(snapshot_id),
        })
    }

    /// Whether the table has gone on since that snapshot. Files that were merged are no news.
    fn is_older(&self, snapshot: Option<i64>) -> bool {
        let newest = Marker::newest(self.table.metadata());
        let ours = snapshot.and_then(|id| self.table.summary(Some(id), CHECKPOINT)).and_then(|text| text.parse().ok());
        match (newest, ours) {
            (Some((newest, _)), Some(ours)) => newest.checkpoint > ours,
            _ => snapshot != self.table.current_snapshot_id(),
        }
    }

    /// The topics it reads, by the identity that tells one from another of that name.
    pub fn topics(&self) -> BTreeMap<&str, &str> {
        let sources = self.manifest.iter().flat_map(|manifest| &manifest.sources);
        sources.map(|source| (source.topic.as_str(), source.topic_id.as_str())).collect()
    }

    /// Where it begins to read where it is neither the topic's beginning nor a time: rows of what lies before may not be whole.
    pub fn begins_within(&self) -> bool {
        let from = self.manifest.as_ref().map_or("earliest", |manifest| manifest.from.as_str());
        from != "earliest" && self.manifest.iter().flat_map(|it| &it.sources).any(|source| source.complete_from_ms.is_none())
    }
}

fn bounds(read: &Read) -> TimeBounds {
    let unit = match read.schema.find(&read.event_time) {
        Some((_, Field { data_type: DataType::Timestamp(unit), .. })) => unit.per_second(),
        _ => TimeUnit::Millisecond.per_second(),
    };
    TimeBounds::new(unit, read.max_out_of_orderness_ms, read.max_future_ms)
}

/// Refuses tables that read other topics of the same names.
pub fn check_topics(a: &Subject, b: &Subject) -> Result<()> {
    let theirs = b.topics();
    for (topic, id) in a.topics() {
        if theirs.get(topic).is_some_and(|other| *other != id) {
            let message = format!("tables {} and {} read different topics of the name {topic}", a.table.name(), b.table.name());
            return Err(Error::refused("topic_recreated", message)
                .hint("it was made anew between them: the same offset means another record. Reprocess the older one"));
        }
    }
    Ok(())
}
