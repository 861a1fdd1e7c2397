//! Blocks come with groups of several slices; each operator gets its own.

use std::collections::{BTreeMap, HashMap};

use crate::operator::exchange::{DistinctBlock, PartialBlock, Strings, TallyBlock};

/// A block that can be taken apart by the slices of its groups.
pub(super) trait Split: Sized {
    /// The group keys.
    fn keys(&self) -> &Strings;

    /// Its parts; `slices[i]` is that of group `i`.
    fn split(&self, slices: &[i64]) -> BTreeMap<i64, Self>;

    /// Its parts, itself where there is one.
    fn parts(self, slices: &[i64]) -> Vec<(i64, Self)> {
        match slices.first() {
            Some(first) if slices.iter().all(|slice| slice == first) => vec![(*first, self)],
            _ => self.split(slices).into_iter().collect(),
        }
    }
}

impl Split for PartialBlock {
    fn keys(&self) -> &Strings {
        &self.keys
    }

    fn split(&self, slices: &[i64]) -> BTreeMap<i64, Self> {
        let mut parts = BTreeMap::new();
        for (i, slice) in slices.iter().enumerate() {
            let new = || Self { pipeline: self.pipeline, retract: self.retract, ..Self::default() };
            let part = parts.entry(*slice).or_insert_with(new);
            part.keys.push(self.keys.get(i));
            part.partials.push(self.partials.get(i));
        }
        parts
    }
}

impl Split for TallyBlock {
    fn keys(&self) -> &Strings {
        &self.groups
    }

    fn split(&self, slices: &[i64]) -> BTreeMap<i64, Self> {
        let mut parts = BTreeMap::new();
        for (i, (slice, count)) in slices.iter().zip(&self.counts).enumerate() {
            let new = || Self { pipeline: self.pipeline, call: self.call, ..Self::default() };
            let part = parts.entry(*slice).or_insert_with(new);
            part.groups.push(self.groups.get(i));
            part.counts.push(*count);
        }
        parts
    }
}

/// The numbers that groups and values of a block have in one of its parts.
#[derive(Default)]
struct Numbers {
    groups: HashMap<u32, u32>,
    values: HashMap<u32, u32>,
}

impl Split for DistinctBlock {
    fn keys(&self) -> &Strings {
        &self.groups
    }

    fn split(&self, slices: &[i64]) -> BTreeMap<i64, Self> {
        let mut parts: BTreeMap<i64, (Self, Numbers)> = BTreeMap::new();
        for &(group, value) in &self.pairs {
            let new = || (Self { pipeline: self.pipeline, call: self.call, ..Self::default() }, Numbers::default());
            let (part, numbers) = parts.entry(slices[group as usize]).or_insert_with(new);
            let group = *numbers.groups.entry(group).or_insert_with(|| part.groups.push(self.groups.get(group as usize)));
            let value = *numbers.values.entry(value).or_insert_with(|| part.values.push(self.values.get(value as usize)));
            part.pairs.push((group, value));
        }
        parts.into_iter().map(|(slice, (part, _))| (slice, part)).collect()
    }
}
