//! How operators read state that is not in memory: many keys at a time, in the order in which the store keeps them.
//!
//! A store that is larger than memory is read by blocks of many keys each. Keys that come in any order read a block for
//! each; enough keys in order read each block once. So what comes waits until there is enough of it.

use crate::error::Result;
use crate::message::KeyGroup;
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
pub fn key_order(keys: &[(KeyGroup, &[u8])]) -> Vec<u32> {
    // Compared are six bytes after those that all have in common, beside the key group in one number; the rest only if
    // these are equal.
    let shared = shared_prefix(keys);
    let lead = |(group, key): &(KeyGroup, &[u8])| {
        let mut lead = [0; 8];
        lead[..2].copy_from_slice(&group.0.to_be_bytes());
        let rest = &key[shared..];
        let length = rest.len().min(6);
        lead[2..2 + length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(lead)
    };
    let mut order: Vec<(u64, u32)> = keys.iter().map(lead).zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| keys[a.1 as usize].1.cmp(keys[b.1 as usize].1)));
    order.into_iter().map(|(_, index)| index).collect()
}

/// How many bytes all keys begin with.
fn shared_prefix(keys: &[(KeyGroup, &[u8])]) -> usize {
    let Some((_, first)) = keys.first() else { return 0 };
    let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    keys.iter().fold(first.len(), |shared, (_, key)| common(&first[..shared], key))
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
            let ordered: Vec<_> = key_order(&borrowed).into_iter().map(|index| borrowed[index as usize]).collect();
            let mut expected = borrowed.clone();
            expected.sort();
            prop_assert_eq!(ordered, expected);
        }
    }
}
