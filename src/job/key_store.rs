//! Where the rows of a table's keys are: those that it had at first in a file, what changed since in a RocksDB.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::checkpoint::store::remove_directory;
use crate::error::{Error, Result};
use crate::job::key_file::{KeyFile, KeyFileWriter};
use crate::state::rocksdb::RocksStore;
use crate::state::{Changes, Keys, StateStore};
use crate::table::{KeyStore, OpenKeyStore};
use crate::time;

const FAMILY: &str = "rows";

struct DiskKeys {
    loading: Mutex<Option<KeyFileWriter>>,
    loaded: OnceLock<KeyFile>,
    /// Of keys that have no row any more, the value is empty.
    changed: RocksStore,
    /// Nobody knows which keys would have the same hash, of 128 bits.
    seed: u64,
}

/// Opens an empty store for each table in a directory; together they may use `memory` bytes if there are so many tables.
pub fn key_stores(directory: PathBuf, memory: usize, tables: usize) -> Arc<OpenKeyStore> {
    Arc::new(move |table| {
        let path = directory.join(table.to_string());
        remove_directory(&path)?;
        std::fs::create_dir_all(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Box::new(DiskKeys {
            loading: Mutex::new(Some(KeyFileWriter::new(&path)?)),
            loaded: OnceLock::new(),
            changed: RocksStore::open_for_lookups(&path, &[FAMILY.to_owned()], memory / tables.max(1))?,
            seed: time::new_uuid().as_u64_pair().1,
        }))
    })
}

impl DiskKeys {
    fn hash(&self, key: &[u8]) -> u128 {
        xxh3_128_with_seed(key, self.seed)
    }
}

impl KeyStore for DiskKeys {
    fn load(&self, rows: &mut dyn Iterator<Item = (&[u8], u64)>) -> Result<()> {
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = loading.as_mut().ok_or_else(|| Error::internal("the keys are loaded already"))?;
        for (key, place) in rows {
            writer.add(self.hash(key), place)?;
        }
        Ok(())
    }

    fn loaded(&self) -> Result<bool> {
        let writer = self.loading.lock().unwrap_or_else(PoisonError::into_inner).take();
        let file = writer.map_or(Ok(None), KeyFileWriter::finish)?;
        Ok(file.is_some_and(|file| self.loaded.set(file).is_ok()))
    }

    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>> {
        let (mut wanted, mut values, mut buffer) = (Keys::default(), Vec::with_capacity(keys.len()), Vec::new());
        keys.iter().for_each(|key| wanted.push(|out| out.extend_from_slice(key)));
        self.changed.multi_get(FAMILY, &wanted, &mut |index, value| {
            values.push(match (value, self.loaded.get()) {
                (Some([]), _) | (None, None) => None,
                (Some(value), _) => Some(decode(value)?),
                (None, Some(file)) => file.get(self.hash(wanted.get(index)), &mut buffer)?,
            });
            Ok(())
        })?;
        Ok(values)
    }

    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()> {
        let mut all = Changes::default();
        for (key, value) in changes {
            let value = value.map(u64::to_le_bytes);
            all.put(|out| out.extend_from_slice(key), |out| out.extend(value.iter().flatten()));
        }
        if all.is_empty() { Ok(()) } else { self.changed.write(FAMILY, &all) }
    }
}

fn decode(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| Error::corruption("key_index", "an entry of a key index is damaged"))?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_knows_what_was_loaded_and_what_was_set_and_begins_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = key_stores(directory.path().to_owned(), 1 << 20, 1);
        for _ in 0..2 {
            let store = open(uuid::Uuid::nil()).unwrap();
            let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
            assert_eq!(store.get(&keys).unwrap(), [None; 4]);
            store.load(&mut [(keys[1], 1), (keys[0], 2)].into_iter()).unwrap();
            store.load(&mut [(keys[2], 3)].into_iter()).unwrap();
            assert!(store.loaded().unwrap());
            assert_eq!(store.get(&keys).unwrap(), [Some(2), Some(1), Some(3), None]);
            store.set(&mut [(keys[1], Some(7 << 32 | 1)), (keys[0], Some(4)), (keys[3], Some(5))].into_iter()).unwrap();
            store.set(&mut [(keys[2], None), (keys[0], None)].into_iter()).unwrap();
            assert_eq!(store.get(&keys).unwrap(), [None, Some(7 << 32 | 1), None, Some(5)]);
        }
    }

    #[test]
    fn a_store_is_of_no_use_if_a_key_came_twice() {
        let directory = tempfile::tempdir().unwrap();
        let store = key_stores(directory.path().to_owned(), 1 << 20, 1)(uuid::Uuid::nil()).unwrap();
        store.load(&mut [(&b"a"[..], 1), (b"b", 1), (b"a", 2)].into_iter()).unwrap();
        assert!(!store.loaded().unwrap());
    }
}
