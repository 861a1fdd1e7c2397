//! Numbers, exactly or not at all.

use super::scan::{self, Fault, Scan, byte, digits_in, load8};

/// Powers of ten that fit 64 bits and are used to join groups of digits.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number that the first `n` (at most 8) digits of a word spell.
#[inline(always)]
fn spelled(word: u64, n: usize) -> u64 {
    if n == 0 {
        return 0;
    }
    // Right-aligned, with zeros before it, then pairs, fours and the eight are joined, all lanes at once.
    let digits = (word ^ 0x3030_3030_3030_3030) << (64 - 8 * n);
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    low.wrapping_add(high) >> 32
}

/// Reads a 64-bit integer and the position after it. `type_name` is the column's, for the message.
#[inline(always)]
pub(super) fn int64(text: &[u8], at: usize, type_name: &'static str) -> Scan<(i64, usize)> {
    let negative = byte(text, at) == b'-';
    let start = at + usize::from(negative);
    let word = load8(text, start);
    let mut n = digits_in(word);
    let mut magnitude = spelled(word, n);
    let mut end = start + n;
    if n == 8 {
        let word = load8(text, end);
        n = digits_in(word);
        magnitude = magnitude * POWERS[n] + spelled(word, n);
        end += n;
        if n == 8 {
            // Three more digits cannot overflow u64; what is longer is refused below.
            while byte(text, end).is_ascii_digit() && end < start + 19 {
                magnitude = magnitude * 10 + u64::from(byte(text, end) - b'0');
                end += 1;
            }
        }
    }
    let next = byte(text, end);
    let odd = end == start || (byte(text, start) == b'0' && end > start + 1) || next == b'.' || next | 0x20 == b'e';
    if odd || next.is_ascii_digit() || magnitude > i64::MAX as u64 + u64::from(negative) {
        return no_integer(text, at, type_name);
    }
    let value = if negative { (magnitude as i64).wrapping_neg() } else { magnitude as i64 };
    Ok((value, end))
}

/// Says why there is no integer here.
#[cold]
fn no_integer<T>(text: &[u8], at: usize, type_name: &'static str) -> Scan<T> {
    match byte(text, at) {
        b'-' | b'0'..=b'9' => match scan::number(text, at)? {
            (_, true) => Fault::value(at, format!("does not fit {type_name}")),
            (_, false) => Fault::value(at, format!("expected {type_name}, found a number with a fraction or an exponent")),
        },
        _ => unexpected(text, at, type_name),
    }
}

/// Says what was found in place of a value of a type, or that nothing was.
#[cold]
pub(super) fn unexpected<T>(text: &[u8], at: usize, type_name: &str) -> Scan<T> {
    let found = match byte(text, at) {
        b'"' => "text",
        b'-' | b'0'..=b'9' => "a number",
        b't' | b'f' => "a boolean",
        b'{' => "an object",
        b'[' => "a list",
        b'n' => "null",
        _ => return Fault::syntax(at, "expected a value"),
    };
    Fault::value(at, format!("expected {type_name}, found {found}"))
}

/// Reads a double and the position after it, rounded once to the nearest.
pub(super) fn float64(text: &[u8], at: usize) -> Scan<(f64, usize)> {
    if !matches!(byte(text, at), b'-' | b'0'..=b'9') {
        return unexpected(text, at, "Float64");
    }
    let (end, _) = scan::number(text, at)?;
    let digits = text.get(at..end).and_then(|digits| std::str::from_utf8(digits).ok());
    match digits.and_then(|digits| digits.parse::<f64>().ok()) {
        Some(value) if value.is_finite() => Ok((value, end)),
        _ => Fault::value(at, "does not fit Float64"),
    }
}

/// Reads a decimal, from a number or from text that is one, and the position after it: the value times 10^`scale`.
pub(super) fn decimal(text: &[u8], at: usize, precision: u8, scale: i8) -> Scan<(i128, usize)> {
    let (result, end) = match byte(text, at) {
        b'"' => {
            let (inner, end) = scan::text_at(text, at)?;
            match scan::number(&inner, 0) {
                Ok((len, _)) if len == inner.len() => (unscaled(&inner, precision, scale), end),
                _ => {
                    return Fault::value(
                        at,
                        format!("text that is no decimal number in a column of Decimal({precision}, {scale})"),
                    );
                }
            }
        }
        b'-' | b'0'..=b'9' => {
            let (end, _) = scan::number(text, at)?;
            (unscaled(text.get(at..end).unwrap_or_default(), precision, scale), end)
        }
        _ => return unexpected(text, at, &format!("Decimal({precision}, {scale})")),
    };
    match result {
        Ok(value) => Ok((value, end)),
        Err(reason) => Fault::value(at, format!("{reason} Decimal({precision}, {scale})")),
    }
}

/// The value of a valid JSON number times 10^`scale`.
fn unscaled(number: &[u8], precision: u8, scale: i8) -> Result<i128, &'static str> {
    let negative = number.first() == Some(&b'-');
    let number = &number[usize::from(negative)..];
    let split = number.iter().position(|b| b | 0x20 == b'e').unwrap_or(number.len());
    let (mantissa, exponent) = (&number[..split], number.get(split + 1..).unwrap_or_default());

    // Significant digits only: `value` without the zeros at either end, whose last digit stands for 10^`power`.
    let mut value = 0_i128;
    let mut len = 0_usize;
    let mut zeros = 0_usize; // seen since the last digit that was not 0
    let mut after_point = None;
    for &b in mantissa {
        if b == b'.' {
            after_point = Some(0_i64);
            continue;
        }
        after_point = after_point.map(|n| n + 1);
        if b == b'0' {
            zeros += usize::from(len > 0);
            continue;
        }
        len += zeros + 1;
        if len > 38 {
            return Err("more digits than fit");
        }
        // At most 38 digits: within i128.
        value = value * 10_i128.pow(zeros as u32 + 1) + i128::from(b - b'0');
        zeros = 0;
    }
    if value == 0 {
        return Ok(0);
    }
    let power = zeros as i64 - after_point.unwrap_or(0) + parse_exponent(exponent) + i64::from(scale);
    if power < 0 {
        return Err("more digits after the point than fit");
    }
    if len as i64 + power > i64::from(precision) {
        return Err("more digits than fit");
    }
    let value = value * 10_i128.pow(power as u32);
    Ok(if negative { -value } else { value })
}

/// A valid exponent, held within what cannot matter.
fn parse_exponent(exponent: &[u8]) -> i64 {
    let negative = exponent.first() == Some(&b'-');
    let magnitude = exponent
        .iter()
        .filter(|b| b.is_ascii_digit())
        .fold(0_i64, |n, b| n.saturating_mul(10).saturating_add(i64::from(b - b'0')).min(1 << 48));
    if negative { -magnitude } else { magnitude }
}
