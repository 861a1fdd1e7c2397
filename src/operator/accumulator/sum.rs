//! `sum` and `mean` of integers and decimals: added up exactly, in a type that rows cannot overflow.
//!
//! A mean is the exact sum, rounded once to a float, divided by count × 10^scale, rounded once to a float: the quotient is
//! the same bits in every order, and correctly rounded as long as both are below 2^53.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array};
use arrow::datatypes::i256;

use super::select::Selection;
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::{Error, Result};
use crate::plan::expr::AggregateFunction;
use crate::plan::lower::AggregateCall;
use crate::plan::schema::DataType;

const ENCODING: u8 = 2;

/// Digits of the widest decimal type.
const DIGITS: u32 = 38;

/// The accumulator of a `sum` or `mean` and the type of its result, unless values of this type cannot be added up so.
pub(super) fn create(call: &AggregateCall, input: &DataType) -> Option<(Box<dyn Accumulator>, DataType)> {
    let mean = call.function == AggregateFunction::Mean;
    let scale = if let DataType::Decimal { scale, .. } = input { *scale } else { 0 };
    let shape = Shape { column: call.name.clone(), input: input.clone(), mean, scale };
    let (accumulator, sum_type): (Box<dyn Accumulator>, _) = match input {
        DataType::Int32 | DataType::Int64 => (Box::new(Sums::<i128> { totals: Vec::new(), shape }), DataType::Int64),
        DataType::Decimal { scale, .. } => {
            let sum_type = DataType::Decimal { precision: DIGITS as u8, scale: *scale };
            (Box::new(Sums::<i256> { totals: Vec::new(), shape }), sum_type)
        }
        _ => return None,
    };
    Some((accumulator, if mean { DataType::Float64 } else { sum_type }))
}

/// What all slots have in common.
struct Shape {
    column: String,
    input: DataType,
    mean: bool,
    scale: i8,
}

/// An integer wide enough for the sum of any number of rows.
trait Wide: Copy + Send {
    const ZERO: Self;
    fn put(self, out: &mut Vec<u8>);
    fn read(bytes: &mut &[u8]) -> Result<Self>;
    fn checked_add(self, other: Self) -> Option<Self>;
    fn checked_sub(self, other: Self) -> Option<Self>;
    fn is_zero(self) -> bool;
    fn to_f64(self) -> f64;
    /// Adds rows to their slots.
    fn add(totals: &mut [Total<Self>], slots: &[u32], input: &ArrayRef, rows: &Selection, shape: &Shape) -> Result<()>;
    /// The column of these sums.
    fn sums(totals: impl Iterator<Item = Option<Self>>, shape: &Shape) -> Result<ArrayRef>;
}

#[derive(Clone, Copy)]
struct Total<S> {
    sum: S,
    count: i64,
}

impl<S: Wide> Total<S> {
    fn read(bytes: &mut &[u8]) -> Result<Self> {
        let (count, sum) = (wire::count(bytes)?, S::read(bytes)?);
        Self { sum, count }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.count == 0 && !self.sum.is_zero() {
            return Err(wire::damaged("a sum of no values is not zero"));
        }
        Ok(self)
    }
}

struct Sums<S> {
    totals: Vec<Total<S>>,
    shape: Shape,
}

impl<S: Wide> Accumulator for Sums<S> {
    fn ensure(&mut self, slots: usize) {
        if slots > self.totals.len() {
            self.totals.resize(slots, Total { sum: S::ZERO, count: 0 });
        }
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        _: &RowOrder<'_>,
    ) -> Result<()> {
        let input = required(input)?;
        let rows = Selection::of(slots.len(), filter, input)?;
        S::add(&mut self.totals, slots, input, &rows, &self.shape)
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let Total { sum, count } = self.totals[slot as usize];
        wire::put_varint(count as u64, out);
        sum.put(out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let Total { sum, count } = Total::<S>::read(bytes)?;
        let total = &mut self.totals[slot as usize];
        let sum = total.sum.checked_add(sum).ok_or_else(|| wire::damaged("sums are out of range"))?;
        *total = Total { sum, count: wire::add_counts(total.count, count)? };
        Ok(())
    }

    fn retract(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        let less = Total::<S>::read(bytes)?;
        let total = &mut self.totals[slot as usize];
        let sum = total.sum.checked_sub(less.sum).ok_or_else(|| wire::damaged("sums are out of range"))?;
        *total = Total { sum, count: wire::subtract_counts(total.count, less.count)? }.checked()?;
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        self.totals[slot as usize] = Total { sum: S::ZERO, count: 0 };
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let totals = slots.iter().map(|&slot| self.totals[slot as usize]).map(|total| (total.count > 0).then_some(total));
        if !self.shape.mean {
            return S::sums(totals.map(|total| total.map(|total| total.sum)), &self.shape);
        }
        let unit = power_of_ten(self.shape.scale);
        let mean = |total: Total<S>| total.sum.to_f64() / i256::from_i128(total.count.into()).wrapping_mul(unit).to_f64();
        Ok(Arc::new(totals.map(|total| total.map(mean)).collect::<Float64Array>()))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.totals.capacity() * size_of::<Total<S>>()
    }
}

impl Wide for i128 {
    const ZERO: Self = 0;

    fn put(self, out: &mut Vec<u8>) {
        wire::put_signed(&self.to_le_bytes(), out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self> {
        Ok(Self::from_le_bytes(wire::signed(bytes)?))
    }

    fn checked_add(self, other: Self) -> Option<Self> {
        i128::checked_add(self, other)
    }

    fn checked_sub(self, other: Self) -> Option<Self> {
        i128::checked_sub(self, other)
    }

    fn is_zero(self) -> bool {
        self == 0
    }

    fn to_f64(self) -> f64 {
        self as f64
    }

    fn add(totals: &mut [Total<Self>], slots: &[u32], input: &ArrayRef, rows: &Selection, shape: &Shape) -> Result<()> {
        // 2^63 rows of 2^63 each are 2^126: merged partials are checked, single rows need not be.
        let mut add = |slot: usize, value: i64| {
            let total = &mut totals[slot];
            total.sum = total.sum.wrapping_add(value.into());
            total.count += 1;
        };
        match shape.input {
            DataType::Int32 => {
                rows.for_each_value(slots, typed::<Int32Array>(input)?.values(), |slot, value| add(slot, value.into()));
            }
            _ => rows.for_each_value(slots, typed::<Int64Array>(input)?.values(), add),
        }
        Ok(())
    }

    fn sums(totals: impl Iterator<Item = Option<Self>>, shape: &Shape) -> Result<ArrayRef> {
        let fit = |sum: i128| i64::try_from(sum).map_err(|_| overflow(shape, &sum.to_string(), "Int64"));
        let sums = totals.map(|sum| sum.map(fit).transpose()).collect::<Result<Int64Array>>()?;
        Ok(Arc::new(sums))
    }
}

impl Wide for i256 {
    const ZERO: Self = i256::ZERO;

    fn put(self, out: &mut Vec<u8>) {
        wire::put_signed(&self.to_le_bytes(), out);
    }

    fn read(bytes: &mut &[u8]) -> Result<Self> {
        Ok(Self::from_le_bytes(wire::signed(bytes)?))
    }

    fn checked_add(self, other: Self) -> Option<Self> {
        i256::checked_add(self, other)
    }

    fn checked_sub(self, other: Self) -> Option<Self> {
        i256::checked_sub(self, other)
    }

    fn is_zero(self) -> bool {
        self == i256::ZERO
    }

    fn to_f64(self) -> f64 {
        // MIN is its own wrapped magnitude: 2^255, read without a sign.
        let (low, high) = self.wrapping_abs().to_parts();
        let magnitude = magnitude_to_f64(high as u128, low);
        if self.is_negative() { -magnitude } else { magnitude }
    }

    fn add(totals: &mut [Total<Self>], slots: &[u32], input: &ArrayRef, rows: &Selection, _: &Shape) -> Result<()> {
        rows.for_each_value(slots, typed::<Decimal128Array>(input)?.values(), |slot, value| {
            let total = &mut totals[slot];
            total.sum = total.sum.wrapping_add(i256::from_i128(value));
            total.count += 1;
        });
        Ok(())
    }

    fn sums(totals: impl Iterator<Item = Option<Self>>, shape: &Shape) -> Result<ArrayRef> {
        let limit = 10_i128.pow(DIGITS);
        let fit = |sum: i256| {
            let fits = sum.to_i128().filter(|sum| (1 - limit..limit).contains(sum));
            fits.ok_or_else(|| overflow(shape, &sum.to_string(), &format!("Decimal({DIGITS}, {})", shape.scale)))
        };
        let sums = totals.map(|sum| sum.map(fit).transpose()).collect::<Result<Decimal128Array>>()?;
        Ok(Arc::new(sums.with_precision_and_scale(DIGITS as u8, shape.scale)?))
    }
}

fn overflow(shape: &Shape, sum: &str, output: &str) -> Error {
    let sum = with_point(sum, shape.scale);
    Error::data("sum_overflow", format!("column {}: the sum {sum} does not fit {output}", shape.column))
        .hint("sum a column of smaller unit, or cast it to Float64 before the sum")
}

/// Unscaled digits as the number that they stand for.
fn with_point(unscaled: &str, scale: i8) -> String {
    let places = usize::from(scale.max(0).unsigned_abs());
    if places == 0 {
        return unscaled.to_owned();
    }
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    // At least one digit before the point.
    let digits = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{sign}{whole}.{fraction}")
}

/// 10^scale, for scales of decimals that fit 38 digits.
fn power_of_ten(scale: i8) -> i256 {
    i256::from_i128(10_i128.pow(u32::from(scale.max(0).unsigned_abs()).min(DIGITS)))
}

/// high × 2^128 + low, rounded to the nearest float, ties to even.
fn magnitude_to_f64(high: u128, low: u128) -> f64 {
    if high == 0 {
        return low as f64;
    }
    // The 128 highest bits; a bit below them only matters as being there, which the lowest of them can say.
    let up = high.leading_zeros();
    let top = if up == 0 { high } else { (high << up) | (low >> (128 - up)) };
    let rest = if up == 0 { low } else { low << up };
    let rounded = (top | u128::from(rest != 0)) as f64;
    rounded * 2_f64.powi(128 - up as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_point() {
        let cases = [("123", 0, "123"), ("123", 2, "1.23"), ("-123", 3, "-0.123"), ("-5", 2, "-0.05"), ("0", 1, "0.0")];
        cases.iter().for_each(|(unscaled, scale, expected)| assert_eq!(with_point(unscaled, *scale), *expected));
    }

    #[test]
    fn wide_integers_round_to_even() {
        let big = i256::ONE << 200;
        let unit = i256::ONE << 148; // the last place of 2^200
        let half = i256::ONE << 147;
        let f = |value: i256| Wide::to_f64(value);
        assert_eq!(f(big), 2_f64.powi(200));
        assert_eq!(f(big.wrapping_add(half)), 2_f64.powi(200));
        assert_eq!(f(big.wrapping_add(half).wrapping_add(i256::ONE)), 2_f64.powi(200) + 2_f64.powi(148));
        assert_eq!(f(big.wrapping_add(unit).wrapping_add(half)), 2_f64.powi(200) + 2_f64.powi(149));
        assert_eq!(f(big.wrapping_add(unit).wrapping_add(half).wrapping_neg()), -2_f64.powi(200) - 2_f64.powi(149));
        assert_eq!(f(i256::MIN), -2_f64.powi(255));
        assert_eq!(f(i256::MINUS_ONE), -1.0);
        assert_eq!(f(i256::from_i128(i128::MAX)), 2_f64.powi(127));
    }
}
