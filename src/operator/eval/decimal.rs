//! Arithmetic of decimals, in 128 and where needed in 256 bits: exact, except that `/` is rounded half to even.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType as ArrowType, i256};

use super::map::{i128s, try_map1, try_map2};
use super::value::Value;
use crate::error::{Error, Result};
use crate::plan::decimal::{divide_half_even, fits, format, pow10};
use crate::plan::expr::Function;
use crate::plan::schema::DataType;

/// The scales of an operation's arguments and result.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecimalArithmetic {
    left: i8,
    right: i8,
    scale: i8,
    precision: u8,
}

impl DecimalArithmetic {
    pub(super) fn new(from: &[DataType], to: &DataType) -> Result<Self> {
        let scale_of = |data_type: Option<&DataType>| match data_type {
            Some(DataType::Decimal { scale, .. }) => Ok(*scale),
            _ => Err(Error::internal("decimal arithmetic without decimals")),
        };
        let left = scale_of(from.first())?;
        let right = if from.len() > 1 { scale_of(from.last())? } else { left };
        match to {
            DataType::Decimal { precision, scale } => Ok(Self { left, right, scale: *scale, precision: *precision }),
            _ => Err(Error::internal("decimal arithmetic to another type")),
        }
    }

    /// `fail` gets the row, both values as text, and whether the divisor is zero.
    pub(super) fn binary(
        self,
        function: &Function,
        left: &Value,
        right: &Value,
        to: &ArrowType,
        fail: impl Fn(usize, String, String, bool) -> Error,
    ) -> Result<ArrayRef> {
        let (l, r) = (i128s(left)?, i128s(right)?);
        let fail = |row, l, r| fail(row, format(l, self.left), format(r, self.right), r == 0);
        let factor = |from: i8| pow10(u32::from(self.scale.abs_diff(from))).unwrap_or(i128::MAX);
        let (up_left, up_right) = (factor(self.left), factor(self.right));
        let fit = |value: i128| fits(value, self.precision).then_some(value);
        match function {
            Function::Add => {
                let f = |l: i128, r: i128| fit(l.checked_mul(up_left)?.checked_add(r.checked_mul(up_right)?)?);
                try_map2(l, r, to, f, fail)
            }
            Function::Sub => {
                let f = |l: i128, r: i128| fit(l.checked_mul(up_left)?.checked_sub(r.checked_mul(up_right)?)?);
                try_map2(l, r, to, f, fail)
            }
            Function::Mul => try_map2(l, r, to, |l, r| fit(l.checked_mul(r)?), fail),
            Function::Div => {
                let up = i256_pow10(i32::from(self.scale) + i32::from(self.right) - i32::from(self.left));
                try_map2(l, r, to, |l, r| fit(divide(i256::from_i128(l).checked_mul(up?)?, i256::from_i128(r))?), fail)
            }
            Function::FloorDiv | Function::Mod => {
                let common = self.left.max(self.right);
                let up = |from: i8| i256_pow10(i32::from(common) - i32::from(from));
                let (up_left, up_right) = (up(self.left), up(self.right));
                let modulo = *function == Function::Mod;
                let f = |l, r| {
                    let (l, r) = (i256::from_i128(l).checked_mul(up_left?)?, i256::from_i128(r).checked_mul(up_right?)?);
                    let (quotient, rest) = floor(l, r)?;
                    fit(if modulo { rest } else { quotient }.to_i128()?)
                };
                try_map2(l, r, to, f, fail)
            }
            other => Err(Error::internal(format!("{} on decimals", other.method()))),
        }
    }

    pub(super) fn unary(
        self,
        function: &Function,
        arg: &Value,
        to: &ArrowType,
        fail: impl Fn(usize, String) -> Error,
    ) -> Result<ArrayRef> {
        let values = i128s(arg)?;
        let fail = |row, v| fail(row, format(v, self.left));
        let fit = |value: i128| fits(value, self.precision).then_some(value);
        match function {
            Function::Neg => try_map1(values, to, |v: i128| v.checked_neg(), fail),
            Function::Abs => try_map1(values, to, |v: i128| v.checked_abs(), fail),
            Function::Round { decimals } => {
                let lost = u32::from(self.left.unsigned_abs()).saturating_sub(*decimals);
                let step = pow10(lost).ok_or_else(|| Error::internal("a scale above 38"))?;
                try_map1(values, to, |v| fit(divide_half_even(v, step).checked_mul(step)?), fail)
            }
            other => Err(Error::internal(format!("{} on a decimal", other.method()))),
        }
    }
}

fn i256_pow10(exponent: i32) -> Option<i256> {
    i256::from_i128(10).checked_pow(u32::try_from(exponent).ok()?)
}

/// Rounded half to even.
fn divide(left: i256, right: i256) -> Option<i128> {
    let (quotient, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
    let twice = rest.checked_abs()?.checked_mul(i256::from_i128(2))?;
    let size = right.checked_abs()?;
    let quotient = quotient.to_i128()?;
    let up = twice > size || (twice == size && quotient % 2 != 0);
    if !up {
        return Some(quotient);
    }
    quotient.checked_add(if left.is_negative() == right.is_negative() { 1 } else { -1 })
}

/// The quotient rounded towards −∞ and the remainder that belongs to it.
fn floor(left: i256, right: i256) -> Option<(i256, i256)> {
    let (quotient, rest) = (left.checked_div(right)?, left.checked_rem(right)?);
    if rest != i256::ZERO && rest.is_negative() != right.is_negative() {
        return Some((quotient.checked_sub(i256::ONE)?, rest.checked_add(right)?));
    }
    Some((quotient, rest))
}
