//! The places of a table's rows by their keys: in which file, and at which position there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use roaring::RoaringTreemap;

use super::{KeyStore, Step};
use crate::error::{Error, Result};
use crate::table::deletes::Positions;
use crate::table::maintenance::Input;
use crate::table::scan::RowReader;
use crate::table::upsert::Keys;

/// Rows whose keys are noted at a time.
const CHUNK: usize = 16 << 10;

/// An index of one table.
pub(super) struct KeyIndex {
    pub(super) store: Box<dyn KeyStore>,
    /// The key's columns: of others the same keys are other bytes.
    pub(super) schema: SchemaRef,
    pub(super) snapshot: i64,
    /// Data files by the numbers that the store knows them by, and the other way round.
    files: HashMap<u32, Arc<str>>,
    pub(super) numbers: HashMap<Arc<str>, u32>,
    next: u32,
    /// Files that were merged into another one, as long as keys may point at them.
    pub(super) moved: HashMap<u32, Moved>,
}

pub(super) struct Moved {
    pub(super) input: Input,
    pub(super) to: Option<u32>,
}

/// A row: the number of its file, and its position there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: u32,
    pub(super) row: u32,
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
    pub(super) fn new(store: Box<dyn KeyStore>, schema: SchemaRef, snapshot: i64) -> Self {
        Self { store, schema, snapshot, files: HashMap::new(), numbers: HashMap::new(), next: 0, moved: HashMap::new() }
    }

    pub(super) fn number(&mut self, path: &str) -> u32 {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let (number, path) = (self.next, Arc::from(path));
        self.next += 1;
        self.files.insert(number, Arc::clone(&path));
        self.numbers.insert(path, number);
        number
    }

    pub(super) fn forget(&mut self, number: u32) {
        self.moved.remove(&number);
        if let Some(path) = self.files.remove(&number) {
            self.numbers.remove(&path);
        }
    }

    /// Where a row is now.
    pub(super) fn follow(&self, mut place: Place) -> Result<Place> {
        while let Some(moved) = self.moved.get(&place.file) {
            let row = moved.input.place(u64::from(place.row));
            let (Some(to), Ok(row)) = (moved.to, u32::try_from(row)) else { return Err(inconsistent()) };
            place = Place { file: to, row };
        }
        Ok(place)
    }

    /// The live rows of keys.
    pub(super) fn locate(&self, keys: &Keys) -> Result<Positions> {
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

    /// Notes the rows of a file but for those that are deleted, and says how many. `before` is given their keys, some at a time.
    pub(super) fn add_file(
        &mut self,
        path: &str,
        deleted: Option<&RoaringTreemap>,
        stop: &AtomicBool,
        mut before: impl FnMut(&[(&[u8], u32)]),
    ) -> Result<u64> {
        let file = self.number(path);
        let (store, mut noted) = (&*self.store, 0);
        each_key(path, &self.schema, stop, &mut |first, rows| {
            let live = |(_, row): &(&[u8], u32)| !deleted.is_some_and(|deleted| deleted.contains(u64::from(*row)));
            let mut places: Vec<(&[u8], u32)> = rows.iter().copied().zip(first..).filter(live).collect();
            places.sort_unstable();
            before(&places);
            noted += places.len() as u64;
            store.set(&mut places.into_iter().map(|(key, row)| (key, Some(Place { file, row }.into()))))
        })?;
        Ok(noted)
    }

    /// Takes in a commit.
    pub(super) fn apply(&mut self, step: Step, stop: &AtomicBool) -> Result<()> {
        match step {
            Step::Same => {}
            Step::Changed { mut keys, data, gone } => {
                for path in &data {
                    self.add_file(path, None, stop, |rows| rows.iter().for_each(|(key, _)| keys.remove(key)))?;
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
pub(super) type EachKey<'a> = dyn FnMut(u32, &[&[u8]]) -> Result<()> + 'a;

/// Calls `each` with the position of the first row and the keys of some rows, until all of a file were there.
pub(super) fn each_key(path: &str, schema: &SchemaRef, stop: &AtomicBool, each: &mut EachKey<'_>) -> Result<()> {
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
