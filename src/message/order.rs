//! Byte strings put in their order. Keys mostly begin alike, and comparing them byte by byte misses the cache at each step: what is
//! compared first is a number of the bytes behind those that all have in common.

use std::cmp::Ordering;

/// How many bytes all keys begin with.
pub fn shared_prefix<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    let common = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    keys.fold(first.len(), |shared, key| common(&first[..shared], key))
}

/// The first `N` bytes of a key, behind `skip` that are left out; zeros where it ends before: so of two keys the lesser one never has
/// the greater.
pub fn lead<const N: usize>(key: &[u8], skip: usize) -> [u8; N] {
    let (mut lead, rest) = ([0; N], key.get(skip..).unwrap_or_default());
    let length = rest.len().min(N);
    lead[..length].copy_from_slice(&rest[..length]);
    lead
}

/// Positions in the order of their leads, those of the same lead as `compare` says.
pub fn by_lead(leads: impl Iterator<Item = u64>, compare: impl Fn(usize, usize) -> Ordering) -> impl Iterator<Item = usize> {
    let mut order: Vec<(u64, u32)> = leads.zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| compare(a.1 as usize, b.1 as usize)));
    order.into_iter().map(|(_, position)| position as usize)
}

/// Sorts by keys.
pub fn sort_by_key<'a, T: Copy>(items: &mut Vec<T>, key: impl Fn(&T) -> &'a [u8]) {
    let shared = shared_prefix(items.iter().map(&key));
    let leads = items.iter().map(|item| u64::from_be_bytes(lead(key(item), shared)));
    let order = by_lead(leads, |a, b| key(&items[a]).cmp(key(&items[b])));
    *items = order.map(|position| items[position]).collect();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_come_in_their_order(
            prefix in "[a-z]{0,12}",
            ends in proptest::collection::vec(proptest::collection::vec(0..3u8, 0..12), 0..60),
        ) {
            let keys: Vec<Vec<u8>> = ends.into_iter().map(|end| [prefix.as_bytes(), &end].concat()).collect();
            let mut sorted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let mut expected = sorted.clone();
            expected.sort();
            sort_by_key(&mut sorted, |key| *key);
            prop_assert_eq!(sorted, expected);
        }
    }
}
