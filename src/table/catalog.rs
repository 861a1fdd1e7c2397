//! The catalog: which tables there are, and where their metadata is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use iceberg::spec::{FormatVersion, TableMetadata, TableMetadataBuilder};
use iceberg::{MetadataLocation, TableCreation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::expiry::Retention;
use super::files;
use super::io::Io;
use super::key_index::{IndexPolicy, KeyIndexes};
use super::maintenance::Policy;
use super::manifests::ManifestReader;
use super::marker::Marker;
use super::metadata::{self, Pieces, Refs};
use super::name::TableName;
use super::pin::Pin;
use super::sql::{Database, OwnerRow, Swap, Swapped};
use super::{PRIMARY_KEY_PROPERTY, iceberg_error, schema};
use crate::durable;
use crate::error::{Error, Result};
use crate::plan::schema::Schema;
use crate::protocol::door::{Act, Door};
use crate::time;

/// Limits of the commit. The defaults suit production; tests make them small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A table whose live data stays below this many bytes is rewritten by an upsert; a larger one gets position deletes.
    pub rewrite_below: u64,
    /// Above this many manifests the small ones are merged into one.
    pub merge_manifests_above: usize,
    /// From this many position delete files on, an upsert writes one that takes their place.
    pub merge_deletes_at: usize,
    /// When an index of a table's keys is kept.
    pub key_index: IndexPolicy,
    /// How often a commit that lost to another writer is built again.
    pub attempts: u32,
    /// Which snapshots a commit forgets.
    pub retention: Retention,
    /// Which files are merged.
    pub compaction: Policy,
    /// How long before the start of a process metadata was made that nothing names and that may go.
    pub orphan_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rewrite_below: 8 << 20,
            merge_manifests_above: 100,
            merge_deletes_at: 16,
            key_index: IndexPolicy::default(),
            attempts: 20,
            retention: Retention::default(),
            compaction: Policy::default(),
            orphan_grace: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a new table says of its metadata files: that they are packed, and that other writers too remove old ones, as kappa does.
const METADATA_PROPERTIES: [(&str, &str); 3] = [
    ("write.metadata.compression-codec", "gzip"),
    ("write.metadata.delete-after-commit.enabled", "true"),
    ("write.metadata.previous-versions-max", "100"),
];

/// A catalog of Iceberg tables in a SQLite database. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Catalog {
    pub(super) io: Io,
    pub(super) database: Arc<Database>,
    pub(super) settings: Settings,
    pub(super) manifests: ManifestReader,
    pub(super) door: Door,
    name: String,
    warehouse: String,
    /// Each table as it was last seen: unchanged files are not parsed again.
    seen: Arc<Mutex<HashMap<TableName, Table>>>,
    /// Held while a commit is built and made: those of one process would only make each other lose.
    turn: Arc<Mutex<()>>,
    /// Where the rows of keys are.
    pub(super) indexes: KeyIndexes,
    /// Milliseconds by which snapshots are ahead of the clock: a test lets hours pass.
    #[cfg(test)]
    ahead: Arc<std::sync::atomic::AtomicI64>,
}

/// A table as it was when it was loaded.
#[derive(Clone, Debug)]
pub struct Table {
    name: TableName,
    metadata: Arc<TableMetadata>,
    metadata_location: String,
    refs: Arc<Refs>,
    /// What was packed for this metadata file, and will be needed for the next.
    pieces: Arc<Mutex<Pieces>>,
}

/// What a new table is made of.
#[derive(Clone, Debug)]
pub struct CreateTable {
    /// Its name.
    pub name: TableName,
    /// Its columns.
    pub schema: Schema,
    /// The key columns of an upsert table, in order; empty for an append table.
    pub primary_key: Vec<String>,
    /// Further table properties.
    pub properties: BTreeMap<String, String>,
}

impl Catalog {
    /// Opens the catalog at `sqlite://PATH` (relative to the working directory unless absolute) and creates it on first use.
    ///
    /// `name` is the `catalog_name` that all tools must agree on (kappa's default is `kappa`); new tables go under
    /// `warehouse`, a `file://` URL.
    pub fn open(url: &str, name: &str, warehouse: &str) -> Result<Self> {
        let Some(path) = url.strip_prefix("sqlite://") else {
            return Err(Error::config("unsupported_catalog", format!("catalog {url} is not of a kind this release opens"))
                .hint("use sqlite://PATH"));
        };
        let io = Io::new()?;
        let path = absolute(path)?;
        let Some(warehouse_path) = warehouse.strip_prefix("file://") else {
            return Err(Error::config(
                "unsupported_warehouse",
                format!("warehouse {warehouse} is not of a kind this release writes"),
            )
            .hint("use file://PATH"));
        };
        let warehouse = format!("file://{}", absolute(warehouse_path)?.display());
        let database = Arc::new(Database::open(&io, &path, name)?);
        let manifests = ManifestReader::new(io.clone());
        Ok(Self {
            io,
            manifests,
            database,
            settings: Settings::default(),
            door: Door::default(),
            name: name.to_owned(),
            warehouse,
            seen: Arc::default(),
            turn: Arc::default(),
            indexes: KeyIndexes::default(),
            #[cfg(test)]
            ahead: Arc::default(),
        })
    }

    /// The same catalog with other limits.
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The same catalog behind a door.
    pub fn behind(self, door: Door) -> Self {
        Self { door, ..self }
    }

    /// The catalog's name in the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads the manifests of this catalog's tables.
    pub fn manifests(&self) -> &ManifestReader {
        &self.manifests
    }

    /// The table of that name as it is now, or none.
    pub fn load(&self, name: &TableName) -> Result<Option<Table>> {
        let location = self.door.pass(Act::Find, || self.io.run(self.database.location(name)))?;
        let Some(location) = location else { return Ok(None) };
        let seen = self.seen.lock().ok().and_then(|seen| seen.get(name).cloned());
        if let Some(table) = seen.filter(|table| table.metadata_location == location) {
            return Ok(Some(table));
        }
        let (metadata, refs) = metadata::read(&location, name)?;
        let table = Table::new(name.clone(), metadata, location, refs);
        self.remember(&table);
        Ok(Some(table))
    }

    /// The table of that name, which must exist.
    pub fn require(&self, name: &TableName) -> Result<Table> {
        if let Some(table) = self.load(name)? {
            return Ok(table);
        }
        let tables: Vec<String> = self.list()?.iter().map(ToString::to_string).collect();
        let hint = if tables.is_empty() { "it has no tables yet".to_owned() } else { format!("it has {}", tables.join(", ")) };
        Err(Error::refused("no_such_table", format!("there is no table {name}")).with("catalog", &self.name).hint(hint))
    }

    /// All tables of the catalog, in order. Names that kappa would not make are left out.
    pub fn list(&self) -> Result<Vec<TableName>> {
        let rows = self.io.run(self.database.list())?;
        Ok(rows.iter().filter_map(|(namespace, table)| TableName::parse(table, namespace).ok()).collect())
    }

    /// Creates a table: Iceberg v2, unpartitioned, without rows.
    pub fn create(&self, create: &CreateTable) -> Result<Table> {
        let table = self.stage(create)?;
        let insert = || self.io.run(self.database.insert(&create.name, &table.metadata_location));
        if self.door.pass(Act::Create, insert)? {
            self.remember(&table);
            return Ok(table);
        }
        files::remove_quietly([&table.metadata_location]);
        Err(Error::conflict("table_exists", format!("there is already a table or view {}", create.name))
            .hint("choose another name, or replace it with --replace"))
    }

    /// Puts fresh tables in the places of old ones, under the same names, if the old ones are still what the catalog has:
    /// all of them, or none. The files of the old ones stay for the garbage collector.
    pub fn replace(&self, changes: &[(Table, &CreateTable)]) -> Result<()> {
        let tables = changes.iter().map(|(_, create)| self.stage(create)).collect::<Result<Vec<_>>>()?;
        let swap = |((old, _), new): (&(Table, &CreateTable), &Table)| old.swap_for(new);
        let swaps: Vec<Swap> = changes.iter().zip(&tables).map(swap).collect();
        match self.swap(&swaps, None)? {
            Swapped::Done => {
                tables.iter().for_each(|table| self.remember(table));
                Ok(())
            }
            Swapped::Unknown(error) => Err(error),
            Swapped::Lost(name) => {
                files::remove_quietly(tables.iter().map(|table| &table.metadata_location));
                Err(changed(&name))
            }
        }
    }

    /// Takes the table out of the catalog if it is still as it was loaded. Its files stay for the garbage collector.
    pub fn drop_table(&self, table: &Table) -> Result<()> {
        if self.io.run(self.database.remove(&table.name, &table.metadata_location))? {
            return Ok(());
        }
        Err(changed(&table.name))
    }

    /// Makes `owner` the owner of a version: commits of earlier owners are refused from now on. A later owner is a
    /// conflict.
    pub fn claim_owner(&self, version: &str, owner: u64) -> Result<()> {
        let ours = sql_integer(owner)?;
        let now = self.door.pass(Act::Claim, || self.io.run(self.database.claim(version, ours)))?;
        if now == ours { Ok(()) } else { Err(fenced(version, ours, Some(now))) }
    }

    /// The time of a snapshot that is made now, in milliseconds since 1970 UTC.
    pub(super) fn now_ms(&self) -> i64 {
        let now = time::now_ms();
        #[cfg(test)]
        let now = now + self.ahead.load(std::sync::atomic::Ordering::SeqCst);
        now
    }

    /// Lets time pass for the snapshots.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        self.ahead.fetch_add(time.as_millis() as i64, std::sync::atomic::Ordering::SeqCst);
    }

    /// Sets a table back to an earlier snapshot, as other tools do.
    #[cfg(test)]
    pub(crate) fn set_back(&self, name: &TableName, snapshot_id: i64) {
        use iceberg::spec::{SnapshotReference, SnapshotRetention};
        let base = self.require(name).unwrap();
        let retention = SnapshotRetention::branch(None, None, None);
        let builder = base.metadata().clone().into_builder(Some(base.metadata_location.clone()));
        let builder = builder.set_ref("main", SnapshotReference::new(snapshot_id, retention)).unwrap();
        let to = format!("{}/metadata/99999-{}.metadata.json", base.location(), time::new_uuid());
        base.next(builder.build().unwrap().metadata, to.clone()).write_metadata().unwrap();
        let swap = Swap { name: name.clone(), from: base.metadata_location, to };
        assert!(matches!(self.swap(&[swap], None).unwrap(), Swapped::Done));
    }

    /// Writes the first metadata file of a table that no catalog names yet.
    fn stage(&self, create: &CreateTable) -> Result<Table> {
        let uuid = time::new_uuid();
        let short = uuid.simple().to_string();
        let short = short.get(..8).unwrap_or(&short);
        let location = format!("{}/{}/{}-{short}", self.warehouse, create.name.namespace(), create.name.table());
        let metadata = new_metadata(create, location.clone(), uuid)?;
        let metadata_location = MetadataLocation::new_with_metadata(&location, &metadata).to_string();
        let directory = files::path_of(&location)?;
        let table = Table::new(create.name.clone(), metadata, metadata_location, Refs::default());
        let write = || {
            durable::create_directory(&directory.join("data"))?;
            durable::create_directory(&directory.join("metadata"))?;
            table.write_metadata()?;
            durable::sync_directory(&directory.join("metadata"))
        };
        write().inspect_err(|_| drop(std::fs::remove_dir_all(&directory)))?;
        Ok(table)
    }

    /// Moves tables and the owner's row, or nothing. Where the catalog does not answer nobody knows which.
    pub(super) fn swap(&self, swaps: &[Swap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        let passed = self.door.pass(Act::Swap, || Ok(self.io.run(self.database.swap(swaps, owner))));
        passed.unwrap_or_else(|error| Ok(Swapped::Unknown(error)))
    }

    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember(&self, table: &Table) {
        if let Ok(mut seen) = self.seen.lock() {
            seen.insert(table.name.clone(), table.clone());
        }
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Catalog>();
};

fn new_metadata(create: &CreateTable, location: String, uuid: Uuid) -> Result<TableMetadata> {
    let iceberg_schema = schema::to_iceberg(&create.schema, &create.primary_key)?;
    let key = serde_json::to_string(&create.primary_key).map_err(|error| Error::internal(error.to_string()))?;
    let mut properties: HashMap<String, String> = create.properties.clone().into_iter().collect();
    if !create.primary_key.is_empty() {
        properties.insert(PRIMARY_KEY_PROPERTY.to_owned(), key);
    }
    properties.entry("write.parquet.compression-codec".to_owned()).or_insert_with(|| "zstd".to_owned());
    for (key, value) in METADATA_PROPERTIES {
        properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    let creation = TableCreation::builder()
        .name(create.name.table().to_owned())
        .location(location)
        .schema(iceberg_schema)
        .properties(properties)
        .format_version(FormatVersion::V2)
        .build();
    let built = TableMetadataBuilder::from_table_creation(creation).and_then(|builder| builder.assign_uuid(uuid).build());
    Ok(built.map_err(|error| iceberg_error(&format!("create table {}", create.name), error))?.metadata)
}

fn absolute(path: &str) -> Result<PathBuf> {
    let path = Path::new(path);
    let whole = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
    if whole.components().any(|part| part == std::path::Component::ParentDir) {
        // What lies above may be a link: only the file system knows where `..` leads.
        durable::create_directory(&whole)?;
        return whole.canonicalize().map_err(|error| Error::io("find", path, error));
    }
    Ok(whole)
}

pub(super) fn sql_integer(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| Error::internal(format!("{value} does not fit the catalog")))
}

pub(super) fn fenced(version: &str, ours: i64, owner: Option<i64>) -> Error {
    let taker = owner.map_or("nobody".to_owned(), |owner| format!("owner {owner}"));
    Error::conflict("fenced", format!("version {version} now belongs to {taker}; this process is owner {ours}"))
        .hint("another process took this version over: let it work, or stop it and run this again")
        .retryable(false)
}

fn changed(name: &TableName) -> Error {
    Error::conflict("table_changed", format!("table {name} was changed by another process")).hint("look again, then retry")
}

impl Table {
    fn new(name: TableName, metadata: TableMetadata, metadata_location: String, refs: Refs) -> Self {
        let (metadata, refs) = (Arc::new(metadata), Arc::new(refs));
        Self { name, metadata, metadata_location, refs, pieces: Arc::default() }
    }

    /// The state after this one, at another place; branches and tags but for main stay as they are.
    pub(super) fn next(&self, metadata: TableMetadata, metadata_location: String) -> Self {
        Self { metadata: Arc::new(metadata), metadata_location, ..self.clone() }
    }

    /// The same with a tag more, and without those of its kind that are old.
    pub(super) fn next_with(&self, metadata: TableMetadata, metadata_location: String, pin: &Pin<'_>, now: i64) -> Self {
        let made = |id: i64| self.metadata.snapshot_by_id(id).map(|snapshot| snapshot.timestamp_ms());
        let refs = self.refs.without_old(pin.prefix, now, made);
        let refs = refs.with_tag(&format!("{}{}", pin.prefix, pin.name), pin.snapshot, pin.age);
        Self { refs: Arc::new(refs), ..self.next(metadata, metadata_location) }
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
        Swap { name: self.name.clone(), from: self.metadata_location.clone(), to: next.metadata_location.clone() }
    }

    /// Whether snapshots may be forgotten and files removed: Iceberg's `gc.enabled`, which says that others may share them.
    pub(super) fn may_be_cleaned(&self) -> bool {
        self.property("gc.enabled").is_none_or(|value| !value.eq_ignore_ascii_case("false"))
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

    /// The live rows by the newest summary: exact as long as only kappa wrote to the table.
    pub fn row_count(&self) -> u64 {
        let total = |key| self.summary(None, key).and_then(|total| total.parse::<u64>().ok()).unwrap_or(0);
        total("total-records").saturating_sub(total("total-position-deletes"))
    }

    /// The newest checkpoint that the table holds, and its snapshot.
    pub fn marker(&self) -> Option<(Marker, i64)> {
        Marker::newest(&self.metadata)
    }
}
