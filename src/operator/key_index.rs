//! Byte strings to dense numbers: the table behind group keys and interned values.

use hashbrown::HashTable;

/// Distinct byte strings, numbered from 0 in the order they came. A string is hashed once, by the caller, and its bytes
/// are copied once, when it is new.
#[derive(Default)]
pub struct KeyIndex {
    table: HashTable<u32>,
    hashes: Vec<u64>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyIndex {
    /// The number of `key`, and whether it is new.
    #[inline]
    pub fn intern(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        let (bytes, ends, hashes) = (&self.bytes, &self.ends, &self.hashes);
        let same = |&id: &u32| hashes[id as usize] == hash && slice(bytes, ends, id) == key;
        if let Some(&id) = self.table.find(hash, same) {
            return (id, false);
        }
        let id = self.ends.len() as u32;
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        self.hashes.push(hash);
        let hashes = &self.hashes;
        self.table.insert_unique(hash, id, |&id| hashes[id as usize]);
        (id, true)
    }

    /// The number of `key`, if it is known.
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |&id: &u32| self.hashes[id as usize] == hash && self.key(id) == key;
        self.table.find(hash, same).copied()
    }

    /// The bytes of a number that was handed out.
    #[inline]
    pub fn key(&self, id: u32) -> &[u8] {
        slice(&self.bytes, &self.ends, id)
    }

    /// The hash of a number that was handed out.
    #[inline]
    pub fn hash(&self, id: u32) -> u64 {
        self.hashes[id as usize]
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.table.capacity() * 5 + self.ends.capacity() * 16
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[inline]
fn slice<'a>(bytes: &'a [u8], ends: &[usize], id: u32) -> &'a [u8] {
    let start = if id == 0 { 0 } else { ends[id as usize - 1] };
    &bytes[start..ends[id as usize]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_stable_even_when_hashes_collide() {
        let mut index = KeyIndex::default();
        for round in 0..2 {
            for (id, key) in ["", "a", "b", "ab"].iter().enumerate() {
                assert_eq!(index.intern(7, key.as_bytes()), (id as u32, round == 0));
            }
        }
        assert_eq!(index.key(3), b"ab");
        assert_eq!((index.find(7, b"b"), index.find(8, b"b"), index.len()), (Some(2), None, 4));
    }

    #[test]
    fn keys_of_every_length_that_differ_in_one_byte_are_different() {
        let mut index = KeyIndex::default();
        let mut keys = Vec::new();
        for length in 0..40 {
            keys.push(vec![0; length]);
            keys.extend((0..length).map(|at| (0..length).map(|i| u8::from(i == at)).collect::<Vec<_>>()));
        }
        for round in 0..2 {
            for (id, key) in keys.iter().enumerate() {
                assert_eq!(index.intern(7, key), (id as u32, round == 0), "{key:?}");
                assert_eq!(index.key(id as u32), key);
            }
        }
    }
}
