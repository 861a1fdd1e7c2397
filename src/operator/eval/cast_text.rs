//! Text from values and values from text. The forms are stable: tables hold them.
//!
//! | type | text |
//! |---|---|
//! | Boolean | `true`, `false` |
//! | Int32, Int64 | digits, `-` before |
//! | Float64 | the shortest that reads back: `0.1`, `1.0`, `1e16`, `NaN`, `Infinity`, `-Infinity`; zero is `0.0` |
//! | Decimal(p, s) | s digits after the point: `12.50` |
//! | Date | `2026-03-01` |
//! | Timestamp | `2026-03-01T09:12:00Z`, with 0, 3, 6 or 9 digits after the second, as the unit has |
//!
//! Read back: the same forms, and for numbers what JSON allows and a `+`; a Timestamp is RFC 3339 with `Z` or an offset,
//! and may have no more digits than its unit. Nothing is trimmed.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use chrono::{DateTime, NaiveDate};

use super::cast::binary_to_text;
use super::compare::normal;
use super::map::{booleans, f64s, i32s, i64s, i128s};
use super::value::Value;
use crate::error::{Error, Result};
use crate::plan::decimal;
use crate::plan::display;
use crate::plan::schema::{DataType, TimeUnit};

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(super) fn integer(text: &str) -> Option<i64> {
    text.parse().ok()
}

pub(super) fn float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Words are not numbers, and a number beyond the range is not infinite.
        _ if text.ends_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok().filter(|v: &f64| v.is_finite()),
        _ => None,
    }
}

/// Days since 1970.
pub(super) fn date(text: &str) -> Option<i32> {
    let well_formed = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| well_formed)?;
    i32::try_from(day.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days()).ok()
}

/// A count of the unit since 1970 UTC.
pub(super) fn instant(text: &str, unit: TimeUnit) -> Option<i64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    let nanos = i64::from(time.timestamp_subsec_nanos());
    let per_second = unit.per_second();
    let step = 1_000_000_000 / per_second;
    // A leap second has no count of its own, and digits beyond the unit would be lost.
    if nanos >= 1_000_000_000 || nanos % step != 0 || has_tenth_digit(text) {
        return None;
    }
    let value = i128::from(time.timestamp()) * i128::from(per_second) + i128::from(nanos / step);
    i64::try_from(value).ok()
}

/// Whether there are digits, other than zeros, that nanoseconds cannot hold.
fn has_tenth_digit(text: &str) -> bool {
    let Some((_, fraction)) = text.split_once('.') else { return false };
    fraction.bytes().take_while(u8::is_ascii_digit).skip(9).any(|digit| digit != b'0')
}

/// Any plain type as text; `on_wrong` is asked about a value that has none (bytes that are not UTF-8, times beyond the
/// calendar), which else becomes null.
pub(super) fn to_text(arg: &Value, from: &DataType, on_wrong: impl Fn(usize, &str) -> Result<()>) -> Result<ArrayRef> {
    let rows = arg.array().len();
    let mut out = Out { builder: StringBuilder::with_capacity(rows, rows * 12), text: String::new(), on_wrong };
    let valid = |row: usize| arg.array().is_valid(row);
    match from {
        DataType::Binary => return binary_to_text(arg, out.on_wrong),
        DataType::Boolean => {
            booleans(arg)?.iter().for_each(|value| out.builder.append_option(value.map(|v| if v { "true" } else { "false" })))
        }
        DataType::Int32 => out.all(i32s(arg)?.values, valid, |v, text| write!(text, "{v}").is_ok())?,
        DataType::Int64 => out.all(i64s(arg)?.values, valid, |v, text| write!(text, "{v}").is_ok())?,
        DataType::Float64 => out.all(f64s(arg)?.values, valid, |v, text| {
            write_float(v, text);
            true
        })?,
        DataType::Decimal { scale, .. } => out.all(i128s(arg)?.values, valid, |v, text| {
            text.push_str(&decimal::format(v, *scale));
            true
        })?,
        DataType::Date => out.all(i32s(arg)?.values, valid, |v, text| push(display::date(i64::from(v)), text))?,
        DataType::Timestamp(unit) => out.all(i64s(arg)?.values, valid, |v, text| push(display::instant(v, *unit), text))?,
        _ => return Err(Error::internal(format!("{from} as text"))),
    }
    Ok(Arc::new(out.builder.finish()))
}

struct Out<F> {
    builder: StringBuilder,
    text: String,
    on_wrong: F,
}

impl<F: Fn(usize, &str) -> Result<()>> Out<F> {
    /// `write` says whether the value has a text.
    fn all<T: Copy + std::fmt::Display>(
        &mut self,
        values: &[T],
        valid: impl Fn(usize) -> bool,
        write: impl Fn(T, &mut String) -> bool,
    ) -> Result<()> {
        for (row, value) in values.iter().enumerate() {
            self.text.clear();
            if !valid(row) {
                self.builder.append_null();
            } else if write(*value, &mut self.text) {
                self.builder.append_value(&self.text);
            } else {
                (self.on_wrong)(row, &value.to_string())?;
                self.builder.append_null();
            }
        }
        Ok(())
    }
}

fn push(formatted: Option<String>, text: &mut String) -> bool {
    formatted.is_some_and(|formatted| {
        text.push_str(&formatted);
        true
    })
}

fn write_float(value: f64, text: &mut String) {
    text.push_str(match value {
        _ if value.is_nan() => "NaN",
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => return text.push_str(ryu::Buffer::new().format_finite(normal(value))),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_strictly() {
        assert_eq!(date("2026-03-01"), Some(20_513));
        for wrong in ["2026-3-1", "2026-02-30", "2026-03-01T00:00:00Z", " 2026-03-01", "", "+026-03-01"] {
            assert_eq!(date(wrong), None, "{wrong:?}");
        }
        assert_eq!(instant("2026-03-01T00:00:00Z", TimeUnit::Second), Some(1_772_323_200));
        assert_eq!(instant("2026-03-01T05:30:00.250+05:30", TimeUnit::Millisecond), Some(1_772_323_200_250));
        assert_eq!(instant("1969-12-31T23:59:59.5Z", TimeUnit::Millisecond), Some(-500));
        for wrong in [
            "2026-03-01T00:00:00",
            "2026-03-01",
            "2026-03-01T00:00:00.0001Z",
            "2016-12-31T23:59:60Z",
            "2026-03-01T00:00:00.00000000001Z",
        ] {
            assert_eq!(instant(wrong, TimeUnit::Millisecond), None, "{wrong:?}");
        }
        assert_eq!(instant("2300-01-01T00:00:00Z", TimeUnit::Nanosecond), None, "beyond 64 bits");
        for wrong in ["inf", "nan", "1e999", "", " 1", "1_000", "0x10", "infinity"] {
            assert_eq!(float(wrong), None, "{wrong:?}");
        }
        assert_eq!(float("-1.5e3"), Some(-1500.0));
        assert_eq!((integer("-5"), integer("5.0"), integer("")), (Some(-5), None, None));
    }

    #[test]
    fn floats_have_one_text() {
        let all: String = [0.1, 1.0, -0.0, 1e16, 1e300, f64::NAN, -f64::NAN, f64::NEG_INFINITY, 5e-324]
            .iter()
            .map(|v| {
                let mut text = String::new();
                write_float(*v, &mut text);
                text + " "
            })
            .collect();
        assert_eq!(all, "0.1 1.0 0.0 1e16 1e300 NaN NaN -Infinity 5e-324 ");
    }
}
