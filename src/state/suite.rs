//! One behaviour suite for stores, a case for each.

use std::path::Path;

use proptest::prelude::*;

use super::memory::MemoryStore;
use super::rocksdb::RocksStore;
use super::{Changes, Keys, StateStore, begin_state_key};
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

#[test]
fn keys_of_a_group_lie_together() {
    let key = |group| {
        let mut key = Vec::new();
        begin_state_key(&mut key, KeyGroup(group));
        key
    };
    let mut keys = [key(256), key(2), key(255)];
    keys.sort();
    assert_eq!(keys[2], key(256));
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
