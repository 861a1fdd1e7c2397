//! Where the rows of a table's keys are, in a RocksDB of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::checkpoint::store::remove_directory;
use crate::error::{Error, Result};
use crate::state::rocksdb::RocksStore;
use crate::state::{Changes, Keys, StateStore};
use crate::table::{KeyStore, OpenKeyStore};

const FAMILY: &str = "rows";

struct RocksKeys(RocksStore);

/// Opens an empty store for each table in a directory; together they may use `memory` bytes if there are so many tables.
pub fn key_stores(directory: PathBuf, memory: usize, tables: usize) -> Arc<OpenKeyStore> {
    Arc::new(move |table| {
        let path = directory.join(table.to_string());
        remove_directory(&path)?;
        std::fs::create_dir_all(&path).map_err(|error| Error::io("create", &path, error))?;
        let store = RocksStore::open_for_lookups(&path, &[FAMILY.to_owned()], memory / tables.max(1))?;
        Ok(Box::new(RocksKeys(store)))
    })
}

impl KeyStore for RocksKeys {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>> {
        let (mut wanted, mut values) = (Keys::default(), Vec::with_capacity(keys.len()));
        keys.iter().for_each(|key| wanted.push(|out| out.extend_from_slice(key)));
        self.0.multi_get(FAMILY, &wanted, &mut |_, value| {
            values.push(value.map(decode).transpose()?);
            Ok(())
        })?;
        Ok(values)
    }

    fn count(&self, stop: &AtomicBool) -> Result<u64> {
        let mut keys = 0;
        self.0.scan(FAMILY, &mut |_, _| {
            keys += 1;
            if stop.load(Relaxed) { Err(Error::internal("stopped")) } else { Ok(()) }
        })?;
        Ok(keys)
    }

    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()> {
        let mut all = Changes::default();
        for (key, value) in changes {
            match value {
                Some(value) => all.put(|out| out.extend_from_slice(key), |out| out.extend_from_slice(&value.to_le_bytes())),
                None => all.delete(|out| out.extend_from_slice(key)),
            }
        }
        if all.is_empty() { Ok(()) } else { self.0.write(FAMILY, &all) }
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
    fn a_store_knows_what_was_set_and_begins_empty() {
        let directory = tempfile::tempdir().unwrap();
        let open = key_stores(directory.path().to_owned(), 1 << 20, 1);
        for _ in 0..2 {
            let store = open(uuid::Uuid::nil()).unwrap();
            let keys: [&[u8]; 2] = [b"a", b"b"];
            assert_eq!(store.get(&keys).unwrap(), [None, None]);
            store.set(&mut [(keys[1], Some(7 << 32 | 1)), (keys[0], Some(2))].into_iter()).unwrap();
            store.set(&mut [(keys[0], None)].into_iter()).unwrap();
            assert_eq!(store.get(&keys).unwrap(), [None, Some(7 << 32 | 1)]);
            assert_eq!(store.count(&AtomicBool::new(false)).unwrap(), 1);
        }
    }
}
