//! Arithmetic. Integers are checked; `//` and `%` round towards −∞ as Python's do; floats are IEEE's, with one NaN.

use std::fmt::{Display, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::kernels::concat_elements::concat_elements_utf8;
use arrow::datatypes::DataType as ArrowType;

use super::Kernel;
use super::decimal::DecimalArithmetic;
use super::map::{f64s, i32s, i64s, map1, map2, texts, try_map1, try_map2};
use super::value::{Value, row_count};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::schema::DataType;

/// An operator on numbers (or `+` on texts).
#[derive(Debug)]
pub(super) struct Arithmetic {
    function: Function,
    kind: Kind,
    to: ArrowType,
    text: String,
}

#[derive(Debug)]
enum Kind {
    Int32,
    Int64,
    Float,
    Decimal(DecimalArithmetic),
    Text,
}

impl Arithmetic {
    pub(super) fn new(function: &Function, from: &[DataType], to: &DataType, text: &str) -> Result<Self> {
        let kind = match to {
            DataType::Int32 => Kind::Int32,
            DataType::Int64 => Kind::Int64,
            DataType::Float64 => Kind::Float,
            DataType::String => Kind::Text,
            DataType::Decimal { .. } => Kind::Decimal(DecimalArithmetic::new(from, to)?),
            _ => return Err(Error::internal(format!("arithmetic of {to}"))),
        };
        Ok(Self { function: function.clone(), kind, to: to.to_arrow(), text: text.to_owned() })
    }

    fn binary(&self, left: &Value, right: &Value) -> Result<ArrayRef> {
        match &self.kind {
            Kind::Int32 => {
                let f = i32::binary(&self.function)?;
                try_map2(i32s(left)?, i32s(right)?, &self.to, f, |row, l, r| self.failed2(row, &l, &r, r == 0))
            }
            Kind::Int64 => {
                let (left, right) = (i64s(left)?, i64s(right)?);
                let fail = |row, l: i64, r: i64| self.failed2(row, &l, &r, r == 0);
                // The common ones without a call through a pointer for each row.
                match self.function {
                    Function::Add => try_map2(left, right, &self.to, i64::checked_add, fail),
                    Function::Sub => try_map2(left, right, &self.to, i64::checked_sub, fail),
                    Function::Mul => try_map2(left, right, &self.to, i64::checked_mul, fail),
                    _ => try_map2(left, right, &self.to, i64::binary(&self.function)?, fail),
                }
            }
            Kind::Float => self.floats(left, right),
            Kind::Decimal(decimal) => {
                decimal.binary(&self.function, left, right, &self.to, |row, l, r, zero| self.failed2(row, &l, &r, zero))
            }
            Kind::Text => {
                let rows = row_count(&[left.clone(), right.clone()]);
                let (left, right) = (left.clone().expand(rows)?, right.clone().expand(rows)?);
                let (left, right) = (Value::rows(left), Value::rows(right));
                let joined: StringArray = concat_elements_utf8(texts(&left)?, texts(&right)?)?;
                Ok(Arc::new(joined))
            }
        }
    }

    fn floats(&self, left: &Value, right: &Value) -> Result<ArrayRef> {
        let (left, right) = (f64s(left)?, f64s(right)?);
        match self.function {
            Function::Add => map2(left, right, &self.to, |l, r| one_nan(l + r)),
            Function::Sub => map2(left, right, &self.to, |l, r| one_nan(l - r)),
            Function::Mul => map2(left, right, &self.to, |l, r| one_nan(l * r)),
            Function::Div => map2(left, right, &self.to, |l, r| one_nan(l / r)),
            Function::FloorDiv => map2(left, right, &self.to, |l, r| one_nan(floor_div_mod(l, r).0)),
            Function::Mod => map2(left, right, &self.to, |l, r| one_nan(floor_div_mod(l, r).1)),
            Function::Pow => map2(left, right, &self.to, |l, r| one_nan(l.powf(r))),
            _ => Err(self.unknown()),
        }
    }

    fn unary(&self, arg: &Value) -> Result<ArrayRef> {
        match (&self.function, &self.kind) {
            (Function::Round { .. }, Kind::Int32 | Kind::Int64) => Ok(arg.array().clone()),
            (Function::Neg, Kind::Int32) => try_map1(i32s(arg)?, &self.to, i32::checked_neg, |row, v| self.failed1(row, &v)),
            (Function::Abs, Kind::Int32) => try_map1(i32s(arg)?, &self.to, i32::checked_abs, |row, v| self.failed1(row, &v)),
            (Function::Neg, Kind::Int64) => try_map1(i64s(arg)?, &self.to, i64::checked_neg, |row, v| self.failed1(row, &v)),
            (Function::Abs, Kind::Int64) => try_map1(i64s(arg)?, &self.to, i64::checked_abs, |row, v| self.failed1(row, &v)),
            (Function::Neg, Kind::Float) => map1(f64s(arg)?, &self.to, |v| one_nan(-v)),
            (Function::Abs, Kind::Float) => map1(f64s(arg)?, &self.to, |v| one_nan(v.abs())),
            (Function::Round { decimals }, Kind::Float) => {
                let mut text = String::new();
                try_map1(f64s(arg)?, &self.to, |v| Some(round_float(v, *decimals, &mut text)), |row, v| self.failed1(row, &v))
            }
            (function, Kind::Decimal(decimal)) => decimal.unary(function, arg, &self.to, |row, v| self.failed1(row, &v)),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Error {
        Error::internal(format!("{}: no such arithmetic on {}", self.text, self.to))
    }

    fn failed2(&self, row: usize, left: &dyn Display, right: &dyn Display, zero: bool) -> Error {
        let operator = self.function.method();
        if zero && matches!(self.function, Function::Div | Function::FloorDiv | Function::Mod) {
            return Error::data("division_by_zero", format!("{}: {left} {operator} {right} divides by zero", self.text))
                .with("row", row)
                .hint("leave such rows out, or guard it: kappa.when(divisor != 0).then(...).otherwise(None)");
        }
        if matches!((&self.function, &self.kind), (Function::Pow, _)) && right.to_string().starts_with('-') {
            return Error::data("negative_power", format!("{}: {left} ** {right} is not an integer", self.text))
                .with("row", row)
                .hint("cast to Float64 first");
        }
        Error::data("overflow", format!("{}: {left} {operator} {right} does not fit {}", self.text, self.type_name()))
            .with("row", row)
            .hint("cast an operand to a wider type first")
    }

    fn failed1(&self, row: usize, value: &dyn Display) -> Error {
        Error::data("overflow", format!("{}: the result for {value} does not fit {}", self.text, self.type_name()))
            .with("row", row)
            .hint("cast to a wider type first")
    }

    fn type_name(&self) -> String {
        match &self.to {
            ArrowType::Decimal128(precision, scale) => format!("Decimal({precision}, {scale})"),
            other => other.to_string(),
        }
    }
}

impl Kernel for Arithmetic {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let array = match args {
            [arg] => self.unary(arg)?,
            [left, right] => self.binary(left, right)?,
            _ => return Err(self.unknown()),
        };
        Ok(Value::like(array, args))
    }

    fn fallible(&self) -> bool {
        match self.kind {
            Kind::Int32 | Kind::Int64 => !matches!(self.function, Function::Round { .. }),
            Kind::Decimal(_) => true,
            Kind::Float | Kind::Text => false,
        }
    }
}

/// NaNs differ in sign and payload from one machine to another; results have one.
#[inline]
fn one_nan(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// Python's `//` and `%`: the remainder has the sign of the divisor, and both belong together.
pub(super) fn floor_div_mod(left: f64, right: f64) -> (f64, f64) {
    if right == 0.0 {
        return (left / right, f64::NAN);
    }
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest != 0.0 && (rest < 0.0) != (right < 0.0) {
        rest += right;
        quotient -= 1.0;
    } else if rest == 0.0 {
        rest = 0.0_f64.copysign(right);
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(left / right), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

/// Rounded to so many digits after the point, half to even: of the float's exact value, through its decimal digits.
fn round_float(value: f64, decimals: u32, text: &mut String) -> f64 {
    if !value.is_finite() {
        return one_nan(value);
    }
    if decimals == 0 {
        return value.round_ties_even();
    }
    // Beyond 2^52 there are no fractions, and no float has more digits than these.
    if value.abs() >= 4_503_599_627_370_496.0 || decimals > 1_074 {
        return value;
    }
    text.clear();
    match write!(text, "{value:.*}", decimals as usize) {
        Ok(()) => text.parse().unwrap_or(value),
        Err(_) => value,
    }
}

/// Integers with the operators that are not in the standard library in this form.
trait Integer: Sized {
    fn binary(function: &Function) -> Result<fn(Self, Self) -> Option<Self>>;
}

macro_rules! integer {
    ($type:ty) => {
        impl Integer for $type {
            fn binary(function: &Function) -> Result<fn(Self, Self) -> Option<Self>> {
                Ok(match function {
                    Function::Add => Self::checked_add,
                    Function::Sub => Self::checked_sub,
                    Function::Mul => Self::checked_mul,
                    Function::FloorDiv => |l, r| {
                        let quotient = l.checked_div(r)?;
                        let inexact = l % r != 0;
                        Some(if inexact && (l < 0) != (r < 0) { quotient - 1 } else { quotient })
                    },
                    Function::Mod => |l, r| {
                        let rest = if r == 0 { None } else { Some(l.wrapping_rem(r)) }?;
                        Some(if rest != 0 && (rest < 0) != (r < 0) { rest + r } else { rest })
                    },
                    Function::Pow => |l, r| match u32::try_from(r) {
                        Ok(r) => l.checked_pow(r),
                        Err(_) if r < 0 => None,
                        Err(_) => match l {
                            0 | 1 => Some(l),
                            -1 => Some(if r % 2 == 0 { 1 } else { -1 }),
                            _ => None,
                        },
                    },
                    other => return Err(Error::internal(format!("{} on integers", other.method()))),
                })
            }
        }
    };
}
integer!(i32);
integer!(i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float_division_is_pythons() {
        // From CPython: divmod(x, y).
        for (left, right, quotient, rest) in [
            (7.5, 2.0, 3.0, 1.5),
            (-7.5, 2.0, -4.0, 0.5),
            (7.5, -2.0, -4.0, -0.5),
            (1.0, 0.1, 9.0, 0.099_999_999_999_999_95),
            (-5.0, f64::INFINITY, -1.0, f64::INFINITY),
            (6.0, 3.0, 2.0, 0.0),
            (-0.5, 1.0, -1.0, 0.5),
        ] {
            assert_eq!(floor_div_mod(left, right), (quotient, rest), "{left} {right}");
        }
        assert_eq!(floor_div_mod(1.0, 0.0).0, f64::INFINITY);
        assert!(floor_div_mod(1.0, 0.0).1.is_nan());
    }

    #[test]
    fn rounding_is_of_the_exact_value() {
        let mut text = String::new();
        // From CPython: round(x, n).
        for (value, decimals, expected) in [
            (2.675, 2, 2.67),
            (0.25, 1, 0.2),
            (0.75, 1, 0.8),
            (2.5, 0, 2.0),
            (-1.5, 0, -2.0),
            (1.115, 2, 1.11),
            (1e300, 2, 1e300),
            (0.1, 400, 0.1),
        ] {
            assert_eq!(round_float(value, decimals, &mut text), expected, "{value} {decimals}");
        }
    }

    #[test]
    fn integer_division_is_pythons() {
        let (div, rest) = (i64::binary(&Function::FloorDiv).unwrap(), i64::binary(&Function::Mod).unwrap());
        for (l, r, q, m) in [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -3, -2, 0)] {
            assert_eq!((div(l, r), rest(l, r)), (Some(q), Some(m)), "{l} {r}");
        }
        assert_eq!((div(i64::MIN, -1), rest(i64::MIN, -1)), (None, Some(0)));
        assert_eq!((div(1, 0), rest(1, 0)), (None, None));
        let pow = i64::binary(&Function::Pow).unwrap();
        assert_eq!([pow(2, 62), pow(2, 63), pow(-1, i64::MAX), pow(2, -1)], [Some(1 << 62), None, Some(-1), None]);
    }
}
