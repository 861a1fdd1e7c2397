//! The places of a table's rows by their keys.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use roaring::RoaringTreemap;

use super::parts::{Parts, Place};
use super::{KeyStore, Step};
use crate::error::{Error, Result};
use crate::message::order;
use crate::table::deletes::Positions;
use crate::table::live::Live;
use crate::table::scan::RowReader;
use crate::table::upsert::Keys;

/// Keys that are looked up or removed at a time.
const CHUNK: usize = 16 << 10;

/// An index of one table.
pub(super) struct KeyIndex {
    pub(super) store: Arc<dyn KeyStore>,
    /// The key's columns: of others the same keys are other bytes.
    pub(super) schema: SchemaRef,
    pub(super) snapshot: i64,
    pub(super) parts: Parts,
}

impl KeyIndex {
    /// Notes the rows of a table; none if some key has two.
    pub(super) fn build(store: Box<dyn KeyStore>, schema: &SchemaRef, snapshot: i64, live: &Live) -> Result<Option<Self>> {
        let mut index = Self { store: Arc::from(store), schema: schema.clone(), snapshot, parts: Parts::default() };
        let positions = live.positions()?;
        for entry in &live.data {
            let (path, rows) = (entry.file.file_path(), entry.file.record_count());
            let (part, deleted) = (index.parts.add(path, 0, rows), positions.get(path));
            each_key(path, schema, None, &mut |first, keys| {
                let rows = keys.iter().copied().zip(first..);
                let live = rows.filter(|(_, row)| !deleted.is_some_and(|deleted| deleted.contains(u64::from(*row))));
                index.store.load(&mut live.map(|(key, row)| (key, Place { part, row }.into())))
            })?;
        }
        Ok(index.store.loaded()?.then_some(index))
    }

    /// The live rows of keys.
    pub(super) fn locate(&self, keys: &Keys) -> Result<Positions> {
        let mut found = Positions::new();
        for chunk in keys.sorted().chunks(CHUNK) {
            for value in self.store.get(chunk)?.into_iter().flatten() {
                let (path, row) = self.parts.find(value.into())?;
                match found.get_mut(path) {
                    Some(rows) => drop(rows.insert(row)),
                    None => drop(found.insert(path.to_owned(), RoaringTreemap::from_iter([row]))),
                }
            }
        }
        Ok(found)
    }

    /// Takes in a commit.
    pub(super) fn apply(&mut self, step: Step) -> Result<()> {
        let Step::Changed { mut keys, data, gone } = step else { return Ok(()) };
        for (path, rows) in data {
            let part = self.parts.add(&path, 0, rows);
            each_key(&path, &self.schema, None, &mut |first, rows| {
                rows.iter().for_each(|key| keys.remove(key));
                let mut places: Vec<(&[u8], u32)> = rows.iter().copied().zip(first..).collect();
                order::sort_by_key(&mut places, |(key, _)| *key);
                self.store.set(&mut places.into_iter().map(|(key, row)| (key, Some(Place { part, row }.into()))))
            })?;
        }
        // What is left has no row any more.
        for chunk in keys.sorted().chunks(CHUNK) {
            self.store.set(&mut chunk.iter().map(|key| (*key, None)))?;
        }
        gone.iter().for_each(|path| self.parts.forget_file(path));
        Ok(())
    }
}

pub(super) fn inconsistent() -> Error {
    Error::internal("the key index does not fit the table")
}

/// Is given how many rows came before, and the keys of some more.
pub(super) type EachKey<'a> = dyn FnMut(u32, &[&[u8]]) -> Result<()> + 'a;

/// Calls `each` with the keys of a file, some rows at a time, those at the positions `without` left out.
pub(super) fn each_key(path: &str, schema: &SchemaRef, without: Option<&RoaringTreemap>, each: &mut EachKey<'_>) -> Result<()> {
    let converter: RowConverter = Keys::converter(schema)?;
    let mut first = 0;
    for batch in RowReader::open(path, schema, without)? {
        let rows = converter.convert_columns(batch?.columns())?;
        let keys: Vec<&[u8]> = rows.iter().map(|row| row.data()).collect();
        each(first, &keys)?;
        first = u32::try_from(keys.len()).ok().and_then(|count| first.checked_add(count)).ok_or_else(inconsistent)?;
    }
    Ok(())
}
