//! A set of 16-bit numbers, the unit in which presence is stored: one new bit writes one container.
//!
//! Stored as an encoding id (1: sorted numbers, little endian; 2: a bitmap up to the last bit that is set, in whole words of
//! 8 bytes, at most 1024) and the content, in the spirit of Roaring's containers (Chambi, Lemire et al. 2016). Numbers are
//! handed out from 0 on, so that a bitmap is seldom longer than it must be.

use crate::error::{Error, Result};

const ARRAY: u8 = 1;
const BITMAP: u8 = 2;
const WORD: usize = size_of::<u64>();
/// Of either form: where an array would be longer, a bitmap is shorter.
const MOST_BYTES: usize = (1 << 16) / 8;

/// A set of 16-bit numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// Few for their range: sorted.
    Array(Vec<u16>),
    /// Many for it: a bit each, without words of zeros at the end.
    Bitmap(Vec<u64>),
}

impl Default for Container {
    fn default() -> Self {
        Self::Array(Vec::new())
    }
}

/// Words of a bitmap that reaches to a number.
fn words_to(value: u16) -> usize {
    usize::from(value) / 64 + 1
}

fn set(bits: &mut [u64], value: u16) -> bool {
    let (word, bit) = (&mut bits[usize::from(value) / 64], 1 << (value % 64));
    let new = *word & bit == 0;
    *word |= bit;
    new
}

/// The numbers in a bitmap, rising.
fn numbers(bits: &[u64]) -> impl Iterator<Item = u16> {
    (0..bits.len() * 64).filter(|number| bits[number / 64] >> (number % 64) & 1 == 1).map(|number| number as u16)
}

impl Container {
    /// Adds a number; whether it is new.
    pub fn insert(&mut self, value: u16) -> bool {
        match self {
            Self::Array(values) => {
                let Err(at) = values.binary_search(&value) else { return false };
                values.insert(at, value);
                let words = values.last().map_or(0, |last| words_to(*last));
                if 2 * values.len() > WORD * words {
                    let mut bits = vec![0; words];
                    for value in values {
                        set(&mut bits, *value);
                    }
                    *self = Self::Bitmap(bits);
                }
                true
            }
            Self::Bitmap(bits) => {
                if bits.len() < words_to(value) {
                    let count: u32 = bits.iter().map(|word| word.count_ones()).sum();
                    if 2 * (count as usize + 1) <= WORD * words_to(value) {
                        let mut values: Vec<u16> = numbers(bits).collect();
                        values.push(value);
                        *self = Self::Array(values);
                        return true;
                    }
                    bits.resize(words_to(value), 0);
                }
                set(bits, value)
            }
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(values) => {
                out.reserve(1 + 2 * values.len());
                out.push(ARRAY);
                values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
            }
            Self::Bitmap(bits) => {
                out.reserve(1 + WORD * bits.len());
                out.push(BITMAP);
                bits.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
            }
        }
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corruption("state", "a presence container is damaged").hint("restore an older checkpoint");
        match bytes.split_first() {
            Some((&ARRAY, rest)) if rest.len() % 2 == 0 && rest.len() <= MOST_BYTES => {
                let values: Vec<_> = rest.as_chunks().0.iter().map(|c| u16::from_le_bytes(*c)).collect();
                if values.windows(2).all(|w| w[0] < w[1]) { Ok(Self::Array(values)) } else { Err(damaged()) }
            }
            Some((&BITMAP, rest)) if rest.len() % WORD == 0 && rest.len() <= MOST_BYTES => {
                Ok(Self::Bitmap(rest.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()))
            }
            _ => Err(damaged()),
        }
    }

    /// Bytes of memory behind it, about.
    pub fn memory(&self) -> usize {
        match self {
            Self::Array(values) => values.capacity() * 2,
            Self::Bitmap(bits) => bits.capacity() * WORD,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn encoded(container: &Container) -> Vec<u8> {
        let mut out = Vec::new();
        container.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(values in proptest::collection::vec((any::<u16>(), 0..3usize), 0..3000)) {
            // Dense near the beginning, and some anywhere, in any order.
            let values = values.into_iter().map(|(value, range)| value % [40, 3000, u16::MAX][range]);
            let (mut set, mut container) = (BTreeSet::new(), Container::default());
            for value in values {
                prop_assert_eq!(container.insert(value), set.insert(value));
            }
            let bytes = encoded(&container);
            prop_assert_eq!(&Container::decode(&bytes).unwrap(), &container);
            let range = set.last().map_or(0, |last| words_to(*last));
            prop_assert!(bytes.len() <= 1 + (2 * set.len()).min(WORD * range));
        }

        #[test]
        fn damage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Container::decode(&bytes);
        }
    }

    #[test]
    fn what_is_longer_than_any_container_is_damage() {
        let numbers = |count: u16| [vec![ARRAY], (0..count).flat_map(u16::to_le_bytes).collect()].concat();
        assert!(Container::decode(&numbers(4096)).is_ok());
        assert!(Container::decode(&numbers(4097)).is_err());
        assert!(Container::decode(&[vec![BITMAP], vec![1; MOST_BYTES]].concat()).is_ok());
        assert!(Container::decode(&[vec![BITMAP], vec![1; MOST_BYTES + WORD]].concat()).is_err());
    }

    #[test]
    fn stored_form_is_fixed() {
        let mut container = Container::default();
        container.insert(258);
        container.insert(1);
        assert_eq!(encoded(&container), [1, 1, 0, 2, 1]);
        let mut container = Container::default();
        for value in 0..5 {
            container.insert(value);
        }
        assert_eq!(encoded(&container), [2, 31, 0, 0, 0, 0, 0, 0, 0]);
    }
}
