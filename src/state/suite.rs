//! One behaviour suite for stores, a case for each.

use std::path::Path;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::rocksdb::RocksStore;
use super::{Namespace, StateStore, Write, state_key};
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

fn put(key: &[u8], value: &[u8]) -> Write {
    (key.to_vec(), Some(value.to_vec()))
}

fn families_are_apart_and_deletes_stick(store: &dyn StateStore) {
    store.write("a", vec![put(b"k2", b"2"), put(b"k1", b"1")]).unwrap();
    store.write("b", vec![put(b"k1", b"other")]).unwrap();
    store.write("a", vec![(b"k2".to_vec(), None)]).unwrap();
    let keys = [b"k1".to_vec(), b"k2".to_vec(), b"k1".to_vec()];
    assert_eq!(store.multi_get("a", &keys).unwrap(), [Some(b"1".to_vec()), None, Some(b"1".to_vec())]);
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
    let key = |group, slice, key: u8| [state_key(KeyGroup(group), Namespace::Slice(slice), 1), vec![key]].concat();
    let keys: Vec<_> = (0..3).flat_map(|group| (0..4).flat_map(move |slice| (0..9).map(move |k| (group, slice, k)))).collect();
    let write = || store.write("a", keys.iter().map(|(g, s, k)| put(&key(*g, *s, *k), b"x")).collect()).unwrap();
    write();
    store.write("b", vec![put(&key(0, 0, 0), b"other")]).unwrap();
    let range = |group, from, to| {
        let bound = |slice| state_key(KeyGroup(group), Namespace::Slice(slice), 0);
        (bound(from), bound(to))
    };
    store.delete_ranges("a", &[range(0, i64::MIN, 2), range(2, 1, 2), range(7, 0, 2)]).unwrap();
    let left: Vec<_> = all(store, "a").into_iter().map(|(key, _)| key).collect();
    let expected = keys.iter().filter(|(g, s, _)| !((*g == 0 && *s < 2) || (*g == 2 && *s == 1)));
    assert_eq!(left, expected.map(|(g, s, k)| key(*g, *s, *k)).collect::<Vec<_>>());
    assert_eq!(store.multi_get("a", &[key(0, 1, 0), key(0, 2, 0)]).unwrap(), [None, Some(b"x".to_vec())]);
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
    let bound = |slice| state_key(KeyGroup(1), Namespace::Slice(slice), 0);
    store.delete_ranges("a", &[(bound(0), bound(4))]).unwrap();
    store.checkpoint(&dir.path().join("taken again")).unwrap();
    RocksStore::clone_checkpoint(&dir.path().join("taken again"), &copy).unwrap();
    let families = ["a".to_owned(), "b".to_owned()];
    let restored = RocksStore::open(&copy, &families, 8 << 20).unwrap();
    assert_eq!(all(&restored, "a"), all(&store, "a"));
    assert_eq!(all(&restored, "a").len(), 36);
}

#[test]
fn keys_of_a_group_lie_together() {
    let key = |group| state_key(KeyGroup(group), Namespace::Empty, 0);
    let mut keys = [key(256), key(2), key(255)];
    keys.sort();
    assert_eq!(keys[2], key(256));
}

#[test]
fn slices_of_a_key_group_lie_in_their_order() {
    let key = |group, slice| state_key(KeyGroup(group), Namespace::Slice(slice), 0);
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
            let write = || last.iter().map(|(k, v)| (vec![*k], v.map(|v| vec![v]))).collect::<Vec<Write>>();
            model.write("a", write()).unwrap();
            store.write("a", write()).unwrap();
            if i == cut {
                model.checkpoint(&dir.path().join("model")).unwrap();
                store.checkpoint(&dir.path().join("rocks")).unwrap();
            }
        }
        prop_assert_eq!(all(&model, "a"), all(&store, "a"));
        drop(store);
        for round in 0..2 {
            let clone = dir.path().join(format!("clone{round}"));
            RocksStore::clone_checkpoint(&dir.path().join("rocks"), &clone).unwrap();
            let restored = RocksStore::open(&clone, &["a".to_owned(), "b".to_owned()], 8 << 20).unwrap();
            let expected = MemoryStore::restore(&dir.path().join("model")).unwrap();
            prop_assert_eq!(all(&restored, "a"), all(&expected, "a"));
            restored.write("a", vec![put(b"later", b"x")]).unwrap();
        }
    }
}
