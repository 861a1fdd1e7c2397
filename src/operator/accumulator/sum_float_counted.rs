//! `sum` and `mean` of floats that can be taken back: as `sum_float`, but values that are not finite are counted, so that
//! the sum is finite again when the last of them goes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array};

use super::float_sum::{Digits, FloatSum};
use super::select::Selection;
use super::sum_float::{chunks, put_chunks};
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::Result;

const ENCODING: u8 = 7;

/// How many values were NaN, +∞ and −∞.
type Special = [i64; 3];

#[derive(Clone, Default)]
struct Total {
    sum: FloatSum,
    count: i64,
    special: Special,
}

impl Total {
    fn result(&self) -> f64 {
        match self.special {
            [0, 0, 0] => self.sum.round(),
            [0, _, 0] => f64::INFINITY,
            [0, 0, _] => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }
}

/// What a partial says.
struct Partial {
    count: i64,
    special: Special,
    digits: Digits,
}

impl Partial {
    /// Takes a partial off the front of `bytes`; `None`: of no values.
    fn read(bytes: &mut &[u8]) -> Result<Option<Self>> {
        let count = wire::count(bytes)?;
        if count == 0 {
            return Ok(None);
        }
        let special = [wire::count(bytes)?, wire::count(bytes)?, wire::count(bytes)?];
        let negative = wire::present(bytes)?;
        let digits = chunks(negative, bytes)?;
        is_consistent(count, &special, &digits)?;
        Ok(Some(Self { count, special, digits }))
    }
}

/// Whether there are so many values at all, and nothing is left of finite ones where there are none.
fn is_consistent(count: i64, special: &Special, digits: &Digits) -> Result<()> {
    match special.iter().try_fold(count, |left, some| left.checked_sub(*some)) {
        Some(1..) => Ok(()),
        Some(0) if digits.is_zero() => Ok(()),
        _ => Err(wire::damaged("the values of a sum are not as many as it says")),
    }
}

pub(super) struct CountedFloatSums {
    totals: Vec<Total>,
    /// Bytes of all sums on the heap.
    heap: usize,
    mean: bool,
}

impl CountedFloatSums {
    pub(super) fn new(mean: bool) -> Self {
        Self { totals: Vec::new(), heap: 0, mean }
    }
}

impl Accumulator for CountedFloatSums {
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
            total.count += 1;
            if value.is_finite() {
                grown += total.sum.add(value);
            } else {
                let kind = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
                total.special[kind] += 1;
            }
        });
        self.heap += grown;
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let Total { sum, count, special } = &self.totals[slot as usize];
        wire::put_varint(*count as u64, out);
        if *count > 0 {
            special.iter().for_each(|some| wire::put_varint(*some as u64, out));
            let digits = sum.digits();
            out.push(u8::from(digits.negative));
            put_chunks(&digits, out);
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let Some(partial) = Partial::read(bytes)? else { return Ok(()) };
        let total = &mut self.totals[slot as usize];
        // As many as there are in all at most: where the count fits, the others do.
        total.count = wire::add_counts(total.count, partial.count)?;
        total.special.iter_mut().zip(partial.special).for_each(|(to, more)| *to += more);
        self.heap += total.sum.add_digits(&partial.digits);
        Ok(())
    }

    fn retract(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let Some(partial) = Partial::read(bytes)? else { return Ok(()) };
        let total = &mut self.totals[slot as usize];
        let count = wire::subtract_counts(total.count, partial.count)?;
        let mut special = total.special;
        for (left, less) in special.iter_mut().zip(partial.special) {
            *left = wire::subtract_counts(*left, less)?;
        }
        let (before, mut sum) = (total.sum.heap(), total.sum.clone());
        sum.subtract_digits(partial.digits);
        is_consistent(count, &special, &sum.digits())?;
        // An empty sum gives back what it needed.
        let sum = if count == 0 { FloatSum::default() } else { sum };
        self.heap = self.heap + sum.heap() - before;
        *total = Total { sum, count, special };
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        let old = std::mem::take(&mut self.totals[slot as usize]);
        self.heap -= old.sum.heap();
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let results = slots.iter().map(|&slot| &self.totals[slot as usize]).map(|total| {
            let sum = (total.count > 0).then(|| total.result());
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
