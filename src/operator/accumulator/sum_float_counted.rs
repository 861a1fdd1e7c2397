//! Sums of floats that can be taken back: values that are not finite are counted, so that the sum is finite again when the
//! last of them goes.

use super::float_sum::{Digits, FloatSum};
use super::sum_float::{FloatTotal, chunks, put_chunks};
use super::wire;
use crate::error::Result;

/// How many values were NaN, +∞ and −∞.
type Special = [i64; 3];

/// A sum that knows how many values of each kind it has.
#[derive(Clone, Default)]
pub(super) struct Counted {
    sum: FloatSum,
    count: i64,
    special: Special,
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

impl FloatTotal for Counted {
    const ENCODING: u8 = 7;

    #[inline]
    fn add(&mut self, value: f64) -> usize {
        self.count += 1;
        if value.is_finite() {
            return self.sum.add(value);
        }
        let kind = if value.is_nan() { 0 } else { 1 + usize::from(value < 0.0) };
        self.special[kind] += 1;
        0
    }

    fn encode(&self, out: &mut Vec<u8>) {
        wire::put_varint(self.count as u64, out);
        if self.count > 0 {
            self.special.iter().for_each(|some| wire::put_varint(*some as u64, out));
            let digits = self.sum.digits();
            out.push(u8::from(digits.negative));
            put_chunks(&digits, out);
        }
    }

    fn merge(&mut self, bytes: &mut &[u8]) -> Result<()> {
        let Some(partial) = Partial::read(bytes)? else { return Ok(()) };
        // As many as there are in all at most: where the count fits, the others do.
        self.count = wire::add_counts(self.count, partial.count)?;
        self.special.iter_mut().zip(partial.special).for_each(|(to, more)| *to += more);
        self.sum.add_digits(&partial.digits);
        Ok(())
    }

    fn retract(&mut self, bytes: &mut &[u8]) -> Result<()> {
        let Some(partial) = Partial::read(bytes)? else { return Ok(()) };
        let count = wire::subtract_counts(self.count, partial.count)?;
        let mut special = self.special;
        for (left, less) in special.iter_mut().zip(partial.special) {
            *left = wire::subtract_counts(*left, less)?;
        }
        let mut sum = self.sum.clone();
        sum.subtract_digits(partial.digits);
        is_consistent(count, &special, &sum.digits())?;
        // An empty sum gives back what it needed.
        let sum = if count == 0 { FloatSum::default() } else { sum };
        *self = Self { sum, count, special };
        Ok(())
    }

    fn count(&self) -> i64 {
        self.count
    }

    fn result(&self) -> f64 {
        match self.special {
            [0, 0, 0] => self.sum.round(),
            [0, _, 0] => f64::INFINITY,
            [0, 0, _] => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }

    fn heap(&self) -> usize {
        self.sum.heap()
    }
}
