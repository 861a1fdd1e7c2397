//! `len`, `count`, and the tally of distinct values.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};

use super::select::Selection;
use super::{Accumulator, RowOrder, required, wire};
use crate::error::{Error, Result};

const ENCODING: u8 = 1;

/// Appends a count as accumulators encode it: what a partial result of a [`DistinctTally`] looks like.
pub fn encode_count(count: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&count.to_le_bytes());
}

/// One count for each slot.
#[derive(Debug, Default)]
struct Counts(Vec<i64>);

impl Counts {
    fn ensure(&mut self, slots: usize) {
        if slots > self.0.len() {
            self.0.resize(slots, 0);
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let more = i64::from_le_bytes(wire::array(bytes)?);
        if more < 0 {
            return Err(wire::damaged("a count is negative"));
        }
        let count = &mut self.0[slot as usize];
        *count = wire::add_counts(*count, more)?;
        Ok(())
    }

    fn retract(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let less = i64::from_le_bytes(wire::array(bytes)?);
        let count = &mut self.0[slot as usize];
        *count = wire::subtract_counts(*count, less)?;
        Ok(())
    }

    fn output(&self, slots: &[u32]) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(slots.iter().map(|&slot| self.0[slot as usize])))
    }

    fn memory(&self) -> usize {
        self.0.capacity() * size_of::<i64>()
    }
}

/// Counts rows, or values that are not null.
pub(super) struct Count {
    counts: Counts,
    values: bool,
}

impl Count {
    pub(super) fn rows() -> Self {
        Self { counts: Counts::default(), values: false }
    }

    pub(super) fn values() -> Self {
        Self { counts: Counts::default(), values: true }
    }
}

impl Accumulator for Count {
    fn ensure(&mut self, slots: usize) {
        self.counts.ensure(slots);
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        _: &RowOrder<'_>,
    ) -> Result<()> {
        let selection = if self.values {
            Selection::of(slots.len(), filter, required(input)?)?
        } else {
            Selection::new(slots.len(), filter, None)?
        };
        let counts = &mut self.counts.0[..];
        selection.for_each(slots, |slot, _| counts[slot] += 1);
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        encode_count(self.counts.0[slot as usize], out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts.merge(slot, bytes)
    }

    fn retract(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts.retract(slot, bytes)
    }

    fn reset(&mut self, slot: u32) {
        self.counts.0[slot as usize] = 0;
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(self.counts.output(slots))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.counts.memory()
    }
}

/// How many distinct values a group has: the sum of what the owners of the values report, each value by one owner, once.
/// The sets of values live with those owners; rows cannot be added here.
#[derive(Debug, Default)]
pub struct DistinctTally {
    counts: Counts,
}

impl DistinctTally {
    /// Adds `count` new values.
    pub fn add(&mut self, slot: u32, count: i64) -> Result<()> {
        let mut bytes = &count.to_le_bytes()[..];
        self.counts.merge(slot, &mut bytes)
    }
}

impl Accumulator for DistinctTally {
    fn ensure(&mut self, slots: usize) {
        self.counts.ensure(slots);
    }

    fn update(&mut self, _: &[u32], _: Option<&ArrayRef>, _: Option<&BooleanArray>, _: &RowOrder<'_>) -> Result<()> {
        Err(Error::internal("a tally of distinct values was given rows"))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        encode_count(self.counts.0[slot as usize], out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.counts.merge(slot, bytes)
    }

    fn reset(&mut self, slot: u32) {
        self.counts.0[slot as usize] = 0;
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        Ok(self.counts.output(slots))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.counts.memory()
    }
}
