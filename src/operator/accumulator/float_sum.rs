//! The exact sum of floats, rounded once: a superaccumulator after R. M. Neal, "Fast exact summation using small and large
//! superaccumulators" (2015, arXiv:1505.05571).
//!
//! Every finite float is an integer multiple of 2^−1074, the least one. The sum is kept as such a multiple: in chunks, of
//! which chunk i weighs 2^(32 i − 1074). A chunk has 64 bits, so that a billion additions go by before carries must be
//! moved. Neal keeps all chunks always; here a sum begins with a window of five, which is enough while its values are
//! within a factor of 2^32 of the first, and takes all of them only once they are needed: a tenth of the memory for most.

/// Chunks of the widest sum: 2^63 times the greatest float ends in chunk 67; the last one takes the sign.
const CHUNKS: usize = 70;

/// Chunks of a window.
const WINDOW: usize = 5;

/// Additions before carries must be moved: each is less than 2^32 in every chunk.
const LIMIT: u32 = 1 << 30;

/// A NaN was added.
pub(super) const NAN: u8 = 1;
/// +∞ was added.
pub(super) const POSITIVE_INFINITY: u8 = 2;
/// −∞ was added.
pub(super) const NEGATIVE_INFINITY: u8 = 4;

/// A sum of floats without an error.
#[derive(Clone, Debug, Default)]
pub struct FloatSum {
    window: [i64; WINDOW],
    /// The window's first chunk.
    base: u8,
    /// Which of the values that are not finite were added.
    special: u8,
    /// Additions since the carries were moved. 0: nothing but zeros so far.
    pending: u32,
    wide: Option<Box<[i64; CHUNKS]>>,
}

/// The one form of a sum in which it is compared, written and rounded: a sign and digits to the base 2^32.
#[derive(Debug, PartialEq)]
pub(super) struct Digits {
    pub(super) negative: bool,
    digits: [u32; CHUNKS],
    first: usize,
    end: usize,
}

impl FloatSum {
    /// Adds a value. Says by how many bytes the sum has grown on the heap: nearly always 0.
    #[inline]
    pub fn add(&mut self, value: f64) -> usize {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            self.special |= if fraction != 0 { NAN } else { POSITIVE_INFINITY << (bits >> 63) };
            return 0;
        }
        // Subnormal numbers have the exponent of the least normal ones, and no hidden bit.
        let (mantissa, place) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if mantissa == 0 {
            return 0;
        }
        let shifted = u128::from(mantissa) << (place & 31);
        let sign = 1 - 2 * (bits >> 63) as i64;
        let parts = [shifted as u32, (shifted >> 32) as u32, (shifted >> 64) as u32].map(|part| i64::from(part) * sign);
        self.add_parts((place >> 5) as usize, &parts)
    }

    #[inline]
    fn add_parts(&mut self, chunk: usize, parts: &[i64; 3]) -> usize {
        if self.pending == 0 && self.wide.is_none() {
            self.base = chunk.saturating_sub(1) as u8;
        }
        let mut grown = if self.pending >= LIMIT { self.carry() } else { 0 };
        self.pending += 1;
        let at = chunk.wrapping_sub(self.base.into());
        if at > WINDOW - 3 {
            grown += self.widen();
        }
        let to = match &mut self.wide {
            Some(wide) => &mut wide[chunk..chunk + 3],
            None => &mut self.window[at..at + 3],
        };
        for (to, part) in to.iter_mut().zip(parts) {
            *to += part;
        }
        grown
    }

    /// Adds a sum that was taken apart, and says by how many bytes this one has grown on the heap.
    pub(super) fn add_digits(&mut self, other: &Digits) -> usize {
        let digits = &other.digits[other.first..other.end];
        if digits.is_empty() {
            return 0;
        }
        if self.pending == 0 && self.wide.is_none() {
            let below = usize::from(digits.len() < WINDOW);
            self.base = other.first.saturating_sub(below).min(CHUNKS - WINDOW) as u8;
        }
        let mut grown = if self.pending >= LIMIT { self.carry() } else { 0 };
        self.pending += 1;
        let at = other.first.wrapping_sub(self.base.into());
        if at > WINDOW || at + digits.len() > WINDOW {
            grown += self.widen();
        }
        let to = match &mut self.wide {
            Some(wide) => &mut wide[other.first..],
            None => &mut self.window[at..],
        };
        for (to, &digit) in to.iter_mut().zip(digits) {
            *to += if other.negative { -i64::from(digit) } else { i64::from(digit) };
        }
        grown
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.special |= other.special;
        self.add_digits(&other.digits());
    }

    /// Takes away a sum that was added before; else as `add_digits`.
    pub(super) fn subtract_digits(&mut self, mut other: Digits) -> usize {
        other.negative = !other.negative;
        self.add_digits(&other)
    }

    /// Notes values that are not finite.
    pub(super) fn add_special(&mut self, special: u8) {
        self.special |= special;
    }

    pub(super) fn special(&self) -> u8 {
        self.special
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        if self.wide.is_some() { size_of::<[i64; CHUNKS]>() } else { 0 }
    }

    /// Takes all chunks, if it is not so already.
    fn widen(&mut self) -> usize {
        if self.wide.is_some() {
            return 0;
        }
        self.wide = Some(Box::new(self.chunks()));
        self.heap()
    }

    fn chunks(&self) -> [i64; CHUNKS] {
        match &self.wide {
            Some(wide) => **wide,
            None => {
                let mut chunks = [0; CHUNKS];
                let base = usize::from(self.base);
                chunks[base..base + WINDOW].copy_from_slice(&self.window);
                chunks
            }
        }
    }

    /// Brings all chunks but the last below 2^32 again.
    #[cold]
    fn carry(&mut self) -> usize {
        let grown = self.widen();
        self.wide.iter_mut().for_each(|chunks| move_carries(chunks));
        self.pending = 1;
        grown
    }

    /// The sum in its one form.
    pub(super) fn digits(&self) -> Digits {
        let mut chunks = self.chunks();
        move_carries(&mut chunks);
        let negative = chunks[CHUNKS - 1] < 0;
        if negative {
            chunks.iter_mut().for_each(|chunk| *chunk = -*chunk);
            move_carries(&mut chunks);
        }
        Digits::new(negative, chunks.map(|chunk| chunk as u32))
    }

    /// The sum, rounded to the nearest float, ties to even; beyond the greatest float it is infinite. NaN if a NaN or both
    /// infinities were added. A sum of zero is positive, whatever the signs of the zeros.
    pub fn round(&self) -> f64 {
        match self.special {
            0 => self.digits().round(),
            POSITIVE_INFINITY => f64::INFINITY,
            NEGATIVE_INFINITY => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }
}

fn move_carries(chunks: &mut [i64; CHUNKS]) {
    let mut carry = 0;
    for chunk in &mut chunks[..CHUNKS - 1] {
        let sum = *chunk + carry;
        *chunk = sum & 0xffff_ffff;
        carry = sum >> 32;
    }
    chunks[CHUNKS - 1] += carry;
}

impl Digits {
    fn new(negative: bool, digits: [u32; CHUNKS]) -> Self {
        let end = digits.iter().rposition(|&digit| digit != 0).map_or(0, |last| last + 1);
        let first = digits.iter().position(|&digit| digit != 0).unwrap_or(0);
        Self { negative, digits, first, end }
    }

    /// Digits from chunk `first` on, as they were written: neither the first nor the last may be zero, nor may there be so
    /// many that no sum of floats has them.
    pub(super) fn read(negative: bool, first: usize, given: impl ExactSizeIterator<Item = u32>) -> Option<Self> {
        let end = first.checked_add(given.len())?;
        let mut digits = [0; CHUNKS];
        digits[..CHUNKS - 1].get_mut(first..end)?.iter_mut().zip(given).for_each(|(to, digit)| *to = digit);
        let result = Self::new(negative, digits);
        ((result.first, result.end) == (first, end) && (end > 0 || !negative)).then_some(result)
    }

    /// The number of the first chunk that is not zero, and the chunks up to the last that is not zero.
    pub(super) fn parts(&self) -> (usize, &[u32]) {
        (self.first, &self.digits[self.first..self.end])
    }

    pub(super) fn is_zero(&self) -> bool {
        self.end == 0
    }

    fn round(&self) -> f64 {
        let Some(top) = self.end.checked_sub(1) else { return 0.0 };
        let digit = |below: usize| top.checked_sub(below).map_or(0, |i| u128::from(self.digits[i]));
        let window = digit(0) << 64 | digit(1) << 32 | digit(2);
        let length = 128 - window.leading_zeros() as usize;
        // The place of the leading bit, from that of the least float.
        let place = 32 * top + length - 65;
        let magnitude = if place < 53 {
            // A multiple of the least float below 2^53: its bits are the float's bits.
            f64::from_bits((digit(1) as u64) | (if top > 0 { (digit(0) as u64) << 32 } else { digit(0) as u64 }))
        } else {
            self.round_at(window, length, place)
        };
        if self.negative { -magnitude } else { magnitude }
    }

    /// Rounds to 53 bits, of which the leading one is at `place`.
    fn round_at(&self, window: u128, length: usize, place: usize) -> f64 {
        let drop = length - 53;
        let mantissa = (window >> drop) as u64;
        let rest = window & ((1 << drop) - 1);
        let half = 1 << (drop - 1);
        let below = self.first + 3 < self.end;
        let up = rest > half || rest == half && (below || mantissa & 1 == 1);
        let exponent = place - 52;
        if exponent > 2045 {
            return f64::INFINITY;
        }
        // The hidden bit adds one to the exponent; so does a mantissa that is rounded up to 2^53, to infinity at last.
        f64::from_bits(((exponent as u64) << 52) + mantissa + u64::from(up))
    }
}

#[cfg(test)]
#[path = "float_sum_tests.rs"]
pub(in crate::operator::accumulator) mod tests;
