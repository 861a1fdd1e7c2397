//! The pieces that encoded states are made of. Reading checks everything: the bytes come from a disk.

use crate::error::{Error, Result};

#[cold]
pub(super) fn damaged(what: &str) -> Error {
    Error::corruption("damaged_state", format!("the state of an aggregate cannot be read: {what}"))
        .hint("restore the state directory from a copy, or start a new version")
}

pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(byte(bytes)?);
        let part = (byte & 0x7f) << shift;
        if part >> shift != byte & 0x7f || (byte == 0 && shift > 0) {
            return Err(damaged("a number is not in its shortest form"));
        }
        value |= part;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number does not end"))
}

/// A count of rows: a varint that fits i64.
pub(super) fn count(bytes: &mut &[u8]) -> Result<i64> {
    i64::try_from(varint(bytes)?).map_err(|_| damaged("a count is out of range"))
}

/// The sum of two counts.
pub(super) fn add_counts(a: i64, b: i64) -> Result<i64> {
    a.checked_add(b).ok_or_else(|| damaged("counts are out of range"))
}

/// A count without those of another: what is taken back was counted.
pub(super) fn subtract_counts(count: i64, less: i64) -> Result<i64> {
    let left = count.checked_sub(less).filter(|left| less >= 0 && *left >= 0);
    left.ok_or_else(|| damaged("more is taken back than was added"))
}

/// Appends a signed number, given in little-endian two's complement.
pub(super) fn put_signed(value: &[u8], out: &mut Vec<u8>) {
    let needed = shortest(value);
    out.push(needed as u8);
    out.extend_from_slice(&value[..needed]);
}

fn shortest(value: &[u8]) -> usize {
    let mut needed = value.len();
    let negative = needed > 0 && value[needed - 1] >= 0x80;
    let filler = if negative { 0xff } else { 0 };
    while needed > 0 && value[needed - 1] == filler && (value[..needed - 1].last().is_some_and(|&b| b >= 0x80) == negative) {
        needed -= 1;
    }
    needed
}

/// A signed number in little-endian two's complement.
pub(super) fn signed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let length = usize::from(byte(bytes)?);
    let digits = take(bytes, length)?;
    let negative = digits.last().is_some_and(|&byte| byte >= 0x80);
    let mut value = [if negative { 0xff } else { 0 }; N];
    if length > N || shortest(digits) != length {
        return Err(damaged("a number is too long"));
    }
    value[..length].copy_from_slice(digits);
    Ok(value)
}

/// Appends bytes with their length.
pub(super) fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Bytes with their length.
pub(super) fn bytes<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).map_err(|_| damaged("a length is out of range"))?;
    take(bytes, length)
}

pub(super) fn byte(bytes: &mut &[u8]) -> Result<u8> {
    array(bytes).map(|[byte]| byte)
}

/// Whether a state with a value follows (1) or an empty one (0).
pub(super) fn present(bytes: &mut &[u8]) -> Result<bool> {
    match byte(bytes)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(damaged("a state is neither empty nor present")),
    }
}

pub(super) fn array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| damaged("bytes are missing"))?;
    *bytes = rest;
    Ok(*head)
}

pub(super) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length).ok_or_else(|| damaged("bytes are missing"))?;
    *bytes = rest;
    Ok(head)
}
