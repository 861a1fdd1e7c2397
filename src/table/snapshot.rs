//! From a change to the next metadata of a table: manifests, manifest list, snapshot, metadata file, all durable.

use std::collections::{BTreeMap, HashMap, HashSet};

use iceberg::MetadataLocation;
use iceberg::io::FileIO;
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, MAIN_BRANCH, ManifestContentType, ManifestFile, ManifestListWriter,
    ManifestWriter, ManifestWriterBuilder, Operation, Snapshot, SnapshotSummaryCollector, Summary, UNASSIGNED_SEQUENCE_NUMBER,
};

use super::catalog::{Settings, Table};
use super::expiry::{Forgotten, expired};
use super::live::{Live, LiveFile};
use super::manifests::ManifestReader;
use super::{files, iceberg_error, metadata};
use crate::durable;
use crate::error::{Error, Result};
use crate::time;

/// Manifests of this size or more are not merged again: merging stays cheap however large the table is.
const LARGE_MANIFEST: i64 = 8 << 20;

/// Summary key: the live rows. Without it they are not known: position deletes of files that are gone may stay for a while, so
/// that Iceberg's own totals say too little.
pub const ROWS: &str = "kappa.rows";

/// What a commit does to the files of a table.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) added: Vec<DataFile>,
    pub(super) added_deletes: Vec<DataFile>,
    /// Data and delete files that go away.
    pub(super) removed: Vec<LiveFile>,
    pub(super) operation: Operation,
    /// How many rows the table has more, or fewer.
    pub(super) rows: i64,
}

impl Change {
    /// Rows that are added.
    pub(super) fn append(added: Vec<DataFile>) -> Self {
        let rows = rows_of(&added);
        Self { added, added_deletes: vec![], removed: vec![], operation: Operation::Append, rows }
    }

    /// A snapshot with the same files.
    pub(super) fn nothing() -> Self {
        Self::append(vec![])
    }
}

/// How many rows files have.
pub(super) fn rows_of(files: &[DataFile]) -> i64 {
    files.iter().map(|file| file.record_count() as i64).sum()
}

/// A table's next state, not yet in the catalog.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) table: Table,
    pub(super) snapshot_id: i64,
    /// Snapshots that it forgets.
    pub(super) forgotten: Vec<Forgotten>,
    /// Metadata files that fell out of the log.
    pub(super) expired_metadata: Vec<String>,
}

/// What goes into the summary and the properties beside the counts.
pub(super) struct Notes<'a> {
    pub(super) summary: &'a BTreeMap<String, String>,
    pub(super) properties: HashMap<String, String>,
    /// The time, in milliseconds since 1970 UTC.
    pub(super) now: i64,
}

/// Refuses tables that the commit does not know how to extend.
pub(super) fn check_supported(table: &Table) -> Result<()> {
    let metadata = table.metadata();
    let refuse = |what: String| {
        Err(Error::refused("unsupported_table", format!("table {} {what}", table.name())).hint("write to a new table"))
    };
    if metadata.format_version() != FormatVersion::V2 {
        return refuse(format!("is of format {}, kappa writes v2", metadata.format_version()));
    }
    if !metadata.default_partition_spec().is_unpartitioned() {
        return refuse("is partitioned, kappa writes unpartitioned tables".into());
    }
    Ok(())
}

/// Builds the snapshot of `change` on `base`; its manifests are written. Every file made is noted in `created`, also when this fails.
pub(super) fn build(
    reader: &ManifestReader,
    base: &Table,
    manifests: Vec<ManifestFile>,
    change: &Change,
    notes: Notes<'_>,
    settings: &Settings,
    created: &mut Vec<String>,
) -> Result<Built> {
    let metadata = base.metadata();
    let summary = summary(reader, base, &manifests, change, notes.summary)?;
    let mut writer = SnapshotWriter::new(reader, base, created);
    let manifests = writer.manifests(manifests, change, settings)?;
    let manifest_list = writer.manifest_list(manifests)?;
    let snapshot_id = writer.snapshot_id;
    let snapshot = Snapshot::builder()
        .with_snapshot_id(snapshot_id)
        .with_parent_snapshot_id(metadata.current_snapshot_id())
        .with_sequence_number(metadata.next_sequence_number())
        // A clock that was set back must not stop the commits.
        .with_timestamp_ms(notes.now.max(metadata.last_updated_ms()))
        .with_manifest_list(manifest_list)
        .with_summary(summary)
        .with_schema_id(metadata.current_schema_id())
        .build();
    let failed = |error| iceberg_error(&format!("extend table {}", base.name()), error);
    let builder = metadata.clone().into_builder(Some(base.metadata_location().to_owned()));
    let builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(failed)?;
    let expired = if base.may_be_cleaned() { expired(base, &settings.retention, notes.now) } else { vec![] };
    let forgotten = expired.iter().filter_map(|id| Forgotten::of(metadata, *id)).collect();
    let builder = expired.iter().fold(builder.remove_snapshots(&expired), |builder, id| {
        builder.remove_statistics(*id).remove_partition_statistics(*id)
    });
    let built = builder.set_properties(notes.properties).and_then(|builder| builder.build()).map_err(failed)?;
    let location = next_location(base, &built.metadata)?;
    let table = base.next(built.metadata, location);
    let expired_metadata = built.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
    Ok(Built { table, snapshot_id, forgotten, expired_metadata })
}

/// The next numbered metadata file. A foreign writer's naming is not followed, only its number.
pub(super) fn next_location(base: &Table, metadata: &iceberg::spec::TableMetadata) -> Result<String> {
    let next = match base.metadata_location().parse::<MetadataLocation>() {
        Ok(location) => location.with_next_version(),
        Err(_) => MetadataLocation::new_with_metadata(base.location(), metadata).with_next_version(),
    };
    let text = next.to_string();
    let version = files::file_name(&text).split('-').next().unwrap_or_default();
    let (id, suffix) = (time::new_ordered_uuid(), metadata::suffix(metadata));
    let location = format!("{}/metadata/{version}-{id}{suffix}", base.location());
    durable::create_directory(&files::path_of(&format!("{}/metadata", base.location()))?)?;
    Ok(location)
}

struct SnapshotWriter<'a> {
    reader: &'a ManifestReader,
    base: &'a Table,
    snapshot_id: i64,
    prefix: String,
    count: usize,
    created: &'a mut Vec<String>,
}

impl<'a> SnapshotWriter<'a> {
    fn new(reader: &'a ManifestReader, base: &'a Table, created: &'a mut Vec<String>) -> Self {
        let prefix = format!("{}/metadata/{}", base.location(), time::new_ordered_uuid());
        Self { reader, base, snapshot_id: time::random_positive_i64(), prefix, count: 0, created }
    }

    /// The manifests of the new snapshot.
    fn manifests(&mut self, old: Vec<ManifestFile>, change: &Change, settings: &Settings) -> Result<Vec<ManifestFile>> {
        let live = |manifest: &ManifestFile| manifest.has_added_files() || manifest.has_existing_files();
        let mut kept: Vec<ManifestFile> = old.into_iter().filter(live).collect();
        let mut made = Vec::new();
        if !change.removed.is_empty() {
            kept = self.without(kept, &change.removed, &mut made)?;
        }
        if kept.len() > settings.merge_manifests_above {
            kept = self.merged(kept)?;
        }
        if !change.added.is_empty() {
            made.push(self.added(ManifestContentType::Data, &change.added)?);
        }
        if !change.added_deletes.is_empty() {
            made.push(self.added(ManifestContentType::Deletes, &change.added_deletes)?);
        }
        made.extend(kept);
        Ok(made)
    }

    /// Rewrites the manifests that list removed files; gives back those that do not.
    fn without(
        &mut self,
        manifests: Vec<ManifestFile>,
        removed: &[LiveFile],
        made: &mut Vec<ManifestFile>,
    ) -> Result<Vec<ManifestFile>> {
        let removed: HashSet<&str> = removed.iter().map(|entry| entry.file.file_path()).collect();
        let mut kept = Vec::new();
        for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
            let mut touched = Vec::new();
            for manifest in manifests.iter().filter(|manifest| manifest.content == content) {
                let entries = self.reader.live_entries(manifest)?;
                if entries.iter().any(|entry| removed.contains(entry.file.file_path())) {
                    self.check_spec(manifest)?;
                    touched.extend(entries.iter().cloned());
                } else {
                    kept.push(manifest.clone());
                }
            }
            if touched.is_empty() {
                continue;
            }
            let mut writer = self.writer(content)?;
            for entry in touched {
                let gone = removed.contains(entry.file.file_path());
                add_old(&mut writer, entry, gone)?;
            }
            made.push(self.finish(writer)?);
        }
        Ok(kept)
    }

    /// Merges the small manifests of each kind into one.
    fn merged(&mut self, manifests: Vec<ManifestFile>) -> Result<Vec<ManifestFile>> {
        let spec = self.base.metadata().default_partition_spec_id();
        let small = |manifest: &ManifestFile| manifest.manifest_length < LARGE_MANIFEST && manifest.partition_spec_id == spec;
        let (small, mut kept): (Vec<_>, Vec<_>) = manifests.into_iter().partition(small);
        for content in [ManifestContentType::Data, ManifestContentType::Deletes] {
            let group: Vec<_> = small.iter().filter(|manifest| manifest.content == content).collect();
            if group.len() < 2 {
                kept.extend(group.into_iter().cloned());
                continue;
            }
            let mut writer = self.writer(content)?;
            for manifest in group {
                for entry in self.reader.live_entries(manifest)?.iter() {
                    add_old(&mut writer, entry.clone(), false)?;
                }
            }
            kept.push(self.finish(writer)?);
        }
        Ok(kept)
    }

    fn added(&mut self, content: ManifestContentType, files: &[DataFile]) -> Result<ManifestFile> {
        let mut writer = self.writer(content)?;
        for file in files {
            let added = writer.add_file(file.clone(), UNASSIGNED_SEQUENCE_NUMBER);
            added.map_err(|error| iceberg_error("write a manifest", error))?;
        }
        self.finish(writer)
    }

    fn check_spec(&self, manifest: &ManifestFile) -> Result<()> {
        if manifest.partition_spec_id == self.base.metadata().default_partition_spec_id() {
            return Ok(());
        }
        Err(Error::refused("unsupported_table", format!("table {} holds files of another partitioning", self.base.name()))
            .hint("write to a new table"))
    }

    fn writer(&mut self, content: ManifestContentType) -> Result<ManifestWriter> {
        let url = format!("{}-m{}.avro", self.prefix, self.count);
        self.count += 1;
        let output = FileIO::new_with_fs().new_output(&url).map_err(|error| iceberg_error("write a manifest", error))?;
        self.created.push(url);
        let metadata = self.base.metadata();
        let spec = metadata.default_partition_spec().as_ref().clone();
        let builder = ManifestWriterBuilder::new(output, Some(self.snapshot_id), metadata.current_schema().clone(), spec);
        Ok(match content {
            ManifestContentType::Data => builder.build_v2_data(),
            ManifestContentType::Deletes => builder.build_v2_deletes(),
        })
    }

    fn finish(&self, writer: ManifestWriter) -> Result<ManifestFile> {
        self.reader.io().run(writer.write_manifest_file()).map_err(|error| self.unwritten(error))
    }

    /// The library does not say which file it could not write: it is the last one begun.
    fn unwritten(&self, error: iceberg::Error) -> Error {
        let path = self.created.last().map_or("a manifest", |url| files::spelling(url));
        iceberg_error(&format!("write {path}"), error)
    }

    fn manifest_list(&mut self, manifests: Vec<ManifestFile>) -> Result<String> {
        let metadata = self.base.metadata();
        let id = self.snapshot_id;
        let url = format!("{}/metadata/snap-{id}-1-{}.avro", self.base.location(), time::new_ordered_uuid());
        self.created.push(url.clone());
        let write = async {
            let output = FileIO::new_with_fs().new_output(&url)?.writer().await?;
            let (parent, sequence) = (metadata.current_snapshot_id(), metadata.next_sequence_number());
            let mut list = ManifestListWriter::v2(output, id, parent, sequence);
            list.add_manifests(manifests.into_iter())?;
            list.close().await
        };
        self.reader.io().run(write).map_err(|error| self.unwritten(error))?;
        Ok(url)
    }
}

fn add_old(writer: &mut ManifestWriter, entry: LiveFile, gone: bool) -> Result<()> {
    let LiveFile { file, snapshot_id, sequence, file_sequence } = entry;
    let added = if gone {
        writer.add_delete_file(file, sequence, Some(file_sequence))
    } else {
        writer.add_existing_file(file, snapshot_id, sequence, Some(file_sequence))
    };
    added.map_err(|error| iceberg_error("write a manifest", error))
}

const TOTALS: [&str; 6] = [
    "total-data-files",
    "total-delete-files",
    "total-records",
    "total-files-size",
    "total-position-deletes",
    "total-equality-deletes",
];

fn summary(
    reader: &ManifestReader,
    base: &Table,
    manifests: &[ManifestFile],
    change: &Change,
    notes: &BTreeMap<String, String>,
) -> Result<Summary> {
    let metadata = base.metadata();
    let mut collector = SnapshotSummaryCollector::default();
    let mut totals = previous_totals(reader, base, manifests)?;
    for file in change.added.iter().chain(&change.added_deletes) {
        collector.add_file(file, metadata.current_schema().clone(), metadata.default_partition_spec().clone());
        add(&mut totals, file, 1);
    }
    for entry in &change.removed {
        collector.remove_file(&entry.file, metadata.current_schema().clone(), metadata.default_partition_spec().clone());
        add(&mut totals, &entry.file, -1);
    }
    let mut properties = collector.build();
    properties.extend(TOTALS.iter().zip(totals).map(|(key, total)| ((*key).to_owned(), total.max(0).to_string())));
    properties.extend(notes.clone());
    let rows = rows_before(reader, base, manifests)? + change.rows;
    properties.insert(ROWS.to_owned(), rows.max(0).to_string());
    Ok(Summary { operation: change.operation.clone(), additional_properties: properties })
}

/// The live rows before this commit, from the last summary, or counted if another writer made it.
fn rows_before(reader: &ManifestReader, base: &Table, manifests: &[ManifestFile]) -> Result<i64> {
    if let Some(rows) = base.summary(None, ROWS).and_then(|rows| rows.parse().ok()) {
        return Ok(rows);
    }
    let live = Live::load(reader, manifests)?;
    Ok(live.live_rows(&live.positions()?) as i64)
}

/// The totals before this commit, from the last summary, or counted if another writer left them out.
fn previous_totals(reader: &ManifestReader, base: &Table, manifests: &[ManifestFile]) -> Result<[i64; 6]> {
    let Some(snapshot) = base.metadata().current_snapshot() else { return Ok([0; 6]) };
    let noted = &snapshot.summary().additional_properties;
    let noted: Option<Vec<i64>> = TOTALS.iter().map(|key| noted.get(*key)?.parse().ok()).collect();
    if let Some(Ok(totals)) = noted.map(TryInto::try_into) {
        return Ok(totals);
    }
    let live = Live::load(reader, manifests)?;
    let mut totals = [0; 6];
    live.data.iter().chain(&live.deletes).for_each(|entry| add(&mut totals, &entry.file, 1));
    Ok(totals)
}

fn add(totals: &mut [i64; 6], file: &DataFile, sign: i64) {
    let [data_files, delete_files, records, size, positions, equalities] = totals;
    let rows = sign * file.record_count() as i64;
    *size += sign * file.file_size_in_bytes() as i64;
    match file.content_type() {
        DataContentType::Data => {
            *data_files += sign;
            *records += rows;
        }
        DataContentType::PositionDeletes => {
            *delete_files += sign;
            *positions += rows;
        }
        DataContentType::EqualityDeletes => {
            *delete_files += sign;
            *equalities += rows;
        }
    }
}
