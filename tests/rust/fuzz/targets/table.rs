//! A table with one of its files changed, as other people's tools may leave it: read, committed to, merged and cleaned.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, StringArray};
use kappa::error::Result;
use kappa::message::Epoch;
use kappa::plan::schema::{DataType, Field, Schema};
use kappa::protocol::checkpoint::StagedFile;
use kappa::sink::iceberg::IcebergStaging;
use kappa::sink::{Change, StagingWriter};
use kappa::table::catalog::Settings;
use kappa::table::commit::marker_summary;
use kappa::table::expiry::Retention;
use kappa::table::field_ids::FieldIds;
use kappa::table::maintenance::Reach;
use kappa::table::scan::Scan;
use kappa::table::{Catalog, CommitKind, CommitOutcome, CreateTable, Fence, Forgotten, Table, TableCommit, TableName};

use super::{copy, scratch};

const VERSION: &str = "0196a000-0000-7000-8000-000000000001";
/// Commits in the template; the next one is staged, too.
const COMMITS: u64 = 4;

struct Template {
    copy: PathBuf,
    files: Vec<PathBuf>,
    staged: Vec<StagedFile>,
}

/// Where the table is; paths in its files are absolute.
fn place() -> PathBuf {
    scratch("table")
}

/// A file that is nobody's business.
fn bystander() -> PathBuf {
    scratch("table-bystander")
}

fn name() -> TableName {
    TableName::parse("t", "metric").unwrap()
}

fn catalog() -> Result<Catalog> {
    let place = place().display().to_string();
    let catalog = Catalog::open(&format!("sqlite://{place}/catalog.db"), "kappa", &format!("file://{place}/warehouse"))?;
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    // Position deletes, not a new copy; and what is old goes at once.
    Ok(catalog.with_settings(Settings { rewrite_below: 0, retention, attempts: 2, ..Settings::default() }))
}

fn batch(numbers: std::ops::Range<i64>) -> RecordBatch {
    let keys: StringArray = numbers.clone().map(|n| Some(format!("key {}", n % 50))).collect();
    let columns = [("k", Arc::new(keys) as _, true), ("n", Arc::new(Int64Array::from_iter_values(numbers)) as _, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn stage(table: &Table, checkpoint: u64) -> Vec<StagedFile> {
    let mut staging = IcebergStaging::new(table).unwrap();
    let first = checkpoint as i64 * 10;
    staging.write(Change::Upsert(batch(first..first + 40))).unwrap();
    staging.prepare(Epoch(checkpoint)).unwrap()
}

fn fence(checkpoint: u64) -> Fence {
    Fence { version: VERSION.into(), owner: 1, checkpoint, recovering: true }
}

fn commit(catalog: &Catalog, table: &Table, checkpoint: u64, files: Vec<StagedFile>) -> Result<Vec<Forgotten>> {
    let kind = CommitKind::Upsert { primary_key: vec!["k".into()] };
    let summary = marker_summary(VERSION, "timeline", checkpoint, &format!("hash {checkpoint}"));
    let commit = TableCommit { table: name(), table_uuid: table.uuid(), kind, files, summary };
    match catalog.commit(&[commit], &fence(checkpoint))?.remove(0) {
        CommitOutcome::Committed { forgotten, .. } => Ok(forgotten),
        CommitOutcome::AlreadyCommitted { .. } => Ok(Vec::new()),
    }
}

fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let (place, template) = (place(), scratch("table-template"));
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(bystander(), b"not to be touched").unwrap();
        let catalog = catalog().unwrap();
        catalog.claim_owner(VERSION, 1).unwrap();
        let fields = vec![Field::new("k", DataType::String), Field::new("n", DataType::Int64)];
        let create = CreateTable {
            name: name(),
            schema: Schema { fields },
            primary_key: vec!["k".into()],
            properties: [("kappa.version", VERSION), ("write.metadata.compression-codec", "none")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            field_ids: FieldIds::default(),
        };
        let table = catalog.create(&create).unwrap();
        // Nothing is forgotten here: there is something left to be forgotten.
        let keeps = catalog.with_settings(Settings { rewrite_below: 0, ..Settings::default() });
        for checkpoint in 1..=COMMITS {
            commit(&keeps, &table, checkpoint, stage(&table, checkpoint)).unwrap();
        }
        let staged = stage(&table, COMMITS + 1);
        let current = keeps.require(&name()).unwrap();
        let old =
            current.metadata().metadata_log().iter().map(|entry| kappa::table::files::path_of(&entry.metadata_file).unwrap());
        let (old, staged_paths): (Vec<_>, Vec<_>) =
            (old.collect(), staged.iter().map(|file| kappa::table::files::path_of(&file.path).unwrap()).collect());
        drop((keeps, current));
        let mut files = Vec::new();
        below(&place.join("warehouse"), &mut files);
        files.retain(|file| !old.contains(file) && !staged_paths.contains(file));
        files.sort();
        let files = files.iter().map(|file| file.strip_prefix(&place).unwrap().to_owned()).collect();
        copy(&place, &template);
        Template { copy: template, files, staged }
    })
}

fn below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            below(&entry, files);
        } else {
            files.push(entry);
        }
    }
}

/// The first byte says which file; files in text are there more often.
pub fn seeds() -> Vec<Vec<u8>> {
    let template = template();
    let mut seeds = Vec::new();
    for (number, file) in template.files.iter().enumerate() {
        let content = std::fs::read(template.copy.join(file)).unwrap();
        let is_text = file.extension().is_some_and(|extension| extension == "json");
        let stray = bystander().display().to_string();
        let named = if is_text { lead_astray(&content, &stray) } else { vec![content.clone()] };
        for content in named.into_iter().chain(std::iter::repeat_n(content, if is_text { 4 } else { 1 })) {
            seeds.push([&[number as u8], content.as_slice()].concat());
        }
    }
    seeds
}

/// Metadata that names a file which is not the table's: in its log, as a manifest list, as statistics.
fn lead_astray(metadata: &[u8], stray: &str) -> Vec<Vec<u8>> {
    let document: serde_json::Value = serde_json::from_slice(metadata).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut changed = document.clone();
        change(&mut changed);
        changed.to_string().into_bytes()
    };
    vec![
        with(&|document| document["metadata-log"][0]["metadata-file"] = stray.into()),
        with(&|document| {
            document["metadata-log"][0]["metadata-file"] = stray.into();
            document["properties"]["write.metadata.previous-versions-max"] = "1".into();
        }),
        with(&|document| document["snapshots"][0]["manifest-list"] = stray.into()),
    ]
}

pub fn run(input: &[u8]) {
    let (Some(first), template) = (input.first(), template()) else { return };
    let (place, file) = (place(), &template.files[usize::from(*first) % template.files.len()]);
    let _ = std::fs::remove_dir_all(&place);
    copy(&template.copy, &place);
    std::fs::write(place.join(file), &input[1..]).unwrap();
    // What goes wrong is an error, which names something.
    if let Err(error) = use_table(template) {
        assert!(!error.code().is_empty() && error.to_string().len() < 1 << 21);
    }
    assert!(bystander().exists(), "a file outside of the table is gone: {}", file.display());
    assert!(place.join("catalog.db").exists());
}

fn use_table(template: &Template) -> Result<()> {
    let catalog = catalog()?;
    let Some(table) = catalog.load(&name())? else { return Ok(()) };
    let _ = (table.marker(), table.row_count(), table.primary_key(), table.schema());
    let snapshots: Vec<i64> = table.metadata().snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
    for snapshot in [None].into_iter().chain(snapshots.into_iter().map(Some)) {
        let rows = Scan::plan(catalog.manifests(), &table, snapshot)
            .and_then(|scan| scan.map(|batch| batch.map(|batch| batch.num_rows())).sum::<Result<usize>>());
        assert!(rows.map_or(0, |rows| rows) < 10_000, "rows from nowhere");
    }
    let (uuid, stop, mut reach) = (table.uuid(), AtomicBool::new(false), Reach::default());
    let mut forgotten = commit(&catalog, &table, COMMITS + 1, template.staged.clone())?;
    if let Some(compacted) = catalog.compact(&name(), uuid, &fence(COMMITS + 1), &stop)? {
        forgotten.extend(compacted.forgotten);
    }
    catalog.clean(&name(), uuid, &forgotten, &mut reach, &stop)?;
    let began = kappa::time::new_ordered_uuid();
    catalog.remove_orphans(&name(), uuid, &mut reach, began, &fence(COMMITS + 1), &stop)?;
    Ok(())
}
