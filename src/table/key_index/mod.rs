//! Where each key's live row is: a cache that spares a commit of few keys into a large table from reading the key columns of
//! all its files. It is never truth. It is stamped with the snapshot that it describes, and answers only for that one; else the
//! columns are read, and whoever looks after the tables builds it again from them.

mod build;
mod places;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::places::{KeyIndex, Moved, each_key};
use super::catalog::{Catalog, Table};
use super::live::Positions;
use super::maintenance::Rewritten;
use super::schema;
use super::upsert::{Keys, key_schema};
use crate::error::Result;

/// Commits that may come while an index that is built reads one file.
const MOST_STEPS: usize = if cfg!(test) { 8 } else { 1000 };

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
}
