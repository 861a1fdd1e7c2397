//! Changes to seeds: blind ones to bytes, and such as mean something to the formats.

/// Pieces that mean something somewhere.
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\n",
    b" ",
    b"\0",
    b"null",
    b"true",
    b"false",
    b"\"\"",
    b"[]",
    b"{}",
    b"{\"",
    b"\":",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00",
    b"\\ud83d\\ude00",
    b"\xff",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\"a\":",
    b"\"b\":",
    b"\"\\u0061\":",
    b"1e400",
    b"-0",
    b"-0.0",
    b"1e-400",
    b"0.1",
    b"1E+5",
    b"..",
    b"/../",
    b"/etc/passwd",
    b"file:///",
    b"=",
    b"1970-01-01T00:00:00Z",
    b"9999-12-31",
    b"state/",
    b"outbox/",
    b"Asia/Kolkata",
    b"\x28\xb5\x2f\xfd",
    b"\x04\x22\x4d\x18",
];

/// Numbers at which something ends.
const NUMBERS: &[i128] = &[
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    4095,
    i16::MAX as i128,
    u16::MAX as i128,
    i32::MAX as i128,
    i32::MIN as i128,
    u32::MAX as i128,
    u32::MAX as i128 + 1,
    1 << 53,
    i64::MAX as i128,
    i64::MIN as i128,
    u64::MAX as i128,
    u64::MAX as i128 + 1,
    i128::MAX,
];

/// Nothing grows beyond this.
const LONGEST: usize = 1 << 20;

/// Numbers that look random and are the same for a seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Small mostly, and below two to the power of `most`.
    fn up_to_power(&mut self, most: usize) -> usize {
        let power = self.below(most);
        self.below(1 << power)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A changed copy of one of the seeds.
pub fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(seeds).clone();
    // Few changes mostly: what is wrong in many places is refused at the first.
    for _ in 0..1 + random.up_to_power(4) {
        change(random, &mut bytes, seeds);
        bytes.truncate(LONGEST);
    }
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.up_to_power(10)).min(bytes.len()).max(at);
    match random.below(14) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        1 if at < bytes.len() => bytes[at] = random.next() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            drop(bytes.splice(to..to, copy));
        }
        4 => drop(bytes.splice(at..at, random.pick(WORDS).iter().copied())),
        5 => {
            let word = random.pick(WORDS);
            drop(bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied()));
        }
        6 => {
            let other = random.pick(seeds);
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        7 => bytes.truncate(at),
        8 | 9 => binary_number(random, bytes, at),
        10 | 11 => written_number(random, bytes, at),
        12 => {
            let times = 1 << random.below(10);
            let piece = random.pick(WORDS).repeat(times);
            drop(bytes.splice(at..at, piece));
        }
        _ => drop(bytes.splice(at..end, (at..end).map(|_| random.next() as u8).collect::<Vec<_>>())),
    }
}

/// Overwrites two, four or eight bytes by a number at which something ends, big or little endian, or by a varint.
fn binary_number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let number = *random.pick(NUMBERS) as i64;
    let number = if random.below(4) == 0 { number.wrapping_add(random.below(64) as i64 - 32) } else { number };
    let mut written = Vec::new();
    match random.below(4) {
        0 => written.extend_from_slice(&(number as i16).to_be_bytes()),
        1 => written.extend_from_slice(&(number as i32).to_be_bytes()),
        2 => written.extend_from_slice(&number.to_be_bytes()),
        _ => kappa::message::varint::put(&mut written, number),
    }
    if random.below(4) == 0 {
        written.reverse();
    }
    drop(bytes.splice(at..(at + written.len()).min(bytes.len()), written));
}

/// Puts a number at which something ends in the place of one that is written in digits.
fn written_number(random: &mut Random, bytes: &mut Vec<u8>, at: usize) {
    let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
    let end = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |found| start + found);
    drop(bytes.splice(start..end, random.pick(NUMBERS).to_string().into_bytes()));
}
