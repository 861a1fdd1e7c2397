//! The owner's side of a grouping: one row of accumulators per group, merged from partial results, cached over the
//! store and written back in batches. At a barrier it hands out the rows that changed.

use std::sync::Arc;

use arrow::array::ArrayRef;

use super::accumulator::{self, Accumulator};
use super::exchange::{PartialBlock, Strings, TallyBlock};
use super::key_index::KeyIndex;
use crate::error::{Error, Result};
use crate::plan::lower::{AggregateCall, AggregateSpec};
use crate::state::encoding::{KeyEncoder, key_group, key_hash};
use crate::state::{StateStore, Write, state_key};

/// The first byte of every state value: how the rest is encoded.
const VALUE_ENCODING: u8 = 1;
/// So few groups are kept over an eviction whatever share of the cache they are.
const FEW: usize = 4096;

/// The groups that one worker owns.
pub struct GroupOwner {
    family: String,
    store: Arc<dyn StateStore>,
    encoder: KeyEncoder,
    calls: Vec<AggregateCall>,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// What a partial looks like that changes nothing.
    empty: Vec<u8>,
    index: KeyIndex,
    flags: Vec<Flags>,
    changed: Vec<u32>,
    dirty: Vec<u32>,
    /// Whether everything that was ever stored is in memory: then a miss is an absence, and nothing is read.
    complete: bool,
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
}

impl GroupOwner {
    /// An owner over the family of a grouping. `fresh`: the store holds nothing of it.
    pub fn new(spec: &AggregateSpec, family: String, store: Arc<dyn StateStore>, fresh: bool) -> Result<Self> {
        let mut accumulators = create(&spec.calls)?;
        let mut empty = Vec::new();
        for accumulator in &mut accumulators {
            accumulator.ensure(1);
            accumulator.encode(0, &mut empty);
        }
        Ok(Self {
            family,
            store,
            encoder: KeyEncoder::new(&spec.key_types)?,
            calls: spec.calls.clone(),
            accumulators,
            empty,
            index: KeyIndex::default(),
            flags: Vec::new(),
            changed: Vec::new(),
            dirty: Vec::new(),
            complete: fresh,
        })
    }

    /// Adds partial results.
    pub fn merge(&mut self, block: &PartialBlock) -> Result<()> {
        let slots = self.resolve(&block.keys)?;
        for (i, &(slot, existed)) in slots.iter().enumerate() {
            let mut partial = block.partials.get(i);
            if existed && partial == self.empty {
                continue;
            }
            for accumulator in &mut self.accumulators {
                accumulator.merge(slot, &mut partial)?;
            }
            self.mark(slot);
        }
        Ok(())
    }

    /// Adds to distinct counts.
    pub fn tally(&mut self, block: &TallyBlock) -> Result<()> {
        let slots = self.resolve(&block.groups)?;
        let Some(accumulator) = self.accumulators.get_mut(block.call) else {
            return Err(Error::internal("a tally for an aggregate that does not exist"));
        };
        let mut partial = Vec::new();
        for (&(slot, _), &count) in slots.iter().zip(&block.counts) {
            partial.clear();
            accumulator::encode_count(count, &mut partial);
            accumulator.merge(slot, &mut partial.as_slice())?;
        }
        slots.iter().for_each(|&(slot, _)| self.mark(slot));
        Ok(())
    }

    fn mark(&mut self, slot: u32) {
        let flags = &mut self.flags[slot as usize];
        if !flags.changed {
            flags.changed = true;
            self.changed.push(slot);
        }
        if !flags.dirty {
            flags.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// The slot of each key, and whether the group existed. Groups that are not cached are read in one go.
    fn resolve(&mut self, keys: &Strings) -> Result<Vec<(u32, bool)>> {
        let hashes: Vec<u64> = (0..keys.len()).map(|i| key_hash(keys.get(i))).collect();
        if !self.complete {
            let missing: Vec<usize> = (0..keys.len()).filter(|&i| self.index.find(hashes[i], keys.get(i)).is_none()).collect();
            let stored_keys: Vec<_> = missing.iter().map(|&i| stored_key(hashes[i], keys.get(i))).collect();
            for (&i, value) in missing.iter().zip(self.store.multi_get(&self.family, &stored_keys)?) {
                if let Some(value) = value {
                    self.load(hashes[i], keys.get(i), &value)?;
                }
            }
        }
        let mut slots = Vec::with_capacity(keys.len());
        for (i, &hash) in hashes.iter().enumerate() {
            let (slot, new) = self.intern(hash, keys.get(i));
            slots.push((slot, !new));
        }
        Ok(slots)
    }

    fn intern(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        let (slot, new) = self.index.intern(hash, key);
        if new {
            self.flags.push(Flags::default());
            self.accumulators.iter_mut().for_each(|a| a.ensure(slot as usize + 1));
        }
        (slot, new)
    }

    fn load(&mut self, hash: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let (slot, _) = self.intern(hash, key);
        let Some((&VALUE_ENCODING, mut rest)) = value.split_first() else {
            return Err(Error::corruption("state", format!("a group of {} has an unknown encoding", self.family)));
        };
        for accumulator in &mut self.accumulators {
            accumulator.merge(slot, &mut rest)?;
        }
        Ok(())
    }

    /// The groups that changed since the last call, by key. `None` if there are none.
    pub fn take_changed(&mut self) -> Result<Option<ChangedGroups>> {
        if self.changed.is_empty() {
            return Ok(None);
        }
        let mut slots = std::mem::take(&mut self.changed);
        slots.sort_unstable_by(|a, b| self.index.key(*a).cmp(self.index.key(*b)));
        slots.iter().for_each(|slot| self.flags[*slot as usize].changed = false);
        let keys: Vec<&[u8]> = slots.iter().map(|slot| self.index.key(*slot)).collect();
        let keys = self.encoder.decode(&keys)?;
        let results = self.accumulators.iter().map(|a| a.output(&slots)).collect::<Result<Vec<_>>>();
        let results = results.map_err(|error| self.name_group(error, &slots))?;
        Ok(Some(ChangedGroups { keys, results }))
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
        let mut changes: Vec<Write> = Vec::with_capacity(self.dirty.len());
        for slot in self.dirty.drain(..) {
            let mut value = vec![VALUE_ENCODING];
            self.accumulators.iter().for_each(|a| a.encode(slot, &mut value));
            changes.push((stored_key(self.index.hash(slot), self.index.key(slot)), Some(value)));
            self.flags[slot as usize].dirty = false;
        }
        if changes.is_empty() { Ok(()) } else { self.store.write(&self.family, changes) }
    }

    /// Whether an eviction would free much: groups that changed in this epoch stay, and copying them is not free.
    pub fn is_evictable(&self) -> bool {
        self.changed.len() < FEW || self.index.len() > 2 * self.changed.len()
    }

    /// Empties the cache but for the groups that changed in this epoch. What is dirty must have been flushed.
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

    /// Groups in memory.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether none is in memory.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.index.memory() + self.flags.capacity() * 2 + self.accumulators.iter().map(|a| a.memory()).sum::<usize>()
    }
}

fn create(calls: &[AggregateCall]) -> Result<Vec<Box<dyn Accumulator>>> {
    calls.iter().map(accumulator::create).collect()
}

fn stored_key(hash: u64, key: &[u8]) -> Vec<u8> {
    let mut out = state_key(key_group(hash), key.len());
    out.extend_from_slice(key);
    out
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::plan::expr::{AggregateFunction, Expr, NamedExpr};
    use crate::plan::schema::DataType;
    use crate::state::memory::MemoryStore;

    fn owner() -> GroupOwner {
        let call = AggregateCall {
            name: "rows".into(),
            function: AggregateFunction::Len,
            input: None,
            input_type: None,
            filter: None,
            ignore_nulls: false,
            output_type: DataType::Int64,
        };
        let keys = vec![NamedExpr { name: "k".into(), expr: Expr::Column("k".into()) }];
        let spec = AggregateSpec { name: "g".into(), keys, key_types: vec![DataType::String], calls: vec![call] };
        GroupOwner::new(&spec, "g".into(), Arc::new(MemoryStore::default()), true).unwrap()
    }

    fn add(owner: &mut GroupOwner, groups: std::ops::Range<usize>) {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(groups.map(|group| format!("group {group}"))));
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        KeyEncoder::new(&[DataType::String]).unwrap().encode(&[column], &mut bytes, &mut ends).unwrap();
        let (mut block, mut start) = (PartialBlock::default(), 0);
        for end in ends {
            block.keys.push(&bytes[start..end]);
            block.partials.push(&1_i64.to_le_bytes());
            start = end;
        }
        owner.merge(&block).unwrap();
    }

    fn changed(owner: &mut GroupOwner) -> Vec<i64> {
        let changed = owner.take_changed().unwrap();
        changed.map(|changed| changed.results[0].as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
    }

    #[test]
    fn an_eviction_gives_memory_back_and_keeps_what_changed() {
        let mut owner = owner();
        add(&mut owner, 0..20_000);
        assert_eq!(changed(&mut owner), vec![1; 20_000]);
        add(&mut owner, 5..15);
        let before = owner.memory();
        owner.flush_state().unwrap();
        assert!(owner.is_evictable());
        owner.evict().unwrap();
        assert!(owner.memory() * 100 < before, "{} of {before}", owner.memory());
        add(&mut owner, 10..20);
        let mut counts = changed(&mut owner);
        counts.sort_unstable();
        // 5 to 9 and 15 to 19 have come twice, 10 to 14 three times.
        assert_eq!(counts, [vec![2; 10], vec![3; 5]].concat());
    }

    #[test]
    fn groups_that_changed_are_not_copied_again_and_again() {
        let mut owner = owner();
        add(&mut owner, 0..FEW + 1);
        assert!(!owner.is_evictable());
        changed(&mut owner);
        assert!(owner.is_evictable());
    }
}
