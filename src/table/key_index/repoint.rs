//! Notes rows anew that a merge has put together, where little is left of what was noted before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use arrow::datatypes::SchemaRef;
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::parts::{Place, Worn};
use super::places::{KeyIndex, each_key};
use super::{KeyIndexes, KeyStore, State, failed};
use crate::error::{Error, Result};
use crate::message::order;
use crate::table::catalog::{Catalog, Table};
use crate::table::maintenance::Rewritten;

/// Rows that are noted at a time: commits wait for so many.
const CHUNK: usize = 2048;

/// What is noted anew, and where.
struct Work<'a> {
    table: Uuid,
    path: &'a str,
    /// Rows of the file.
    rows: u64,
    store: Arc<dyn KeyStore>,
    schema: SchemaRef,
}

impl Catalog {
    /// Notes rows anew after a merge, beside the commits.
    pub(in crate::table) fn repoint(&self, table: &Table, rewritten: &Rewritten, stop: &AtomicBool) {
        let Some(path) = rewritten.output() else { return };
        let few = self.settings.key_index.few;
        let look = |index: &mut KeyIndex| {
            let (store, schema) = (index.store.clone(), index.schema.clone());
            (index.parts.worn(path, few), Work { table: table.uuid(), path, rows: rewritten.rows(), store, schema })
        };
        let Some((runs, work)) = self.indexes.ready(table.uuid(), look) else { return };
        if let Err(error) = runs.iter().try_for_each(|run| self.indexes.repoint(&work, run, stop)) {
            self.indexes.tables().insert(table.uuid(), failed(table, &error));
        }
    }
}

impl KeyIndexes {
    /// Does something with an index.
    fn ready<T>(&self, table: Uuid, work: impl FnOnce(&mut KeyIndex) -> T) -> Option<T> {
        match self.tables().get_mut(&table) {
            Some(State::Ready(index)) => Some(work(index)),
            _ => None,
        }
    }

    /// The same, if it is still the one that the work began with.
    fn same<T>(&self, of: &Work<'_>, work: impl FnOnce(&mut KeyIndex) -> T) -> Option<T> {
        self.ready(of.table, |index| Arc::ptr_eq(&index.store, &of.store).then(|| work(index))).flatten()
    }

    fn repoint(&self, work: &Work<'_>, run: &Worn, stop: &AtomicBool) -> Result<()> {
        let Some(part) = self.same(work, |index| index.parts.add(work.path, run.first, run.rows)) else { return Ok(()) };
        let mut others = RoaringTreemap::new();
        others.insert_range(..run.first);
        others.insert_range(run.first + run.rows..work.rows);
        each_key(work.path, &work.schema, Some(&others), &mut |first, keys| {
            let mut rows: Vec<(&[u8], u32)> = keys.iter().copied().zip(first..).collect();
            order::sort_by_key(&mut rows, |(key, _)| *key);
            rows.chunks(CHUNK).try_for_each(|rows| {
                if stop.load(SeqCst) { Err(Error::internal("stopped")) } else { self.repoint_rows(work, run, part, rows) }
            })
        })?;
        self.same(work, |index| index.parts.forget(&run.parts));
        Ok(())
    }

    /// Notes some rows. They are looked up while commits go on, and again if one came meanwhile.
    fn repoint_rows(&self, work: &Work<'_>, run: &Worn, part: u32, rows: &[(&[u8], u32)]) -> Result<()> {
        let keys: Vec<&[u8]> = rows.iter().map(|(key, _)| *key).collect();
        loop {
            let Some(before) = self.same(work, |index| index.snapshot) else { return Ok(()) };
            let places = work.store.get(&keys)?;
            let noted = self.same(work, |index| {
                if index.snapshot != before {
                    return Ok(false);
                }
                let mut changes = Vec::with_capacity(rows.len());
                for ((key, row), place) in rows.iter().zip(places) {
                    // A key that has a newer row meanwhile is left alone.
                    let Some(place) = place.map(Place::from).filter(|place| run.parts.contains(&place.part)) else { continue };
                    if index.parts.find(place)? == (work.path, run.first + u64::from(*row)) {
                        changes.push((*key, Some(Place { part, row: *row }.into())));
                    }
                }
                index.store.set(&mut changes.into_iter())?;
                Ok::<_, Error>(true)
            });
            if noted.transpose()?.unwrap_or(true) {
                return Ok(());
            }
        }
    }
}
