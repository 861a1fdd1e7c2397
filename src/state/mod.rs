//! Keyed state: what operators remember between records, in a store that can be checkpointed.
//!
//! A state key is `key group (u16, big endian) ∥ namespace length (u8) ∥ namespace ∥ key`; each operator has a column
//! family of its own. The namespace is empty, or the slice of time that the key belongs to (i64, big endian, sign bit
//! flipped): slices that are over lie together, and go together. The side of a join will go there too.

pub mod encoding;
mod entries;
pub mod memory;
pub mod rocksdb;
#[cfg(test)]
mod suite;

use std::path::Path;

pub use entries::{Changes, Keys};

use crate::error::Result;
use crate::message::KeyGroup;

/// Is given the position of each key and its value, in the order of the keys.
pub type Found<'a> = dyn FnMut(usize, Option<&[u8]>) -> Result<()> + 'a;

/// Is given each key and its value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// A store of keys and values in named families. An implementor guarantees that a write is visible to every read that
/// begins after it returned, and that a checkpoint holds exactly the writes that returned before it began.
pub trait StateStore: Send + Sync {
    /// Calls `found` with the value of each key. Keys that are sorted are found the fastest.
    fn multi_get(&self, family: &str, keys: &Keys, found: &mut Found<'_>) -> Result<()>;

    /// Applies changes to one family. Those that are sorted are applied the fastest.
    fn write(&self, family: &str, changes: &Changes) -> Result<()>;

    /// Removes every key from the first of each pair on up to, and without, the second.
    fn delete_ranges(&self, family: &str, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;

    /// Calls `visit` with every key and value of a family, in key order.
    fn scan(&self, family: &str, visit: &mut Visit<'_>) -> Result<()>;

    /// Makes a checkpoint in a directory that does not exist yet. What is in it is durable then; that the directory exists
    /// is so once its parent is synced. Gives the checksum of what the checkpoint lists its files in.
    fn checkpoint(&self, directory: &Path) -> Result<u32>;

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
pub fn begin_state_key(out: &mut Vec<u8>, group: KeyGroup, namespace: Namespace) {
    out.extend_from_slice(&group.0.to_be_bytes());
    match namespace {
        Namespace::Empty => out.push(0),
        Namespace::Slice(slice) => {
            out.push(8);
            out.extend_from_slice(&(slice as u64 ^ 1 << 63).to_be_bytes());
        }
    }
}

/// Where the keys of a key group and a namespace begin.
pub fn state_key(group: KeyGroup, namespace: Namespace) -> Vec<u8> {
    let mut key = Vec::new();
    begin_state_key(&mut key, group, namespace);
    key
}
