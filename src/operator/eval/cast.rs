//! Conversions. A value that does not fit stops the job if the cast is strict, and becomes null if not.
//!
//! - Among integers: the same number. Integer to Float64: rounded to nearest where a float is too coarse (above 2^53).
//! - Float64 to integer or decimal, decimal to integer or to a smaller scale: only if nothing is lost (round first).
//!   A float is the decimal that its shortest text says: 0.1 is 0.1.
//! - Timestamps: to a coarser unit rounded down, to a finer one exact. Timestamp to Date: the day in UTC; Date to
//!   Timestamp: midnight UTC. Integer to Timestamp: a count of its unit.
//! - Boolean to numbers: 1 and 0. Text: see [`super::cast_text`].

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType as ArrowType;

use super::map::{Primitive, Slice, booleans, build, f64s, i32s, i64s, i128s, texts};
use super::value::Value;
use super::{Kernel, cast_text};
use crate::error::{Error, Result};
use crate::plan::decimal;
use crate::plan::schema::{DataType, TimeUnit};

const SECONDS_PER_DAY: i64 = 86_400;

/// A conversion from one type to another.
#[derive(Debug)]
pub(super) struct Cast {
    from: DataType,
    to: DataType,
    strict: bool,
    text: String,
}

impl Cast {
    pub(super) fn new(from: &DataType, to: &DataType, strict: bool, text: &str) -> Self {
        Self { from: from.clone(), to: to.clone(), strict, text: text.to_owned() }
    }

    fn failed(&self, row: usize, value: &str) -> Error {
        let hint = match (&self.from, &self.to) {
            (DataType::Float64 | DataType::Decimal { .. }, DataType::Int32 | DataType::Int64 | DataType::Decimal { .. }) => {
                "digits would be lost: round first, with .round(...), or write cast(..., strict=False) for null"
            }
            _ => "write cast(..., strict=False) for null in its place",
        };
        let message = format!("{}: {value} is {}, which does not fit {}", self.text, self.from, self.to);
        Error::data("cast", message).with("row", row).hint(hint)
    }

    /// Plain values to plain values.
    fn plain<T: Copy, O: Primitive>(
        &self,
        arg: Slice<'_, T>,
        show: impl Fn(T) -> String,
        f: impl Fn(T) -> Option<O>,
    ) -> Result<ArrayRef> {
        let values = arg.values.iter().enumerate().map(|(row, value)| arg.is_valid(row).then_some(*value));
        self.convert(values, show, f)
    }

    fn convert<T: Copy, O: Primitive>(
        &self,
        values: impl ExactSizeIterator<Item = Option<T>>,
        show: impl Fn(T) -> String,
        f: impl Fn(T) -> Option<O>,
    ) -> Result<ArrayRef> {
        let mut out = Vec::with_capacity(values.len());
        let mut valid = Vec::with_capacity(values.len());
        for (row, value) in values.enumerate() {
            let converted = value.and_then(&f);
            if let (Some(value), None, true) = (value, converted, self.strict) {
                return Err(self.failed(row, &show(value)));
            }
            valid.push(converted.is_some());
            out.push(converted.unwrap_or_default());
        }
        let nulls = Some(NullBuffer::from(valid)).filter(|nulls| nulls.null_count() > 0);
        build(out, nulls, &self.to.to_arrow())
    }

    fn integers<T: Copy + Into<i64> + ToString>(&self, arg: Slice<'_, T>) -> Result<ArrayRef> {
        let show = |v: T| v.to_string();
        match &self.to {
            DataType::Int32 => self.plain(arg, show, |v| i32::try_from(v.into()).ok()),
            DataType::Int64 | DataType::Timestamp(_) => self.plain(arg, show, |v| Some(v.into())),
            DataType::Float64 => self.plain(arg, show, |v| Some(v.into() as f64)),
            DataType::Decimal { precision, scale } => self.plain(arg, show, |v| {
                decimal::rescale(i128::from(v.into()), 0, *scale).filter(|v| decimal::fits(*v, *precision))
            }),
            _ => Err(self.unknown()),
        }
    }

    fn floats(&self, arg: Slice<'_, f64>) -> Result<ArrayRef> {
        let show = |v: f64| format!("{v:?}");
        match &self.to {
            DataType::Int32 => self.plain(arg, show, |v| float_to_int(v).and_then(|v| i32::try_from(v).ok())),
            DataType::Int64 => self.plain(arg, show, float_to_int),
            DataType::Decimal { precision, scale } => self.plain(arg, show, |v| {
                v.is_finite().then(|| decimal::parse(ryu::Buffer::new().format_finite(v), *precision, *scale)).flatten()
            }),
            _ => Err(self.unknown()),
        }
    }

    fn decimals(&self, arg: Slice<'_, i128>, from: i8) -> Result<ArrayRef> {
        let show = |v: i128| decimal::format(v, from);
        let whole = |v: i128| decimal::rescale(v, from, 0);
        match &self.to {
            DataType::Int32 => self.plain(arg, show, |v| i32::try_from(whole(v)?).ok()),
            DataType::Int64 => self.plain(arg, show, |v| i64::try_from(whole(v)?).ok()),
            DataType::Float64 => self.plain(arg, show, |v| decimal_to_float(v, from)),
            DataType::Decimal { precision, scale } => {
                self.plain(arg, show, |v| decimal::rescale(v, from, *scale).filter(|v| decimal::fits(*v, *precision)))
            }
            _ => Err(self.unknown()),
        }
    }

    fn instants(&self, arg: Slice<'_, i64>, from: TimeUnit) -> Result<ArrayRef> {
        let show = |v: i64| v.to_string();
        match &self.to {
            DataType::Timestamp(to) => self.plain(arg, show, |v| change_unit(v, from, *to)),
            DataType::Date => {
                self.plain(arg, show, |v| i32::try_from(v.div_euclid(from.per_second()).div_euclid(SECONDS_PER_DAY)).ok())
            }
            _ => Err(self.unknown()),
        }
    }

    fn parse_text(&self, arg: &StringArray) -> Result<ArrayRef> {
        let show = |v: &str| format!("{v:?}");
        match &self.to {
            DataType::Int32 => self.convert(arg.iter(), show, |v| cast_text::integer(v).and_then(|v| i32::try_from(v).ok())),
            DataType::Int64 => self.convert(arg.iter(), show, cast_text::integer),
            DataType::Float64 => self.convert(arg.iter(), show, cast_text::float),
            DataType::Decimal { precision, scale } => self.convert(arg.iter(), show, |v| decimal::parse(v, *precision, *scale)),
            DataType::Date => self.convert(arg.iter(), show, cast_text::date),
            DataType::Timestamp(unit) => self.convert(arg.iter(), show, |v| cast_text::instant(v, *unit)),
            DataType::Binary => Ok(Arc::new(BinaryArray::from_iter(arg.iter().map(|v| v.map(str::as_bytes))))),
            DataType::Boolean => {
                let mut out = arrow::array::BooleanBuilder::with_capacity(arg.len());
                for (row, value) in arg.iter().enumerate() {
                    let converted = value.and_then(cast_text::boolean);
                    if let (Some(value), None, true) = (value, converted, self.strict) {
                        return Err(self.failed(row, &show(value)));
                    }
                    out.append_option(converted);
                }
                Ok(Arc::new(out.finish()))
            }
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> Error {
        Error::internal(format!("no cast from {} to {}", self.from, self.to))
    }

    fn array(&self, arg: &Value) -> Result<ArrayRef> {
        if self.to == DataType::String {
            return cast_text::to_text(
                arg,
                &self.from,
                |row, value| {
                    if self.strict { Err(self.failed(row, value)) } else { Ok(()) }
                },
            );
        }
        match &self.from {
            DataType::Int32 => self.integers(i32s(arg)?),
            DataType::Int64 => self.integers(i64s(arg)?),
            DataType::Float64 => self.floats(f64s(arg)?),
            DataType::Decimal { scale, .. } => self.decimals(i128s(arg)?, *scale),
            DataType::Timestamp(unit) => self.instants(i64s(arg)?, *unit),
            DataType::String => self.parse_text(texts(arg)?),
            DataType::Date => {
                let DataType::Timestamp(unit) = self.to else { return Err(self.unknown()) };
                self.plain(
                    i32s(arg)?,
                    |v| v.to_string(),
                    |v: i32| (i64::from(v) * SECONDS_PER_DAY).checked_mul(unit.per_second()),
                )
            }
            DataType::Boolean => {
                let values = booleans(arg)?.iter();
                match &self.to {
                    DataType::Int32 => self.convert(values, |v| v.to_string(), |v| Some(i32::from(v))),
                    DataType::Int64 => self.convert(values, |v| v.to_string(), |v| Some(i64::from(v))),
                    DataType::Float64 => self.convert(values, |v| v.to_string(), |v| Some(f64::from(u8::from(v)))),
                    _ => Err(self.unknown()),
                }
            }
            _ => Err(self.unknown()),
        }
    }
}

impl Kernel for Cast {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let [arg] = args else { return Err(self.unknown()) };
        let array = self.array(arg)?;
        debug_assert_eq!(array.data_type(), &self.to.to_arrow());
        Ok(Value::like(array, args))
    }

    fn fallible(&self) -> bool {
        use DataType as T;
        let never = match (&self.from, &self.to) {
            (T::Binary, T::String) => false,
            (_, T::String) | (T::Boolean, _) => true,
            (T::Int32, T::Int64 | T::Float64 | T::Timestamp(_)) | (T::Int64, T::Float64 | T::Timestamp(_)) => true,
            (T::Decimal { precision: p, scale: s }, T::Decimal { precision: q, scale: t }) => {
                t >= s && i32::from(*q) - i32::from(*t) >= i32::from(*p) - i32::from(*s)
            }
            (T::Decimal { .. }, T::Float64) => true,
            (T::Timestamp(a), T::Timestamp(b)) => a.per_second() >= b.per_second(),
            _ => false,
        };
        self.strict && !never
    }
}

/// The same number, if it is whole and fits.
fn float_to_int(value: f64) -> Option<i64> {
    let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value);
    (in_range && value.fract() == 0.0).then_some(value as i64)
}

/// Rounded once: a quotient of two exact floats, else through the digits.
fn decimal_to_float(value: i128, scale: i8) -> Option<f64> {
    if value.unsigned_abs() <= 1 << 53 && scale <= 22 {
        return Some(value as f64 / 10_f64.powi(i32::from(scale)));
    }
    format!("{value}e-{scale}").parse().ok()
}

/// Rounded down to a coarser unit; `None` if a finer one does not reach so far.
pub(super) fn change_unit(value: i64, from: TimeUnit, to: TimeUnit) -> Option<i64> {
    let (from, to) = (from.per_second(), to.per_second());
    if to >= from { value.checked_mul(to / from) } else { Some(value.div_euclid(from / to)) }
}

/// Bytes as text where they are UTF-8.
pub(super) fn binary_to_text(arg: &Value, on_wrong: impl Fn(usize, &str) -> Result<()>) -> Result<ArrayRef> {
    let Some(bytes) = arg.array().as_binary_opt::<i32>() else {
        return Err(Error::internal(format!("{} where bytes were promised", arg.array().data_type())));
    };
    let mut out = arrow::array::StringBuilder::with_capacity(bytes.len(), bytes.value_data().len());
    for (row, value) in bytes.iter().enumerate() {
        let text = value.and_then(|value| simdutf8::basic::from_utf8(value).ok());
        if let (Some(value), None) = (value, text) {
            on_wrong(row, &format!("{value:?}"))?;
        }
        out.append_option(text);
    }
    debug_assert_eq!(arg.array().data_type(), &ArrowType::Binary);
    Ok(Arc::new(out.finish()))
}
