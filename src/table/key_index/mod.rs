//! Where each key's live row is: a cache that spares a commit of few keys into a large table from reading the key columns of
//! all its files. It is never truth. It is stamped with the snapshot that it describes, and answers only for that one; else the
//! columns are read, and the next commit that has use for an index builds it from them: that takes about twice as long as to
//! look for keys in them.

mod parts;
mod places;
mod repoint;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::places::{KeyIndex, inconsistent};
use super::catalog::{Catalog, Table};
use super::deletes::Positions;
use super::live::Live;
use super::maintenance::Rewritten;
use super::schema;
use super::upsert::{Keys, key_schema};
use crate::error::{Error, ErrorKind, Result};

/// When an index is worth having.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexPolicy {
    /// For tables of so many rows.
    pub rows: u64,
    /// For commits of fewer keys than one in so many rows.
    pub rows_a_key: u64,
    /// Rows that were merged are noted anew where so few of those that were noted together are left.
    pub few: u64,
}

impl Default for IndexPolicy {
    fn default() -> Self {
        Self { rows: 1 << 20, rows_a_key: 16, few: 16 << 10 }
    }
}

impl IndexPolicy {
    pub(super) fn suits(&self, rows: u64, keys: u64) -> bool {
        rows >= self.rows && keys.saturating_mul(self.rows_a_key) < rows
    }
}

/// A store of keys, supplied by who opens the catalog. What it holds need not outlive it.
pub trait KeyStore: Send + Sync {
    /// Adds keys with their first values, in any order. What was set hides them.
    fn load(&self, rows: &mut dyn Iterator<Item = (&[u8], u64)>) -> Result<()>;

    /// Ends the loading. Whether each key came once: else the store is of no use.
    fn loaded(&self) -> Result<bool>;

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
    /// A commit had use for one, and did without: it may have been the only one. The next builds it.
    Wanted,
    Ready(KeyIndex),
    /// Some key has two rows, as other writers may make them: one place for each key is not enough. So it stays until another
    /// writer commits again.
    Unfit {
        snapshot: i64,
    },
    /// It did not work. So it stays until somebody has asked why.
    Failed(Error),
}

/// What a commit did to the keys of a table.
pub(super) enum Step {
    /// Nothing.
    Same,
    /// The rows of these keys went away, and those of these data files came.
    Changed {
        keys: Keys,
        /// With how many rows they have.
        data: Vec<(String, u64)>,
        /// Data files of which no row was left.
        gone: Vec<String>,
    },
    /// More than is worth following.
    Rewritten,
}

impl KeyIndexes {
    /// The same, with a way to open stores: without one there are no indexes.
    pub(super) fn opened_by(open: Arc<OpenKeyStore>) -> Self {
        Self { open: Some(open), tables: Arc::default() }
    }

    fn tables(&self) -> MutexGuard<'_, HashMap<Uuid, State>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live rows of keys in a table that is at `base` and holds `live`; none if that is not known.
    pub(super) fn locate(&self, base: &Table, live: &Live, keys: &Keys) -> Option<Positions> {
        let (open, now) = self.open.as_ref().zip(base.metadata().current_snapshot_id())?;
        let mut tables = self.tables();
        let state = match tables.remove(&base.uuid()) {
            Some(State::Wanted) => build(open, base, now, live, keys.schema()),
            Some(State::Ready(index)) if index.snapshot != now || index.schema != *keys.schema() => State::Wanted,
            Some(State::Unfit { snapshot }) if snapshot != now => State::Wanted,
            known => known.unwrap_or(State::Wanted),
        };
        let (state, found) = match state {
            State::Ready(index) => match index.locate(keys) {
                Ok(found) if live.has_all(&found) => (State::Ready(index), Some(found)),
                Ok(_) => (failed(base, &inconsistent()), None),
                Err(error) => (failed(base, &error), None),
            },
            other => (other, None),
        };
        tables.insert(base.uuid(), state);
        found
    }

    /// Takes in that a commit took a table from one snapshot to another. What cannot be followed is forgotten.
    pub(super) fn follow(&self, base: &Table, next: i64, step: Step, primary_key: &[String]) {
        // Without a key there is nothing to follow but the snapshot.
        let is_same = matches!(step, Step::Same);
        let is_of = |schema: &SchemaRef| is_same || schema_of(base, primary_key).is_ok_and(|now| now == *schema);
        self.go_on(base, next, |index| match step {
            Step::Rewritten => Ok(false),
            step => Ok(is_of(&index.schema) && index.apply(step).map(|()| true)?),
        });
    }

    /// Takes in that files were merged: their rows are in another one from now on.
    pub(super) fn follow_merge(&self, base: &Table, next: i64, rewritten: &Rewritten) {
        self.go_on(base, next, |index| index.parts.merge(rewritten).map(|()| true));
    }

    /// Takes an index from a snapshot to the next, unless it was of another one or `follow` says that it cannot.
    fn go_on(&self, base: &Table, next: i64, follow: impl FnOnce(&mut KeyIndex) -> Result<bool>) {
        let (mut tables, before) = (self.tables(), base.metadata().current_snapshot_id());
        let state = match tables.remove(&base.uuid()) {
            Some(State::Ready(mut index)) if Some(index.snapshot) == before => {
                index.snapshot = next;
                match follow(&mut index) {
                    Ok(true) => State::Ready(index),
                    Ok(false) => return,
                    Err(error) => failed(base, &error),
                }
            }
            Some(State::Unfit { snapshot }) if Some(snapshot) == before => State::Unfit { snapshot: next },
            Some(State::Ready(_) | State::Unfit { .. }) | None => return,
            Some(other) => other,
        };
        tables.insert(base.uuid(), state);
    }
}

fn build(open: &Arc<OpenKeyStore>, base: &Table, now: i64, live: &Live, schema: &SchemaRef) -> State {
    let built = open(base.uuid()).and_then(|store| KeyIndex::build(store, schema, now, live));
    match built {
        Ok(Some(index)) => State::Ready(index),
        Ok(None) => State::Unfit { snapshot: now },
        Err(error) => failed(base, &error),
    }
}

fn failed(base: &Table, why: &Error) -> State {
    // What else there is to do is about a job that ends, which this one does not.
    let said = if why.kind() == ErrorKind::Internal { why.to_string() } else { why.message().to_owned() };
    let error = Error::new(
        ErrorKind::Unavailable,
        "key_index",
        format!("the index of the keys of table {} failed: {said}", base.name()),
    );
    State::Failed(error.hint("commits take longer until it is built again; the table is right").source(why.clone()))
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

    /// Why a table has no index of its keys, if that did not work. Once this is told, it is tried again.
    pub fn key_index_failure(&self, table: Uuid) -> Option<Error> {
        let mut tables = self.indexes.tables();
        match tables.get(&table) {
            Some(State::Failed(error)) => {
                let error = error.clone();
                tables.remove(&table);
                Some(error)
            }
            _ => None,
        }
    }
}
