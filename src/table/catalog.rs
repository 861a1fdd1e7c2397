//! The catalog: which tables there are, and where their metadata is.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iceberg::spec::{FormatVersion, Schema as IcebergSchema, TableMetadata, TableMetadataBuilder};
use iceberg::{MetadataLocation, TableCreation};
use uuid::Uuid;

use super::field_ids::FieldIds;
use super::files;
use super::io::Io;
use super::key_index::KeyIndexes;
pub use super::loaded::Table;
use super::manifests::ManifestReader;
use super::metadata::{self, Refs};
use super::name::TableName;
use super::rest;
use super::serving::Turns;
pub use super::settings::Settings;
use super::store::{Found, OwnerRow, Store, Swap, Swapped, View, ViewSwap};
use super::{CATALOG_PROPERTY, PRIMARY_KEY_PROPERTY, iceberg_error, schema};
use crate::config::shown_url;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::schema::Schema;
use crate::protocol::door::{Act, Door};
use crate::time;
use crate::{config, durable};

/// How often a catalog is asked where a table is, if what it names is gone each time.
const LOOKS: usize = 5;

/// What a new table says to other writers: that metadata files are packed, that old ones are removed, as kappa does, and that a
/// commit is tried often, at short intervals, since it may meet one of kappa's a second.
const PROPERTIES: [(&str, &str); 5] = [
    ("write.metadata.compression-codec", "gzip"),
    ("write.metadata.delete-after-commit.enabled", "true"),
    ("write.metadata.previous-versions-max", "100"),
    ("commit.retry.num-retries", "20"),
    ("commit.retry.max-wait-ms", "2000"),
];

/// A catalog of Iceberg tables. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Catalog {
    pub(super) io: Io,
    pub(super) store: Arc<Store>,
    pub(super) settings: Settings,
    pub(super) manifests: ManifestReader,
    pub(super) door: Door,
    name: String,
    identity: Arc<str>,
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
    /// Those that its columns may not mean otherwise.
    pub field_ids: FieldIds,
}

impl Catalog {
    /// Opens the catalog at `sqlite://PATH` (relative to the working directory unless absolute), in the PostgreSQL database
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, or behind the REST protocol at `https://HOST/PATH`. In a database it is
    /// created on first use.
    ///
    /// `name` is the `catalog_name` that all tools must agree on (kappa's default is `kappa`), or the warehouse that a REST server
    /// is asked for; new tables go under `warehouse`, a `file://` URL.
    pub fn open(url: &str, name: &str, warehouse: &str) -> Result<Self> {
        let Some(warehouse_path) = warehouse.strip_prefix("file://") else {
            return Err(Error::config(
                "unsupported_warehouse",
                format!("warehouse {warehouse} is not of a kind this release writes"),
            )
            .hint("use file://PATH"));
        };
        let warehouse = format!("file://{}", absolute(warehouse_path)?.display());
        let io = Io::new()?;
        let store = Arc::new(Store::open(&io, url, name)?);
        let manifests = ManifestReader::new(io.clone());
        Ok(Self {
            io,
            manifests,
            store,
            settings: Settings::default(),
            door: Door::default(),
            name: name.to_owned(),
            identity: format!("{} {name}", shown_url(url)).into(),
            warehouse,
            seen: Arc::default(),
            turn: Arc::default(),
            indexes: KeyIndexes::default(),
            #[cfg(test)]
            ahead: Arc::default(),
        })
    }

    /// The catalog that the settings name.
    pub fn of(settings: &config::Settings) -> Result<Self> {
        Self::open(&settings.catalog_url, &settings.catalog_name, &settings.warehouse)
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

    /// What tells it from other catalogs, without a password: tables and versions say of which one they are.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The URL under which new tables go.
    pub fn warehouse(&self) -> &str {
        &self.warehouse
    }

    /// Reads the manifests of this catalog's tables.
    pub fn manifests(&self) -> &ManifestReader {
        &self.manifests
    }

    /// The table of that name as it is now, or none.
    pub fn load(&self, name: &TableName) -> Result<Option<Table>> {
        let mut gone: Option<(String, Error)> = None;
        for _ in 0..LOOKS {
            let found = self.door.pass(Act::Find, || self.io.run(self.store.find(name)))?;
            let Some(found) = found else { return Ok(None) };
            let seen = self.seen.lock().ok().and_then(|seen| seen.get(name).cloned());
            if let Some(table) = seen.filter(|table| table.metadata_location == found.location()) {
                return Ok(Some(table));
            }
            let location = match found {
                Found::At(location) => location,
                Found::Whole(loaded) => {
                    let table = Table::loaded(name, *loaded);
                    self.remember(&table);
                    return Ok(Some(table));
                }
            };
            match (metadata::read(&location, name), gone) {
                (Ok((metadata, refs)), _) => {
                    let table = Table::new(name.clone(), metadata, location, refs);
                    self.remember(&table);
                    return Ok(Some(table));
                }
                // The catalog knows of no other: this one is lost.
                (Err(error), Some((before, _))) if before == location => return Err(error),
                // Whoever moved the table meanwhile may have removed the file.
                (Err(error), _) if error.is_of_absent_file() => gone = Some((location, error)),
                (Err(error), _) => return Err(error),
            }
        }
        let message = format!("the metadata of table {name} is removed faster than it can be read");
        let error = Error::new(ErrorKind::Unavailable, "table_moves", message).hint(
            "another tool removes metadata files that are new: let it keep the newest (write.metadata.previous-versions-max)",
        );
        Err(gone.into_iter().fold(error, |error, (location, cause)| error.with("newest", location).source(cause)))
    }

    /// The view of that name as it is now, or none.
    pub(super) fn find_view(&self, name: &TableName) -> Result<Option<View>> {
        self.door.pass(Act::Find, || self.io.run(self.store.view(name)))
    }

    /// The table of that name as it is now, if it is still the one of this identity.
    pub fn load_same(&self, name: &TableName, uuid: Uuid) -> Result<Option<Table>> {
        Ok(self.load(name)?.filter(|table| table.uuid() == uuid))
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
        let rows = self.io.run(self.store.list())?;
        Ok(rows.iter().filter_map(|(namespace, table)| TableName::parse(table, namespace).ok()).collect())
    }

    /// Creates a table: Iceberg v2, unpartitioned, without rows.
    pub fn create(&self, create: &CreateTable) -> Result<Table> {
        let table = self.stage(create)?;
        let insert = || match &*self.store {
            Store::Sql(database) => {
                let inserted = self.io.run(database.insert(&create.name, &table.metadata_location))?;
                Ok(inserted.then(|| table.clone()))
            }
            // The identity is the server's to give, and it gives the columns ids in their order.
            Store::Rest(rest) => {
                let made = self.io.run(rest.create(&create.name, table.metadata()))?;
                let made = made.map(|made| self.number(Table::loaded(&create.name, made), table.metadata().current_schema()));
                made.transpose()
            }
        };
        if let Some(table) = self.door.pass(Act::Create, insert)? {
            self.remember(&table);
            return Ok(table);
        }
        files::remove_quietly([&table.metadata_location]);
        Err(exists(&create.name))
    }

    /// Gives a table that was made and never written the ids that it was to have, if its maker died before.
    pub fn finish(&self, table: Table, create: &CreateTable) -> Result<Table> {
        if self.names_metadata() {
            return Ok(table);
        }
        self.number(table, &create.field_ids.number(&schema::to_iceberg(&create.schema, &create.primary_key)?)?)
    }

    /// Puts fresh tables in the places of old ones, under the same names, if the old ones are still what the catalog has:
    /// all of them, or none. The files of the old ones stay for the garbage collector.
    pub fn replace(&self, changes: &[(Table, &CreateTable)]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        if !self.store.names_metadata() {
            let names: Vec<_> = changes.iter().map(|(old, _)| old.name.to_string()).collect();
            let message = format!("a REST catalog cannot put a new table in the place of {} in one step", names.join(", "));
            return Err(Error::refused("replace_unsupported", message)
                .hint("drop the old table with the catalog's own tools, or write to a new name"));
        }
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
        if self.io.run(self.store.remove(&table.name, &table.metadata_location))? {
            return Ok(());
        }
        Err(changed(&table.name))
    }

    /// Makes `owner` the owner of a version: commits of earlier owners are refused from now on. A later owner is a
    /// conflict.
    pub fn claim_owner(&self, version: &str, owner: u64) -> Result<()> {
        let ours = sql_integer(owner)?;
        // Where there is no database, the tables say whose they are.
        let Store::Sql(database) = &*self.store else { return Ok(()) };
        let now = self.door.pass(Act::Claim, || self.io.run(database.claim(version, ours)))?;
        if now == ours { Ok(()) } else { Err(fenced(version, ours, Some(now))) }
    }

    /// Whether kappa writes the metadata files.
    pub(super) fn names_metadata(&self) -> bool {
        self.store.names_metadata()
    }

    /// Whether the store itself knows whose a version is.
    pub(super) fn has_owners(&self) -> bool {
        matches!(&*self.store, Store::Sql(_))
    }

    /// Looks whether the version of a table is this owner's: `Conflict` if it is not.
    pub(super) fn check_owner(&self, table: &Table, row: &OwnerRow<'_>) -> Result<()> {
        self.door.pass(Act::Find, || match &*self.store {
            Store::Sql(database) => self.io.run(database.check_owner(row)),
            Store::Rest(_) => rest::check_owner(table.metadata(), row),
        })
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
    pub(crate) fn pass(&self, time: std::time::Duration) {
        self.ahead.fetch_add(time.as_millis() as i64, std::sync::atomic::Ordering::SeqCst);
    }

    /// Changes what a table's metadata says, as other tools do.
    #[cfg(test)]
    pub(crate) fn alter(&self, name: &TableName, change: impl FnOnce(TableMetadataBuilder) -> TableMetadataBuilder) {
        let base = self.require(name).unwrap();
        let builder = change(base.metadata().clone().into_builder(Some(base.metadata_location.clone())));
        let to = format!("{}/metadata/99999-{}.metadata.json", base.location(), time::new_uuid());
        let metadata = builder.build().unwrap().metadata;
        let refs = serde_json::to_value(&metadata).unwrap()["refs"].take();
        let next = Table::new(name.clone(), metadata, to, serde_json::from_value(refs).unwrap());
        self.write_metadata(&next).unwrap();
        assert!(matches!(self.swap(&[base.swap_for(&next)], None).unwrap(), Swapped::Done));
    }

    /// Writes the first metadata file of a table that no catalog names yet.
    fn stage(&self, create: &CreateTable) -> Result<Table> {
        let (uuid, location) = self.new_place(&create.name);
        let metadata = self.new_metadata(create, location.clone(), uuid)?;
        let metadata_location = MetadataLocation::new_with_metadata(&location, &metadata).to_string();
        let directory = files::path_of(&location)?;
        let table = Table::new(create.name.clone(), metadata, metadata_location, Refs::default());
        let write = || {
            durable::create_directory(&directory.join("data"))?;
            durable::create_directory(&directory.join("metadata"))?;
            self.write_metadata(&table)
        };
        write().inspect_err(|_| drop(std::fs::remove_dir_all(&directory)))?;
        Ok(table)
    }

    /// The first state of a name, with the columns of a version. Where the store can make it together with what it shows it is
    /// nothing yet; elsewhere it is made, empty.
    pub(super) fn stage_name(&self, name: &TableName, version: &Table) -> Result<Table> {
        self.check_no_view(name)?;
        let (uuid, location) = self.new_place(name);
        let schema = version.metadata().current_schema().as_ref().clone();
        let properties = self.with_defaults(HashMap::from([Turns::none()?]));
        let metadata = first_metadata(name, location.clone(), schema, properties, uuid)?;
        let metadata_location = MetadataLocation::new_with_metadata(&location, &metadata).to_string();
        match &*self.store {
            Store::Sql(_) => Ok(Table::new(name.clone(), metadata, metadata_location, Refs::default())),
            Store::Rest(rest) => {
                let made = self.io.run(rest.create(name, &metadata))?;
                made.map(|made| Table::loaded(name, made)).ok_or_else(|| exists(name))
            }
        }
    }

    fn new_metadata(&self, create: &CreateTable, location: String, uuid: Uuid) -> Result<TableMetadata> {
        let schema = create.field_ids.number(&schema::to_iceberg(&create.schema, &create.primary_key)?)?;
        let key = serde_json::to_string(&create.primary_key).map_err(|error| Error::internal(error.to_string()))?;
        let mut properties: HashMap<String, String> = create.properties.clone().into_iter().collect();
        if !create.primary_key.is_empty() {
            properties.insert(PRIMARY_KEY_PROPERTY.to_owned(), key);
        }
        first_metadata(&create.name, location, schema, self.with_defaults(properties), uuid)
    }

    fn with_defaults(&self, mut properties: HashMap<String, String>) -> HashMap<String, String> {
        properties.entry("write.parquet.compression-codec".to_owned()).or_insert_with(|| "zstd".to_owned());
        for (key, value) in PROPERTIES {
            properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
        properties.insert(CATALOG_PROPERTY.to_owned(), self.identity.to_string());
        properties
    }

    /// The identity of a new table, and the URL of its directory.
    pub(super) fn new_place(&self, name: &TableName) -> (Uuid, String) {
        let uuid = time::new_uuid();
        let short = uuid.simple().to_string();
        let short = short.get(..8).unwrap_or(&short);
        (uuid, format!("{}/{}/{}-{short}", self.warehouse, name.namespace(), name.table()))
    }

    /// Makes the metadata of a table that is to come durable, unless the store does.
    pub(super) fn write_metadata(&self, table: &Table) -> Result<()> {
        if !self.store.names_metadata() {
            return Ok(());
        }
        table.write_metadata()?;
        durable::sync_directory(&files::path_of(&format!("{}/metadata", table.location()))?)
    }

    /// Moves tables and the owner's row, or nothing. Where the catalog does not answer nobody knows which.
    pub(super) fn swap(&self, swaps: &[Swap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        self.swap_with(swaps, &[], owner)
    }

    /// The same with views.
    pub(super) fn swap_with(&self, swaps: &[Swap], views: &[ViewSwap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        let passed = self.door.pass(Act::Swap, || Ok(self.io.run(self.store.swap(swaps, views, owner))));
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

fn first_metadata(
    name: &TableName,
    location: String,
    schema: IcebergSchema,
    properties: HashMap<String, String>,
    uuid: Uuid,
) -> Result<TableMetadata> {
    let creation = TableCreation::builder()
        .name(name.table().to_owned())
        .location(location)
        .schema(schema.clone())
        .properties(properties)
        .format_version(FormatVersion::V2)
        .build();
    let failed = |error| iceberg_error(&format!("create table {name}"), error);
    let built = TableMetadataBuilder::from_table_creation(creation).map_err(failed)?.assign_uuid(uuid);
    let first = built.build().map_err(failed)?.metadata;
    if first.current_schema().as_struct() == schema.as_struct() {
        return Ok(first);
    }
    // The library has given the columns ids in their order.
    let first_id = first.current_schema_id();
    let built = first.into_builder(None).add_current_schema(schema).and_then(|builder| builder.remove_schemas(&[first_id]));
    Ok(built.and_then(TableMetadataBuilder::build).map_err(failed)?.metadata)
}

pub(super) fn absolute(path: &str) -> Result<PathBuf> {
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

fn exists(name: &TableName) -> Error {
    Error::conflict("table_exists", format!("there is already a table or view {name}"))
        .hint("choose another name, or replace it with --replace")
}

fn changed(name: &TableName) -> Error {
    Error::conflict("table_changed", format!("table {name} was changed by another process")).hint("look again, then retry")
}
