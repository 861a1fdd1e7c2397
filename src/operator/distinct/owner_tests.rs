use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::state::memory::MemoryStore;

/// What may happen to an owner.
#[derive(Clone, Debug)]
enum Step {
    /// Pairs of a group and a value come, each once.
    Take(BTreeSet<(u8, u16)>),
    Relieve {
        evict: bool,
    },
    /// Tallies are sent and all is written.
    Barrier,
    /// After a barrier: another process goes on from the store.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pairs = proptest::collection::btree_set((0..4u8, 0..300u16), 1..60);
    let step = prop_oneof![
        6 => pairs.prop_map(Step::Take),
        2 => any::<bool>().prop_map(|evict| Step::Relieve { evict }),
        1 => Just(Step::Barrier),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

fn block(pairs: &BTreeSet<(u8, u16)>) -> DistinctBlock {
    let mut block = DistinctBlock::default();
    for (group, value) in pairs {
        let group = block.groups.push(&[*group]);
        let value = block.values.push(format!("value {value}").as_bytes());
        block.pairs.push((group, value));
    }
    block
}

fn add(tallies: &mut BTreeMap<u8, i64>, block: &TallyBlock) {
    for (i, count) in block.counts.iter().enumerate() {
        *tallies.entry(block.groups.get(i)[0]).or_default() += count;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// However little is in memory, each value is counted once in each group.
    #[test]
    fn each_value_is_counted_once(
        steps in steps(),
        waiting in prop_oneof![Just(0usize), Just(1 << 10), Just(1 << 20)],
        cache in prop_oneof![Just(0usize), Just(1 << 10), Just(1 << 20)],
        may_write in any::<bool>(),
    ) {
        let store = Arc::new(MemoryStore::default());
        let open = |fresh| DistinctOwner::new(0, 0, "d".into(), store.clone(), fresh, Room { cache, waiting });
        let (mut owner, mut tallies, mut model) = (open(true), BTreeMap::new(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Take(pairs) => {
                    owner.process(block(&pairs), may_write, Held::default()).unwrap();
                    model.extend(pairs);
                }
                Step::Relieve { evict } => owner.relieve(evict, 1, Held::default(), &mut |_, block| add(&mut tallies, &block)).unwrap(),
                Step::Barrier | Step::Restart => {
                    owner.flush_tallies(1, Held::default(), &mut |_, block| add(&mut tallies, &block)).unwrap();
                    owner.flush_state().unwrap();
                    if matches!(step, Step::Restart) {
                        owner = open(false);
                    }
                }
            }
        }
        owner.flush_tallies(1, Held::default(), &mut |_, block| add(&mut tallies, &block)).unwrap();
        let mut expected = BTreeMap::new();
        model.iter().for_each(|(group, _)| *expected.entry(*group).or_default() += 1);
        prop_assert_eq!(tallies, expected);
    }
}

#[test]
fn memory_is_given_back_and_what_was_seen_stays_known() {
    let store = Arc::new(MemoryStore::default());
    let mut owner = DistinctOwner::new(0, 0, "d".into(), store, true, Room { cache: 4 << 20, waiting: 1 << 20 });
    let pairs: Vec<BTreeSet<(u8, u16)>> = (0..60).map(|i| (i * 1000..(i + 1) * 1000).map(|v| (1, v)).collect()).collect();
    let mut total = BTreeMap::new();
    for pairs in &pairs {
        owner.process(block(pairs), true, Held::default()).unwrap();
    }
    let before = owner.held().memory;
    owner.relieve(true, 1, Held::default(), &mut |_, block| add(&mut total, &block)).unwrap();
    assert!(owner.held().memory * 8 < before, "{} of {before}", owner.held().memory);
    for pairs in &pairs {
        owner.process(block(pairs), true, Held::default()).unwrap();
    }
    owner.flush_tallies(1, Held::default(), &mut |_, block| add(&mut total, &block)).unwrap();
    assert_eq!(total, BTreeMap::from([(1, 60_000)]));
}
