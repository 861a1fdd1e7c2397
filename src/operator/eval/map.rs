//! Loops over slices: from one or two columns of plain values to one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType as ArrowType, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::value::Value;
use crate::error::{Error, Result};

/// Plain values with their nulls; a constant has one.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a, T> {
    pub(super) values: &'a [T],
    pub(super) nulls: Option<&'a NullBuffer>,
    pub(super) constant: bool,
}

impl<'a, T: ArrowNativeType> Slice<'a, T> {
    fn of<P: ArrowPrimitiveType<Native = T>>(value: &'a Value) -> Option<Self> {
        let array = value.array().as_primitive_opt::<P>()?;
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        Some(Self { values: array.values(), nulls, constant: value.is_constant() })
    }
}

impl<T> Slice<'_, T> {
    pub(super) fn is_valid(&self, row: usize) -> bool {
        self.nulls.is_none_or(|nulls| nulls.is_valid(row))
    }
}

fn wrong<T>(value: &Value, wanted: &str) -> Result<T> {
    Err(Error::internal(format!("{} where {wanted} was promised", value.array().data_type())))
}

/// Int64 and timestamps.
pub(super) fn i64s(value: &Value) -> Result<Slice<'_, i64>> {
    Slice::of::<Int64Type>(value)
        .or_else(|| Slice::of::<TimestampMillisecondType>(value))
        .or_else(|| Slice::of::<TimestampMicrosecondType>(value))
        .or_else(|| Slice::of::<TimestampNanosecondType>(value))
        .or_else(|| Slice::of::<TimestampSecondType>(value))
        .map_or_else(|| wrong(value, "64-bit integers"), Ok)
}

/// Int32 and dates.
pub(super) fn i32s(value: &Value) -> Result<Slice<'_, i32>> {
    Slice::of::<Int32Type>(value).or_else(|| Slice::of::<Date32Type>(value)).map_or_else(|| wrong(value, "32-bit integers"), Ok)
}

pub(super) fn f64s(value: &Value) -> Result<Slice<'_, f64>> {
    Slice::of::<Float64Type>(value).map_or_else(|| wrong(value, "floats"), Ok)
}

pub(super) fn i128s(value: &Value) -> Result<Slice<'_, i128>> {
    Slice::of::<Decimal128Type>(value).map_or_else(|| wrong(value, "decimals"), Ok)
}

pub(super) fn texts(value: &Value) -> Result<&arrow::array::StringArray> {
    value.array().as_string_opt::<i32>().map_or_else(|| wrong(value, "text"), Ok)
}

pub(super) fn booleans(value: &Value) -> Result<&arrow::array::BooleanArray> {
    value.array().as_boolean_opt().map_or_else(|| wrong(value, "conditions"), Ok)
}

/// A column of plain values of an Arrow type.
pub(super) trait Primitive: Copy + Default {
    /// `None` if the type is not one of these values.
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Option<ArrayRef>;
}

impl Primitive for i64 {
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Option<ArrayRef> {
        let values = values.into();
        Some(match arrow_type {
            ArrowType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::new(values, nulls)),
            ArrowType::Timestamp(unit, zone) => match unit {
                TimeUnit::Second => Arc::new(TimestampSecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
                TimeUnit::Millisecond => {
                    Arc::new(TimestampMillisecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
                }
                TimeUnit::Microsecond => {
                    Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone.clone()))
                }
                TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::new(values, nulls).with_timezone_opt(zone.clone())),
            },
            _ => return None,
        })
    }
}

impl Primitive for i32 {
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Option<ArrayRef> {
        match arrow_type {
            ArrowType::Int32 => Some(Arc::new(PrimitiveArray::<Int32Type>::new(values.into(), nulls))),
            ArrowType::Date32 => Some(Arc::new(PrimitiveArray::<Date32Type>::new(values.into(), nulls))),
            _ => None,
        }
    }
}

impl Primitive for f64 {
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Option<ArrayRef> {
        (*arrow_type == ArrowType::Float64)
            .then(|| Arc::new(PrimitiveArray::<Float64Type>::new(values.into(), nulls)) as ArrayRef)
    }
}

impl Primitive for i128 {
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Option<ArrayRef> {
        let ArrowType::Decimal128(precision, scale) = arrow_type else { return None };
        let array = PrimitiveArray::<Decimal128Type>::new(values.into(), nulls);
        Some(Arc::new(array.with_precision_and_scale(*precision, *scale).ok()?))
    }
}

pub(super) fn build<O: Primitive>(values: Vec<O>, nulls: Option<NullBuffer>, arrow_type: &ArrowType) -> Result<ArrayRef> {
    O::array(values, nulls, arrow_type).ok_or_else(|| Error::internal(format!("plain values for {arrow_type}")))
}

/// A function of one value that always has a result. It is called for nulls too, with an arbitrary value.
pub(super) fn map1<T: Copy, O: Primitive>(arg: Slice<'_, T>, to: &ArrowType, f: impl Fn(T) -> O) -> Result<ArrayRef> {
    build(arg.values.iter().map(|v| f(*v)).collect(), arg.nulls.cloned(), to)
}

/// A function of one value; `fail` makes the error of a row for which it has no result.
pub(super) fn try_map1<T: Copy, O: Primitive>(
    arg: Slice<'_, T>,
    to: &ArrowType,
    mut f: impl FnMut(T) -> Option<O>,
    fail: impl Fn(usize, T) -> Error,
) -> Result<ArrayRef> {
    let mut out = Vec::with_capacity(arg.values.len());
    for (row, value) in arg.values.iter().enumerate() {
        out.push(if arg.is_valid(row) { f(*value).ok_or_else(|| fail(row, *value))? } else { O::default() });
    }
    build(out, arg.nulls.cloned(), to)
}

/// A function of two values that always has a result. It is called for nulls too, with arbitrary values.
pub(super) fn map2<L: Copy, R: Copy, O: Primitive>(
    left: Slice<'_, L>,
    right: Slice<'_, R>,
    to: &ArrowType,
    f: impl Fn(L, R) -> O,
) -> Result<ArrayRef> {
    let Some(nulls) = both_nulls(&left, &right) else { return Ok(arrow::array::new_null_array(to, rows_of(&left, &right))) };
    let values = match (left.constant, right.constant, left.values, right.values) {
        (false, true, left, [right]) => left.iter().map(|l| f(*l, *right)).collect(),
        (true, false, [left], right) => right.iter().map(|r| f(*left, *r)).collect(),
        (_, _, left, right) => left.iter().zip(right).map(|(l, r)| f(*l, *r)).collect(),
    };
    build(values, nulls, to)
}

/// A function of two values; `fail` makes the error of a row for which it has no result.
pub(super) fn try_map2<L: Copy, R: Copy, O: Primitive>(
    left: Slice<'_, L>,
    right: Slice<'_, R>,
    to: &ArrowType,
    f: impl Fn(L, R) -> Option<O>,
    fail: impl Fn(usize, L, R) -> Error,
) -> Result<ArrayRef> {
    let Some(nulls) = both_nulls(&left, &right) else { return Ok(arrow::array::new_null_array(to, rows_of(&left, &right))) };
    let values = match (left.constant, right.constant, left.values, right.values) {
        (false, true, left, [right]) => try_rows(left.iter().map(|l| (*l, *right)), nulls.as_ref(), f, fail)?,
        (true, false, [left], right) => try_rows(right.iter().map(|r| (*left, *r)), nulls.as_ref(), f, fail)?,
        (_, _, left, right) => try_rows(left.iter().zip(right).map(|(l, r)| (*l, *r)), nulls.as_ref(), f, fail)?,
    };
    build(values, nulls, to)
}

fn try_rows<L: Copy, R: Copy, O: Default>(
    pairs: impl ExactSizeIterator<Item = (L, R)>,
    nulls: Option<&NullBuffer>,
    f: impl Fn(L, R) -> Option<O>,
    fail: impl Fn(usize, L, R) -> Error,
) -> Result<Vec<O>> {
    let mut out = Vec::with_capacity(pairs.len());
    for (row, (left, right)) in pairs.enumerate() {
        let value = match nulls {
            Some(nulls) if nulls.is_null(row) => O::default(),
            _ => f(left, right).ok_or_else(|| fail(row, left, right))?,
        };
        out.push(value);
    }
    Ok(out)
}

fn rows_of<L, R>(left: &Slice<'_, L>, right: &Slice<'_, R>) -> usize {
    if left.constant { right.values.len() } else { left.values.len() }
}

/// The nulls of the result: `None` if a constant is null, so that everything is.
pub(super) fn both_nulls<L, R>(left: &Slice<'_, L>, right: &Slice<'_, R>) -> Option<Option<NullBuffer>> {
    let of_constant = |constant: bool, nulls: Option<&NullBuffer>| constant && nulls.is_some();
    if of_constant(left.constant, left.nulls) || of_constant(right.constant, right.nulls) {
        return None;
    }
    // A constant that is not null has no null buffer here, so lengths agree.
    Some(NullBuffer::union(left.nulls, right.nulls))
}
