//! Random sequences of upserts and deletes, by rewriting, by position deletes and by both, against a map.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::testing::*;
use crate::sink::Change;
use crate::table::IndexPolicy;
use crate::table::catalog::Settings;
use crate::table::expiry::Retention;
use crate::table::maintenance::Policy;

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

/// Merges are begun after some commits and put in place after later ones.
fn run(steps: &Steps, settings: Settings, foreign_every: usize, merge_every: usize) {
    let world = World::new(settings);
    let (mut care, mut begun) = (Care::default(), None);
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
        care.forgotten(&world.commit(&table, index as u64 + 1, changes));
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
        if let Some(rewritten) = begun.take_if(|_| index % merge_every == 0) {
            let merged = world.catalog.put_in_place(&rewritten, &fence(index as u64 + 1), &GO_ON).unwrap();
            care.forgotten.extend(merged.into_iter().flat_map(|merged| merged.forgotten));
        }
        if begun.is_none() {
            begun = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap();
        }
        assert!(world.catalog.key_index_failure(table.uuid()).is_none());
        let expected: Vec<Row> = model.iter().map(|(key, number)| (key.clone(), *number)).collect();
        assert_eq!(world.read("t"), expected, "after checkpoint {}", index + 1);
        assert_eq!(world.other().require(&name("t")).unwrap().row_count(), expected.len() as u64);
        care.clean(&world, &table);
        assert_eq!(world.read("t"), expected, "cleaned after checkpoint {}", index + 1);
    }
    drop(begun);
    care.sweep(&world, &table);
    care.assert_nothing_is_missing_or_left(&world, &table);
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
        merge_every in 1_usize..4,
        fan_in in 2_usize..4,
        key_index in (prop_oneof![Just((0, 0)), Just((4, 2))], 0_u64..4),
        // Of a table without another writer all but the newest snapshots may go.
        forgets_after in proptest::option::of(0_u64..40),
    ) {
        let ((rows, rows_a_key), few) = key_index;
        let key_index = IndexPolicy { rows, rows_a_key, few };
        let foreign_every = if forgets_after.is_some() { usize::MAX } else { foreign_every };
        let short = |ms| Retention { all: Duration::from_millis(ms), hourly: Duration::ZERO, at_least: 1 };
        let retention = forgets_after.map(short).unwrap_or_default();
        let compaction = Policy { smallest: 1500, fan_in, ..Policy::default() };
        let orphan_grace = Duration::ZERO;
        let settings = Settings {
            rewrite_below, merge_deletes_at, merge_manifests_above, retention, compaction, orphan_grace, key_index,
            ..Settings::default()
        };
        run(&steps, settings, foreign_every, merge_every);
    }
}
