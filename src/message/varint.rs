//! Zigzag varints, as Kafka's records use them for every number.

/// Appends a number.
#[inline]
pub fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] takes for it.
#[inline]
pub fn size(value: i64) -> usize {
    (70 - (zigzag(value) | 1).leading_zeros() as usize) / 7
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reads numbers and runs of bytes from a slice, in order; `None` where the slice ends too early.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at byte `at` of `data`.
    pub fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at }
    }

    /// The index of the next byte.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// A number of at most 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Option<i64> {
        let first = *self.data.get(self.at)?;
        self.at += 1;
        let value = if first < 0x80 { u64::from(first) } else { self.longer(u64::from(first & 0x7f))? };
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    #[inline]
    fn longer(&mut self, first: u64) -> Option<u64> {
        let second = *self.data.get(self.at)?;
        self.at += 1;
        let mut value = first | u64::from(second & 0x7f) << 7;
        let mut more = second >= 0x80;
        let mut shift = 14;
        while more {
            let byte = *self.data.get(self.at)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            more = byte >= 0x80;
        }
        Some(value)
    }

    /// A length: `Some(None)` for −1, which stands for null.
    #[inline]
    pub fn length(&mut self) -> Option<Option<usize>> {
        match self.varint()? {
            -1 => Some(None),
            length @ 0..=0x7fff_ffff => Some(Some(length as usize)),
            _ => None,
        }
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Passes over `count` bytes.
    #[inline]
    pub fn skip(&mut self, count: usize) -> Option<()> {
        let next = self.at.checked_add(count)?;
        if next > self.data.len() {
            return None;
        }
        self.at = next;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_the_size_is_exact() {
        let mut values = vec![0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN];
        values.extend((0..63).map(|shift| 1i64 << shift));
        values.extend((0..63).map(|shift| -(1i64 << shift)));
        for value in values {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), size(value), "{value}");
            let mut cursor = Cursor::new(&out, 0);
            assert_eq!(cursor.varint(), Some(value));
            assert_eq!(cursor.at(), out.len());
            assert_eq!(Cursor::new(&out[..out.len() - 1], 0).varint(), None);
        }
    }

    #[test]
    fn an_endless_number_ends() {
        assert_eq!(Cursor::new(&[0xff; 40], 0).varint(), None);
    }
}
