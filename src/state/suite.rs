//! One behaviour suite for stores, a case for each.

use std::path::Path;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::rocksdb::RocksStore;
use super::{Changes, Keys, Namespace, StateStore, state_key};
use crate::message::KeyGroup;

fn rocks(dir: &Path) -> RocksStore {
    RocksStore::open(&dir.join("db"), &["a".to_owned(), "b".to_owned()], 8 << 20).unwrap()
}

fn all(store: &dyn StateStore, family: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    store
        .scan(family, &mut |k, v| {
            rows.push((k.to_vec(), v.to_vec()));
            Ok(())
        })
        .unwrap();
    rows
}

fn changes_of(changes: &[(&[u8], Option<&[u8]>)]) -> Changes {
    let mut out = Changes::default();
    for (key, value) in changes {
        match value {
            Some(value) => out.put(|out| out.extend_from_slice(key), |out| out.extend_from_slice(value)),
            None => out.delete(|out| out.extend_from_slice(key)),
        }
    }
    out
}

fn get(store: &dyn StateStore, family: &str, keys: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let mut wanted = Keys::default();
    keys.iter().for_each(|key| wanted.push(|out| out.extend_from_slice(key)));
    let mut values = Vec::new();
    let mut note = |index, value: Option<&[u8]>| {
        assert_eq!(index, values.len());
        values.push(value.map(<[u8]>::to_vec));
        Ok(())
    };
    store.multi_get(family, &wanted, &mut note).unwrap();
    values
}

fn families_are_apart_and_deletes_stick(store: &dyn StateStore) {
    store.write("a", &changes_of(&[(b"k2", Some(b"2")), (b"k1", Some(b"1"))])).unwrap();
    store.write("b", &changes_of(&[(b"k1", Some(b"other"))])).unwrap();
    store.write("a", &changes_of(&[(b"k2", None)])).unwrap();
    assert_eq!(get(store, "a", &[b"k1", b"k2", b"k1"]), [Some(b"1".to_vec()), None, Some(b"1".to_vec())]);
    assert_eq!(all(store, "b"), [(b"k1".to_vec(), b"other".to_vec())]);
}

#[test]
fn memory_store_keeps_families_apart() {
    families_are_apart_and_deletes_stick(&MemoryStore::default());
}

#[test]
fn rocks_store_keeps_families_apart() {
    let dir = tempfile::tempdir().unwrap();
    families_are_apart_and_deletes_stick(&rocks(dir.path()));
}

fn ranges_go_whole(store: &dyn StateStore) {
    let key = |group, slice, key: u8| [state_key(KeyGroup(group), Namespace::Slice(slice)), vec![key]].concat();
    let keys: Vec<_> = (0..3).flat_map(|group| (0..4).flat_map(move |slice| (0..9).map(move |k| (group, slice, k)))).collect();
    let write = || {
        let mut changes = Changes::default();
        keys.iter().for_each(|(g, s, k)| changes.put(|out| out.extend(key(*g, *s, *k)), |out| out.push(b'x')));
        store.write("a", &changes).unwrap();
    };
    write();
    store.write("b", &changes_of(&[(&key(0, 0, 0), Some(b"other"))])).unwrap();
    let range = |group, from, to| {
        let bound = |slice| state_key(KeyGroup(group), Namespace::Slice(slice));
        (bound(from), bound(to))
    };
    store.delete_ranges("a", &[range(0, i64::MIN, 2), range(2, 1, 2), range(7, 0, 2)]).unwrap();
    let left: Vec<_> = all(store, "a").into_iter().map(|(key, _)| key).collect();
    let expected = keys.iter().filter(|(g, s, _)| !((*g == 0 && *s < 2) || (*g == 2 && *s == 1)));
    assert_eq!(left, expected.map(|(g, s, k)| key(*g, *s, *k)).collect::<Vec<_>>());
    assert_eq!(get(store, "a", &[&key(0, 1, 0), &key(0, 2, 0)]), [None, Some(b"x".to_vec())]);
    assert_eq!(all(store, "b").len(), 1);
    // What is written there later stays.
    write();
    assert_eq!(all(store, "a").len(), keys.len());
    store.delete_ranges("a", &[range(0, i64::MIN, i64::MAX)]).unwrap();
    assert_eq!(all(store, "a").len(), keys.len() * 2 / 3);
}

#[test]
fn memory_store_deletes_ranges() {
    ranges_go_whole(&MemoryStore::default());
}

#[test]
fn rocks_store_deletes_ranges_also_from_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let store = rocks(dir.path());
    ranges_go_whole(&store);
    let (taken, copy) = (dir.path().join("taken"), dir.path().join("copy"));
    store.checkpoint(&taken).unwrap();
    // Nothing but the deletion is new to the second one.
    let bound = |slice| state_key(KeyGroup(1), Namespace::Slice(slice));
    store.delete_ranges("a", &[(bound(0), bound(4))]).unwrap();
    store.checkpoint(&dir.path().join("taken again")).unwrap();
    RocksStore::clone_checkpoint(&dir.path().join("taken again"), &copy, None).unwrap();
    let families = ["a".to_owned(), "b".to_owned()];
    let restored = RocksStore::open(&copy, &families, 8 << 20).unwrap();
    assert_eq!(all(&restored, "a"), all(&store, "a"));
    assert_eq!(all(&restored, "a").len(), 36);
}

#[test]
fn keys_of_a_group_lie_together() {
    let key = |group| state_key(KeyGroup(group), Namespace::Empty);
    let mut keys = [key(256), key(2), key(255)];
    keys.sort();
    assert_eq!(keys[2], key(256));
}

#[test]
fn slices_of_a_key_group_lie_in_their_order() {
    let key = |group, slice| state_key(KeyGroup(group), Namespace::Slice(slice));
    assert_eq!(key(258, 1), [1, 2, 8, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    let keys = [key(1, i64::MIN), key(1, -1), key(1, 0), key(1, 256), key(1, i64::MAX), key(2, i64::MIN)];
    assert!(keys.is_sorted());
}

fn changes() -> impl Strategy<Value = Vec<Vec<(u8, Option<u8>)>>> {
    proptest::collection::vec(proptest::collection::vec((0..20u8, proptest::option::of(0..9u8)), 0..12), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    /// A checkpoint holds what was written before it and nothing of what came after, whichever the store; the clone
    /// that is opened can be written without changing the checkpoint.
    #[test]
    fn a_checkpoint_is_a_moment(epochs in changes(), cut in 0..8usize) {
        let dir = tempfile::tempdir().unwrap();
        let (model, store) = (MemoryStore::default(), rocks(dir.path()));
        let cut = cut.min(epochs.len() - 1);
        for (i, epoch) in epochs.iter().enumerate() {
            let last: std::collections::BTreeMap<_, _> = epoch.iter().copied().collect();
            let mut write = Changes::default();
            for (key, value) in last {
                match value {
                    Some(value) => write.put(|out| out.push(key), |out| out.push(value)),
                    None => write.delete(|out| out.push(key)),
                }
            }
            model.write("a", &write).unwrap();
            store.write("a", &write).unwrap();
            if i == cut {
                model.checkpoint(&dir.path().join("model")).unwrap();
                store.checkpoint(&dir.path().join("rocks")).unwrap();
            }
        }
        prop_assert_eq!(all(&model, "a"), all(&store, "a"));
        drop(store);
        for round in 0..2 {
            let clone = dir.path().join(format!("clone{round}"));
            RocksStore::clone_checkpoint(&dir.path().join("rocks"), &clone, None).unwrap();
            let restored = RocksStore::open(&clone, &["a".to_owned(), "b".to_owned()], 8 << 20).unwrap();
            let expected = MemoryStore::restore(&dir.path().join("model")).unwrap();
            prop_assert_eq!(all(&restored, "a"), all(&expected, "a"));
            restored.write("a", &changes_of(&[(b"later", Some(b"x"))])).unwrap();
        }
    }
}
