//! One behaviour suite for stores, a case for each.

use std::path::Path;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::rocksdb::RocksStore;
use super::{StateStore, Write, state_key};
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

#[test]
fn keys_of_a_group_lie_together() {
    let mut keys = [state_key(KeyGroup(256), 0), state_key(KeyGroup(2), 0), state_key(KeyGroup(255), 0)];
    keys.sort();
    assert_eq!(keys[2], state_key(KeyGroup(256), 0));
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
            RocksStore::clone_checkpoint(&dir.path().join("rocks"), &clone, None).unwrap();
            let restored = RocksStore::open(&clone, &["a".to_owned(), "b".to_owned()], 8 << 20).unwrap();
            let expected = MemoryStore::restore(&dir.path().join("model")).unwrap();
            prop_assert_eq!(all(&restored, "a"), all(&expected, "a"));
            restored.write("a", vec![put(b"later", b"x")]).unwrap();
        }
    }
}
