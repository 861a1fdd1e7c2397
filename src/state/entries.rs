//! Keys and changes, many in one buffer each: what a store is asked for and told, without an allocation for each.

use crate::message::order;

/// Byte strings, one after the other.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    /// Adds one: `write` appends its bytes.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// The one at a position.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// All of them, in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Forgets all and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Changes to one family; a key comes once.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    keys: Keys,
    values: Keys,
    deletes: Vec<bool>,
}

impl Changes {
    /// Sets a key to a value: both functions append their bytes.
    pub fn put(&mut self, key: impl FnOnce(&mut Vec<u8>), value: impl FnOnce(&mut Vec<u8>)) {
        self.keys.push(key);
        self.values.push(value);
        self.deletes.push(false);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl FnOnce(&mut Vec<u8>)) {
        self.keys.push(key);
        self.values.push(|_| ());
        self.deletes.push(true);
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Each key and its new value or none, in the order of the keys.
    pub fn sorted(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        if !self.keys.iter().is_sorted() {
            order::sort_by_key(&mut order, |index| self.keys.get(*index as usize));
        }
        order.into_iter().map(|index| {
            let index = index as usize;
            (self.keys.get(index), (!self.deletes[index]).then(|| self.values.get(index)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_in_the_order_of_their_keys() {
        let mut changes = Changes::default();
        assert!(changes.is_empty());
        changes.put(|key| key.extend(b"b"), |value| value.extend(b"2"));
        changes.delete(|key| key.extend(b"c"));
        changes.put(|key| key.extend(b"a"), |_| ());
        let all: Vec<_> = changes.sorted().collect();
        assert_eq!(all, [(&b"a"[..], Some(&b""[..])), (b"b", Some(b"2")), (b"c", None)]);
    }
}
