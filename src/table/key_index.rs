//! Where each key's live row is: a cache that spares a commit of few keys into a large table from reading the key columns of
//! all its files. It is never truth. It is stamped with the snapshot that it describes, and answers only for that one; else the
//! columns are read, and whoever looks after the tables builds it again from them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::{Catalog, Table};
use super::live::{Live, Positions, manifests};
use super::maintenance::{Input, Rewritten};
use super::name::TableName;
use super::scan::RowReader;
use super::schema;
use super::upsert::{Keys, key_schema};
use crate::error::{Error, Result};

/// Commits that may come while an index is built.
const MOST_STEPS: usize = 1000;
/// Rows whose keys are noted at a time.
const CHUNK: usize = 16 << 10;

/// When an index is worth having.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexPolicy {
    /// For tables of so many rows.
    pub rows: u64,
    /// For commits of fewer keys than one in so many rows.
    pub rows_a_key: u64,
}

impl Default for IndexPolicy {
    fn default() -> Self {
        Self { rows: 1 << 20, rows_a_key: 16 }
    }
}

impl IndexPolicy {
    pub(super) fn suits(&self, rows: u64, keys: u64) -> bool {
        rows >= self.rows && keys.saturating_mul(self.rows_a_key) < rows
    }
}

/// A store of keys, supplied by who opens the catalog. What it holds need not outlive it.
pub trait KeyStore: Send {
    /// The values of keys, which are sorted.
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>>;

    /// Sets values, or removes keys.
    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()>;
}

/// Opens an empty store for the keys of a table.
pub type OpenKeyStore = dyn Fn(Uuid) -> Result<Box<dyn KeyStore>> + Send + Sync;

/// The indexes of a catalog's tables.
#[derive(Clone, Default)]
pub(super) struct KeyIndexes {
    open: Option<Arc<OpenKeyStore>>,
    tables: Arc<Mutex<HashMap<Uuid, State>>>,
}

enum State {
    /// It would be of use, for keys of these columns.
    Wanted(SchemaRef),
    /// It is being built: what was committed since, and the snapshot that came of it.
    Building {
        schema: SchemaRef,
        snapshot: i64,
        steps: Vec<Step>,
    },
    Ready(KeyIndex),
    /// Some key has two rows, as other writers may make them: one place for each key is not enough. So it stays until another
    /// writer commits again.
    Unfit {
        snapshot: i64,
    },
}

/// What a commit did to the keys of a table.
pub(super) enum Step {
    /// Nothing.
    Same,
    /// The rows of these keys went away, and those of these data files came.
    Changed {
        keys: Keys,
        data: Vec<String>,
        /// Data files of which no row was left.
        gone: Vec<String>,
    },
    /// More than is worth following.
    Rewritten,
}

impl Step {
    /// The same step, without the keys whose rows came again: what waits is small.
    fn without_rows(self, schema: &SchemaRef) -> Result<Self> {
        let Self::Changed { mut keys, data, gone } = self else { return Ok(self) };
        for path in &data {
            each_key(path, schema, &AtomicBool::new(false), &mut |_, rows| {
                rows.iter().for_each(|key| keys.remove(key));
                Ok(())
            })?;
        }
        keys.shrink();
        Ok(Self::Changed { keys, data, gone })
    }
}

/// An index of one table.
struct KeyIndex {
    store: Box<dyn KeyStore>,
    /// The key's columns: of others the same keys are other bytes.
    schema: SchemaRef,
    snapshot: i64,
    /// Data files by the numbers that the store knows them by, and the other way round.
    files: HashMap<u32, Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    next: u32,
    /// Files that were merged into another one, as long as keys may point at them.
    moved: HashMap<u32, Moved>,
}

struct Moved {
    input: Input,
    to: Option<u32>,
}

/// A row: the number of its file, and its position there.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    file: u32,
    row: u32,
}

impl From<u64> for Place {
    fn from(value: u64) -> Self {
        Self { file: (value >> 32) as u32, row: value as u32 }
    }
}

impl From<Place> for u64 {
    fn from(place: Place) -> Self {
        Self::from(place.file) << 32 | Self::from(place.row)
    }
}

impl KeyIndex {
    fn new(store: Box<dyn KeyStore>, schema: SchemaRef, snapshot: i64) -> Self {
        Self { store, schema, snapshot, files: HashMap::new(), numbers: HashMap::new(), next: 0, moved: HashMap::new() }
    }

    fn number(&mut self, path: &str) -> u32 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let (number, path) = (self.next, Arc::from(path));
        self.next += 1;
        self.files.insert(number, Arc::clone(&path));
        self.numbers.insert(path, number);
        number
    }

    fn forget(&mut self, number: u32) {
        self.moved.remove(&number);
        if let Some(path) = self.files.remove(&number) {
            self.numbers.remove(&path);
        }
    }

    /// Where a row is now.
    fn follow(&self, mut place: Place) -> Result<Place> {
        while let Some(moved) = self.moved.get(&place.file) {
            let row = moved.input.place(u64::from(place.row));
            let (Some(to), Ok(row)) = (moved.to, u32::try_from(row)) else { return Err(inconsistent()) };
            place = Place { file: to, row };
        }
        Ok(place)
    }

    /// The live rows of keys.
    fn locate(&self, keys: &Keys) -> Result<Positions> {
        let mut found = Positions::new();
        for chunk in keys.sorted().chunks(CHUNK) {
            for value in self.store.get(chunk)?.into_iter().flatten() {
                let place = self.follow(value.into())?;
                let path = self.files.get(&place.file).ok_or_else(inconsistent)?;
                match found.get_mut(&**path) {
                    Some(rows) => drop(rows.insert(u64::from(place.row))),
                    None => drop(found.insert(path.to_string(), RoaringTreemap::from_iter([u64::from(place.row)]))),
                }
            }
        }
        Ok(found)
    }

    /// Notes the rows of a file whose keys have no row yet, but for those that are deleted. Whether that is so.
    fn add_new(&mut self, path: &str, deleted: Option<&RoaringTreemap>, stop: &AtomicBool) -> Result<bool> {
        let mut unique = true;
        self.add_file(path, deleted, stop, |store, keys| {
            unique &= keys.is_sorted_by(|a, b| a < b) && store.get(keys)?.iter().all(Option::is_none);
            Ok(())
        })?;
        Ok(unique)
    }

    /// Notes the rows of a file but for those that are deleted. `before` is given their keys, some at a time and sorted.
    fn add_file(
        &mut self,
        path: &str,
        deleted: Option<&RoaringTreemap>,
        stop: &AtomicBool,
        mut before: impl FnMut(&dyn KeyStore, &[&[u8]]) -> Result<()>,
    ) -> Result<()> {
        let file = self.number(path);
        let store = &*self.store;
        each_key(path, &self.schema, stop, &mut |first, rows| {
            let live = |(_, row): &(&[u8], u32)| !deleted.is_some_and(|deleted| deleted.contains(u64::from(*row)));
            let mut places: Vec<(&[u8], u32)> = rows.iter().copied().zip(first..).filter(live).collect();
            places.sort_unstable();
            let keys: Vec<&[u8]> = places.iter().map(|(key, _)| *key).collect();
            before(store, &keys)?;
            store.set(&mut places.into_iter().map(|(key, row)| (key, Some(Place { file, row }.into()))))
        })
    }

    /// Takes in a commit.
    fn apply(&mut self, step: Step, stop: &AtomicBool) -> Result<()> {
        match step {
            Step::Same => {}
            Step::Changed { mut keys, data, gone } => {
                for path in &data {
                    self.add_file(path, None, stop, |_, rows| {
                        rows.iter().for_each(|key| keys.remove(key));
                        Ok(())
                    })?;
                }
                // What is left has no row any more.
                for chunk in keys.sorted().chunks(CHUNK) {
                    self.store.set(&mut chunk.iter().map(|key| (*key, None)))?;
                }
                let gone: Vec<u32> = gone.iter().filter_map(|path| self.numbers.get(path.as_str()).copied()).collect();
                gone.into_iter().for_each(|number| self.forget(number));
            }
            Step::Rewritten => return Err(inconsistent()),
        }
        Ok(())
    }
}

fn inconsistent() -> Error {
    Error::internal("the key index does not fit the table")
}

/// Is given the position of the first row and the keys of some rows.
type EachKey<'a> = dyn FnMut(u32, &[&[u8]]) -> Result<()> + 'a;

/// Calls `each` with the position of the first row and the keys of some rows, until all of a file were there.
fn each_key(path: &str, schema: &SchemaRef, stop: &AtomicBool, each: &mut EachKey<'_>) -> Result<()> {
    let converter: RowConverter = Keys::converter(schema)?;
    let mut first = 0;
    for batch in RowReader::open(path, schema, None)? {
        if stop.load(SeqCst) {
            return Err(Error::internal("stopped"));
        }
        let rows = converter.convert_columns(batch?.columns())?;
        let keys: Vec<&[u8]> = rows.iter().map(|row| row.data()).collect();
        each(first, &keys)?;
        first = u32::try_from(keys.len()).ok().and_then(|count| first.checked_add(count)).ok_or_else(inconsistent)?;
    }
    Ok(())
}

impl KeyIndexes {
    /// The same, with a way to open stores: without one there are no indexes.
    pub(super) fn opened_by(open: Arc<OpenKeyStore>) -> Self {
        Self { open: Some(open), tables: Arc::default() }
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<Uuid, State>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live rows of keys in a table as it is at `base`; none if that is not known, which is noted.
    pub(super) fn locate(&self, base: &Table, keys: &Keys) -> Option<Positions> {
        self.open.as_ref()?;
        let (mut tables, now) = (self.tables(), base.metadata().current_snapshot_id());
        match tables.entry(base.uuid()).or_insert_with(|| State::Wanted(keys.schema().clone())) {
            State::Ready(index) if Some(index.snapshot) == now && index.schema == *keys.schema() => {
                if let Ok(found) = index.locate(keys) {
                    return Some(found);
                }
            }
            State::Unfit { snapshot } if Some(*snapshot) == now => return None,
            State::Ready(_) | State::Unfit { .. } => {}
            State::Wanted(_) | State::Building { .. } => return None,
        }
        tables.insert(base.uuid(), State::Wanted(keys.schema().clone()));
        None
    }

    /// Takes in that a commit took a table from one snapshot to another. What cannot be followed is forgotten.
    pub(super) fn follow(&self, base: &Table, next: i64, step: Step, primary_key: &[String]) {
        let mut tables = self.tables();
        let Some(state) = tables.get_mut(&base.uuid()) else { return };
        let before = base.metadata().current_snapshot_id();
        // Without a key there is nothing to follow but the snapshot.
        let is_same = matches!(step, Step::Same);
        let is_of = |schema: &SchemaRef| is_same || schema_of(base, primary_key).is_ok_and(|now| now == *schema);
        let follows = match state {
            State::Wanted(_) => true,
            State::Unfit { snapshot } if Some(*snapshot) == before => {
                *snapshot = next;
                true
            }
            State::Building { schema, snapshot, steps } if Some(*snapshot) == before && steps.len() < MOST_STEPS => {
                *snapshot = next;
                !matches!(step, Step::Rewritten)
                    && is_of(schema)
                    && step.without_rows(schema).map(|step| steps.push(step)).is_ok()
            }
            State::Ready(index) if Some(index.snapshot) == before && is_of(&index.schema) => {
                index.snapshot = next;
                index.apply(step, &AtomicBool::new(false)).is_ok()
            }
            State::Building { .. } | State::Ready(_) | State::Unfit { .. } => false,
        };
        if !follows {
            tables.remove(&base.uuid());
        }
    }

    /// Takes in that files were merged: their rows are in another one from now on.
    pub(super) fn follow_merge(&self, base: &Table, next: i64, rewritten: &Rewritten) {
        let mut tables = self.tables();
        match tables.get_mut(&base.uuid()) {
            Some(State::Ready(index)) if Some(index.snapshot) == base.metadata().current_snapshot_id() => {
                let to = rewritten.output().map(|path| index.number(path));
                for input in rewritten.files() {
                    let number = index.number(&input.path);
                    match to {
                        Some(_) => drop(index.moved.insert(number, Moved { input: input.clone(), to })),
                        // No row was left: no key is of this file.
                        None => index.forget(number),
                    }
                }
                index.snapshot = next;
            }
            Some(State::Unfit { snapshot }) if Some(*snapshot) == base.metadata().current_snapshot_id() => *snapshot = next,
            Some(State::Wanted(_)) | None => {}
            Some(_) => drop(tables.remove(&base.uuid())),
        }
    }

    /// The key's columns in an index that is ready.
    fn schema(&self, table: Uuid) -> Option<SchemaRef> {
        match self.tables().get(&table) {
            Some(State::Ready(index)) => Some(index.schema.clone()),
            _ => None,
        }
    }

    /// Of which columns an index of this table would be of use.
    fn wanted(&self, table: Uuid) -> Option<SchemaRef> {
        match self.tables().get(&table) {
            Some(State::Wanted(schema)) => Some(schema.clone()),
            _ => None,
        }
    }

    /// Whether nothing has happened to a table that an index in the making could not follow.
    fn is_building(&self, table: Uuid) -> bool {
        matches!(self.tables().get(&table), Some(State::Building { .. }))
    }
}

fn schema_of(table: &Table, primary_key: &[String]) -> Result<SchemaRef> {
    key_schema(&schema::to_arrow(table.metadata().current_schema())?, primary_key)
}

impl Catalog {
    /// The same catalog, with stores in which it may keep where the rows of keys are.
    pub fn with_key_stores(mut self, open: Arc<OpenKeyStore>) -> Self {
        self.indexes = KeyIndexes::opened_by(open);
        self
    }

    /// Builds the key index of a table if a commit had use for one: reads the key columns of all its files. Commits go on
    /// meanwhile; if one comes that cannot be followed, the work was for nothing. Whether there is a new index.
    ///
    /// # Errors
    /// Those of reading the table and of the store: then there is no index, and commits are as slow as before.
    pub fn build_key_index(&self, name: &TableName, uuid: Uuid, stop: &AtomicBool) -> Result<bool> {
        let Some((open, schema)) = self.indexes.open.clone().zip(self.indexes.wanted(uuid)) else { return Ok(false) };
        let built = self.read_keys(name, uuid, &open, &schema, stop);
        let built = built.and_then(|index| index.map_or(Ok(false), |index| self.catch_up(uuid, index, stop)));
        // Whoever has overtaken it has said what is to become of it.
        let was_overtaken = !self.indexes.is_building(uuid);
        if !was_overtaken {
            self.indexes.tables().remove(&uuid);
        }
        if was_overtaken && built.is_err() { Ok(false) } else { built }
    }

    /// Takes in what was committed while an index was built, until there is nothing more.
    fn catch_up(&self, uuid: Uuid, mut index: KeyIndex, stop: &AtomicBool) -> Result<bool> {
        loop {
            let steps = {
                let mut tables = self.indexes.tables();
                let Some(State::Building { snapshot, steps, .. }) = tables.get_mut(&uuid) else { return Ok(false) };
                index.snapshot = *snapshot;
                let steps = std::mem::take(steps);
                if steps.is_empty() {
                    tables.insert(uuid, State::Ready(index));
                    return Ok(true);
                }
                steps
            };
            steps.into_iter().try_for_each(|step| index.apply(step, stop))?;
        }
    }

    /// The index of a table as it is now; none if it is gone, or unfit for one.
    fn read_keys(
        &self,
        name: &TableName,
        uuid: Uuid,
        open: &Arc<OpenKeyStore>,
        schema: &SchemaRef,
        stop: &AtomicBool,
    ) -> Result<Option<KeyIndex>> {
        let (base, snapshot) = {
            // No commit comes between the look at the table and the note that its commits are to be followed.
            let _turn = self.turn();
            let Some(base) = self.load(name)?.filter(|table| table.uuid() == uuid) else { return Ok(None) };
            let Some(snapshot) = base.metadata().current_snapshot_id() else { return Ok(None) };
            let building = State::Building { schema: schema.clone(), snapshot, steps: Vec::new() };
            self.indexes.tables().insert(uuid, building);
            (base, snapshot)
        };
        let mut index = KeyIndex::new(open(uuid)?, schema.clone(), snapshot);
        let live = Live::load(self.manifests(), &manifests(base.metadata().current_snapshot().map(AsRef::as_ref))?)?;
        let positions = live.positions()?;
        for entry in &live.data {
            let path = entry.file.file_path();
            if !self.indexes.is_building(uuid) {
                return Ok(None);
            }
            if !index.add_new(path, positions.get(path), stop)? {
                let mut tables = self.indexes.tables();
                if let Some(State::Building { snapshot, .. }) = tables.get(&uuid) {
                    let snapshot = *snapshot;
                    tables.insert(uuid, State::Unfit { snapshot });
                }
                return Ok(None);
            }
        }
        Ok(Some(index))
    }

    /// Lets the keys of merged rows point at the file that these are in now, so that it need not be remembered from where
    /// they came.
    pub(super) fn repoint(&self, table: &Table, rewritten: &Rewritten, stop: &AtomicBool) {
        if self.try_to_repoint(table, rewritten, stop).is_err() {
            self.indexes.tables().remove(&table.uuid());
        }
    }

    fn try_to_repoint(&self, table: &Table, rewritten: &Rewritten, stop: &AtomicBool) -> Result<()> {
        let Some(path) = rewritten.output() else { return Ok(()) };
        let Some(schema) = self.indexes.schema(table.uuid()) else { return Ok(()) };
        each_key(path, &schema, stop, &mut |first, keys| {
            let mut sorted: Vec<(&[u8], u32)> = keys.iter().copied().zip(first..).collect();
            sorted.sort_unstable();
            let mut tables = self.indexes.tables();
            let Some(State::Ready(index)) = tables.get_mut(&table.uuid()) else { return Ok(()) };
            let Some(file) = index.numbers.get(path).copied() else { return Ok(()) };
            let keys: Vec<&[u8]> = sorted.iter().map(|(key, _)| *key).collect();
            let mut changes = Vec::new();
            for ((key, row), value) in sorted.iter().zip(index.store.get(&keys)?) {
                let (here, Some(place)) = (Place { file, row: *row }, value.map(Place::from)) else { continue };
                // A key that has a newer row meanwhile is left alone.
                if place != here && index.follow(place)? == here {
                    changes.push((*key, Some(here.into())));
                }
            }
            index.store.set(&mut changes.into_iter())
        })?;
        if let Some(State::Ready(index)) = self.indexes.tables().get_mut(&table.uuid()) {
            let numbers: Vec<u32> =
                rewritten.files().iter().filter_map(|input| index.numbers.get(&*input.path).copied()).collect();
            numbers.into_iter().for_each(|number| index.forget(number));
        }
        Ok(())
    }
}
