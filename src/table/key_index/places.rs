//! The places of a table's rows by their keys: in which file, and at which position there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use arrow::datatypes::SchemaRef;
use arrow::row::RowConverter;
use roaring::RoaringTreemap;

use super::{KeyStore, Step};
use crate::error::{Error, Result};
use crate::table::live::Positions;
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
    /// While it is built: the numbers of files that commits added since are not below this one.
    first_of_commits: Option<u32>,
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

/// Of a key that a commit took away while files were still to be read in which it may have a row.
const GONE: Place = Place { file: u32::MAX, row: 0 };

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
    /// An index that is to be built, of files that [`Self::add_new`] is given one after the other. Commits may be applied in
    /// between.
    pub(super) fn new<'a>(
        store: Box<dyn KeyStore>,
        schema: SchemaRef,
        snapshot: i64,
        files: impl Iterator<Item = &'a str>,
    ) -> Self {
        let (numbers, moved) = (HashMap::new(), HashMap::new());
        let mut index =
            Self { store, schema, snapshot, files: HashMap::new(), numbers, next: 0, first_of_commits: None, moved };
        for path in files {
            index.number(path);
        }
        index.first_of_commits = Some(index.next);
        index
    }

    /// All files were added.
    pub(super) fn complete(&mut self) {
        self.first_of_commits = None;
    }

    /// Whether a file may hold rows.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.numbers.contains_key(path)
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
            for place in self.store.get(chunk)?.into_iter().flatten().map(Place::from).filter(|place| *place != GONE) {
                let place = self.follow(place)?;
                let path = self.files.get(&place.file).ok_or_else(inconsistent)?;
                match found.get_mut(&**path) {
                    Some(rows) => drop(rows.insert(u64::from(place.row))),
                    None => drop(found.insert(path.to_string(), RoaringTreemap::from_iter([u64::from(place.row)]))),
                }
            }
        }
        Ok(found)
    }

    /// Notes the rows of a file, but for those that are deleted, and those whose keys a commit has changed since. Whether no key
    /// has two.
    pub(super) fn add_new(&mut self, path: &str, deleted: Option<&RoaringTreemap>, stop: &AtomicBool) -> Result<bool> {
        let (mut unique, first_of_commits) = (true, self.first_of_commits.unwrap_or(u32::MAX));
        self.add_file(path, deleted, stop, |store, places| {
            let keys: Vec<&[u8]> = places.iter().map(|(key, _)| *key).collect();
            let known = store.get(&keys)?;
            let is_of_a_commit = |value: &u64| Place::from(*value).file >= first_of_commits;
            unique &= keys.is_sorted_by(|a, b| a < b) && known.iter().flatten().all(is_of_a_commit);
            let mut known = known.into_iter();
            places.retain(|_| known.next().flatten().is_none());
            Ok(())
        })?;
        Ok(unique)
    }

    /// Notes the rows of a file but for those that are deleted. `before` is given their keys, some at a time and sorted, and may
    /// leave some out.
    fn add_file(
        &mut self,
        path: &str,
        deleted: Option<&RoaringTreemap>,
        stop: &AtomicBool,
        mut before: impl FnMut(&dyn KeyStore, &mut Vec<(&[u8], u32)>) -> Result<()>,
    ) -> Result<()> {
        let file = self.number(path);
        let store = &*self.store;
        each_key(path, &self.schema, stop, &mut |first, rows| {
            let live = |(_, row): &(&[u8], u32)| !deleted.is_some_and(|deleted| deleted.contains(u64::from(*row)));
            let mut places: Vec<(&[u8], u32)> = rows.iter().copied().zip(first..).filter(live).collect();
            places.sort_unstable();
            before(store, &mut places)?;
            store.set(&mut places.into_iter().map(|(key, row)| (key, Some(Place { file, row }.into()))))
        })
    }

    /// Takes in a commit.
    pub(super) fn apply(&mut self, step: Step, stop: &AtomicBool) -> Result<()> {
        match step {
            Step::Same => {}
            Step::Changed { mut keys, data, gone } => {
                for path in &data {
                    self.add_file(path, None, stop, |_, places| {
                        places.iter().for_each(|(key, _)| keys.remove(key));
                        Ok(())
                    })?;
                }
                // What is left has no row any more. One in a file that is still to be read is none.
                let none = self.first_of_commits.map(|_| GONE.into());
                for chunk in keys.sorted().chunks(CHUNK) {
                    self.store.set(&mut chunk.iter().map(|key| (*key, none)))?;
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
