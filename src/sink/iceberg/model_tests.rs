//! Random sequences of upserts and deletes, by rewriting, by position deletes and by both, against a map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::testing::*;
use crate::sink::Change;
use crate::table::catalog::Settings;

/// Per checkpoint: keys to their new number, or none to delete them.
type Steps = Vec<BTreeMap<Option<u8>, Option<i64>>>;

fn steps() -> impl Strategy<Value = Steps> {
    let key = proptest::option::weighted(0.9, 0_u8..12);
    let step = proptest::collection::btree_map(key, proptest::option::weighted(0.7, 0_i64..1000), 0..6);
    proptest::collection::vec(step, 1..14)
}

fn text(key: &Option<u8>) -> Option<String> {
    key.map(|key| format!("key-{key}"))
}

fn run(steps: &Steps, settings: Settings, foreign_every: usize) {
    let world = World::new(settings);
    let table = world.create("t", &["k"]);
    let mut model: BTreeMap<Option<String>, i64> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        let rows: Vec<Row> = step.iter().filter_map(|(key, number)| number.map(|number| (text(key), number))).collect();
        let deleted: Vec<Option<String>> =
            step.iter().filter(|(_, number)| number.is_none()).map(|(key, _)| text(key)).collect();
        let deleted: Vec<Option<&str>> = deleted.iter().map(Option::as_deref).collect();
        // Changes come in pieces, as workers write them.
        let mut changes: Vec<Change> = rows.chunks(2).map(upsert).collect();
        changes.push(Change::Delete(keys(&deleted)));
        world.commit(&table, index as u64 + 1, changes);
        for (key, number) in step {
            match number {
                Some(number) => model.insert(text(key), *number),
                None => model.remove(&text(key)),
            };
        }
        if (index + 1) % foreign_every == 0 {
            foreign_commit(&world.other(), "t", index as u64 + 1, &[row("key-3", -1), row("foreign", index as i64)]).unwrap();
            model.insert(Some("key-3".into()), -1);
            model.insert(Some("foreign".into()), index as i64);
        }
        let expected: Vec<Row> = model.iter().map(|(key, number)| (key.clone(), *number)).collect();
        assert_eq!(world.read("t"), expected, "after checkpoint {}", index + 1);
        assert_eq!(world.other().require(&name("t")).unwrap().row_count(), expected.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_what_a_map_is(
        steps in steps(),
        // One file of these rows is about a kilobyte: thresholds around it switch between the two ways.
        rewrite_below in prop_oneof![Just(0), Just(u64::MAX), 500_u64..6000],
        merge_deletes_at in 1_usize..6,
        merge_manifests_above in 1_usize..8,
        foreign_every in 2_usize..20,
    ) {
        let settings = Settings { rewrite_below, merge_deletes_at, merge_manifests_above, ..Settings::default() };
        run(&steps, settings, foreign_every);
    }
}
