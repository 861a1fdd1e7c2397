//! Other tools maintain a table between kappa's commits, and in the middle of them.

use std::collections::BTreeMap;

use super::testing::*;
use crate::sink::{Change, StagedContent};
use crate::table::catalog::Settings;
use crate::table::foreign::Procedure::{self, ExpireSnapshots, RewriteDataFiles, RewriteManifests, RewritePositionDeleteFiles};
use crate::table::maintenance::Policy;
use crate::table::{CommitKind, CommitOutcome, IndexPolicy, TableCommit};

/// In turn, so that each comes upon what each other has left. After a rewrite and an expiry no snapshot has a marker, and what
/// a commit was to be built on is gone.
const PROCEDURES: [&[Procedure]; 8] = [
    &[RewriteManifests],
    &[RewriteDataFiles],
    &[RewriteDataFiles, ExpireSnapshots],
    &[RewritePositionDeleteFiles],
    &[RewritePositionDeleteFiles, ExpireSnapshots],
    &[RewriteManifests, ExpireSnapshots],
    &[ExpireSnapshots],
    &[RewriteManifests, RewritePositionDeleteFiles, RewriteDataFiles, ExpireSnapshots],
];

#[derive(Clone, Copy, PartialEq)]
enum When {
    /// Before a commit.
    Before,
    /// After a commit has looked at the table.
    Meanwhile,
}

fn settings(rewrite_below: u64, key_index: IndexPolicy) -> Settings {
    let compaction = Policy { smallest: 1500, fan_in: 5, ..Policy::default() };
    // Where somebody was quicker, once more is enough.
    let attempts = 2;
    Settings {
        rewrite_below,
        key_index,
        compaction,
        attempts,
        merge_deletes_at: 4,
        merge_manifests_above: 6,
        ..Settings::default()
    }
}

/// Keys of which some change often, some now and then, and some never again.
fn changes(checkpoint: u64) -> BTreeMap<String, i64> {
    [checkpoint % 3, 10 + checkpoint % 7, 100 + checkpoint].map(|key| (format!("key-{key}"), checkpoint as i64)).into()
}

/// After each commit the rows are right, and the marker is found: the same checkpoint again does nothing.
fn run(key: &[&str], settings: Settings, when: When) {
    let world = World::new(settings);
    let table = world.create("t", key);
    let (mut appended, mut upserted) = (Vec::new(), BTreeMap::new());
    for checkpoint in 1..=24_u64 {
        let (procedures, other) = (PROCEDURES[checkpoint as usize % PROCEDURES.len()], world.other());
        let act = move || procedures.iter().for_each(|procedure| other.maintain(&name("t"), *procedure));
        if when == When::Before {
            act();
            if checkpoint > 1 {
                assert!(matches!(world.commit(&table, checkpoint - 1, vec![]), CommitOutcome::AlreadyCommitted { .. }));
            }
        } else {
            world.meanwhile(act);
        }
        let rows: Vec<Row> = changes(checkpoint).into_iter().map(|(key, number)| (Some(key), number)).collect();
        let change = if key.is_empty() { Change::Append(batch(&rows)) } else { upsert(&rows) };
        snapshot_of(&world.commit(&table, checkpoint, vec![change]));
        appended.extend(rows.clone());
        upserted.extend(rows);
        let mut expected = if key.is_empty() { appended.clone() } else { upserted.clone().into_iter().collect() };
        expected.sort();
        assert_eq!(world.read("t"), expected, "{procedures:?} at checkpoint {checkpoint}");
        assert_eq!(world.summary("t")["kappa.checkpoint"], checkpoint.to_string());
        assert!(matches!(world.commit(&table, checkpoint, vec![]), CommitOutcome::AlreadyCommitted { .. }));
        assert!(world.catalog.key_index_failure(table.uuid()).is_none());
        Care::default().merge(&world, &table, checkpoint);
        assert_eq!(world.read("t"), expected, "merged at checkpoint {checkpoint}");
    }
}

#[test]
fn an_append_table_that_others_maintain() {
    run(&[], settings(0, IndexPolicy::default()), When::Before);
    run(&[], settings(0, IndexPolicy::default()), When::Meanwhile);
}

#[test]
fn an_upsert_table_that_others_maintain_before_each_commit() {
    for rewrite_below in [0, u64::MAX] {
        run(&["k"], settings(rewrite_below, IndexPolicy::default()), When::Before);
    }
    run(&["k"], settings(0, IndexPolicy { rows: 0, rows_a_key: 0, few: 2 }), When::Before);
}

/// Position deletes that were made against the base that lost are made again against the one that won: no row comes back.
#[test]
fn an_upsert_table_that_others_maintain_during_each_commit() {
    for rewrite_below in [0, u64::MAX] {
        run(&["k"], settings(rewrite_below, IndexPolicy::default()), When::Meanwhile);
    }
    run(&["k"], settings(0, IndexPolicy { rows: 0, rows_a_key: 0, few: 2 }), When::Meanwhile);
}

/// Its rows are there twice, and go away twice.
#[test]
fn rows_of_a_file_that_is_listed_twice_are_counted_as_they_are_read() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    let files = stage(&table, vec![upsert(&[row("a", 1), row("b", 1), row("c", 1)])]);
    let data: Vec<_> = files.iter().filter(|file| file.content == StagedContent::Data).cloned().collect();
    let insert = |checkpoint, files| TableCommit { kind: CommitKind::Append, ..commit_of(&table, checkpoint, files) };
    world.catalog.commit(&[commit_of(&table, 1, files)], &fence(1)).unwrap();
    world.catalog.commit(&[insert(2, data)], &fence(2)).unwrap();
    let count = || (world.read("t").len(), world.catalog.require(table.name()).unwrap().row_count());
    world.commit(&table, 3, vec![upsert(&[row("a", 9)])]);
    assert_eq!(count(), (5, 5));
    let rewriting = world.catalog.clone().with_settings(Settings { rewrite_below: u64::MAX, ..Settings::default() });
    rewriting.commit(&[commit_of(&table, 4, stage(&table, vec![upsert(&[row("b", 9)])]))], &fence(4)).unwrap();
    assert_eq!(count(), (4, 4));
}

/// They try as often as kappa does.
#[test]
fn a_new_table_lets_others_try_again() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let said = |key: &str| table.metadata().properties()[key].parse::<u64>().unwrap();
    assert!(said("commit.retry.num-retries") >= 10);
    assert!(said("commit.retry.max-wait-ms") <= 5000);
}

/// The marker of the newest commit stands in the table's properties too.
#[test]
fn what_a_table_has_is_known_though_no_snapshot_says_it() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &[]);
    let commit = |checkpoint: u64| {
        let mut commit = commit_of(&table, checkpoint, stage(&table, vec![Change::Append(batch(&[row("a", 1)]))]));
        commit.summary.insert("kappa.owner".into(), "5".into());
        world.catalog.commit(&[commit], &fence(checkpoint)).unwrap();
    };
    let now = || world.other().require(table.name()).unwrap();
    let delivered = |timeline: &str| now().delivered(VERSION, timeline);
    assert_eq!(delivered("timeline-1"), None);
    commit(1);
    assert_eq!((delivered("timeline-1"), delivered("another")), (Some((1, 5)), None));
    let maintain = |procedure| world.other().maintain(table.name(), procedure);
    maintain(RewriteDataFiles);
    let rewritten = now().current_snapshot_id().unwrap();
    maintain(ExpireSnapshots);
    assert_eq!(now().marker(), None);
    assert_eq!((delivered("timeline-1"), delivered("another")), (Some((1, 5)), None));
    // Set back, and what came after is forgotten: it does not have all that its properties tell of.
    commit(2);
    assert_eq!(delivered("timeline-1"), Some((2, 5)));
    set_back(&world.other(), table.name(), rewritten);
    maintain(ExpireSnapshots);
    assert_eq!(delivered("timeline-1"), None);
}
