//! The model: a store in memory. Tests compare the real one with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use super::{Changes, Found, Keys, StateStore, StoreSize, Visit};
use crate::error::{Error, Result};

type Families = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// A store in memory. Its checkpoints are JSON files; families come into being when they are written.
#[derive(Debug, Default)]
pub struct MemoryStore {
    families: Mutex<Families>,
}

impl MemoryStore {
    /// Opens a checkpoint.
    pub fn restore(directory: &Path) -> Result<Self> {
        let path = directory.join("state.json");
        let text = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let flat: Vec<(String, Vec<u8>, Vec<u8>)> =
            serde_json::from_slice(&text).map_err(|e| Error::corruption("state", e.to_string()))?;
        let mut families = Families::new();
        for (family, key, value) in flat {
            families.entry(family).or_default().insert(key, value);
        }
        Ok(Self { families: Mutex::new(families) })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Families) -> T) -> T {
        f(&mut self.families.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl StateStore for MemoryStore {
    fn multi_get(&self, family: &str, keys: &Keys, found: &mut Found<'_>) -> Result<()> {
        self.with(|families| {
            let family = families.get(family);
            let value = |key: &[u8]| family.and_then(|family| family.get(key)).map(Vec::as_slice);
            keys.iter().enumerate().try_for_each(|(index, key)| found(index, value(key)))
        })
    }

    fn write(&self, family: &str, changes: &Changes) -> Result<()> {
        self.with(|families| {
            let family = families.entry(family.to_owned()).or_default();
            for (key, value) in changes.sorted() {
                match value {
                    Some(value) => family.insert(key.to_vec(), value.to_vec()),
                    None => family.remove(key),
                };
            }
        });
        Ok(())
    }

    fn delete_ranges(&self, family: &str, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        self.with(|families| {
            if let Some(family) = families.get_mut(family) {
                family.retain(|key, _| !ranges.iter().any(|(from, to)| from <= key && key < to));
            }
        });
        Ok(())
    }

    fn scan(&self, family: &str, visit: &mut Visit<'_>) -> Result<()> {
        self.with(|families| families.get(family).into_iter().flatten().try_for_each(|(k, v)| visit(k, v)))
    }

    fn checkpoint(&self, directory: &Path) -> Result<u32> {
        std::fs::create_dir(directory).map_err(|e| Error::io("create", directory, e))?;
        let flat: Vec<(String, Vec<u8>, Vec<u8>)> = self.with(|families| {
            let rows = |(name, family): (&String, &BTreeMap<Vec<u8>, Vec<u8>>)| {
                family.iter().map(|(k, v)| (name.clone(), k.clone(), v.clone())).collect::<Vec<_>>()
            };
            families.iter().flat_map(rows).collect()
        });
        let text = serde_json::to_vec(&flat).map_err(|e| Error::internal(e.to_string()))?;
        let path = directory.join("state.json");
        let write = || {
            std::fs::write(&path, text)?;
            std::fs::File::open(&path)?.sync_all()?;
            std::fs::File::open(directory)?.sync_all()
        };
        write().map(|()| 0).map_err(|e| Error::io("write", &path, e))
    }

    fn size(&self) -> StoreSize {
        let bytes = self.with(|f| f.values().flatten().map(|(k, v)| (k.len() + v.len()) as u64).sum());
        StoreSize { disk: 0, memory: bytes }
    }
}
