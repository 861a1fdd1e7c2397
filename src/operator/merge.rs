//! The owner's side of a grouping: one row of accumulators per group, merged from partial results, cached over the
//! store and written back in batches. At a barrier it hands out the rows that changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};

use super::accumulator::{self, Accumulator};
use super::exchange::{PartialBlock, Strings, TallyBlock};
use super::key_index::KeyIndex;
use super::lookup::{Waiting, key_order, read_in_order};
use crate::error::{Error, Result};
use crate::message::{KeyGroup, order};
use crate::plan::lower::{AggregateCall, AggregateSpec};
use crate::state::encoding::{KeyEncoder, key_group, key_hash};
use crate::state::{Changes, Namespace, StateStore, begin_state_key};

/// The first byte of every state value: how the rest is encoded.
const VALUE_ENCODING: u8 = 1;
/// Copying so few groups costs nothing.
pub const FEW: usize = 4096;

/// The groups that one worker owns.
pub struct GroupOwner {
    family: String,
    namespace: Namespace,
    store: Arc<dyn StateStore>,
    encoder: KeyEncoder,
    calls: Vec<AggregateCall>,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// What a partial looks like that changes nothing.
    empty: Vec<u8>,
    index: KeyIndex,
    flags: Vec<Flags>,
    changed: Vec<u32>,
    /// What the groups of `changed` were at the last barrier, in the same order; only where a second grouping follows.
    before: Option<BeforeImages>,
    /// Whether partial results are also taken back: a group that is as empty as a new one is gone.
    retracts: bool,
    dirty: Vec<u32>,
    /// Blocks whose groups may have to be read.
    waiting: Waiting<Incoming>,
    /// Whether everything that was ever stored is in memory: then a miss is an absence, and nothing is read.
    complete: bool,
}

/// What comes in.
enum Incoming {
    Partial(PartialBlock),
    Tally(TallyBlock),
}

impl Incoming {
    fn keys(&self) -> &Strings {
        match self {
            Self::Partial(block) => &block.keys,
            Self::Tally(block) => &block.groups,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Partial(block) => block.size(),
            Self::Tally(block) => block.size(),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Flags {
    dirty: bool,
    changed: bool,
}

/// The groups that changed in an epoch: their keys and their aggregates, as columns.
pub struct ChangedGroups {
    /// One array per key column.
    pub keys: Vec<ArrayRef>,
    /// One array per aggregate.
    pub results: Vec<ArrayRef>,
    /// What those that existed were at the last barrier, if the owner keeps that.
    pub previous: Option<PreviousGroups>,
}

/// What changed groups were at the last barrier.
pub struct PreviousGroups {
    /// Which of the changed groups existed then: positions in their columns, rising.
    pub rows: UInt32Array,
    /// Of those, one array per aggregate.
    pub results: Vec<ArrayRef>,
}

/// The encoded accumulators of groups as of the last barrier; nothing for a group that did not exist.
#[derive(Default)]
struct BeforeImages {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl BeforeImages {
    fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Forgets all from a position on; the memory too, where nothing is left.
    fn truncate(&mut self, len: usize) {
        if len == 0 {
            *self = Self::default();
        }
        self.ends.truncate(len);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8
    }
}

impl GroupOwner {
    /// An owner over the family of a grouping. `fresh`: the store holds nothing of it. Blocks of about `waiting` bytes are
    /// held back before they are worked on, if the store has to be read for them.
    pub fn new(spec: &AggregateSpec, family: String, store: Arc<dyn StateStore>, fresh: bool, waiting: usize) -> Result<Self> {
        let mut accumulators = create(&spec.calls)?;
        let mut empty = Vec::new();
        for accumulator in &mut accumulators {
            accumulator.ensure(1);
            accumulator.encode(0, &mut empty);
        }
        Ok(Self {
            family,
            namespace: Namespace::Empty,
            store,
            encoder: KeyEncoder::new(&spec.key_types)?,
            calls: spec.calls.clone(),
            accumulators,
            empty,
            index: KeyIndex::default(),
            flags: Vec::new(),
            changed: Vec::new(),
            before: None,
            retracts: spec.calls.iter().any(|call| call.retracts),
            dirty: Vec::new(),
            waiting: Waiting::new(waiting),
            complete: fresh,
        })
    }

    /// The same owner, which also hands out what changed groups were at the last barrier.
    pub fn with_before_images(mut self) -> Self {
        self.before = Some(BeforeImages::default());
        self
    }

    /// The same owner, of the groups in a part of the state.
    pub fn within(mut self, namespace: Namespace) -> Self {
        self.namespace = namespace;
        self
    }

    /// Adds partial results, or takes them back: at once, or when what changed is taken.
    pub fn merge(&mut self, block: PartialBlock) -> Result<()> {
        self.take_in(Incoming::Partial(block))
    }

    /// Adds to distinct counts, as [`Self::merge`].
    pub fn tally(&mut self, block: TallyBlock) -> Result<()> {
        self.take_in(Incoming::Tally(block))
    }

    fn take_in(&mut self, block: Incoming) -> Result<()> {
        let size = block.size();
        if self.waiting.push(block, size) || self.complete { self.settle() } else { Ok(()) }
    }

    /// Works on what waits.
    pub fn settle(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let blocks = self.waiting.take();
        if !self.complete {
            self.load(&blocks)?;
        }
        blocks.iter().try_for_each(|block| match block {
            Incoming::Partial(block) => self.add_partials(block),
            Incoming::Tally(block) => self.add_counts(block),
        })
    }

    fn add_partials(&mut self, block: &PartialBlock) -> Result<()> {
        let slots = self.slots(&block.keys);
        for (i, &(slot, existed)) in slots.iter().enumerate() {
            let mut partial = block.partials.get(i);
            if existed && partial == self.empty {
                continue;
            }
            self.mark(slot, existed);
            for accumulator in &mut self.accumulators {
                if block.retract {
                    accumulator.retract(slot, &mut partial)?;
                } else {
                    accumulator.merge(slot, &mut partial)?;
                }
            }
        }
        Ok(())
    }

    fn add_counts(&mut self, block: &TallyBlock) -> Result<()> {
        let slots = self.slots(&block.groups);
        slots.iter().for_each(|&(slot, existed)| self.mark(slot, existed));
        let Some(accumulator) = self.accumulators.get_mut(block.call) else {
            return Err(Error::internal("a tally for an aggregate that does not exist"));
        };
        let mut partial = Vec::new();
        for (&(slot, _), &count) in slots.iter().zip(&block.counts) {
            partial.clear();
            accumulator::encode_count(count, &mut partial);
            accumulator.merge(slot, &mut partial.as_slice())?;
        }
        Ok(())
    }

    /// Notes that a group is about to change.
    fn mark(&mut self, slot: u32, existed: bool) {
        let flags = &mut self.flags[slot as usize];
        if !flags.changed {
            flags.changed = true;
            self.changed.push(slot);
            if let Some(before) = &mut self.before {
                if existed {
                    self.accumulators.iter().for_each(|a| a.encode(slot, &mut before.bytes));
                }
                before.ends.push(before.bytes.len());
            }
        }
        if !flags.dirty {
            flags.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Reads the groups of blocks that are not cached.
    fn load(&mut self, blocks: &[Incoming]) -> Result<()> {
        let keys = blocks.iter().map(Incoming::keys).flat_map(|keys| (0..keys.len()).map(|i| keys.get(i)));
        let hashed = keys.map(|key| (key_hash(key), key));
        let unknown = hashed.filter(|(hash, key)| self.index.find(*hash, key).is_none());
        let unknown: Vec<(KeyGroup, &[u8])> = unknown.map(|(hash, key)| (key_group(hash), key)).collect();
        let mut wanted: Vec<(KeyGroup, &[u8])> = key_order(&unknown).map(|index| unknown[index]).collect();
        wanted.dedup();
        let (store, family, namespace) = (self.store.clone(), self.family.clone(), self.namespace);
        let key_of = |(group, key): &(KeyGroup, &[u8]), out: &mut Vec<u8>| stored_key(out, *group, namespace, key);
        read_in_order(&*store, &family, &wanted, key_of, |(_, key), value| match value {
            Some(value) => self.load_one(key, value),
            None => Ok(()),
        })
    }

    /// The slot of each key, and whether the group existed.
    fn slots(&mut self, keys: &Strings) -> Vec<(u32, bool)> {
        let intern = |i| {
            let (slot, new) = self.intern(key_hash(keys.get(i)), keys.get(i));
            (slot, !new)
        };
        (0..keys.len()).map(intern).collect()
    }

    fn intern(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.index.intern(hash, key);
        if new {
            self.flags.push(Flags::default());
            self.accumulators.iter_mut().for_each(|a| a.ensure(slot as usize + 1));
        }
        (slot, new)
    }

    fn load_one(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (slot, _) = self.intern(key_hash(key), key);
        let Some((&VALUE_ENCODING, mut rest)) = value.split_first() else {
            return Err(Error::corruption("state", format!("a group of {} has an unknown encoding", self.family)));
        };
        for accumulator in &mut self.accumulators {
            accumulator.merge(slot, &mut rest)?;
        }
        Ok(())
    }

    /// Groups that changed since the barrier before and were not taken yet, at most so many, by key. `None` if there are
    /// none. Nothing waits any more then.
    pub fn take_changed(&mut self, most: usize) -> Result<Option<ChangedGroups>> {
        self.settle()?;
        if self.changed.is_empty() {
            return Ok(None);
        }
        let from = self.changed.len().saturating_sub(most);
        let mut taken: Vec<(u32, usize)> = self.changed.drain(from..).zip(from..).collect();
        order::sort_by_key(&mut taken, |(slot, _)| self.index.key(*slot));
        taken.iter().for_each(|(slot, _)| self.flags[*slot as usize].changed = false);
        let previous = match &self.before {
            Some(before) => Some(self.previous(taken.iter().map(|(_, place)| before.get(*place)))?),
            None => None,
        };
        if let Some(before) = &mut self.before {
            before.truncate(from);
        }
        let slots: Vec<u32> = taken.into_iter().map(|(slot, _)| slot).collect();
        let keys: Vec<&[u8]> = slots.iter().map(|slot| self.index.key(*slot)).collect();
        let keys = self.encoder.decode(&keys)?;
        let results = self.accumulators.iter().map(|a| a.output(&slots)).collect::<Result<Vec<_>>>();
        let results = results.map_err(|error| self.name_group(error, &slots))?;
        Ok(Some(ChangedGroups { keys, results, previous }))
    }

    /// The results of before images; those that are empty are of groups that did not exist.
    fn previous<'a>(&self, images: impl Iterator<Item = &'a [u8]>) -> Result<PreviousGroups> {
        let mut accumulators = create(&self.calls)?;
        let mut rows = Vec::new();
        for (row, mut image) in images.enumerate().filter(|(_, image)| !image.is_empty()) {
            for accumulator in &mut accumulators {
                accumulator.ensure(rows.len() + 1);
                accumulator.merge(rows.len() as u32, &mut image)?;
            }
            rows.push(row as u32);
        }
        let slots: Vec<u32> = (0..rows.len() as u32).collect();
        let results = accumulators.iter().map(|a| a.output(&slots)).collect::<Result<_>>()?;
        Ok(PreviousGroups { rows: rows.into(), results })
    }

    /// Adds to an error of many groups the key of the first whose result does not fit.
    fn name_group(&self, error: Error, slots: &[u32]) -> Error {
        let fails = |slot: &&u32| self.accumulators.iter().any(|a| a.output(&[**slot]).is_err());
        let Some(slot) = slots.iter().find(fails) else { return error };
        let Ok(columns) = self.encoder.decode(&[self.index.key(*slot)]) else { return error };
        let text = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, 0).unwrap_or_default();
        error.with("group", columns.iter().map(text).collect::<Vec<_>>().join(", "))
    }

    /// Writes what changed to the store.
    pub fn flush_state(&mut self) -> Result<()> {
        let keys: Vec<_> = self.dirty.iter().map(|&slot| (key_group(self.index.hash(slot)), self.index.key(slot))).collect();
        let (mut changes, mut value) = (Changes::default(), Vec::new());
        for place in key_order(&keys) {
            let (slot, (group, key)) = (self.dirty[place], keys[place]);
            value.clear();
            self.accumulators.iter().for_each(|a| a.encode(slot, &mut value));
            if self.retracts && value == self.empty {
                changes.delete(|out| stored_key(out, group, self.namespace, key));
            } else {
                changes.put(
                    |out| stored_key(out, group, self.namespace, key),
                    |out| {
                        out.push(VALUE_ENCODING);
                        out.extend_from_slice(&value);
                    },
                );
            }
            self.flags[slot as usize].dirty = false;
        }
        self.dirty.clear();
        if changes.is_empty() { Ok(()) } else { self.store.write(&self.family, &changes) }
    }

    /// Whether an eviction would free much: groups that changed in this epoch stay, and copying them is not free.
    pub fn is_evictable(&self) -> bool {
        self.index.len() > 2 * self.changed.len()
    }

    /// Empties the cache but for the groups that changed in this epoch, which stay in their order: before images lie
    /// beside it. What is dirty must have been flushed.
    pub fn evict(&mut self) -> Result<()> {
        debug_assert!(self.dirty.is_empty());
        let kept: Vec<(Vec<u8>, Vec<u8>)> = std::mem::take(&mut self.changed)
            .into_iter()
            .map(|slot| {
                let mut value = Vec::new();
                self.accumulators.iter().for_each(|a| a.encode(slot, &mut value));
                (self.index.key(slot).to_vec(), value)
            })
            .collect();
        // New ones: those that are there would keep the memory of the most groups they ever held.
        self.accumulators = create(&self.calls)?;
        self.index.clear();
        self.flags = Vec::new();
        self.complete = false;
        for (key, value) in kept {
            let (slot, _) = self.intern(key_hash(&key), &key);
            let mut rest = value.as_slice();
            for accumulator in &mut self.accumulators {
                accumulator.merge(slot, &mut rest)?;
            }
            self.flags[slot as usize].changed = true;
            self.changed.push(slot);
        }
        Ok(())
    }

    /// Groups that the next flush writes.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Groups that changed in this epoch: they stay in memory until the barrier.
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        let before = self.before.as_ref().map_or(0, BeforeImages::memory);
        let accumulators: usize = self.accumulators.iter().map(|a| a.memory()).sum();
        self.index.memory() + self.flags.capacity() * 2 + accumulators + before + self.waiting.memory()
    }
}

fn create(calls: &[AggregateCall]) -> Result<Vec<Box<dyn Accumulator>>> {
    calls.iter().map(accumulator::create).collect()
}

fn stored_key(out: &mut Vec<u8>, group: KeyGroup, namespace: Namespace, key: &[u8]) {
    begin_state_key(out, group, namespace);
    out.extend_from_slice(key);
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
