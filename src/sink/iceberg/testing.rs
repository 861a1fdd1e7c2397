//! What the tests of the sink share: a real SQLite catalog and real files in a directory of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use iceberg::spec::{SnapshotReference, SnapshotRetention};
use uuid::Uuid;

use super::IcebergStaging;
use super::proxy::Proxy;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Epoch;
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};
use crate::protocol::door::{Act, Door, Keeper};
use crate::sink::{Change, StagedFile, StagingWriter};
use crate::table::catalog::Settings;
use crate::table::commit::marker_summary;
use crate::table::field_ids::FieldIds;
use crate::table::live;
use crate::table::maintenance::Reach;
use crate::table::scan::Scan;
use crate::table::{
    Catalog, CommitKind, CommitOutcome, CreateTable, Fence, Forgotten, KeyStore, Table, TableCommit, TableName,
};
use crate::time;

/// Each case once for each kind of catalog.
macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        mod sqlite { $(#[test] fn $case() { super::$case(super::Kind::Sqlite); })* }
        mod postgres { $(#[test] fn $case() { super::$case(super::Kind::Postgres); })* }
        mod rest { $(#[test] fn $case() { super::$case(super::Kind::Rest); })* }
    };
}
pub(super) use suite;

pub(super) const VERSION: &str = "version-1";

/// A key and a number.
pub(super) type Row = (Option<String>, i64);

pub(super) struct World {
    pub(super) directory: tempfile::TempDir,
    pub(super) catalog: Catalog,
    pub(super) url: String,
    namespace: String,
    faults: Arc<Faults>,
}

/// What becomes of the next commit.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nothing special.
    None,
    /// It happens, and nobody hears of it.
    ReplyLost,
    /// It does not happen, and nobody hears of it.
    RequestLost,
}

/// Stands in the door of the catalog.
struct Faults {
    next: AtomicU8,
    /// What another process does once the catalog was asked so many times where a table is.
    meanwhile: Mutex<Option<(usize, Meanwhile)>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl Faults {
    fn meet(&self, act: Act, fault: Fault) -> Result<()> {
        let met = act == Act::Swap && self.next.compare_exchange(fault as u8, Fault::None as u8, SeqCst, SeqCst).is_ok();
        if met { Err(Error::new(ErrorKind::Unavailable, "catalog", "no answer")) } else { Ok(()) }
    }
}

impl Faults {
    fn found(&self) {
        let mut held = self.meanwhile.lock().unwrap();
        match held.take() {
            Some((1, act)) => {
                drop(held);
                act();
            }
            Some((finds, act)) => *held = Some((finds - 1, act)),
            None => {}
        }
    }
}

impl Keeper for Faults {
    fn enter(&self, act: Act) -> Result<u64> {
        self.meet(act, Fault::RequestLost).map(|()| 0)
    }

    fn leave(&self, act: Act, _: u64) -> Result<()> {
        if act == Act::Find {
            self.found();
        }
        self.meet(act, Fault::ReplyLost)
    }
}

pub(super) fn name(table: &str) -> TableName {
    TableName::parse(table, "metric").unwrap()
}

pub(super) fn row(key: &str, number: i64) -> Row {
    (Some(key.to_owned()), number)
}

/// Rows with a key, a number, and the number as milliseconds.
pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let keys: StringArray = rows.iter().map(|(key, _)| key.clone()).collect();
    let numbers: Int64Array = rows.iter().map(|(_, number)| Some(*number)).collect();
    let times: TimestampMillisecondArray = rows.iter().map(|(_, number)| Some(*number)).collect();
    RecordBatch::try_new(schema().to_arrow(), vec![Arc::new(keys), Arc::new(numbers), Arc::new(times.with_timezone("UTC"))])
        .unwrap()
}

pub(super) fn keys(keys: &[Option<&str>]) -> RecordBatch {
    let keys: StringArray = keys.iter().copied().collect();
    RecordBatch::try_from_iter_with_nullable([("k", Arc::new(keys) as _, true)]).unwrap()
}

pub(super) fn schema() -> Schema {
    let time = DataType::Timestamp(TimeUnit::Millisecond);
    Schema { fields: vec![Field::new("k", DataType::String), Field::new("n", DataType::Int64), Field::new("t", time)] }
}

/// What a catalog is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    /// In the database that `KAPPA_TEST_POSTGRES` names, in a schema of its own.
    Postgres,
    /// Behind the server that `KAPPA_TEST_REST` names, in a namespace of its own.
    Rest,
}

impl Kind {
    /// A catalog that nobody else uses; none where its server is not there.
    fn url(self, directory: &std::path::Path) -> Option<String> {
        let variable = match self {
            Self::Sqlite => return Some(sqlite(directory)),
            Self::Postgres => "KAPPA_TEST_POSTGRES",
            Self::Rest => "KAPPA_TEST_REST",
        };
        let Ok(url) = std::env::var(variable) else {
            assert!(std::env::var("KAPPA_REQUIRE_CATALOGS").is_err(), "{variable} is not set");
            eprintln!("NOT CHECKED: {variable} is not set");
            return None;
        };
        Some(if self == Self::Postgres { crate::table::fresh_schema(&url) } else { url })
    }
}

fn sqlite(directory: &std::path::Path) -> String {
    format!("sqlite://{}/state/catalog.db", directory.display())
}

impl World {
    pub(super) fn new(settings: Settings) -> Self {
        Self::on(Kind::Sqlite, settings).unwrap()
    }

    /// A world of its own in a catalog of a kind; none where that is not there.
    pub(super) fn on(kind: Kind, settings: Settings) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let url = kind.url(directory.path())?;
        Some(Self::at(kind, url, directory, settings))
    }

    /// The same by way of a proxy.
    pub(super) fn by_proxy(kind: Kind, settings: Settings) -> Option<(Self, Proxy)> {
        let directory = tempfile::tempdir().unwrap();
        let url = kind.url(directory.path())?;
        let (before, after) = url.split_once("127.0.0.1:").unwrap();
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let proxy = Proxy::new(after[..digits].parse().unwrap());
        let url = format!("{before}127.0.0.1:{}{}", proxy.port, &after[digits..]);
        Some((Self::at(kind, url, directory, settings), proxy))
    }

    fn at(kind: Kind, url: String, directory: tempfile::TempDir, settings: Settings) -> Self {
        let namespace = if kind == Kind::Rest { format!("n{}", time::new_uuid().simple()) } else { "metric".to_owned() };
        let faults = Arc::new(Faults { next: AtomicU8::new(Fault::None as u8), meanwhile: Mutex::default() });
        let catalog = open_at(&url, directory.path()).with_settings(settings).behind(Door::kept_by(faults.clone()));
        let catalog = catalog.with_key_stores(Arc::new(|_| Ok(Box::<Keys>::default())));
        let world = Self { catalog, directory, url, namespace, faults };
        world.catalog.claim_owner(VERSION, 1).unwrap();
        world
    }

    /// The name of a table of this world.
    pub(super) fn name(&self, table: &str) -> TableName {
        TableName::parse(table, &self.namespace).unwrap()
    }

    /// Upserts that rewrite below this many bytes.
    pub(super) fn rewriting_below(bytes: u64) -> Self {
        Self::new(Settings { rewrite_below: bytes, ..Settings::default() })
    }

    /// Does something to the next commit.
    pub(super) fn inject(&self, fault: Fault) {
        self.faults.next.store(fault as u8, SeqCst);
    }

    /// Does something between the next commit's look at a table and its work.
    pub(super) fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        self.meanwhile_after(1, act);
    }

    /// The same after so many looks.
    pub(super) fn meanwhile_after(&self, finds: usize, act: impl FnOnce() + Send + 'static) {
        *self.faults.meanwhile.lock().unwrap() = Some((finds, Box::new(act)));
    }

    /// Another process' view of the same catalog.
    pub(super) fn other(&self) -> Catalog {
        open_at(&self.url, self.directory.path())
    }

    pub(super) fn create(&self, table: &str, key: &[&str]) -> Table {
        self.catalog.create(&self.to_create(table, key)).unwrap()
    }

    /// What a table of this world is made of.
    pub(super) fn to_create(&self, table: &str, key: &[&str]) -> CreateTable {
        CreateTable { name: self.name(table), ..create(table, key) }
    }

    pub(super) fn read(&self, table: &str) -> Vec<Row> {
        self.read_at(table, None)
    }

    pub(super) fn read_at(&self, table: &str, snapshot: Option<i64>) -> Vec<Row> {
        let table = self.catalog.require(&self.name(table)).unwrap();
        let batches = Scan::plan(self.catalog.manifests(), &table, snapshot).unwrap();
        let mut rows = Vec::new();
        for batch in batches {
            let batch = batch.unwrap();
            let (keys, numbers) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
            let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
            for index in 0..batch.num_rows() {
                assert_eq!(times.value(index), numbers.value(index) * 1000);
                rows.push(((!keys.is_null(index)).then(|| keys.value(index).to_owned()), numbers.value(index)));
            }
        }
        rows.sort();
        rows
    }

    /// Stages changes and commits them as a checkpoint whose manifest hash is its number.
    pub(super) fn commit(&self, table: &Table, checkpoint: u64, changes: Vec<Change>) -> CommitOutcome {
        let commit = commit_of(table, checkpoint, stage(table, changes));
        self.catalog.commit(&[commit], &fence(checkpoint)).unwrap().remove(0)
    }

    pub(super) fn summary(&self, table: &str) -> std::collections::HashMap<String, String> {
        let table = self.catalog.require(&self.name(table)).unwrap();
        let mut summary = table.metadata().current_snapshot().unwrap().summary().additional_properties.clone();
        summary.insert("operation".into(), table.metadata().current_snapshot().unwrap().summary().operation.as_str().into());
        summary
    }
}

pub(super) fn open(directory: &std::path::Path) -> Catalog {
    open_at(&sqlite(directory), directory)
}

fn open_at(url: &str, directory: &std::path::Path) -> Catalog {
    Catalog::open(url, "kappa", &format!("file://{}/warehouse", directory.display())).unwrap()
}

pub(super) fn create(table: &str, key: &[&str]) -> CreateTable {
    let primary_key = key.iter().map(|column| (*column).to_owned()).collect();
    CreateTable {
        name: name(table),
        schema: schema(),
        primary_key,
        properties: BTreeMap::new(),
        field_ids: FieldIds::default(),
    }
}

pub(super) fn stage(table: &Table, changes: Vec<Change>) -> Vec<StagedFile> {
    let mut staging = IcebergStaging::new(table).unwrap();
    changes.into_iter().try_for_each(|change| staging.write(change)).unwrap();
    staging.prepare(Epoch(1)).unwrap()
}

pub(super) fn commit_of(table: &Table, checkpoint: u64, files: Vec<StagedFile>) -> TableCommit {
    let primary_key = table.primary_key().unwrap();
    let kind = if primary_key.is_empty() { CommitKind::Append } else { CommitKind::Upsert { primary_key } };
    let summary = marker_summary(VERSION, "timeline-1", checkpoint, &format!("hash-{checkpoint}"));
    TableCommit { table: table.name().clone(), table_uuid: table.uuid(), kind, files, summary }
}

pub(super) fn fence(checkpoint: u64) -> Fence {
    Fence { version: VERSION.into(), owner: 1, checkpoint, recovering: false }
}

pub(super) fn upsert(rows: &[Row]) -> Change {
    Change::Upsert(batch(rows))
}

pub(super) fn snapshot_of(outcome: &CommitOutcome) -> i64 {
    match outcome {
        CommitOutcome::Committed { snapshot_id, .. } => *snapshot_id,
        CommitOutcome::AlreadyCommitted { .. } => panic!("{outcome:?}"),
    }
}

/// Commits another writer's rows: a snapshot without a marker of this version.
pub(super) fn foreign_commit(catalog: &Catalog, table: &str, checkpoint: u64, rows: &[Row]) -> Result<()> {
    foreign_commit_to(catalog, &catalog.require(&name(table)).unwrap(), checkpoint, rows)
}

/// The same to any table.
pub(super) fn foreign_commit_to(catalog: &Catalog, table: &Table, checkpoint: u64, rows: &[Row]) -> Result<()> {
    let change = if table.primary_key().unwrap().is_empty() { Change::Append(batch(rows)) } else { upsert(rows) };
    let mut commit = commit_of(table, checkpoint, stage(table, vec![change]));
    commit.summary = marker_summary("foreign", "elsewhere", checkpoint, "x");
    catalog.claim_owner("foreign", 1)?;
    catalog.commit(&[commit], &Fence { version: "foreign".into(), owner: 1, checkpoint, recovering: false }).map(|_| ())
}

/// Sets a table back to an earlier snapshot, as other tools do.
pub(super) fn set_back(catalog: &Catalog, name: &TableName, snapshot_id: i64) {
    set_main(catalog, name, SnapshotReference::new(snapshot_id, SnapshotRetention::branch(None, None, None)));
}

/// Sets main, as other tools do.
pub(super) fn set_main(catalog: &Catalog, name: &TableName, main: SnapshotReference) {
    catalog.alter(name, |builder| builder.set_ref("main", main).unwrap());
}

/// The rows of a table.
pub(super) fn scan(catalog: &Catalog, table: &str, snapshot: Option<i64>) -> Scan {
    Scan::plan(catalog.manifests(), &catalog.require(&name(table)).unwrap(), snapshot).unwrap()
}

/// A store of keys in memory.
#[derive(Default)]
pub(super) struct Keys {
    loaded: Mutex<BTreeMap<Vec<u8>, u64>>,
    twice: AtomicBool,
    set: Mutex<BTreeMap<Vec<u8>, Option<u64>>>,
}

impl KeyStore for Keys {
    fn load(&self, rows: &mut dyn Iterator<Item = (&[u8], u64)>) -> Result<()> {
        let mut loaded = self.loaded.lock().unwrap();
        for (key, value) in rows {
            if loaded.insert(key.to_vec(), value).is_some() {
                self.twice.store(true, SeqCst);
            }
        }
        Ok(())
    }

    fn loaded(&self) -> Result<bool> {
        Ok(!self.twice.load(SeqCst))
    }

    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>> {
        assert!(keys.is_sorted());
        let (loaded, set) = (self.loaded.lock().unwrap(), self.set.lock().unwrap());
        Ok(keys.iter().map(|key| set.get(*key).copied().unwrap_or_else(|| loaded.get(*key).copied())).collect())
    }

    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()> {
        self.set.lock().unwrap().extend(changes.map(|(key, value)| (key.to_vec(), value)));
        Ok(())
    }
}

/// Three versions that commit a row each to one table, so many times, all at once.
pub(super) fn race(world: &World, table: &Table, checkpoints: u64) {
    std::thread::scope(|scope| {
        for writer in 0..3 {
            scope.spawn(move || {
                let catalog = world.other();
                let version = format!("writer-{writer}");
                catalog.claim_owner(&version, 1).unwrap();
                for checkpoint in 1..=checkpoints {
                    let staged = stage(table, vec![Change::Append(batch(&[row(&version, checkpoint as i64)]))]);
                    let mut commit = commit_of(table, checkpoint, staged);
                    commit.summary.insert("kappa.version".into(), version.clone());
                    catalog.commit(&[commit], &Fence { version: version.clone(), ..fence(checkpoint) }).unwrap();
                }
            });
        }
    });
}

/// Nobody asks a merge to stop.
pub(super) static GO_ON: AtomicBool = AtomicBool::new(false);

/// Looks after a table as a running job does, step by step.
#[derive(Default)]
pub(super) struct Care {
    pub(super) forgotten: Vec<Forgotten>,
    reach: Reach,
}

impl Care {
    pub(super) fn forgotten(&mut self, outcome: &CommitOutcome) {
        if let CommitOutcome::Committed { forgotten, .. } = outcome {
            self.forgotten.extend(forgotten.iter().cloned());
        }
    }

    /// Merges as long as it is worth it; how often.
    pub(super) fn merge(&mut self, world: &World, table: &Table, checkpoint: u64) -> usize {
        let mut merges = 0;
        while let Some(merged) = world.catalog.compact(table.name(), table.uuid(), &fence(checkpoint), &GO_ON).unwrap() {
            self.forgotten.extend(merged.forgotten);
            merges += 1;
        }
        merges
    }

    pub(super) fn clean(&mut self, world: &World, table: &Table) -> usize {
        let removed = world.catalog.clean(table.name(), table.uuid(), &self.forgotten, &mut self.reach, &GO_ON).unwrap();
        self.forgotten.clear();
        removed
    }

    /// As the next process would at its start.
    pub(super) fn sweep(&mut self, world: &World, table: &Table) -> usize {
        self.sweep_as(world, table, time::new_ordered_uuid(), 1).unwrap()
    }

    pub(super) fn sweep_as(&mut self, world: &World, table: &Table, began: Uuid, owner: u64) -> Result<usize> {
        let fence = Fence { owner, ..fence(1) };
        world.catalog.remove_orphans(table.name(), table.uuid(), &mut self.reach, began, &fence, &GO_ON)
    }

    /// The same of another version.
    pub(super) fn sweep_of(&mut self, world: &World, table: &Table, began: Uuid, fence: &Fence) -> usize {
        world.catalog.remove_orphans(table.name(), table.uuid(), &mut self.reach, began, fence, &GO_ON).unwrap()
    }

    /// All snapshots can be read, and no file is there that none of them names.
    pub(super) fn assert_nothing_is_missing_or_left(&self, world: &World, table: &Table) {
        let now = world.catalog.require(table.name()).unwrap();
        let mut named: BTreeSet<String> = now.metadata().metadata_log().iter().map(|e| e.metadata_file.clone()).collect();
        named.insert(now.metadata_location().to_owned());
        for snapshot in now.metadata().snapshots() {
            world.read_at(table.name().table(), Some(snapshot.snapshot_id()));
            named.insert(snapshot.manifest_list().to_owned());
            let manifests = live::manifests(Some(snapshot.as_ref())).unwrap();
            let live = live::Live::load(world.catalog.manifests(), &manifests).unwrap();
            named.extend(manifests.into_iter().map(|manifest| manifest.manifest_path));
            named.extend(live.data.iter().chain(&live.deletes).map(|entry| entry.file.file_path().to_owned()));
        }
        assert_eq!(files_of(table), named);
    }
}

/// The URLs of all files of a table.
pub(super) fn files_of(table: &Table) -> BTreeSet<String> {
    let folders = ["data", "metadata"].map(|folder| format!("{}/{folder}", table.location()));
    let list = |folder: &String| {
        let entries = std::fs::read_dir(folder.trim_start_matches("file://")).unwrap();
        entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy())).collect::<Vec<_>>()
    };
    folders.iter().flat_map(list).collect()
}
