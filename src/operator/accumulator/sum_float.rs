//! `sum` and `mean` of floats: exact, rounded once; the mean divides that sum once. What is kept of a slot is a
//! [`FloatTotal`]: [`Flagged`] here, or one that values can be taken back from (`sum_float_counted`).

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array};

use super::float_sum::{Digits, FloatSum, NAN, NEGATIVE_INFINITY, POSITIVE_INFINITY};
use super::select::Selection;
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::{Error, Result};

/// The flag of a negative sum, beside those of values that are not finite.
const NEGATIVE: u8 = 8;

const FLAGS: u8 = NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY | NEGATIVE;

/// The sum of a slot's values.
pub(super) trait FloatTotal: Clone + Default + Send {
    /// How it is encoded.
    const ENCODING: u8;
    /// Adds a value; says by how many bytes the sum has grown on the heap.
    fn add(&mut self, value: f64) -> usize;
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes a partial off the front of `bytes` and adds it.
    fn merge(&mut self, bytes: &mut &[u8]) -> Result<()>;
    /// Takes a partial off the front of `bytes` and takes it back.
    fn retract(&mut self, _: &mut &[u8]) -> Result<()> {
        Err(Error::internal("rows were taken back from an aggregate that cannot do so"))
    }
    /// How many values it has.
    fn count(&self) -> i64;
    /// The sum, rounded.
    fn result(&self) -> f64;
    /// Bytes on the heap.
    fn heap(&self) -> usize;
}

pub(super) struct FloatSums<T> {
    totals: Vec<T>,
    /// Bytes of all sums on the heap.
    heap: usize,
    mean: bool,
}

impl<T: FloatTotal> FloatSums<T> {
    pub(super) fn new(mean: bool) -> Self {
        Self { totals: Vec::new(), heap: 0, mean }
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut T) -> Result<()>) -> Result<()> {
        let total = &mut self.totals[slot as usize];
        let before = total.heap();
        let outcome = change(total);
        self.heap = self.heap + total.heap() - before;
        outcome
    }
}

impl<T: FloatTotal> Accumulator for FloatSums<T> {
    fn ensure(&mut self, slots: usize) {
        if slots > self.totals.len() {
            self.totals.resize(slots, T::default());
        }
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        _: &RowOrder<'_>,
    ) -> Result<()> {
        let input = typed::<Float64Array>(required(input)?)?;
        let (totals, mut grown) = (&mut self.totals[..], 0);
        let rows = Selection::of(slots.len(), filter, input)?;
        rows.for_each_value(slots, input.values(), |slot, value| grown += totals[slot].add(value));
        self.heap += grown;
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.totals[slot as usize].encode(out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.change(slot, |total| total.merge(bytes))
    }

    fn retract(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.change(slot, |total| total.retract(bytes))
    }

    fn reset(&mut self, slot: u32) {
        let old = std::mem::take(&mut self.totals[slot as usize]);
        self.heap -= old.heap();
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let results = slots.iter().map(|&slot| &self.totals[slot as usize]).map(|total| {
            let sum = (total.count() > 0).then(|| total.result());
            if self.mean { sum.map(|sum| sum / total.count() as f64) } else { sum }
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn encoding_id(&self) -> u8 {
        T::ENCODING
    }

    fn memory(&self) -> usize {
        self.totals.capacity() * size_of::<T>() + self.heap
    }
}

/// Appends the chunks of a sum: where they begin, how many there are, and each.
pub(super) fn put_chunks(digits: &Digits, out: &mut Vec<u8>) {
    let (first, chunks) = digits.parts();
    out.extend_from_slice(&[first as u8, chunks.len() as u8]);
    chunks.iter().for_each(|chunk| out.extend_from_slice(&chunk.to_le_bytes()));
}

/// The chunks of a sum.
pub(super) fn chunks(negative: bool, bytes: &mut &[u8]) -> Result<Digits> {
    let [first, length] = wire::array(bytes)?;
    let (chunks, _) = wire::take(bytes, usize::from(length) * 4)?.as_chunks::<4>();
    let digits = Digits::read(negative, first.into(), chunks.iter().map(|&chunk| u32::from_le_bytes(chunk)));
    digits.ok_or_else(|| wire::damaged("the chunks of a sum are not as they are written"))
}

/// A sum that remembers which values that are not finite there were.
#[derive(Clone, Default)]
pub(super) struct Flagged {
    sum: FloatSum,
    count: i64,
}

impl FloatTotal for Flagged {
    const ENCODING: u8 = 3;

    #[inline]
    fn add(&mut self, value: f64) -> usize {
        self.count += 1;
        self.sum.add(value)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let digits = self.sum.digits();
        out.push(self.sum.special() | if digits.negative { NEGATIVE } else { 0 });
        wire::put_varint(self.count as u64, out);
        if self.count > 0 {
            put_chunks(&digits, out);
        }
    }

    fn merge(&mut self, bytes: &mut &[u8]) -> Result<()> {
        let flags = wire::byte(bytes)?;
        let count = wire::count(bytes)?;
        if flags & !FLAGS != 0 || (count == 0 && flags != 0) {
            return Err(wire::damaged("the flags of a sum are not known"));
        }
        if count == 0 {
            return Ok(());
        }
        let digits = chunks(flags & NEGATIVE != 0, bytes)?;
        self.count = wire::add_counts(self.count, count)?;
        self.sum.add_digits(&digits);
        self.sum.add_special(flags & !NEGATIVE);
        Ok(())
    }

    fn count(&self) -> i64 {
        self.count
    }

    fn result(&self) -> f64 {
        self.sum.round()
    }

    fn heap(&self) -> usize {
        self.sum.heap()
    }
}
