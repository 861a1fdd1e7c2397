//! Keyed state: what operators remember between records, in a store that can be checkpointed.
//!
//! A state key is `key group (u16, big endian) ∥ namespace length (u8) ∥ namespace ∥ key`; each operator has a column
//! family of its own. The namespace is empty, or the slice of time that the key belongs to (i64, big endian, sign bit
//! flipped): slices that are over lie together, and go together. The side of a join will go there too.

pub mod encoding;
pub mod memory;
pub mod rocksdb;
#[cfg(test)]
mod suite;

use std::path::Path;

use crate::error::Result;
use crate::message::KeyGroup;

/// One change: a key, and its new value or none.
pub type Write = (Vec<u8>, Option<Vec<u8>>);

/// Is given each key and its value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// A store of keys and values in named families. An implementor guarantees that a write is visible to every read that
/// begins after it returned, and that a checkpoint holds exactly the writes that returned before it began.
pub trait StateStore: Send + Sync {
    /// The values of keys, in the order of the keys. Keys that are sorted are found the fastest.
    fn multi_get(&self, family: &str, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Applies changes to one family. They need not be sorted; a key comes once.
    fn write(&self, family: &str, changes: Vec<Write>) -> Result<()>;

    /// Removes every key from the first of each pair on up to, and without, the second.
    fn delete_ranges(&self, family: &str, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Calls `visit` with every key and value of a family, in key order.
    fn scan(&self, family: &str, visit: &mut Visit<'_>) -> Result<()>;

    /// Makes a checkpoint in a directory that does not exist yet. What is in it is durable then; that the directory exists
    /// is so once its parent is synced.
    fn checkpoint(&self, directory: &Path) -> Result<()>;

    /// About how many bytes the store holds on disk and in memory.
    fn size(&self) -> StoreSize;
}

/// How much a store holds, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// In files.
    pub disk: u64,
    /// In write buffers and the block cache.
    pub memory: u64,
}

/// What stands in a state key between its key group and the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespace {
    /// Nothing.
    #[default]
    Empty,
    /// A slice of time.
    Slice(i64),
}

/// Begins a state key; the caller appends the key itself.
pub fn state_key(group: KeyGroup, namespace: Namespace, capacity: usize) -> Vec<u8> {
    let mut key = Vec::with_capacity(11 + capacity);
    key.extend_from_slice(&group.0.to_be_bytes());
    match namespace {
        Namespace::Empty => key.push(0),
        Namespace::Slice(slice) => {
            key.push(8);
            key.extend_from_slice(&(slice as u64 ^ 1 << 63).to_be_bytes());
        }
    }
    key
}
