//! The filter where records are decoded.

use arrow::array::{Array, BooleanArray};
use hashbrown::{HashMap, HashSet};

use crate::operator::exchange::{DistinctBlock, owner_of_hash};
use crate::operator::key_index::KeyIndex;
use crate::state::encoding::key_hash;

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
