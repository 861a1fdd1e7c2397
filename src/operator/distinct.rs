//! Exact distinct counts, sharded by the value's hash and not by group: a group with few members of its own (today!)
//! must not land on one core.
//!
//! [`LocalDistinct`] runs where records are decoded and forwards each (group, value) the first time it meets it; it is a
//! filter, never truth, and may forget at any time. [`DistinctOwner`] keeps the presence of every value of its key
//! groups and tells the group's owner how many were new.
//!
//! State, in the operator's family, under the value's key group: `d ∥ value` → id (u32), ids from 0;
//! `n` → the next id; `p ∥ group key ∥ id / 65,536 (u16, big endian)` → a container of id % 65,536.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray};
use hashbrown::{HashMap, HashSet};

use super::container::Container;
use super::exchange::{DistinctBlock, TallyBlock, owner_of_hash};
use super::key_index::KeyIndex;
use crate::error::{Error, Result};
use crate::message::KeyGroup;
use crate::state::encoding::{key_group, key_hash};
use crate::state::{StateStore, Write, state_key};

/// Pairs in a block that is sent.
const BLOCK_PAIRS: usize = 8192;
/// Pairs and bytes that the local filter remembers.
const SEEN_LIMIT: usize = 2 << 20;
const VALUES_LIMIT: usize = 32 << 20;

/// Forwards each (group, value) once, as far as it remembers.
pub struct LocalDistinct {
    pipeline: usize,
    call: usize,
    counts_null: bool,
    values: KeyIndex,
    seen: HashSet<u64>,
    pending: Vec<(u32, u32)>,
}

/// The values of one column of a batch, encoded: row i is `bytes[ends[i-1]..ends[i]]`.
pub struct EncodedColumn<'a> {
    /// All values, one after the other.
    pub bytes: &'a [u8],
    /// Where each ends.
    pub ends: &'a [usize],
    /// The column, for its nulls.
    pub column: &'a dyn Array,
}

impl LocalDistinct {
    /// For aggregate `call` of a pipeline. `counts_null`: null is a value (`n_unique`).
    pub fn new(pipeline: usize, call: usize, counts_null: bool) -> Self {
        Self { pipeline, call, counts_null, values: KeyIndex::default(), seen: HashSet::new(), pending: Vec::new() }
    }

    /// Notes row i's value in group `slots[i]`, where the filter is true.
    pub fn update(&mut self, slots: &[u32], values: &EncodedColumn<'_>, filter: Option<&BooleanArray>) {
        let nulls = values.column.nulls();
        let mut start = 0;
        for (row, (&slot, &end)) in slots.iter().zip(values.ends).enumerate() {
            let value = &values.bytes[start..end];
            start = end;
            if filter.is_some_and(|f| f.is_null(row) || !f.value(row)) {
                continue;
            }
            if !self.counts_null && nulls.is_some_and(|n| n.is_null(row)) {
                continue;
            }
            let (id, _) = self.values.intern(key_hash(value), value);
            if self.seen.insert(u64::from(slot) << 32 | u64::from(id)) {
                self.pending.push((slot, id));
            }
        }
    }

    /// Whether enough is waiting to be worth sending, or the values that are held are large.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= BLOCK_PAIRS || self.values.memory() > VALUES_LIMIT
    }

    /// Sends what is waiting: `emit(worker, block)`. `groups` names the slots.
    pub fn flush(&mut self, groups: &KeyIndex, workers: usize, emit: &mut dyn FnMut(usize, DistinctBlock)) {
        let mut routes: Vec<Route> = (0..workers).map(|_| Route::new(self.pipeline, self.call)).collect();
        for (slot, id) in self.pending.drain(..) {
            let worker = owner_of_hash(self.values.hash(id), workers);
            routes[worker].push(slot, id, groups, &self.values);
            if routes[worker].block.pairs.len() >= BLOCK_PAIRS {
                let full = std::mem::replace(&mut routes[worker], Route::new(self.pipeline, self.call));
                emit(worker, full.block);
            }
        }
        for (worker, route) in routes.into_iter().enumerate().filter(|(_, route)| !route.block.pairs.is_empty()) {
            emit(worker, route.block);
        }
        if self.seen.len() > SEEN_LIMIT || self.values.memory() > VALUES_LIMIT {
            self.forget();
        }
    }

    /// Forgets what was seen: slots get new meanings, or memory is short. Nothing may be waiting.
    pub fn forget(&mut self) {
        debug_assert!(self.pending.is_empty());
        self.seen = HashSet::new();
        self.values.clear();
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.values.memory() + self.seen.capacity() * 9 + self.pending.capacity() * 8
    }
}

/// A block being made for one worker, with the numbers that groups and values have in it.
struct Route {
    block: DistinctBlock,
    groups: HashMap<u32, u32>,
    values: HashMap<u32, u32>,
}

impl Route {
    fn new(pipeline: usize, call: usize) -> Self {
        let block = DistinctBlock { pipeline, call, ..DistinctBlock::default() };
        Self { block, groups: HashMap::new(), values: HashMap::new() }
    }

    fn push(&mut self, slot: u32, id: u32, groups: &KeyIndex, values: &KeyIndex) {
        let group = *self.groups.entry(slot).or_insert_with(|| self.block.groups.push(groups.key(slot)));
        let value = *self.values.entry(id).or_insert_with(|| self.block.values.push(values.key(id)));
        self.block.pairs.push((group, value));
    }
}

/// Keeps which values were seen in which groups, for the key groups of values that one worker owns.
pub struct DistinctOwner {
    pipeline: usize,
    call: usize,
    family: String,
    store: Arc<dyn StateStore>,
    /// Cached values, and the stored id of each.
    values: KeyIndex,
    ids: Vec<u32>,
    /// Values of `values` that are not in the store yet.
    new_values: Vec<u32>,
    next_ids: HashMap<u16, u32>,
    groups: KeyIndex,
    containers: HashMap<u64, Entry>,
    dirty: Vec<u64>,
    container_memory: usize,
    tallies: Vec<i64>,
    tallied: Vec<u32>,
    /// Whether everything that was ever stored is in memory: then a miss is an absence, and nothing is read.
    complete: bool,
}

struct Entry {
    container: Container,
    dirty: bool,
}

fn container_key(group: u32, key_group: KeyGroup, id: u32) -> u64 {
    u64::from(group) << 32 | u64::from(key_group.0) << 16 | u64::from(id >> 16)
}

impl DistinctOwner {
    /// An owner over the family of aggregate `call` of a pipeline. `fresh`: the store holds nothing of it.
    pub fn new(pipeline: usize, call: usize, family: String, store: Arc<dyn StateStore>, fresh: bool) -> Self {
        Self {
            pipeline,
            call,
            family,
            store,
            values: KeyIndex::default(),
            ids: Vec::new(),
            new_values: Vec::new(),
            next_ids: HashMap::new(),
            groups: KeyIndex::default(),
            containers: HashMap::new(),
            dirty: Vec::new(),
            container_memory: 0,
            tallies: Vec::new(),
            tallied: Vec::new(),
            complete: fresh,
        }
    }

    /// Which aggregate of the pipeline.
    pub fn call(&self) -> usize {
        self.call
    }

    /// Takes in a block: each value that is new in its group is counted in the group's tally.
    pub fn process(&mut self, block: &DistinctBlock) -> Result<()> {
        let groups: Vec<u32> = (0..block.groups.len()).map(|i| self.group(block.groups.get(i))).collect();
        let values = self.resolve_values(block)?;
        let targets: Vec<(u64, u16)> = block
            .pairs
            .iter()
            .map(|&(group, value)| {
                let (key_group, id) = values[value as usize];
                (container_key(groups[group as usize], key_group, id), id as u16)
            })
            .collect();
        self.load_containers(&targets)?;
        for (&(key, bit), &(group, _)) in targets.iter().zip(&block.pairs) {
            let entry = self.containers.entry(key).or_insert_with(|| Entry { container: Container::default(), dirty: false });
            let before = entry.container.memory();
            if !entry.container.insert(bit) {
                continue;
            }
            self.container_memory = self.container_memory + entry.container.memory() - before;
            if !entry.dirty {
                entry.dirty = true;
                self.dirty.push(key);
            }
            let group = groups[group as usize];
            if self.tallies[group as usize] == 0 {
                self.tallied.push(group);
            }
            self.tallies[group as usize] += 1;
        }
        Ok(())
    }

    fn group(&mut self, key: &[u8]) -> u32 {
        let (id, new) = self.groups.intern(key_hash(key), key);
        if new {
            self.tallies.push(0);
        }
        id
    }

    /// The key group and stored id of each value of a block; new values get the next id of their key group.
    fn resolve_values(&mut self, block: &DistinctBlock) -> Result<Vec<(KeyGroup, u32)>> {
        let hashes: Vec<u64> = (0..block.values.len()).map(|i| key_hash(block.values.get(i))).collect();
        if !self.complete {
            self.load_values(block, &hashes)?;
        }
        let mut resolved = Vec::with_capacity(hashes.len());
        for (i, &hash) in hashes.iter().enumerate() {
            let group = key_group(hash);
            let (slot, new) = self.values.intern(hash, block.values.get(i));
            if new {
                let next = self.next_ids.entry(group.0).or_insert(0);
                self.ids.push(*next);
                *next = next.checked_add(1).ok_or_else(|| {
                    Error::data("too_many_values", "a distinct count met more than 4 billion values in one key group")
                })?;
                self.new_values.push(slot);
            }
            resolved.push((group, self.ids[slot as usize]));
        }
        Ok(resolved)
    }

    /// Caches the stored ids of a block's values, and the counters of their key groups.
    fn load_values(&mut self, block: &DistinctBlock, hashes: &[u64]) -> Result<()> {
        let missing: Vec<usize> =
            (0..hashes.len()).filter(|&i| self.values.find(hashes[i], block.values.get(i)).is_none()).collect();
        let keys: Vec<_> = missing.iter().map(|&i| value_key(key_group(hashes[i]), block.values.get(i))).collect();
        let stored = self.store.multi_get(&self.family, &keys)?;
        for (&i, id) in missing.iter().zip(stored) {
            if let Some(bytes) = id {
                let (_, new) = self.values.intern(hashes[i], block.values.get(i));
                debug_assert!(new);
                self.ids.push(decode_id(&bytes)?);
            }
        }
        let mut groups: Vec<u16> = missing.iter().map(|&i| key_group(hashes[i]).0).collect();
        groups.retain(|group| !self.next_ids.contains_key(group));
        groups.sort_unstable();
        groups.dedup();
        let keys: Vec<_> = groups.iter().map(|&group| counter_key(KeyGroup(group))).collect();
        for (group, next) in groups.iter().zip(self.store.multi_get(&self.family, &keys)?) {
            let next = next.map_or(Ok(0), |bytes| decode_id(&bytes))?;
            self.next_ids.insert(*group, next);
        }
        Ok(())
    }

    fn load_containers(&mut self, targets: &[(u64, u16)]) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let mut missing: Vec<u64> = targets.iter().map(|t| t.0).filter(|key| !self.containers.contains_key(key)).collect();
        missing.sort_unstable();
        missing.dedup();
        let keys: Vec<_> = missing.iter().map(|&key| self.stored_container_key(key)).collect();
        for (key, bytes) in missing.into_iter().zip(self.store.multi_get(&self.family, &keys)?) {
            if let Some(bytes) = bytes {
                let container = Container::decode(&bytes)?;
                self.container_memory += container.memory();
                self.containers.insert(key, Entry { container, dirty: false });
            }
        }
        Ok(())
    }

    fn stored_container_key(&self, key: u64) -> Vec<u8> {
        let group = self.groups.key((key >> 32) as u32);
        let mut out = state_key(KeyGroup((key >> 16) as u16), group.len() + 3);
        out.push(b'p');
        out.extend_from_slice(group);
        out.extend_from_slice(&(key as u16).to_be_bytes());
        out
    }

    /// Sends the tallies of what was new since the last call: `emit(worker, block)`.
    pub fn flush_tallies(&mut self, workers: usize, emit: &mut dyn FnMut(usize, TallyBlock)) {
        let new = || TallyBlock { pipeline: self.pipeline, call: self.call, ..TallyBlock::default() };
        let mut blocks: Vec<TallyBlock> = (0..workers).map(|_| new()).collect();
        for group in self.tallied.drain(..) {
            let block = &mut blocks[owner_of_hash(self.groups.hash(group), workers)];
            block.groups.push(self.groups.key(group));
            block.counts.push(std::mem::take(&mut self.tallies[group as usize]));
        }
        for (worker, block) in blocks.into_iter().enumerate().filter(|(_, block)| !block.counts.is_empty()) {
            emit(worker, block);
        }
    }

    /// Writes what changed to the store.
    pub fn flush_state(&mut self) -> Result<()> {
        let mut changes: Vec<Write> = Vec::with_capacity(self.new_values.len() + self.dirty.len());
        let mut counters: Vec<u16> = Vec::new();
        for slot in self.new_values.drain(..) {
            let group = key_group(self.values.hash(slot));
            counters.push(group.0);
            let id = self.ids[slot as usize].to_le_bytes().to_vec();
            changes.push((value_key(group, self.values.key(slot)), Some(id)));
        }
        counters.sort_unstable();
        counters.dedup();
        for group in counters {
            let next = self.next_ids.get(&group).copied().unwrap_or(0);
            changes.push((counter_key(KeyGroup(group)), Some(next.to_le_bytes().to_vec())));
        }
        for key in std::mem::take(&mut self.dirty) {
            let stored = self.stored_container_key(key);
            if let Some(entry) = self.containers.get_mut(&key) {
                entry.dirty = false;
                changes.push((stored, Some(entry.container.encode())));
            }
        }
        if changes.is_empty() { Ok(()) } else { self.store.write(&self.family, changes) }
    }

    /// Empties the cache. What changed must have been flushed, and tallies sent.
    pub fn evict(&mut self) {
        debug_assert!(self.dirty.is_empty() && self.new_values.is_empty() && self.tallied.is_empty());
        self.values.clear();
        self.ids.clear();
        self.next_ids.clear();
        self.groups.clear();
        self.tallies.clear();
        self.containers = HashMap::new();
        self.container_memory = 0;
        self.complete = false;
    }

    /// Entries that the next flush writes.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.new_values.len()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.values.memory()
            + self.ids.capacity() * 4
            + self.groups.memory()
            + self.container_memory
            + self.containers.capacity() * 48
    }
}

fn value_key(group: KeyGroup, value: &[u8]) -> Vec<u8> {
    let mut key = state_key(group, value.len() + 1);
    key.push(b'd');
    key.extend_from_slice(value);
    key
}

fn counter_key(group: KeyGroup) -> Vec<u8> {
    let mut key = state_key(group, 1);
    key.push(b'n');
    key
}

fn decode_id(bytes: &[u8]) -> Result<u32> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(id) => Ok(u32::from_le_bytes(id)),
        Err(_) => Err(Error::corruption("state", "the dictionary of a distinct count is damaged")),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn large_values_are_sent_before_there_are_many() {
        let mut local = LocalDistinct::new(0, 0, false);
        let mut groups = KeyIndex::default();
        let slot = groups.intern(1, b"g").0;
        let (mut sent, mut most) = (0, 0);
        for number in 0..100_u32 {
            let mut value = vec![0; 1 << 20];
            value[..4].copy_from_slice(&number.to_be_bytes());
            let column = StringArray::from(vec![""]);
            local.update(&[slot], &EncodedColumn { bytes: &value, ends: &[value.len()], column: &column }, None);
            most = most.max(local.memory());
            if local.is_full() {
                local.flush(&groups, 1, &mut |_, block| sent += block.pairs.len());
            }
        }
        local.flush(&groups, 1, &mut |_, block| sent += block.pairs.len());
        assert_eq!(sent, 100);
        assert!(most < 3 * VALUES_LIMIT, "{most}");
    }
}
