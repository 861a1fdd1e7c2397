//! A set of 16-bit numbers, the unit in which presence is stored: one new bit writes one container.
//!
//! Stored as an encoding id (1: sorted numbers, little endian; 2: a bitmap of 8 KB) and the content, in the spirit of
//! Roaring's containers (Chambi, Lemire et al. 2016).

use crate::error::{Error, Result};

/// Beyond this many numbers a bitmap is smaller.
const ARRAY_LIMIT: usize = 4096;
const ARRAY: u8 = 1;
const BITMAP: u8 = 2;

/// A set of 16-bit numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Container {
    /// Few: sorted.
    Array(Vec<u16>),
    /// Many: a bit each.
    Bitmap(Box<[u64; 1024]>),
}

impl Default for Container {
    fn default() -> Self {
        Self::Array(Vec::new())
    }
}

impl Container {
    /// Adds a number; whether it is new.
    pub fn insert(&mut self, value: u16) -> bool {
        match self {
            Self::Array(values) => match values.binary_search(&value) {
                Ok(_) => false,
                Err(at) if values.len() < ARRAY_LIMIT => {
                    values.insert(at, value);
                    true
                }
                Err(_) => {
                    let mut bits = Box::new([0u64; 1024]);
                    values.iter().for_each(|v| bits[*v as usize / 64] |= 1 << (v % 64));
                    bits[value as usize / 64] |= 1 << (value % 64);
                    *self = Self::Bitmap(bits);
                    true
                }
            },
            Self::Bitmap(bits) => {
                let (word, bit) = (&mut bits[value as usize / 64], 1 << (value % 64));
                let new = *word & bit == 0;
                *word |= bit;
                new
            }
        }
    }

    /// The stored form.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Array(values) => {
                let mut out = Vec::with_capacity(1 + 2 * values.len());
                out.push(ARRAY);
                values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
                out
            }
            Self::Bitmap(bits) => {
                let mut out = Vec::with_capacity(1 + 8192);
                out.push(BITMAP);
                bits.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
                out
            }
        }
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::corruption("state", "a presence container is damaged").hint("restore an older checkpoint");
        match bytes.split_first() {
            Some((&ARRAY, rest)) if rest.len() % 2 == 0 && rest.len() <= 2 * ARRAY_LIMIT => {
                let values: Vec<_> = rest.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect();
                if values.windows(2).all(|w| w[0] < w[1]) { Ok(Self::Array(values)) } else { Err(damaged()) }
            }
            Some((&BITMAP, rest)) if rest.len() == 8192 => {
                let mut bits = Box::new([0u64; 1024]);
                for (word, chunk) in bits.iter_mut().zip(rest.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*chunk);
                }
                Ok(Self::Bitmap(bits))
            }
            _ => Err(damaged()),
        }
    }

    /// Bytes of memory behind it, about.
    pub fn memory(&self) -> usize {
        match self {
            Self::Array(values) => values.capacity() * 2,
            Self::Bitmap(_) => 8192,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(values in proptest::collection::vec(any::<u16>(), 0..6000)) {
            let (mut set, mut container) = (BTreeSet::new(), Container::default());
            for value in values {
                prop_assert_eq!(container.insert(value), set.insert(value));
            }
            let bytes = container.encode();
            prop_assert_eq!(&Container::decode(&bytes).unwrap(), &container);
            prop_assert!(bytes.len() <= 8193);
        }

        #[test]
        fn damage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Container::decode(&bytes);
        }
    }

    #[test]
    fn stored_form_is_fixed() {
        let mut container = Container::default();
        container.insert(258);
        container.insert(1);
        assert_eq!(container.encode(), [1, 1, 0, 2, 1]);
    }
}
