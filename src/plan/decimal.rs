//! Exact decimal numbers: an `i128` count of 10^-scale. No float is ever in between.

/// The most digits a decimal can have.
pub const MAX_PRECISION: u8 = 38;

/// 10^exponent, if it fits (exponents 0 to 38).
pub fn pow10(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// How many digits the number has; zero has one.
pub fn digits(value: i128) -> u8 {
    value.unsigned_abs().checked_ilog10().map_or(1, |log| log as u8 + 1)
}

/// Whether the number has at most `precision` digits.
pub fn fits(value: i128, precision: u8) -> bool {
    digits(value) <= precision
}

/// The same number at another scale: `None` if digits would be lost or it does not fit in 128 bits.
pub fn rescale(value: i128, from: i8, to: i8) -> Option<i128> {
    let factor = pow10(u32::from(from.abs_diff(to)))?;
    if to >= from { value.checked_mul(factor) } else { (value % factor == 0).then(|| value / factor) }
}

/// Reads decimal text (`-12.50`, `1e3` and `2.5E-3` too) at a scale: `None` if it is not a number, if digits would be
/// lost, or if it has more than `precision` digits.
pub fn parse(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (value, natural) = parse_natural(text)?;
    let value = if value == 0 { 0 } else { rescale_wide(value, natural, i32::from(scale))? };
    fits(value, precision).then_some(value)
}

/// Reads decimal text at the scale it is written with: the digits and the scale, which may be negative.
pub fn parse_natural(text: &str) -> Option<(i128, i32)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|e| e.abs() < 1_000)?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Zeros at the end say nothing, and would use up the room of 128 bits.
    let fraction = fraction.trim_end_matches('0');
    let mut value = 0_i128;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    Some((if negative { -value } else { value }, i32::try_from(fraction.len()).ok()? - exponent))
}

fn rescale_wide(value: i128, from: i32, to: i32) -> Option<i128> {
    let factor = pow10(from.abs_diff(to))?;
    if to >= from { value.checked_mul(factor) } else { (value % factor == 0).then(|| value / factor) }
}

/// The number as text with exactly `scale` digits after the point.
pub fn format(value: i128, scale: i8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::try_from(scale).unwrap_or(0);
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// Rounded to fewer digits after the point, half to even.
pub fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (value / divisor, value % divisor);
    // |rest| against |divisor| - |rest|: doubling could overflow.
    let (rest_size, missing) = (rest.unsigned_abs(), divisor.unsigned_abs() - rest.unsigned_abs());
    let up = rest_size > missing || (rest_size == missing && quotient % 2 != 0);
    if up { quotient + if (value < 0) == (divisor < 0) { 1 } else { -1 } } else { quotient }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_or_not_at_all() {
        assert_eq!(parse("12.50", 10, 2), Some(1250));
        assert_eq!(parse("12.500", 10, 2), Some(1250));
        assert_eq!(parse("12.505", 10, 2), None);
        assert_eq!(parse("-0.01", 10, 2), Some(-1));
        assert_eq!(parse("1e3", 10, 2), Some(100_000));
        assert_eq!(parse("2.5E-3", 10, 4), Some(25));
        assert_eq!(parse("123456789", 10, 2), None, "eleven digits");
        for wrong in ["", ".", "-", "1.2.3", "1,5", "0x1", "NaN", "1e", "e5", " 1"] {
            assert_eq!(parse(wrong, 38, 0), None, "{wrong:?}");
        }
        assert_eq!(parse("0.0000000000000000000000000000000000000000000000", 5, 2), Some(0));
        assert_eq!(parse("99999999999999999999999999999999999999", 38, 0), Some(10_i128.pow(38) - 1));
    }

    #[test]
    fn text_is_written_at_the_scale() {
        assert_eq!(format(1250, 2), "12.50");
        assert_eq!(format(-1, 2), "-0.01");
        assert_eq!(format(0, 3), "0.000");
        assert_eq!(format(-7, 0), "-7");
    }

    #[test]
    fn halves_go_to_even() {
        let rounded: Vec<i128> = [-35, -25, -15, 15, 25, 35, 24, 26].map(|v| divide_half_even(v, 10)).to_vec();
        assert_eq!(rounded, [-4, -2, -2, 2, 2, 4, 2, 3]);
    }

    #[test]
    fn digits_are_counted() {
        assert_eq!([0, 9, 10, -99, 100].map(digits), [1, 1, 2, 2, 3]);
    }
}
