use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int64Type;

use super::*;
use crate::error::ErrorKind;
use crate::plan::expr::{AggregateFunction, Expr, NamedExpr};
use crate::plan::schema::DataType;
use crate::state::memory::MemoryStore;

fn spec(retracts: bool) -> AggregateSpec {
    let call = AggregateCall {
        name: "rows".into(),
        function: AggregateFunction::Len,
        input: None,
        input_type: None,
        filter: None,
        ignore_nulls: false,
        retracts,
        output_type: DataType::Int64,
    };
    let keys = vec![NamedExpr { name: "k".into(), expr: Expr::Column("k".into()) }];
    AggregateSpec { name: "g".into(), keys, key_types: vec![DataType::String], calls: vec![call], expiry: None }
}

fn owner() -> GroupOwner {
    GroupOwner::new(&spec(false), "g".into(), Arc::new(MemoryStore::default()), true, 0).unwrap()
}

fn add(owner: &mut GroupOwner, groups: std::ops::Range<usize>) {
    send(owner, groups, false);
}

fn send(owner: &mut GroupOwner, groups: std::ops::Range<usize>, retract: bool) {
    let column: ArrayRef = Arc::new(StringArray::from_iter_values(groups.map(|group| format!("group {group}"))));
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    KeyEncoder::new(&[DataType::String]).unwrap().encode(&[column], &mut bytes, &mut ends).unwrap();
    let (mut block, mut start) = (PartialBlock { retract, ..PartialBlock::default() }, 0);
    for end in ends {
        block.keys.push(&bytes[start..end]);
        block.partials.push(&1_i64.to_le_bytes());
        start = end;
    }
    owner.merge(block).unwrap();
}

fn changed(owner: &mut GroupOwner) -> Vec<i64> {
    let changed = owner.take_changed(usize::MAX).unwrap();
    changed.map(|changed| changed.results[0].as_primitive::<Int64Type>().values().to_vec()).unwrap_or_default()
}

#[test]
fn an_eviction_gives_memory_back_and_keeps_what_changed() {
    let mut owner = owner();
    add(&mut owner, 0..20_000);
    assert_eq!(changed(&mut owner), vec![1; 20_000]);
    add(&mut owner, 5..15);
    let before = owner.memory();
    owner.flush_state().unwrap();
    assert!(owner.is_evictable());
    owner.evict().unwrap();
    assert!(owner.memory() * 100 < before, "{} of {before}", owner.memory());
    add(&mut owner, 10..20);
    let mut counts = changed(&mut owner);
    counts.sort_unstable();
    // 5 to 9 and 15 to 19 have come twice, 10 to 14 three times.
    assert_eq!(counts, [vec![2; 10], vec![3; 5]].concat());
}

#[test]
fn groups_that_changed_are_not_copied_again_and_again() {
    let mut owner = owner();
    add(&mut owner, 0..FEW + 1);
    assert!(!owner.is_evictable());
    assert_eq!(changed(&mut owner).len(), FEW + 1);
    assert!(owner.is_evictable());
}

/// By group: what it was at the last barrier, if it existed, and what it is; at most so many at a time.
fn images(owner: &mut GroupOwner, most: usize) -> BTreeMap<String, (Option<i64>, i64)> {
    let mut all = BTreeMap::new();
    while let Some(changed) = owner.take_changed(most).unwrap() {
        assert!(changed.keys[0].len() <= most);
        let previous = changed.previous.unwrap();
        let before = previous.results[0].as_primitive::<Int64Type>();
        assert_eq!(before.len(), previous.rows.len());
        assert!(previous.rows.values().is_sorted());
        for (row, key) in changed.keys[0].as_string::<i32>().iter().enumerate() {
            let place = previous.rows.values().iter().position(|existed| *existed == row as u32);
            let now = changed.results[0].as_primitive::<Int64Type>().value(row);
            all.insert(key.unwrap().to_owned(), (place.map(|place| before.value(place)), now));
        }
    }
    all
}

fn expected(groups: impl IntoIterator<Item = (usize, Option<i64>, i64)>) -> BTreeMap<String, (Option<i64>, i64)> {
    groups.into_iter().map(|(group, before, now)| (format!("group {group}"), (before, now))).collect()
}

#[test]
fn a_changed_group_knows_what_it_was_at_the_last_barrier() {
    for most in [1, 4, usize::MAX] {
        let mut owner = owner().with_before_images();
        add(&mut owner, 0..10);
        add(&mut owner, 0..5);
        assert_eq!(images(&mut owner, most), expected((0..10).map(|g| (g, None, if g < 5 { 2 } else { 1 }))));
        owner.flush_state().unwrap();
        owner.evict().unwrap();
        // Read from the store, and from the cache; through evictions, which move groups to other places.
        add(&mut owner, 3..7);
        owner.flush_state().unwrap();
        owner.evict().unwrap();
        add(&mut owner, 4..12);
        owner.flush_state().unwrap();
        owner.evict().unwrap();
        add(&mut owner, 4..5);
        let rows = [(3, 2, 1), (4, 2, 3), (5, 1, 2), (6, 1, 2), (7, 1, 1), (8, 1, 1), (9, 1, 1)];
        let rows = rows.map(|(g, before, more)| (g, Some(before), before + more));
        assert_eq!(images(&mut owner, most), expected(rows.into_iter().chain([(10, None, 1), (11, None, 1)])));
        // At the next barrier that is what was.
        add(&mut owner, 11..12);
        assert_eq!(images(&mut owner, most), expected([(11, Some(1), 2)]));
        assert_eq!(images(&mut owner, most), expected([]));
    }
}

#[test]
fn tallies_change_a_group_too() {
    let mut owner = owner().with_before_images();
    add(&mut owner, 0..1);
    images(&mut owner, 1);
    let mut block = TallyBlock { counts: vec![5], ..TallyBlock::default() };
    block.groups.push(owner.index.key(0));
    owner.tally(block).unwrap();
    assert_eq!(images(&mut owner, 1), expected([(0, Some(1), 6)]));
}

#[test]
fn before_images_are_counted_and_given_back() {
    let (mut with, mut without) = (owner().with_before_images(), owner());
    for owner in [&mut with, &mut without] {
        add(owner, 0..10_000);
        owner.take_changed(usize::MAX).unwrap();
        add(owner, 0..10_000);
    }
    assert!(with.memory() >= without.memory() + 16 * 10_000, "{} and {}", with.memory(), without.memory());
    let before = with.memory();
    with.take_changed(usize::MAX).unwrap();
    assert!(with.memory() + 16 * 10_000 <= before, "{} of {before}", with.memory());
}

#[test]
fn a_group_without_rows_leaves_the_state() {
    let store = Arc::new(MemoryStore::default());
    let stored = || {
        let mut count = 0;
        store
            .scan("g", &mut |_, _| {
                count += 1;
                Ok(())
            })
            .unwrap();
        count
    };
    let mut owner = GroupOwner::new(&spec(true), "g".into(), store.clone(), true, 0).unwrap();
    add(&mut owner, 0..10);
    changed(&mut owner);
    owner.flush_state().unwrap();
    assert_eq!(stored(), 10);
    send(&mut owner, 0..4, true);
    add(&mut owner, 2..3);
    assert_eq!(changed(&mut owner), [0, 0, 1, 0]);
    owner.flush_state().unwrap();
    assert_eq!(stored(), 7);
    // Not to be told from one that never was.
    owner.evict().unwrap();
    add(&mut owner, 0..1);
    assert_eq!(changed(&mut owner), [1]);
    let error = {
        send(&mut owner, 2..3, true);
        let mut block = PartialBlock { retract: true, ..PartialBlock::default() };
        block.keys.push(b"nobody");
        block.partials.push(&1_i64.to_le_bytes());
        owner.merge(block).unwrap_err()
    };
    assert_eq!(error.kind(), ErrorKind::Corruption);
}
