//! The owner of values: what was seen in which group.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::message::KeyGroup;
use crate::operator::container::Container;
use crate::operator::exchange::{DistinctBlock, TallyBlock, owner_of_hash};
use crate::operator::filter::SeenFilter;
use crate::operator::key_index::KeyIndex;
use crate::operator::lookup::{Held, Room, Waiting, key_order, read_in_order};
use crate::state::encoding::{key_group, key_hash};
use crate::state::{Changes, Keys, Namespace, StateStore, begin_state_key};

/// Containers that may be left for a barrier to write, by all owners of an operator.
pub const DIRTY_CONTAINERS: usize = 64 << 10;
/// Of so many values that are read one is cached.
const ADMIT: u32 = 4;
/// Containers that are read at a time: 8 MiB at most.
const SLICE: usize = if cfg!(test) { 2 } else { 1024 };

/// Keeps which values were seen in which groups, for the key groups of values that one worker owns.
pub struct DistinctOwner {
    pipeline: usize,
    call: usize,
    family: String,
    namespace: Namespace,
    store: Arc<dyn StateStore>,
    /// Cached values, and the stored id of each.
    values: KeyIndex,
    ids: Vec<u32>,
    /// Values of `values` that are not in the store yet.
    new_values: Vec<u32>,
    next_ids: HashMap<u16, u32>,
    /// How many values were read from the store, and found.
    read: u32,
    groups: KeyIndex,
    containers: HashMap<u64, Entry>,
    dirty: Vec<u64>,
    container_memory: usize,
    tallies: Vec<i64>,
    tallied: Vec<u32>,
    /// Blocks whose values may have to be read.
    waiting: Waiting<DistinctBlock>,
    /// All values, also those that are not in memory; none where the store held some before, or there are too many.
    seen: Option<SeenFilter>,
    room: Room,
    /// Whether everything that was ever stored is in memory: then a miss is an absence, and nothing is read.
    complete: bool,
}

/// A value that is not cached.
struct Wanted<'a> {
    group: KeyGroup,
    value: &'a [u8],
    hash: u64,
    /// Which value of the blocks it is.
    place: usize,
}

/// The cached part of the dictionary.
struct Dictionary<'a> {
    values: &'a mut KeyIndex,
    ids: &'a mut Vec<u32>,
    new_values: &'a mut Vec<u32>,
    seen: Option<&'a mut SeenFilter>,
    next_ids: &'a mut HashMap<u16, u32>,
    read: &'a mut u32,
}

impl Dictionary<'_> {
    /// Caches the stored id of one value in [`ADMIT`]: those that come often are soon among them, and those that do not cost
    /// less.
    fn note(&mut self, hash: u64, value: &[u8], id: u32) {
        *self.read = self.read.wrapping_add(1);
        if self.read.is_multiple_of(ADMIT) && self.values.intern(hash, value).1 {
            self.ids.push(id);
        }
    }

    /// The id of a value that is not stored: the next one of its key group, unless it came a moment before.
    fn add(&mut self, group: KeyGroup, hash: u64, value: &[u8]) -> Result<u32> {
        let (slot, new) = self.values.intern(hash, value);
        if new {
            let next = self.next_ids.entry(group.0).or_insert(0);
            self.ids.push(*next);
            *next = next.checked_add(1).ok_or_else(|| {
                Error::data("too_many_values", "a distinct count met more than 4 billion values in one key group")
            })?;
            self.new_values.push(slot);
            if let Some(seen) = &mut self.seen {
                seen.insert(hash);
            }
        }
        Ok(self.ids[slot as usize])
    }
}

/// Where a pair of a group and a value is noted.
struct Target {
    container: u64,
    bit: u16,
    /// With which of the containers that are missing it is noted: from 1 on, 0 if its own is there.
    slice: u32,
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
    pub fn new(pipeline: usize, call: usize, family: String, store: Arc<dyn StateStore>, fresh: bool, room: Room) -> Self {
        Self {
            pipeline,
            call,
            family,
            namespace: Namespace::Empty,
            store,
            values: KeyIndex::default(),
            ids: Vec::new(),
            new_values: Vec::new(),
            next_ids: HashMap::new(),
            read: 0,
            groups: KeyIndex::default(),
            containers: HashMap::new(),
            dirty: Vec::new(),
            container_memory: 0,
            tallies: Vec::new(),
            tallied: Vec::new(),
            waiting: Waiting::new(room.waiting),
            seen: None,
            room,
            complete: fresh,
        }
    }

    /// The same owner, of the values and groups in a part of the state: what it counts elsewhere is new here.
    pub fn within(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Which aggregate of the pipeline.
    pub fn call(&self) -> usize {
        self.call
    }

    /// Takes in a block: each value that is new in its group is counted in the group's tally, at once or when the tallies
    /// are sent.
    pub fn process(&mut self, block: DistinctBlock, may_write: bool, others: Held) -> Result<()> {
        let size = block.size();
        if self.waiting.push(block, size) || self.complete { self.settle(may_write, others) } else { Ok(()) }
    }

    /// Works on what waits. Unless it `may_write`, which is so from a barrier to the checkpoint of the store, it may hold more
    /// containers than it has room for. `others`: what is held beside it in the same room; where they fill it, this keeps none.
    pub fn settle(&mut self, may_write: bool, others: Held) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let blocks = self.waiting.take();
        let ids = self.resolve_values(&blocks)?;
        let mut targets = Vec::with_capacity(blocks.iter().map(|block| block.pairs.len()).sum());
        let mut first = 0;
        for block in &blocks {
            let groups: Vec<u32> = (0..block.groups.len()).map(|i| self.group(block.groups.get(i))).collect();
            let ids = &ids[first..first + block.values.len()];
            first += ids.len();
            targets.extend(block.pairs.iter().map(|&(group, value)| {
                let (key_group, id) = ids[value as usize];
                Target { container: container_key(groups[group as usize], key_group, id), bit: id as u16, slice: 0 }
            }));
        }
        if self.complete {
            self.count(&targets);
            return Ok(());
        }
        let missing = self.missing(&mut targets);
        for run in targets.chunk_by(|a, b| a.slice == b.slice) {
            if let Some(slice) = run[0].slice.checked_sub(1).and_then(|slice| missing.chunks(SLICE).nth(slice as usize)) {
                self.make_room(may_write, others)?;
                self.load_containers(slice)?;
            }
            self.count(run);
        }
        if others.containers > 0 { self.make_room(may_write, others) } else { Ok(()) }
    }

    fn make_room(&mut self, may_write: bool, others: Held) -> Result<()> {
        if may_write && self.container_memory + others.containers > self.room.cache {
            self.flush_containers()?;
            self.forget_containers();
        }
        Ok(())
    }

    fn forget_containers(&mut self) {
        self.containers = HashMap::new();
        self.container_memory = 0;
    }

    /// Sets bits, and counts those that are new in the tallies of their groups.
    fn count(&mut self, targets: &[Target]) {
        for &Target { container: key, bit, .. } in targets {
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
            let group = (key >> 32) as u32;
            if self.tallies[group as usize] == 0 {
                self.tallied.push(group);
            }
            self.tallies[group as usize] += 1;
        }
    }

    fn group(&mut self, key: &[u8]) -> u32 {
        let (id, new) = self.groups.intern(key_hash(key), key);
        if new {
            self.tallies.push(0);
        }
        id
    }

    /// The key group and stored id of each value of blocks; values that are new get the next id of their key group.
    fn resolve_values(&mut self, blocks: &[DistinctBlock]) -> Result<Vec<(KeyGroup, u32)>> {
        let mut ids = Vec::with_capacity(blocks.iter().map(|block| block.values.len()).sum());
        let mut wanted = Vec::new();
        for value in blocks.iter().flat_map(|block| (0..block.values.len()).map(|i| block.values.get(i))) {
            let hash = key_hash(value);
            let group = key_group(hash);
            let id = match self.values.find(hash, value) {
                Some(slot) => self.ids[slot as usize],
                None if self.complete => self.dictionary().add(group, hash, value)?,
                None if self.seen.as_ref().is_some_and(|seen| !seen.may_hold(hash)) => {
                    self.load_counter(group)?;
                    self.dictionary().add(group, hash, value)?
                }
                None => {
                    wanted.push(Wanted { group, value, hash, place: ids.len() });
                    0
                }
            };
            ids.push((group, id));
        }
        let keys: Vec<_> = wanted.iter().map(|wanted| (wanted.group, wanted.value)).collect();
        let wanted: Vec<&Wanted<'_>> = key_order(&keys).map(|index| &wanted[index]).collect();
        wanted.iter().try_for_each(|wanted| self.load_counter(wanted.group))?;
        let (store, family, namespace) = (self.store.clone(), self.family.clone(), self.namespace);
        let mut dictionary = self.dictionary();
        let key_of = |wanted: &&Wanted<'_>, out: &mut Vec<u8>| value_key(out, wanted.group, namespace, wanted.value);
        read_in_order(&*store, &family, &wanted, key_of, |&&Wanted { group, value, hash, place }, stored| {
            ids[place].1 = match stored {
                Some(id) => {
                    let id = decode_id(id)?;
                    dictionary.note(hash, value, id);
                    id
                }
                None => dictionary.add(group, hash, value)?,
            };
            Ok(())
        })?;
        Ok(ids)
    }

    fn dictionary(&mut self) -> Dictionary<'_> {
        Dictionary {
            values: &mut self.values,
            ids: &mut self.ids,
            new_values: &mut self.new_values,
            seen: self.seen.as_mut(),
            next_ids: &mut self.next_ids,
            read: &mut self.read,
        }
    }

    /// Caches the next id of a key group.
    fn load_counter(&mut self, group: KeyGroup) -> Result<()> {
        if !self.next_ids.contains_key(&group.0) {
            let mut key = Keys::default();
            key.push(|out| counter_key(out, group, self.namespace));
            self.store.multi_get(&self.family, &key, &mut |_, stored| {
                self.next_ids.insert(group.0, stored.map_or(Ok(0), decode_id)?);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The containers of targets that are not in memory, in the order in which the store has them. The targets are ordered
    /// by the slice of it that they need.
    fn missing(&self, targets: &mut [Target]) -> Vec<u64> {
        let mut missing: Vec<u64> =
            targets.iter().map(|target| target.container).filter(|key| !self.containers.contains_key(key)).collect();
        missing.sort_unstable();
        missing.dedup();
        let parts = |key: u64| (key >> 16 & 0xffff, self.groups.key((key >> 32) as u32), key & 0xffff);
        missing.sort_unstable_by(|a, b| parts(*a).cmp(&parts(*b)));
        let slices: HashMap<u64, u32> = missing.iter().enumerate().map(|(i, key)| (*key, (i / SLICE) as u32 + 1)).collect();
        if !slices.is_empty() {
            for target in &mut *targets {
                target.slice = slices.get(&target.container).copied().unwrap_or(0);
            }
            targets.sort_unstable_by_key(|target| target.slice);
        }
        missing
    }

    fn load_containers(&mut self, missing: &[u64]) -> Result<()> {
        let mut found = Vec::new();
        let key_of = |key: &u64, out: &mut Vec<u8>| self.stored_container_key(out, *key);
        read_in_order(&*self.store, &self.family, missing, key_of, |key, stored| {
            if let Some(bytes) = stored {
                found.push((*key, Container::decode(bytes)?));
            }
            Ok(())
        })?;
        for (key, container) in found {
            self.container_memory += container.memory();
            self.containers.insert(key, Entry { container, dirty: false });
        }
        Ok(())
    }

    fn stored_container_key(&self, out: &mut Vec<u8>, key: u64) {
        begin_state_key(out, KeyGroup((key >> 16) as u16), self.namespace);
        out.push(b'p');
        out.extend_from_slice(self.groups.key((key >> 32) as u32));
        out.extend_from_slice(&(key as u16).to_be_bytes());
    }

    /// Sends the tallies of what was new since the last call: `emit(worker, block)`. Nothing waits any more then.
    pub fn flush_tallies(&mut self, workers: usize, others: Held, emit: &mut dyn FnMut(usize, TallyBlock)) -> Result<()> {
        self.settle(true, others)?;
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
        Ok(())
    }

    /// Writes what changed to the store.
    pub fn flush_state(&mut self) -> Result<()> {
        self.flush_values()?;
        self.flush_containers()
    }

    fn flush_values(&mut self) -> Result<()> {
        if self.new_values.is_empty() {
            return Ok(());
        }
        let key = |&slot: &u32| (key_group(self.values.hash(slot)), self.values.key(slot));
        let keys: Vec<_> = self.new_values.iter().map(key).collect();
        let (mut changes, mut counted) = (Changes::default(), None);
        let count = |group: KeyGroup, changes: &mut Changes| {
            let next = self.next_ids.get(&group.0).copied().unwrap_or(0);
            changes.put(|out| counter_key(out, group, self.namespace), |out| out.extend_from_slice(&next.to_le_bytes()));
        };
        for place in key_order(&keys) {
            let (slot, (group, value)) = (self.new_values[place], keys[place]);
            // After the values of its key group, as the store has it: 'd' < 'n'.
            if let Some(before) = counted.replace(group).filter(|before| *before != group) {
                count(before, &mut changes);
            }
            let id = self.ids[slot as usize].to_le_bytes();
            changes.put(|out| value_key(out, group, self.namespace, value), |out| out.extend_from_slice(&id));
        }
        if let Some(last) = counted {
            count(last, &mut changes);
        }
        self.new_values.clear();
        self.store.write(&self.family, &changes)
    }

    fn flush_containers(&mut self) -> Result<()> {
        let mut changes = Changes::default();
        for key in &self.dirty {
            if let Some(entry) = self.containers.get(key) {
                changes.put(|out| self.stored_container_key(out, *key), |out| entry.container.encode(out));
            }
        }
        for key in self.dirty.drain(..) {
            if let Some(entry) = self.containers.get_mut(&key) {
                entry.dirty = false;
            }
        }
        if changes.is_empty() { Ok(()) } else { self.store.write(&self.family, &changes) }
    }

    /// Leaves less for the next barrier: writes new values, and containers only if they are many, for one that is written now
    /// is likely to change again before. With `evict`, empties the cache as well, for which tallies may have to be sent.
    pub fn relieve(
        &mut self,
        evict: bool,
        workers: usize,
        others: Held,
        emit: &mut dyn FnMut(usize, TallyBlock),
    ) -> Result<()> {
        let groups = evict && self.memory_of_groups() > self.values.memory();
        if groups {
            self.flush_tallies(workers, others, emit)?;
        }
        self.flush_values()?;
        if groups || self.dirty.len() + others.dirty_containers > DIRTY_CONTAINERS {
            self.flush_containers()?;
        }
        if groups {
            self.groups.clear();
            self.tallies.clear();
            self.forget_containers();
        }
        if evict {
            if self.complete {
                let mut seen = SeenFilter::default();
                (0..self.values.len()).for_each(|slot| seen.insert(self.values.hash(slot as u32)));
                self.seen = Some(seen);
            }
            self.seen.take_if(|seen| seen.memory() + others.seen > self.room.waiting);
            self.values.clear();
            self.ids = Vec::new();
            // They are in the store, beside the values.
            self.next_ids = HashMap::new();
            self.complete = false;
        }
        Ok(())
    }

    fn memory_of_groups(&self) -> usize {
        self.groups.memory() + self.container_memory + self.containers.capacity() * 48
    }

    /// What is held.
    pub fn held(&self) -> Held {
        let seen = self.seen.as_ref().map_or(0, SeenFilter::memory);
        let values = self.values.memory() + self.ids.capacity() * 4 + self.next_ids.capacity() * 8;
        Held {
            memory: values + self.waiting.memory() + self.memory_of_groups() + seen,
            dirty: self.new_values.len(),
            changed: 0,
            containers: self.container_memory,
            dirty_containers: self.dirty.len(),
            seen,
        }
    }
}

fn value_key(out: &mut Vec<u8>, group: KeyGroup, namespace: Namespace, value: &[u8]) {
    begin_state_key(out, group, namespace);
    out.push(b'd');
    out.extend_from_slice(value);
}

fn counter_key(out: &mut Vec<u8>, group: KeyGroup, namespace: Namespace) {
    begin_state_key(out, group, namespace);
    out.push(b'n');
}

fn decode_id(bytes: &[u8]) -> Result<u32> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(id) => Ok(u32::from_le_bytes(id)),
        Err(_) => Err(Error::corruption("state", "the dictionary of a distinct count is damaged")),
    }
}

#[cfg(test)]
#[path = "owner_tests.rs"]
mod tests;
