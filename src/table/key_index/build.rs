//! How an index is made: beside the commits, from the key columns of all files of a table.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::datatypes::SchemaRef;
use uuid::Uuid;

use super::places::{KeyIndex, Place, each_key};
use super::{OpenKeyStore, State, Step};
use crate::error::Result;
use crate::table::catalog::{Catalog, Table};
use crate::table::live::{Live, manifests};
use crate::table::maintenance::Rewritten;
use crate::table::name::TableName;

impl Catalog {
    /// Builds the key index of a table if a commit had use for one: reads the key columns of all its files. Commits go on
    /// meanwhile, and are taken in after each file, so that it does not matter how many come; if one comes that cannot be
    /// followed, the work was for nothing. Whether there is a new index.
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
        index.complete();
        loop {
            let steps = {
                let mut tables = self.indexes.tables();
                let Some(steps) = index.take_steps(tables.get_mut(&uuid)) else { return Ok(false) };
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
        let live = Live::load(self.manifests(), &manifests(base.metadata().current_snapshot().map(AsRef::as_ref))?)?;
        let positions = live.positions()?;
        let files = live.data.iter().map(|entry| entry.file.file_path());
        let mut index = KeyIndex::new(open(uuid)?, schema.clone(), snapshot, files.clone());
        for path in files {
            let steps = index.take_steps(self.indexes.tables().get_mut(&uuid));
            let Some(steps) = steps else { return Ok(None) };
            steps.into_iter().try_for_each(|step| index.apply(step, stop))?;
            if !index.knows(path) {
                continue;
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
    pub(in crate::table) fn repoint(&self, table: &Table, rewritten: &Rewritten, stop: &AtomicBool) {
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

impl KeyIndex {
    /// What was committed since it was last asked, where the index is still in the making.
    fn take_steps(&mut self, state: Option<&mut State>) -> Option<Vec<Step>> {
        let Some(State::Building { snapshot, steps, .. }) = state else { return None };
        self.snapshot = *snapshot;
        Some(std::mem::take(steps))
    }
}
