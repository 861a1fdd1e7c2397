//! Columns that grow a value at a time, straight from the text, and become Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBufferBuilder, Decimal128Array, ListArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes as arrow_types;
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type};

use super::number::{decimal, float64, int64, unexpected};
use super::object::Object;
use super::scan::{self, Fault, MAX_DEPTH, Scan, Step, byte, white_space};
use super::temporal::{date, timestamp};
use crate::error::{Error, Result};
use crate::plan::schema::{DataType, TimeUnit};

/// A column under construction. Every method keeps to rows: a failed [`Column::decode`] may leave part of a row behind, which
/// [`Column::truncate`] takes back.
pub(super) enum Column {
    String(Strings),
    Boolean { values: BooleanBufferBuilder, nulls: NullBufferBuilder },
    Int32(Fixed<i32>),
    Int64(Fixed<i64>),
    Float64(Fixed<f64>),
    Decimal { values: Fixed<i128>, precision: u8, scale: i8 },
    Date(Fixed<i32>),
    Timestamp { values: Fixed<i64>, unit: TimeUnit },
    List(Box<List>),
    Struct { object: Box<Object>, nulls: NullBufferBuilder, fields: arrow_types::Fields },
}

impl Column {
    /// An empty column in an object at `depth`.
    pub fn new(data_type: &DataType, depth: usize) -> Result<Self> {
        data_type.validate()?;
        Ok(match data_type {
            DataType::String => Self::String(Strings::new()),
            DataType::Boolean => Self::Boolean { values: BooleanBufferBuilder::new(0), nulls: NullBufferBuilder::new(0) },
            DataType::Date => Self::Date(Fixed::new()),
            DataType::Int32 => Self::Int32(Fixed::new()),
            DataType::Int64 => Self::Int64(Fixed::new()),
            DataType::Float64 => Self::Float64(Fixed::new()),
            DataType::Decimal { precision, scale } => {
                Self::Decimal { values: Fixed::new(), precision: *precision, scale: *scale }
            }
            DataType::Timestamp(unit) => Self::Timestamp { values: Fixed::new(), unit: *unit },
            DataType::Binary => {
                return Err(Error::plan("invalid_type", "a JSON payload has no values of type Binary")
                    .hint("read the column as String"));
            }
            DataType::List(inner) if depth < MAX_DEPTH => Self::List(Box::new(List::new(inner, depth + 1)?)),
            DataType::List(_) => return Err(Error::plan("invalid_type", "a column's type nests deeper than 128")),
            DataType::Struct(fields) => Self::Struct {
                object: Box::new(Object::new(fields, depth + 1)?),
                nulls: NullBufferBuilder::new(0),
                fields: fields.iter().map(|field| field.to_arrow()).collect(),
            },
        })
    }

    /// Decodes the value at `at`, which is not null, as one more row. It lies in `depth` open objects and lists.
    #[inline(always)]
    pub fn decode(&mut self, text: &[u8], at: usize, depth: usize) -> Scan<usize> {
        match self {
            Self::String(strings) => strings.decode(text, at),
            Self::Int64(values) => values.take(int64(text, at, "Int64")?),
            Self::Timestamp { values, unit } => values.take(timestamp(text, at, *unit)?),
            other => other.decode_other(text, at, depth),
        }
    }

    fn decode_other(&mut self, text: &[u8], at: usize, depth: usize) -> Scan<usize> {
        match self {
            Self::String(strings) => strings.decode(text, at),
            Self::Int64(values) => values.take(int64(text, at, "Int64")?),
            Self::Timestamp { values, unit } => values.take(timestamp(text, at, *unit)?),
            Self::Boolean { values, nulls } => {
                let (value, end) = match byte(text, at) {
                    b't' => (true, scan::literal(text, at, b"true")?),
                    b'f' => (false, scan::literal(text, at, b"false")?),
                    _ => return unexpected(text, at, "Boolean"),
                };
                values.append(value);
                nulls.append_non_null();
                Ok(end)
            }
            Self::Int32(values) => {
                let (value, end) = int64(text, at, "Int32")?;
                match i32::try_from(value) {
                    Ok(value) => values.take((value, end)),
                    Err(_) => Fault::value(at, "does not fit Int32"),
                }
            }
            Self::Float64(values) => values.take(float64(text, at)?),
            Self::Decimal { values, precision, scale } => values.take(decimal(text, at, *precision, *scale)?),
            Self::Date(values) => values.take(date(text, at)?),
            Self::List(list) => list.decode(text, at, depth),
            Self::Struct { object, nulls, .. } => {
                let end = object.decode(text, at, depth)?;
                nulls.append_non_null();
                Ok(end)
            }
        }
    }

    /// Adds a null row.
    pub fn push_null(&mut self) {
        match self {
            Self::String(strings) => strings.push_null(),
            Self::Boolean { values, nulls } => {
                values.append(false);
                nulls.append_null();
            }
            Self::Int32(values) | Self::Date(values) => values.push_null(),
            Self::Int64(values) | Self::Timestamp { values, .. } => values.push_null(),
            Self::Float64(values) => values.push_null(),
            Self::Decimal { values, .. } => values.push_null(),
            Self::List(list) => list.push_null(),
            Self::Struct { object, nulls, .. } => {
                object.push_null();
                nulls.append_null();
            }
        }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        match self {
            Self::String(strings) => strings.nulls.len(),
            Self::Boolean { nulls, .. } | Self::Struct { nulls, .. } => nulls.len(),
            Self::Int32(values) | Self::Date(values) => values.values.len(),
            Self::Int64(values) | Self::Timestamp { values, .. } => values.values.len(),
            Self::Float64(values) => values.values.len(),
            Self::Decimal { values, .. } => values.values.len(),
            Self::List(list) => list.nulls.len(),
        }
    }

    /// Forgets all rows, and parts of a row, from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::String(strings) => strings.truncate(rows),
            Self::Boolean { values, nulls } => {
                values.truncate(rows);
                nulls.truncate(rows);
            }
            Self::Int32(values) | Self::Date(values) => values.truncate(rows),
            Self::Int64(values) | Self::Timestamp { values, .. } => values.truncate(rows),
            Self::Float64(values) => values.truncate(rows),
            Self::Decimal { values, .. } => values.truncate(rows),
            Self::List(list) => list.truncate(rows),
            Self::Struct { object, nulls, .. } => {
                object.truncate(rows);
                nulls.truncate(rows);
            }
        }
    }

    /// Makes room for so many more rows.
    pub fn reserve(&mut self, rows: usize) {
        match self {
            Self::String(strings) => strings.reserve(rows),
            Self::Boolean { values, .. } => values.reserve(rows),
            Self::Int32(values) | Self::Date(values) => values.values.reserve(rows),
            Self::Int64(values) | Self::Timestamp { values, .. } => values.values.reserve(rows),
            Self::Float64(values) => values.values.reserve(rows),
            Self::Decimal { values, .. } => values.values.reserve(rows),
            Self::List(list) => list.offsets.reserve(rows),
            Self::Struct { object, .. } => object.reserve(rows),
        }
    }

    /// The rows as an array; the column is empty afterwards.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::String(strings) => Arc::new(strings.finish()?),
            Self::Boolean { values, nulls } => Arc::new(BooleanArray::new(values.finish(), nulls.finish())),
            Self::Int32(values) => Arc::new(values.finish::<Int32Type>()?),
            Self::Int64(values) => Arc::new(values.finish::<Int64Type>()?),
            Self::Float64(values) => Arc::new(values.finish::<Float64Type>()?),
            Self::Date(values) => Arc::new(values.finish::<Date32Type>()?),
            Self::Decimal { values, precision, scale } => {
                let array: Decimal128Array = values.finish()?;
                Arc::new(array.with_precision_and_scale(*precision, *scale)?)
            }
            Self::Timestamp { values, unit } => finish_timestamps(values, *unit)?,
            Self::List(list) => Arc::new(list.finish()?),
            Self::Struct { object, nulls, fields } => {
                let arrays = object.columns().map(Self::finish).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields.clone(), arrays, nulls.finish())?)
            }
        })
    }
}

fn finish_timestamps(values: &mut Fixed<i64>, unit: TimeUnit) -> Result<ArrayRef> {
    Ok(match unit {
        TimeUnit::Second => Arc::new(TimestampSecondArray::with_timezone(values.finish()?, "UTC")),
        TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::with_timezone(values.finish()?, "UTC")),
        TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::with_timezone(values.finish()?, "UTC")),
        TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::with_timezone(values.finish()?, "UTC")),
    })
}

/// Values of a fixed width.
pub(super) struct Fixed<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: Copy + Default + arrow::datatypes::ArrowNativeType> Fixed<T> {
    fn new() -> Self {
        Self { values: Vec::new(), nulls: NullBufferBuilder::new(0) }
    }

    #[inline(always)]
    fn take(&mut self, (value, end): (T, usize)) -> Scan<usize> {
        self.values.push(value);
        self.nulls.append_non_null();
        Ok(end)
    }

    fn push_null(&mut self) {
        self.values.push(T::default());
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.nulls.truncate(rows);
    }

    fn finish<P: ArrowPrimitiveType<Native = T>>(&mut self) -> Result<PrimitiveArray<P>> {
        Ok(PrimitiveArray::try_new(std::mem::take(&mut self.values).into(), self.nulls.finish())?)
    }
}

/// Text, one value after the other in one buffer.
///
/// Offsets are 32 bits wide: the decoder refuses blocks whose payloads could hold more than that (`json.rs`).
pub(super) struct Strings {
    bytes: Vec<u8>,
    /// Where each value starts, and the end.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
    /// How long `bytes` became last time.
    usual_bytes: usize,
}

impl Strings {
    fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0], nulls: NullBufferBuilder::new(0), usual_bytes: 0 }
    }

    #[inline(always)]
    fn decode(&mut self, text: &[u8], at: usize) -> Scan<usize> {
        if byte(text, at) != b'"' {
            return unexpected(text, at, "String");
        }
        let start = at + 1;
        let (end, escaped) = scan::string(text, start)?;
        match text.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
            // A copy of fixed size and a cut are cheaper than a copy of a size that varies.
            Some(chunk) if !escaped && end - start <= 16 => {
                let len = self.bytes.len() + (end - start);
                self.bytes.extend_from_slice(chunk);
                self.bytes.truncate(len);
            }
            _ => self.push_long(text.get(start..end).unwrap_or_default(), escaped),
        }
        self.offsets.push(self.bytes.len() as i32);
        self.nulls.append_non_null();
        Ok(end + 1)
    }

    fn push_long(&mut self, raw: &[u8], escaped: bool) {
        if escaped {
            scan::unescape(raw, &mut self.bytes);
        } else {
            self.bytes.extend_from_slice(raw);
        }
    }

    fn push_null(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets.last().map_or(0, |end| *end as usize));
        self.nulls.truncate(rows);
    }

    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
        self.bytes.reserve(self.usual_bytes);
    }

    fn finish(&mut self) -> Result<StringArray> {
        let bytes = std::mem::take(&mut self.bytes);
        self.usual_bytes = bytes.len() + bytes.len() / 8;
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        Ok(StringArray::try_new(offsets, Buffer::from_vec(bytes), self.nulls.finish())?)
    }
}

/// Lists: the elements of all rows in one column.
pub(super) struct List {
    elements: Column,
    /// Where each row's elements start, and the end.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
    field: arrow_types::FieldRef,
}

impl List {
    fn new(inner: &DataType, depth: usize) -> Result<Self> {
        let field = Arc::new(arrow_types::Field::new("element", inner.to_arrow(), true));
        Ok(Self { elements: Column::new(inner, depth)?, offsets: vec![0], nulls: NullBufferBuilder::new(0), field })
    }

    fn decode(&mut self, text: &[u8], at: usize, depth: usize) -> Scan<usize> {
        if byte(text, at) != b'[' {
            return unexpected(text, at, "a list");
        }
        if depth >= MAX_DEPTH {
            return Fault::syntax(at, "nested deeper than 128");
        }
        let mut at = white_space(text, at + 1);
        let first = self.elements.len();
        while byte(text, at) != b']' || self.elements.len() > first {
            let element = if byte(text, at) == b'n' {
                scan::literal(text, at, b"null").inspect(|_| self.elements.push_null())
            } else {
                self.elements.decode(text, at, depth + 1)
            };
            at = match element {
                Ok(end) => white_space(text, end),
                Err(fault) => return Err(fault.inside(Step::Element(self.offset_in_row(first)))),
            };
            match byte(text, at) {
                b',' => at = white_space(text, at + 1),
                b']' => break,
                _ => return Fault::syntax(at, "expected a comma or ]"),
            }
        }
        self.push_end();
        self.nulls.append_non_null();
        Ok(at + 1)
    }

    /// How many whole elements the current row has; a failed one may have left part of a row.
    fn offset_in_row(&self, first: usize) -> usize {
        self.elements.len() - first
    }

    fn push_end(&mut self) {
        self.offsets.push(self.elements.len() as i32);
    }

    fn push_null(&mut self) {
        self.push_end();
        self.nulls.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.elements.truncate(self.offsets.last().map_or(0, |end| *end as usize));
        self.nulls.truncate(rows);
    }

    fn finish(&mut self) -> Result<ListArray> {
        let offsets = OffsetBuffer::new(std::mem::replace(&mut self.offsets, vec![0]).into());
        Ok(ListArray::try_new(self.field.clone(), offsets, self.elements.finish()?, self.nulls.finish())?)
    }
}
