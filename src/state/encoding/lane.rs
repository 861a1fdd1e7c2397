//! From columns to bytes. The types are looked up once for a column; a row costs a predictable branch.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use super::{float_order, order_of_bits};
use crate::error::{Error, Result};
use crate::plan::schema::{DataType, TimeUnit};

pub(super) const NULL: u8 = 0;
pub(super) const PRESENT: u8 = 1;
/// After an element of a list comes another (`PRESENT`), or the end.
pub(super) const END: u8 = 0;
/// Stands for a zero byte of text, after a zero byte.
pub(super) const ESCAPED_ZERO: u8 = 0xff;

/// What becomes of −0.0 and of the many NaNs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Floats {
    /// −0.0 is 0.0, all NaNs are one.
    Canonical,
    /// Every bit is kept.
    Lossless,
}

type Nulls<'a> = Option<&'a NullBuffer>;

/// A column, ready to be encoded row by row.
pub(super) enum Lane<'a> {
    Boolean(&'a BooleanArray),
    Four(&'a [i32], Nulls<'a>),
    Eight(&'a [i64], Nulls<'a>),
    Sixteen(&'a [i128], Nulls<'a>),
    Float(&'a [f64], Floats, Nulls<'a>),
    Bytes(Bytes<'a>),
    Struct(Vec<Lane<'a>>, Nulls<'a>),
    List(&'a [i32], Box<Lane<'a>>, Nulls<'a>),
}

/// A column of text or bytes.
pub(super) struct Bytes<'a> {
    offsets: &'a [i32],
    data: &'a [u8],
    nulls: Nulls<'a>,
    /// Nothing follows: no terminator, no escapes.
    last: bool,
    /// Whether there are zero bytes to escape anywhere in the column.
    zeros: bool,
}

impl<'a> Lane<'a> {
    /// Looks at a column. An internal error if it does not have the type that the plan gave it.
    pub(super) fn new(data_type: &DataType, column: &'a ArrayRef, floats: Floats, last: bool) -> Result<Self> {
        Self::of(data_type, column, floats, last).ok_or_else(|| {
            Error::internal(format!("a column to be encoded as {data_type} has the type {}", column.data_type()))
        })
    }

    fn of(data_type: &DataType, column: &'a ArrayRef, floats: Floats, last: bool) -> Option<Self> {
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Some(match data_type {
            DataType::Boolean => Self::Boolean(column.as_boolean_opt()?),
            DataType::Int32 => Self::Four(values::<Int32Type>(column)?, nulls),
            DataType::Date => Self::Four(values::<Date32Type>(column)?, nulls),
            DataType::Int64 => Self::Eight(values::<Int64Type>(column)?, nulls),
            DataType::Timestamp(unit) => Self::Eight(instants(*unit, column)?, nulls),
            DataType::Decimal { .. } => Self::Sixteen(values::<Decimal128Type>(column)?, nulls),
            DataType::Float64 => Self::Float(values::<Float64Type>(column)?, floats, nulls),
            DataType::String => {
                let array = column.as_string_opt::<i32>()?;
                Self::Bytes(Bytes::new(array.offsets(), array.values(), nulls, last))
            }
            DataType::Binary => {
                let array = column.as_binary_opt::<i32>()?;
                Self::Bytes(Bytes::new(array.offsets(), array.values(), nulls, last))
            }
            DataType::Struct(fields) => {
                let array = column.as_struct_opt()?;
                if array.num_columns() != fields.len() {
                    return None;
                }
                let members = fields.iter().zip(array.columns());
                let members = members.map(|(field, member)| Self::of(&field.data_type, member, floats, false));
                Self::Struct(members.collect::<Option<_>>()?, nulls)
            }
            DataType::List(inner) => {
                let array = column.as_list_opt::<i32>()?;
                let elements = Self::of(inner, array.values(), floats, false)?;
                Self::List(array.value_offsets(), Box::new(elements), nulls)
            }
        })
    }

    /// Appends what row `row` is.
    #[inline]
    fn append(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(array) if array.is_null(row) => out.push(NULL),
            Self::Boolean(array) => out.extend_from_slice(&[PRESENT, u8::from(array.value(row))]),
            Self::Four(_, Some(nulls)) | Self::Eight(_, Some(nulls)) if nulls.is_null(row) => out.push(NULL),
            Self::Sixteen(_, Some(nulls)) | Self::Float(_, _, Some(nulls)) if nulls.is_null(row) => out.push(NULL),
            Self::Four(values, _) => out.extend_from_slice(&four(values[row])),
            Self::Eight(values, _) => out.extend_from_slice(&eight(values[row])),
            Self::Sixteen(values, _) => out.extend_from_slice(&sixteen(values[row])),
            Self::Float(values, floats, _) => out.extend_from_slice(&eight(order(values[row], *floats))),
            Self::Bytes(bytes) => bytes.append(row, out),
            Self::Struct(_, Some(nulls)) | Self::List(_, _, Some(nulls)) if nulls.is_null(row) => out.push(NULL),
            Self::Struct(members, _) => {
                out.push(PRESENT);
                members.iter().for_each(|member| member.append(row, out));
            }
            Self::List(offsets, elements, _) => {
                out.push(PRESENT);
                for element in offsets[row] as usize..offsets[row + 1] as usize {
                    out.push(PRESENT);
                    elements.append(element, out);
                }
                out.push(END);
            }
        }
    }
}

impl<'a> Bytes<'a> {
    fn new(offsets: &'a [i32], data: &'a [u8], nulls: Nulls<'a>, last: bool) -> Self {
        let range = offsets[0] as usize..offsets[offsets.len() - 1] as usize;
        let zeros = !last && memchr::memchr(0, &data[range]).is_some();
        Self { offsets, data, nulls, last, zeros }
    }

    #[inline]
    fn append(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return out.push(NULL);
        }
        let value = &self.data[self.offsets[row] as usize..self.offsets[row + 1] as usize];
        out.push(PRESENT);
        if self.zeros {
            for &byte in value {
                out.push(byte);
                if byte == 0 {
                    out.push(ESCAPED_ZERO);
                }
            }
        } else {
            out.extend_from_slice(value);
        }
        if !self.last {
            out.extend_from_slice(&[0, 0]);
        }
    }
}

/// Writes all rows; `out` and `ends` are emptied first.
pub(super) fn encode(lanes: &[Lane<'_>], rows: usize, out: &mut Vec<u8>, ends: &mut Vec<usize>) {
    out.clear();
    ends.clear();
    match lanes {
        [Lane::Four(values, None)] => fixed(values, four, out, ends),
        [Lane::Eight(values, None)] => fixed(values, eight, out, ends),
        [Lane::Sixteen(values, None)] => fixed(values, sixteen, out, ends),
        [Lane::Float(values, floats, None)] => fixed(values, |value| eight(order(value, *floats)), out, ends),
        [lane] => by_row(rows, out, ends, |row, out| lane.append(row, out)),
        [first, second] => by_row(rows, out, ends, |row, out| {
            first.append(row, out);
            second.append(row, out);
        }),
        lanes => by_row(rows, out, ends, |row, out| lanes.iter().for_each(|lane| lane.append(row, out))),
    }
}

/// One column of fixed width without nulls.
fn fixed<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N], out: &mut Vec<u8>, ends: &mut Vec<usize>) {
    out.resize(values.len() * N, 0);
    for (to, &value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *to = bytes(value);
    }
    ends.extend((1..=values.len()).map(|row| row * N));
}

#[inline]
fn by_row(rows: usize, out: &mut Vec<u8>, ends: &mut Vec<usize>, append: impl Fn(usize, &mut Vec<u8>)) {
    ends.reserve(rows);
    for row in 0..rows {
        append(row, out);
        ends.push(out.len());
    }
}

#[inline]
fn four(value: i32) -> [u8; 5] {
    let [a, b, c, d] = ((value as u32) ^ (1 << 31)).to_be_bytes();
    [PRESENT, a, b, c, d]
}

#[inline]
fn eight(value: i64) -> [u8; 9] {
    let mut bytes = [PRESENT; 9];
    bytes[1..].copy_from_slice(&((value as u64) ^ (1 << 63)).to_be_bytes());
    bytes
}

#[inline]
fn sixteen(value: i128) -> [u8; 17] {
    let mut bytes = [PRESENT; 17];
    bytes[1..].copy_from_slice(&((value as u128) ^ (1 << 127)).to_be_bytes());
    bytes
}

#[inline]
fn order(value: f64, floats: Floats) -> i64 {
    match floats {
        Floats::Canonical => float_order(value),
        Floats::Lossless => order_of_bits(value.to_bits()),
    }
}

fn values<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<&[T::Native]> {
    Some(column.as_primitive_opt::<T>()?.values())
}

fn instants(unit: TimeUnit, column: &ArrayRef) -> Option<&[i64]> {
    match unit {
        TimeUnit::Second => values::<TimestampSecondType>(column),
        TimeUnit::Millisecond => values::<TimestampMillisecondType>(column),
        TimeUnit::Microsecond => values::<TimestampMicrosecondType>(column),
        TimeUnit::Nanosecond => values::<TimestampNanosecondType>(column),
    }
}
