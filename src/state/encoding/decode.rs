//! From bytes back to columns. The bytes come from a disk: nothing in them may panic.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    self as arrow_types, Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};

use super::float_of_order;
use super::lane::{END, ESCAPED_ZERO, NULL, PRESENT};
use crate::error::{Error, Result};
use crate::plan::schema::{DataType, Field, TimeUnit};

/// Collects the rows of one column.
pub(super) struct Decoder {
    valid: Vec<bool>,
    values: Values,
}

enum Values {
    Boolean(Vec<bool>),
    Four(Vec<i32>),
    Eight(Vec<i64>),
    Sixteen(Vec<i128>),
    Float(Vec<f64>),
    Bytes { offsets: Vec<i32>, data: Vec<u8> },
    Struct(Vec<Decoder>),
    List { offsets: Vec<i32>, elements: Box<Decoder> },
}

impl Decoder {
    pub(super) fn new(data_type: &DataType, rows: usize) -> Self {
        let offsets = || {
            let mut offsets = Vec::with_capacity(rows + 1);
            offsets.push(0);
            offsets
        };
        let values = match data_type {
            DataType::Boolean => Values::Boolean(Vec::with_capacity(rows)),
            DataType::Int32 | DataType::Date => Values::Four(Vec::with_capacity(rows)),
            DataType::Int64 | DataType::Timestamp(_) => Values::Eight(Vec::with_capacity(rows)),
            DataType::Decimal { .. } => Values::Sixteen(Vec::with_capacity(rows)),
            DataType::Float64 => Values::Float(Vec::with_capacity(rows)),
            DataType::String | DataType::Binary => Values::Bytes { offsets: offsets(), data: Vec::new() },
            DataType::Struct(fields) => Values::Struct(fields.iter().map(|field| Self::new(&field.data_type, rows)).collect()),
            DataType::List(inner) => Values::List { offsets: offsets(), elements: Box::new(Self::new(inner, 0)) },
        };
        Self { valid: Vec::with_capacity(rows), values }
    }

    /// Takes one row off the front of `bytes`; `last` says that it has all of them.
    pub(super) fn read(&mut self, bytes: &mut &[u8], last: bool) -> Result<()> {
        match byte(bytes)? {
            NULL => self.push_null(),
            PRESENT => {
                self.valid.push(true);
                self.values.read(bytes, last)?;
            }
            tag => return Err(damaged("a tag is neither null nor present").with("tag", tag)),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Four(values) => values.push(0),
            Values::Eight(values) => values.push(0),
            Values::Sixteen(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Struct(members) => members.iter_mut().for_each(Self::push_null),
            Values::Bytes { offsets, .. } | Values::List { offsets, .. } => offsets.extend(offsets.last().copied()),
        }
    }

    /// The column, of this type.
    pub(super) fn finish(self, data_type: &DataType) -> Result<ArrayRef> {
        let nulls = Some(NullBuffer::from(self.valid)).filter(|nulls| nulls.null_count() > 0);
        Ok(match (self.values, data_type) {
            (Values::Boolean(values), DataType::Boolean) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            (Values::Four(values), DataType::Int32) => primitive::<Int32Type>(values, nulls, data_type),
            (Values::Four(values), DataType::Date) => primitive::<Date32Type>(values, nulls, data_type),
            (Values::Eight(values), DataType::Int64) => primitive::<Int64Type>(values, nulls, data_type),
            (Values::Eight(values), DataType::Timestamp(unit)) => match unit {
                TimeUnit::Second => primitive::<TimestampSecondType>(values, nulls, data_type),
                TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(values, nulls, data_type),
                TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(values, nulls, data_type),
                TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(values, nulls, data_type),
            },
            (Values::Sixteen(values), DataType::Decimal { .. }) => primitive::<Decimal128Type>(values, nulls, data_type),
            (Values::Float(values), DataType::Float64) => primitive::<Float64Type>(values, nulls, data_type),
            (Values::Bytes { offsets, data }, DataType::String) => {
                Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), data.into(), nulls).map_err(not_arrow)?)
            }
            (Values::Bytes { offsets, data }, DataType::Binary) => {
                Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), data.into(), nulls).map_err(not_arrow)?)
            }
            (Values::Struct(members), DataType::Struct(fields)) => {
                let members = members.into_iter().zip(fields).map(|(member, field)| member.finish(&field.data_type));
                let fields = fields.iter().map(Field::to_arrow).collect();
                Arc::new(StructArray::try_new(fields, members.collect::<Result<_>>()?, nulls).map_err(not_arrow)?)
            }
            (Values::List { offsets, elements }, DataType::List(inner)) => {
                let arrow_types::DataType::List(field) = data_type.to_arrow() else {
                    return Err(Error::internal("a list that is not a list in Arrow"));
                };
                let elements = elements.finish(inner)?;
                let array = ListArray::try_new(field, OffsetBuffer::new(offsets.into()), elements, nulls);
                Arc::new(array.map_err(not_arrow)?)
            }
            _ => return Err(Error::internal(format!("values decoded for another type than {data_type}"))),
        })
    }
}

impl Values {
    fn read(&mut self, bytes: &mut &[u8], last: bool) -> Result<()> {
        match self {
            Self::Boolean(values) => match byte(bytes)? {
                bit @ (0 | 1) => values.push(bit == 1),
                other => return Err(damaged("a boolean is neither 0 nor 1").with("byte", other)),
            },
            Self::Four(values) => values.push((u32::from_be_bytes(array(bytes)?) ^ (1 << 31)) as i32),
            Self::Eight(values) => values.push(eight(bytes)?),
            Self::Sixteen(values) => values.push((u128::from_be_bytes(array(bytes)?) ^ (1 << 127)) as i128),
            Self::Float(values) => values.push(float_of_order(eight(bytes)?)),
            Self::Bytes { offsets, data } => {
                if last {
                    data.extend_from_slice(std::mem::take(bytes));
                } else {
                    read_terminated(bytes, data)?;
                }
                offsets.push(offset(data.len())?);
            }
            Self::Struct(members) => members.iter_mut().try_for_each(|member| member.read(bytes, false))?,
            Self::List { offsets, elements } => {
                loop {
                    match byte(bytes)? {
                        PRESENT => elements.read(bytes, false)?,
                        END => break,
                        other => return Err(damaged("a list goes on with neither element nor end").with("byte", other)),
                    }
                }
                offsets.push(offset(elements.valid.len())?);
            }
        }
        Ok(())
    }
}

fn read_terminated(bytes: &mut &[u8], data: &mut Vec<u8>) -> Result<()> {
    loop {
        let Some(zero) = memchr::memchr(0, bytes) else { return Err(damaged("text does not end")) };
        data.extend_from_slice(&bytes[..zero]);
        *bytes = &bytes[zero + 1..];
        match byte(bytes)? {
            ESCAPED_ZERO => data.push(0),
            0 => return Ok(()),
            other => return Err(damaged("a zero byte in text is not escaped").with("byte", other)),
        }
    }
}

/// That nothing is left after the last column.
pub(super) fn at_end(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() { Ok(()) } else { Err(damaged("bytes are left over").with("bytes", bytes.len())) }
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.to_arrow()))
}

fn byte(bytes: &mut &[u8]) -> Result<u8> {
    array::<1>(bytes).map(|[byte]| byte)
}

fn eight(bytes: &mut &[u8]) -> Result<i64> {
    Ok((u64::from_be_bytes(array(bytes)?) ^ (1 << 63)) as i64)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| damaged("bytes are missing"))?;
    *bytes = rest;
    Ok(*head)
}

fn offset(length: usize) -> Result<i32> {
    i32::try_from(length).map_err(|_| Error::internal("more than 2 GiB of keys or values decoded at once"))
}

fn not_arrow(error: arrow::error::ArrowError) -> Error {
    damaged("values do not fit their type").with("arrow", &error).source(error)
}

#[cold]
fn damaged(what: &str) -> Error {
    Error::corruption("damaged_key", format!("a key or value in the state cannot be read: {what}"))
        .hint("restore the state directory from a copy, or start a new version")
}
