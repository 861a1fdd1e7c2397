//! `sum` and `mean` of floats: exact, rounded once; the mean divides that sum once.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array};

use super::float_sum::{Digits, FloatSum, NAN, NEGATIVE_INFINITY, POSITIVE_INFINITY};
use super::select::Selection;
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::Result;

const ENCODING: u8 = 3;

/// The flag of a negative sum, beside those of values that are not finite.
const NEGATIVE: u8 = 8;

const FLAGS: u8 = NAN | POSITIVE_INFINITY | NEGATIVE_INFINITY | NEGATIVE;

#[derive(Clone, Default)]
struct Total {
    sum: FloatSum,
    count: i64,
}

pub(super) struct FloatSums {
    totals: Vec<Total>,
    /// Bytes of all sums on the heap.
    heap: usize,
    mean: bool,
}

impl FloatSums {
    pub(super) fn sum() -> Self {
        Self { totals: Vec::new(), heap: 0, mean: false }
    }

    pub(super) fn mean() -> Self {
        Self { totals: Vec::new(), heap: 0, mean: true }
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

impl Accumulator for FloatSums {
    fn ensure(&mut self, slots: usize) {
        if slots > self.totals.len() {
            self.totals.resize(slots, Total::default());
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
        Selection::of(slots.len(), filter, input)?.for_each_value(slots, input.values(), |slot, value| {
            let total = &mut totals[slot];
            grown += total.sum.add(value);
            total.count += 1;
        });
        self.heap += grown;
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let Total { sum, count } = &self.totals[slot as usize];
        let digits = sum.digits();
        out.push(sum.special() | if digits.negative { NEGATIVE } else { 0 });
        wire::put_varint(*count as u64, out);
        if *count > 0 {
            put_chunks(&digits, out);
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let flags = wire::byte(bytes)?;
        let count = wire::count(bytes)?;
        if flags & !FLAGS != 0 || (count == 0 && flags != 0) {
            return Err(wire::damaged("the flags of a sum are not known"));
        }
        if count == 0 {
            return Ok(());
        }
        let digits = chunks(flags & NEGATIVE != 0, bytes)?;
        let total = &mut self.totals[slot as usize];
        total.count = wire::add_counts(total.count, count)?;
        self.heap += total.sum.add_digits(&digits);
        total.sum.add_special(flags & !NEGATIVE);
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        let old = std::mem::take(&mut self.totals[slot as usize]);
        self.heap -= old.sum.heap();
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let results = slots.iter().map(|&slot| &self.totals[slot as usize]).map(|total| {
            let sum = (total.count > 0).then(|| total.sum.round());
            if self.mean { sum.map(|sum| sum / total.count as f64) } else { sum }
        });
        Ok(Arc::new(results.collect::<Float64Array>()))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.totals.capacity() * size_of::<Total>() + self.heap
    }
}
