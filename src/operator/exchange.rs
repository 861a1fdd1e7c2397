//! What goes from one worker to the owner of a key: blocks of many entries, and who owns what.

use std::ops::Range;

use crate::message::KeyGroup;
use crate::state::encoding::{KEY_GROUPS, key_group};

/// The worker that owns a key group: groups are dealt out in equal runs, so that a restart at another parallelism moves
/// whole runs and no state.
pub fn owner_of_group(group: KeyGroup, workers: usize) -> usize {
    group.0 as usize * workers / KEY_GROUPS as usize
}

/// The key groups that a worker owns.
pub fn key_groups_of(worker: usize, workers: usize) -> Range<u16> {
    let first = |worker: usize| (worker * usize::from(KEY_GROUPS)).div_ceil(workers).min(usize::from(KEY_GROUPS)) as u16;
    first(worker)..first(worker + 1)
}

/// The worker that owns the key with this hash.
pub fn owner_of_hash(hash: u64, workers: usize) -> usize {
    owner_of_group(key_group(hash), workers)
}

/// Many byte strings in one buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Strings {
    /// Adds one and returns its number.
    pub fn push(&mut self, value: &[u8]) -> u32 {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len() as u32);
        self.ends.len() as u32 - 1
    }

    /// The string of that number.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }
}

/// Partial results of groups, for the groups' owner.
#[derive(Clone, Debug, Default)]
pub struct PartialBlock {
    /// Which pipeline of the job.
    pub pipeline: usize,
    /// The group keys.
    pub keys: Strings,
    /// For each, its accumulators' encodings one after the other.
    pub partials: Strings,
    /// Whether they are taken back: they were added in an earlier epoch.
    pub retract: bool,
}

/// Values seen in groups, for the values' owner. Each (group, value) at most once a block.
#[derive(Clone, Debug, Default)]
pub struct DistinctBlock {
    /// Which pipeline of the job.
    pub pipeline: usize,
    /// Which aggregate of it.
    pub call: usize,
    /// The group keys.
    pub groups: Strings,
    /// The values.
    pub values: Strings,
    /// Numbers in `groups` and `values`.
    pub pairs: Vec<(u32, u32)>,
}

impl DistinctBlock {
    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.groups.size() + self.values.size() + 8 * self.pairs.len()
    }
}

/// How many values are new in groups, for the groups' owner.
#[derive(Clone, Debug, Default)]
pub struct TallyBlock {
    /// Which pipeline of the job.
    pub pipeline: usize,
    /// Which aggregate of it.
    pub call: usize,
    /// The group keys.
    pub groups: Strings,
    /// For each, how many.
    pub counts: Vec<i64>,
}

impl PartialBlock {
    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.keys.size() + self.partials.size()
    }
}

impl TallyBlock {
    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.groups.size() + 8 * self.counts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_has_one_owner_and_runs_are_equal() {
        for workers in 1..=7 {
            let owners: Vec<_> = (0..KEY_GROUPS).map(|g| owner_of_group(KeyGroup(g), workers)).collect();
            assert!(owners.is_sorted());
            for worker in 0..workers {
                let owned = |group: &u16| owner_of_group(KeyGroup(*group), workers) == worker;
                assert!(key_groups_of(worker, workers).eq((0..KEY_GROUPS).filter(owned)));
                let run = owners.iter().filter(|o| **o == worker).count();
                assert!(run.abs_diff(KEY_GROUPS as usize / workers) <= 1);
            }
        }
    }
}
