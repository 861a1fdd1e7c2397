//! How operators read state that is not in memory: many keys at a time, in the order in which the store keeps them.
//!
//! A store that is larger than memory is read by blocks of many keys each. Keys that come in any order read a block for
//! each; enough keys in order read each block once. So what comes waits until there is enough of it.

use crate::error::Result;
use crate::message::{KeyGroup, order};
use crate::state::{Keys, StateStore};

/// Keys that are read at a time.
const CHUNK: usize = 4096;

/// What an owner of state may hold, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// In its caches.
    pub cache: usize,
    /// Of it, in blocks for which the state has to be read, that are collected before it is.
    pub waiting: usize,
}

/// What an owner of state holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of memory, about.
    pub memory: usize,
    /// Entries that the next flush writes, containers apart.
    pub dirty: usize,
    /// Groups that changed in this epoch.
    pub changed: usize,
    /// Of the memory: bytes in containers.
    pub containers: usize,
    /// Containers that changed since they were written.
    pub dirty_containers: usize,
    /// Of the memory: bytes in filters of what was seen.
    pub seen: usize,
}

impl Held {
    /// Both.
    pub fn plus(self, other: Self) -> Self {
        self.each(other, usize::saturating_add)
    }

    /// Without another part.
    pub fn less(self, other: Self) -> Self {
        self.each(other, usize::saturating_sub)
    }

    fn each(self, other: Self, of: fn(usize, usize) -> usize) -> Self {
        Self {
            memory: of(self.memory, other.memory),
            dirty: of(self.dirty, other.dirty),
            changed: of(self.changed, other.changed),
            containers: of(self.containers, other.containers),
            dirty_containers: of(self.dirty_containers, other.dirty_containers),
            seen: of(self.seen, other.seen),
        }
    }
}

/// What has come and was not worked on yet.
pub struct Waiting<B> {
    blocks: Vec<B>,
    bytes: usize,
    limit: usize,
}

impl<B> Waiting<B> {
    /// Nothing yet; `limit` bytes are enough.
    pub fn new(limit: usize) -> Self {
        Self { blocks: Vec::new(), bytes: 0, limit }
    }

    /// Adds a block of so many bytes. Whether there is enough now.
    pub fn push(&mut self, block: B, bytes: usize) -> bool {
        self.blocks.push(block);
        self.bytes += bytes;
        self.bytes >= self.limit
    }

    /// All of it, in the order in which it came.
    pub fn take(&mut self) -> Vec<B> {
        self.bytes = 0;
        std::mem::take(&mut self.blocks)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.bytes
    }
}

/// Reads what is wanted, which must be in the order of its keys: `each(wanted, value)`, in that order.
pub fn read_in_order<T>(
    store: &dyn StateStore,
    family: &str,
    wanted: &[T],
    key: impl Fn(&T, &mut Vec<u8>),
    mut each: impl FnMut(&T, Option<&[u8]>) -> Result<()>,
) -> Result<()> {
    let mut keys = Keys::default();
    for chunk in wanted.chunks(CHUNK) {
        keys.clear();
        chunk.iter().for_each(|wanted| keys.push(|out| key(wanted, out)));
        store.multi_get(family, &keys, &mut |index, value| each(&chunk[index], value))?;
    }
    Ok(())
}

/// Positions of keys in the order in which the store keeps them: by key group, then by their bytes.
pub fn key_order(keys: &[(KeyGroup, &[u8])]) -> impl Iterator<Item = usize> {
    let shared = order::shared_prefix(keys.iter().map(|(_, key)| *key));
    let lead = move |(group, key): &(KeyGroup, &[u8])| {
        u64::from(group.0) << 48 | u64::from_be_bytes(order::lead::<8>(key, shared)) >> 16
    };
    order::by_lead(keys.iter().map(lead), |a, b| keys[a].1.cmp(keys[b].1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_in_the_order_of_the_store(
            prefix in "[a-z]{0,8}",
            keys in proptest::collection::vec((0..3u16, proptest::collection::vec(0..3u8, 0..10)), 0..60),
        ) {
            let keys: Vec<_> = keys.into_iter().map(|(group, key)| (group, [prefix.as_bytes(), &key].concat())).collect();
            let borrowed: Vec<_> = keys.iter().map(|(group, key)| (KeyGroup(*group), key.as_slice())).collect();
            let ordered: Vec<_> = key_order(&borrowed).map(|index| borrowed[index]).collect();
            let mut expected = borrowed.clone();
            expected.sort();
            prop_assert_eq!(ordered, expected);
        }
    }
}
