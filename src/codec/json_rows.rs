//! Rows of a batch as JSON objects: each is one that [`JsonDecoder`](super::JsonDecoder) reads back to the same values.
//!
//! Members are the columns in their order, nulls included; there is no white space. Nothing is allocated per row.
//!
//! | type | is written as |
//! |---|---|
//! | `String` | a string; only `"`, `\` and control characters are escaped |
//! | `Boolean`, `Int32`, `Int64` | `true`, `false`, an integer |
//! | `Float64` | the shortest number that reads back to it; `"NaN"`, `"Infinity"`, `"-Infinity"`, which no number of JSON is |
//! | `Decimal(p, s)` | a number with exactly `s` digits after the point |
//! | `Timestamp(unit)` | RFC 3339 in UTC with the digits of the unit; outside of the years 0 to 9999 an integer of the unit |
//! | `Date` | `YYYY-MM-DD`; outside of the years 0 to 9999 with a sign and more digits, as ISO 8601 has it |
//! | `Binary` | base64 with padding |
//! | `List`, `Struct` | lists, objects |

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Decimal128Array, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};

use crate::error::{Error, Result};
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};

/// Writes rows of one schema.
#[derive(Debug)]
pub struct JsonRowEncoder {
    fields: Vec<Field>,
}

/// The columns of a batch, ready to be written row by row.
pub struct JsonRows {
    members: Vec<Member>,
}

struct Member {
    /// What stands before the value: a brace or a comma, the name, a colon.
    before: Vec<u8>,
    column: Column,
}

struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

enum Values {
    String(StringArray),
    Boolean(BooleanArray),
    Int32(PrimitiveArray<Int32Type>),
    Int64(PrimitiveArray<Int64Type>),
    Float64(PrimitiveArray<Float64Type>),
    Decimal(Decimal128Array, usize),
    Date(PrimitiveArray<Date32Type>),
    Timestamp(ScalarBuffer<i64>, TimeUnit),
    Binary(BinaryArray),
    List(OffsetBuffer<i32>, Box<Column>),
    Struct(JsonRows),
}

impl JsonRowEncoder {
    /// For rows of these columns.
    pub fn new(schema: &Schema) -> Self {
        Self { fields: schema.fields.clone() }
    }

    /// The rows of a batch whose columns are, in this order, those of the schema.
    ///
    /// # Errors
    /// An internal error if they are not.
    pub fn rows(&self, batch: &RecordBatch) -> Result<JsonRows> {
        JsonRows::new(&self.fields, batch.columns())
    }
}

impl JsonRows {
    fn new(fields: &[Field], columns: &[ArrayRef]) -> Result<Self> {
        if fields.len() != columns.len() {
            return Err(Error::internal(format!("{} columns for rows of {}", columns.len(), fields.len())));
        }
        let member = |(at, (field, column)): (usize, (&Field, &ArrayRef))| {
            let mut before = vec![if at == 0 { b'{' } else { b',' }];
            put_text(&field.name, &mut before);
            before.push(b':');
            Ok(Member { before, column: Column::new(&field.data_type, column)? })
        };
        Ok(Self { members: fields.iter().zip(columns).enumerate().map(member).collect::<Result<_>>()? })
    }

    /// Appends a row.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        for member in &self.members {
            out.extend_from_slice(&member.before);
            member.column.write(row, out);
        }
        out.extend_from_slice(if self.members.is_empty() { b"{}" } else { b"}" });
    }
}

impl Column {
    fn new(data_type: &DataType, column: &ArrayRef) -> Result<Self> {
        // The kernels of Arrow may choose another width or zone for the same values.
        let expected = data_type.to_arrow();
        let column = if *column.data_type() == expected { column.clone() } else { arrow::compute::cast(column, &expected)? };
        let values = match data_type {
            DataType::String => Values::String(column.as_string::<i32>().clone()),
            DataType::Boolean => Values::Boolean(column.as_boolean().clone()),
            DataType::Int32 => Values::Int32(column.as_primitive::<Int32Type>().clone()),
            DataType::Int64 => Values::Int64(column.as_primitive::<Int64Type>().clone()),
            DataType::Float64 => Values::Float64(column.as_primitive::<Float64Type>().clone()),
            DataType::Decimal { scale, .. } => {
                Values::Decimal(column.as_primitive::<Decimal128Type>().clone(), usize::try_from(*scale).unwrap_or(0))
            }
            DataType::Date => Values::Date(column.as_primitive::<Date32Type>().clone()),
            DataType::Timestamp(unit) => {
                let counts = match unit {
                    TimeUnit::Second => column.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().values(),
                };
                Values::Timestamp(counts.clone(), *unit)
            }
            DataType::Binary => Values::Binary(column.as_binary::<i32>().clone()),
            DataType::List(inner) => {
                let list = column.as_list::<i32>();
                Values::List(list.offsets().clone(), Box::new(Self::new(inner, list.values())?))
            }
            DataType::Struct(fields) => Values::Struct(JsonRows::new(fields, column.as_struct().columns())?),
        };
        Ok(Self { nulls: column.nulls().cloned(), values })
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.values {
            Values::String(array) => put_text(array.value(row), out),
            Values::Boolean(array) => out.extend_from_slice(if array.value(row) { b"true" } else { b"false" }),
            Values::Int32(array) => put_integer(i128::from(array.value(row)), out),
            Values::Int64(array) => put_integer(i128::from(array.value(row)), out),
            Values::Float64(array) => put_float(array.value(row), out),
            Values::Decimal(array, scale) => put_decimal(array.value(row), *scale, out),
            Values::Date(array) => {
                out.push(b'"');
                put_day(i64::from(array.value(row)), out);
                out.push(b'"');
            }
            Values::Timestamp(counts, unit) => put_timestamp(counts[row], *unit, out),
            Values::Binary(array) => put_base64(array.value(row), out),
            Values::List(offsets, elements) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.push(b'[');
                for element in from..to {
                    if element > from {
                        out.push(b',');
                    }
                    elements.write(element, out);
                }
                out.push(b']');
            }
            Values::Struct(rows) => rows.write(row, out),
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 15)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(*byte)]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// The digits of a magnitude, with zeros before them up to `least` digits.
fn put_digits(magnitude: u128, least: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 40];
    let mut at = digits.len();
    let mut rest = magnitude;
    while rest >> 64 != 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let start = at.min(digits.len() - least.min(digits.len()));
    out.extend_from_slice(&digits[start..]);
}

fn put_integer(value: i128, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    put_digits(value.unsigned_abs(), 1, out);
}

fn put_decimal(value: i128, scale: usize, out: &mut Vec<u8>) {
    let start = out.len() + usize::from(value < 0);
    if value < 0 {
        out.push(b'-');
    }
    put_digits(value.unsigned_abs(), scale + 1, out);
    if scale > 0 {
        let point = (out.len() - scale).max(start + 1);
        out.insert(point, b'.');
    }
}

fn put_float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        out.extend_from_slice(if value > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    }
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, u64, u64) {
    // Years that start in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + i64::from(month <= 2), month as u64, day as u64)
}

fn put_day(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    put_digits(u128::from(year.unsigned_abs()), 4, out);
    for part in [month, day] {
        out.push(b'-');
        put_digits(u128::from(part), 2, out);
    }
}

fn put_timestamp(count: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    /// 0000-01-01 and 10000-01-01, in seconds since 1970.
    const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;
    let (seconds, fraction) = (count.div_euclid(unit.per_second()), count.rem_euclid(unit.per_second()));
    if !YEARS.contains(&seconds) {
        put_integer(i128::from(count), out);
        return;
    }
    out.push(b'"');
    put_day(seconds.div_euclid(86_400), out);
    let second = seconds.rem_euclid(86_400);
    for (before, part) in [(b'T', second / 3_600), (b':', second / 60 % 60), (b':', second % 60)] {
        out.push(before);
        put_digits(part.unsigned_abs().into(), 2, out);
    }
    let digits = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    if digits > 0 {
        out.push(b'.');
        put_digits(fraction.unsigned_abs().into(), digits, out);
    }
    out.extend_from_slice(b"Z\"");
}

fn put_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place > chunk.len() { b'=' } else { letter });
        }
    }
    out.push(b'"');
}
