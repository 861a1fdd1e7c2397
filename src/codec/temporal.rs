//! Days and instants, from text.

use super::number::unexpected;
use super::scan::{self, Fault, Scan, byte};
use crate::plan::schema::TimeUnit;

/// Reads a day, as days since 1970-01-01, and the position after it.
pub(super) fn date(text: &[u8], at: usize) -> Scan<(i32, usize)> {
    if byte(text, at) != b'"' {
        return unexpected(text, at, "Date");
    }
    let (inner, end) = scan::text_at(text, at)?;
    match day(&inner) {
        Some(days) if inner.len() == 10 => Ok((days as i32, end)),
        _ => Fault::value(at, "text that is no day: expected YYYY-MM-DD"),
    }
}

/// Reads an instant, in units since 1970 UTC, and the position after it.
#[inline(always)]
pub(super) fn timestamp(text: &[u8], at: usize, unit: TimeUnit) -> Scan<(i64, usize)> {
    let (value, end) =
        if byte(text, at) == b'"' { timestamp_text(text, at, unit)? } else { super::number::int64(text, at, "Timestamp")? };
    // Tables count microseconds: an instant that no table can hold is refused here, where the record is known.
    let greatest = i64::MAX / (1_000_000 / unit.per_second()).max(1);
    if value > greatest || value < -greatest {
        return Fault::value(at, "an instant outside 64 bits of microseconds: is the unit right?");
    }
    Ok((value, end))
}

fn timestamp_text(text: &[u8], at: usize, unit: TimeUnit) -> Scan<(i64, usize)> {
    let (inner, end) = scan::text_at(text, at)?;
    match rfc3339(&inner, unit) {
        Ok(value) => Ok((value, end)),
        Err(reason) => Fault::value(at, reason),
    }
}

/// Two digits at a position.
fn two(text: &[u8], at: usize) -> Option<i64> {
    let digit = |b: u8| b.is_ascii_digit().then(|| i64::from(b - b'0'));
    Some(digit(byte(text, at))? * 10 + digit(byte(text, at + 1))?)
}

/// The day that `YYYY-MM-DD` at the start names, as days since 1970-01-01.
fn day(text: &[u8]) -> Option<i64> {
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if byte(text, 4) != b'-' || byte(text, 7) != b'-' || !(1..=longest).contains(&day) {
        return None;
    }
    // Years that start in March, so that the leap day is the last.
    let y = year - i64::from(month < 3);
    let (m, y400) = ((month + 9) % 12, y.rem_euclid(400));
    let in_era = y400 * 365 + y400 / 4 - y400 / 100 + (m * 153 + 2) / 5 + day - 1;
    Some(y.div_euclid(400) * 146_097 + in_era - 719_468)
}

/// The instant that a whole text names.
fn rfc3339(text: &[u8], unit: TimeUnit) -> Result<i64, &'static str> {
    const FORM: &str = "text that is no instant: expected RFC 3339, such as 2026-01-31T09:30:00.250+05:30";
    let days = day(text).ok_or(FORM)?;
    let (hour, minute, second) = (two(text, 11).ok_or(FORM)?, two(text, 14).ok_or(FORM)?, two(text, 17).ok_or(FORM)?);
    if !matches!(byte(text, 10), b'T' | b't' | b' ') || byte(text, 13) != b':' || byte(text, 16) != b':' {
        return Err(FORM);
    }
    if second == 60 {
        return Err("second 60 names no instant in UTC as clocks count it");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(FORM);
    }
    let fraction_end = if byte(text, 19) == b'.' { scan::digits(text, 20) } else { 19 };
    if fraction_end == 20 {
        return Err(FORM);
    }
    let ahead = offset_seconds(text, fraction_end)?;
    let subsecond = fraction(text.get(20..fraction_end).unwrap_or_default(), unit)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - ahead;
    let units = i128::from(seconds) * i128::from(unit.per_second()) + i128::from(subsecond);
    i64::try_from(units).map_err(|_| "an instant outside of 64 bits of this unit")
}

/// How many seconds the clock on the wall is ahead of UTC, from the rest of the text.
fn offset_seconds(text: &[u8], at: usize) -> Result<i64, &'static str> {
    const FORM: &str = "an instant needs its offset from UTC: Z or ±HH:MM at the end";
    let sign = match byte(text, at) {
        b'Z' | b'z' if text.len() == at + 1 => return Ok(0),
        b'+' => 1,
        b'-' => -1,
        _ => return Err(FORM),
    };
    let (hours, minutes) = (two(text, at + 1).ok_or(FORM)?, two(text, at + 4).ok_or(FORM)?);
    if byte(text, at + 3) != b':' || text.len() != at + 6 || hours > 23 || minutes > 59 {
        return Err(FORM);
    }
    Ok(sign * (hours * 3_600 + minutes * 60))
}

/// The digits after the point as units, if they are a whole number of them.
fn fraction(digits: &[u8], unit: TimeUnit) -> Result<i64, &'static str> {
    let mut scale = unit.per_second();
    let mut value = 0;
    for b in digits {
        scale /= 10;
        if scale == 0 && *b != b'0' {
            return Err("an instant finer than the unit of its column");
        }
        value += i64::from(b - b'0') * scale;
    }
    Ok(value)
}
