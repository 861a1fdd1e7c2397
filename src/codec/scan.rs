//! JSON's grammar over bytes: white space, strings, numbers, and values that nobody asked for.
//!
//! Functions take the text and a position and give the position after what they read. They may read a little past the
//! record's end (the caller sees to it that there are bytes, see `json.rs`): whoever reads the record's closing brace checks
//! where it stands, and a token that crosses the end can have no closing brace before it.

use std::borrow::Cow;

/// How deep objects and lists may nest, the record itself counted.
pub(super) const MAX_DEPTH: usize = 128;

/// Why a record is bad. Boxed: good records pay for a pointer only.
#[derive(Debug)]
pub(super) struct Fault {
    /// What is wrong.
    pub reason: Cow<'static, str>,
    /// Where, in the text.
    pub at: usize,
    /// Whether the offending text is the value that starts at `at`; otherwise it is the surroundings of `at`.
    pub is_value: bool,
    /// The way to the value, innermost step first.
    pub path: Vec<Step>,
}

/// A step from a record to a value in it.
#[derive(Debug)]
pub(super) enum Step {
    /// Into a member.
    Member(String),
    /// Into a list.
    Element(usize),
}

/// What scanning gives.
pub(super) type Scan<T> = Result<T, Box<Fault>>;

impl Fault {
    /// Not JSON at this byte.
    #[cold]
    pub fn syntax<T>(at: usize, reason: impl Into<Cow<'static, str>>) -> Scan<T> {
        Err(Box::new(Self { reason: reason.into(), at, is_value: false, path: Vec::new() }))
    }

    /// The value that starts here is not what the column holds.
    #[cold]
    pub fn value<T>(at: usize, reason: impl Into<Cow<'static, str>>) -> Scan<T> {
        Err(Box::new(Self { reason: reason.into(), at, is_value: true, path: Vec::new() }))
    }

    /// Adds where the value lies.
    #[cold]
    pub fn inside(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.path.push(step);
        self
    }
}

/// The byte at a position, 0 past the end: no token holds a 0.
#[inline(always)]
pub(super) fn byte(text: &[u8], at: usize) -> u8 {
    match text.get(at) {
        Some(byte) => *byte,
        None => 0,
    }
}

/// Eight bytes, the first in the lowest place, zeros past the end.
#[inline(always)]
pub(super) fn load8(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load8_at_end(text, at),
    }
}

#[cold]
fn load8_at_end(text: &[u8], at: usize) -> u64 {
    (0..8).fold(0, |word, i| word | u64::from(byte(text, at + i)) << (8 * i))
}

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The position after white space.
#[inline(always)]
pub(super) fn white_space(text: &[u8], mut at: usize) -> usize {
    while matches!(byte(text, at), b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    at
}

/// Marks the bytes of a word that are a quote, a backslash, a control character or not ASCII, by their highest bit.
#[inline(always)]
fn special(word: u64) -> u64 {
    let quote = (word ^ (LOW * b'"' as u64)).wrapping_sub(LOW);
    let backslash = (word ^ (LOW * b'\\' as u64)).wrapping_sub(LOW);
    let control = word.wrapping_sub(LOW * 0x20);
    // A borrow can only mark bytes above one that is really marked, and the lowest mark is the one used.
    (quote | backslash | control | word) & HIGH
}

/// The first such byte from `at`.
#[inline(always)]
fn plain_run(text: &[u8], mut at: usize) -> usize {
    loop {
        // Two words at once and a choice instead of a jump: lengths below 16 are not guessed.
        let (low, high) = match text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(chunk) => {
                let both = u128::from_le_bytes(*chunk);
                (special(both as u64), special((both >> 64) as u64))
            }
            None => (special(load8(text, at)), special(load8(text, at + 8))),
        };
        if low | high != 0 {
            let (marks, base) = if low != 0 { (low, 0) } else { (high, 8) };
            return at + base + (marks.trailing_zeros() / 8) as usize;
        }
        at += 16;
    }
}

/// Reads a string whose opening quote is at `at - 1`. Gives the position of the closing quote and whether there are escapes.
#[inline(always)]
pub(super) fn string(text: &[u8], at: usize) -> Scan<(usize, bool)> {
    let end = plain_run(text, at);
    if byte(text, end) == b'"' { Ok((end, false)) } else { string_rest(text, end) }
}

fn string_rest(text: &[u8], mut at: usize) -> Scan<(usize, bool)> {
    let mut escaped = false;
    loop {
        at = plain_run(text, at);
        match byte(text, at) {
            b'"' => return Ok((at, escaped)),
            b'\\' => {
                escaped = true;
                at = escape(text, at)?.1;
            }
            0x80.. => at = multibyte_run(text, at)?,
            _ => return Fault::syntax(at, "a control character in a string is not escaped"),
        }
    }
}

/// Checks the UTF-8 from `at` up to the next byte that could end the string or start an escape.
fn multibyte_run(text: &[u8], at: usize) -> Scan<usize> {
    let mut end = at;
    loop {
        let word = load8(text, end);
        // As in `special`, but bytes that are not ASCII are no reason to stop.
        let (quote, backslash) = (word ^ (LOW * b'"' as u64), word ^ (LOW * b'\\' as u64));
        let marks = quote.wrapping_sub(LOW) & !quote | backslash.wrapping_sub(LOW) & !backslash;
        let marks = (marks | word.wrapping_sub(LOW * 0x20) & !word) & HIGH;
        end += (marks.trailing_zeros() / 8) as usize;
        if marks != 0 {
            break;
        }
    }
    let run = text.get(at..end).unwrap_or_default();
    if simdutf8::basic::from_utf8(run).is_ok() {
        return Ok(end);
    }
    let valid = std::str::from_utf8(run).err().map_or(0, |error| error.valid_up_to());
    Fault::syntax(at + valid, "not UTF-8")
}

/// Reads the escape whose backslash is at `at`: the character and the position after it.
fn escape(text: &[u8], at: usize) -> Scan<(char, usize)> {
    let character = match byte(text, at + 1) {
        plain @ (b'"' | b'\\' | b'/') => plain as char,
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text, at),
        _ => return Fault::syntax(at, "unknown escape in a string"),
    };
    Ok((character, at + 2))
}

fn unicode_escape(text: &[u8], at: usize) -> Scan<(char, usize)> {
    let Some(first) = hex4(text, at + 2) else { return Fault::syntax(at, "\\u needs four hexadecimal digits") };
    if let Some(character) = char::from_u32(first) {
        return Ok((character, at + 6));
    }
    if first < 0xDC00
        && byte(text, at + 6) == b'\\'
        && byte(text, at + 7) == b'u'
        && let Some(second @ 0xDC00..=0xDFFF) = hex4(text, at + 8)
        && let Some(character) = char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    {
        return Ok((character, at + 12));
    }
    Fault::syntax(at, "half of a surrogate pair is no character")
}

fn hex4(text: &[u8], at: usize) -> Option<u32> {
    (at..at + 4).try_fold(0, |code, i| Some(code << 4 | (byte(text, i) as char).to_digit(16)?))
}

/// Appends what a string means. `raw` has been read by [`string`].
pub(super) fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < raw.len() {
        let plain = raw[at..].iter().position(|&b| b == b'\\').unwrap_or(raw.len() - at);
        out.extend_from_slice(&raw[at..at + plain]);
        at += plain;
        if at == raw.len() {
            return;
        }
        match escape(raw, at) {
            Ok((character, next)) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                at = next;
            }
            Err(_) => at += 1, // cannot be: `string` has accepted it
        }
    }
}

/// Reads a string at `at` (its opening quote) and gives what it means, and the position after it.
pub(super) fn text_at(text: &[u8], at: usize) -> Scan<(Cow<'_, [u8]>, usize)> {
    let (end, escaped) = string(text, at + 1)?;
    let raw = text.get(at + 1..end).unwrap_or_default();
    if !escaped {
        return Ok((Cow::Borrowed(raw), end + 1));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    unescape(raw, &mut decoded);
    Ok((Cow::Owned(decoded), end + 1))
}

/// How many of a word's bytes, from the lowest, are digits.
#[inline(always)]
pub(super) fn digits_in(word: u64) -> usize {
    let digits = word ^ (LOW * b'0' as u64);
    // A carry can only reach bytes above one that is no digit.
    let others = (digits.wrapping_add(LOW * 0x76) | digits) & HIGH;
    (others.trailing_zeros() / 8) as usize
}

/// The position after a run of digits.
#[inline(always)]
pub(super) fn digits(text: &[u8], mut at: usize) -> usize {
    loop {
        let n = digits_in(load8(text, at));
        at += n;
        if n < 8 {
            return at;
        }
    }
}

/// Reads a number: the position after it and whether it is written without fraction and exponent.
pub(super) fn number(text: &[u8], at: usize) -> Scan<(usize, bool)> {
    let start = at + usize::from(byte(text, at) == b'-');
    let mut end = digits(text, start);
    if end == start {
        return Fault::syntax(at, "a number needs a digit after its sign");
    }
    if byte(text, start) == b'0' && end > start + 1 {
        return Fault::syntax(at, "a number does not start with a further zero");
    }
    let mut whole = true;
    if byte(text, end) == b'.' {
        whole = false;
        let fraction = end + 1;
        end = digits(text, fraction);
        if end == fraction {
            return Fault::syntax(at, "a number needs a digit after its point");
        }
    }
    if byte(text, end) | 0x20 == b'e' {
        whole = false;
        let exponent = end + 1 + usize::from(matches!(byte(text, end + 1), b'+' | b'-'));
        end = digits(text, exponent);
        if end == exponent {
            return Fault::syntax(at, "a number needs a digit in its exponent");
        }
    }
    Ok((end, whole))
}

/// Reads `true`, `false` or `null`.
#[inline(always)]
pub(super) fn literal(text: &[u8], at: usize, word: &'static [u8]) -> Scan<usize> {
    if text.get(at..).is_some_and(|rest| rest.starts_with(word)) {
        Ok(at + word.len())
    } else {
        Fault::syntax(at, "expected a value")
    }
}

/// Reads a member's name, colon and the white space around it. Gives the name as written, whether it has escapes, and where
/// the value starts.
pub(super) fn name(text: &[u8], at: usize) -> Scan<(&[u8], bool, usize)> {
    if byte(text, at) != b'"' {
        return Fault::syntax(at, "expected the name of a member");
    }
    let (end, escaped) = string(text, at + 1)?;
    let colon = white_space(text, end + 1);
    if byte(text, colon) != b':' {
        return Fault::syntax(colon, "expected a colon");
    }
    Ok((text.get(at + 1..end).unwrap_or_default(), escaped, white_space(text, colon + 1)))
}

/// Reads any value at `at` that lies in `depth` open objects and lists, and checks all of it.
#[inline(always)]
pub(super) fn skip(text: &[u8], at: usize, depth: usize) -> Scan<usize> {
    match byte(text, at) {
        b'"' => Ok(string(text, at + 1)?.0 + 1),
        b'{' | b'[' => skip_nested(text, at, depth),
        _ => skip_scalar(text, at),
    }
}

fn skip_scalar(text: &[u8], at: usize) -> Scan<usize> {
    match byte(text, at) {
        b'"' => Ok(string(text, at + 1)?.0 + 1),
        b'-' | b'0'..=b'9' => Ok(number(text, at)?.0),
        b't' => literal(text, at, b"true"),
        b'f' => literal(text, at, b"false"),
        b'n' => literal(text, at, b"null"),
        _ => Fault::syntax(at, "expected a value"),
    }
}

/// Without recursion: whether each open container is an object is one bit.
fn skip_nested(text: &[u8], mut at: usize, depth: usize) -> Scan<usize> {
    let mut objects = 0_u128;
    let mut open = 0;
    loop {
        // At a value.
        let start = byte(text, at);
        if start == b'{' || start == b'[' {
            if depth + open >= MAX_DEPTH {
                return Fault::syntax(at, "nested deeper than 128");
            }
            open += 1;
            objects = objects << 1 | u128::from(start == b'{');
            at = white_space(text, at + 1);
            if byte(text, at) != start + 2 {
                if start == b'{' {
                    at = name(text, at)?.2;
                }
                continue;
            }
        } else {
            at = skip_scalar(text, at)?;
            at = white_space(text, at);
        }
        // After a value, or at the end of an empty container.
        while byte(text, at) != b',' {
            let close = if objects & 1 == 1 { b'}' } else { b']' };
            if byte(text, at) != close {
                return Fault::syntax(at, if close == b'}' { "expected a comma or }" } else { "expected a comma or ]" });
            }
            objects >>= 1;
            open -= 1;
            at += 1;
            if open == 0 {
                return Ok(at);
            }
            at = white_space(text, at);
        }
        at = white_space(text, at + 1);
        if objects & 1 == 1 {
            at = name(text, at)?.2;
        }
    }
}
