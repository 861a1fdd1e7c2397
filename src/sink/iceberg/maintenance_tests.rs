//! Merges and removals against a real SQLite catalog and real files.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use iceberg::spec::{PartitionStatisticsFile, SnapshotReference, SnapshotRetention, StatisticsFile};

use super::testing::*;
use crate::error::Result;
use crate::protocol::door::{Act, Door, Keeper};
use crate::sink::Change;
use crate::table::catalog::Settings;
use crate::table::expiry::Retention;
use crate::table::maintenance::Policy;
use crate::table::{CreateTable, Table};
use crate::time;

/// Each commit of an append table adds a file; merged, there are few, and no row is lost, doubled or moved out of order.
#[test]
fn a_table_of_many_commits_stays_small() {
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 16 };
    let world = World::new(Settings { retention, ..Settings::default() });
    let table = world.create("t", &[]);
    let mut care = Care::default();
    let mut merges = 0;
    for checkpoint in 1..=200_u64 {
        let rows = vec![row("a", checkpoint as i64), row("b", checkpoint as i64)];
        care.forgotten(&world.commit(&table, checkpoint, vec![Change::Append(batch(&rows))]));
        merges += care.merge(&world, &table, checkpoint);
        care.clean(&world, &table);
        // What the newest snapshot says of the rows is what it said before the merge.
        assert_eq!(world.summary("t")["kappa.checkpoint"], checkpoint.to_string());
    }
    assert!((20..40).contains(&merges), "{merges} merges");
    assert_eq!(world.read("t").len(), 400);
    assert_eq!(world.catalog.require(table.name()).unwrap().row_count(), 400);
    care.sweep(&world, &table);
    let (data, metadata): (Vec<String>, Vec<String>) = files_of(&table).into_iter().partition(|file| file.contains("/data/"));
    // Files of at most 16 snapshots that are not forgotten yet, and a hundred metadata files of Iceberg's own log.
    assert!(data.len() < 40 && metadata.len() < 160, "{} data files, {} of metadata", data.len(), metadata.len());
}

/// Rows that are deleted while a merge reads them are deleted in what it has written.
#[test]
fn deletes_that_come_during_a_merge_are_kept() {
    let compaction = Policy { fan_in: 2, ..Policy::default() };
    let world = World::new(Settings { rewrite_below: 0, compaction, ..Settings::default() });
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1), row("c", 1)])]);
    world.commit(&table, 2, vec![upsert(&[row("d", 2), row("a", 2), row("e", 2)])]);
    let begun = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap().unwrap();
    world.commit(&table, 3, vec![upsert(&[row("c", 3)]), Change::Delete(keys(&[Some("d")]))]);
    let merged = world.catalog.put_in_place(&begun, &fence(3), &GO_ON).unwrap().unwrap();
    assert_eq!(merged.files, 2);
    assert_eq!(world.summary("t")["operation"], "replace");
    let expected = [row("a", 2), row("b", 1), row("c", 3), row("e", 2)];
    assert_eq!(world.read("t"), expected);
    // Before it the same, and after it deletes are found in the new file.
    world.commit(&table, 4, vec![upsert(&[row("e", 4)]), Change::Delete(keys(&[Some("b")]))]);
    assert_eq!(world.read("t"), [row("a", 2), row("c", 3), row("e", 4)]);
    assert_eq!(world.read_at("t", Some(merged.snapshot_id)), expected);
}

#[test]
fn a_merge_of_files_that_another_engine_rewrote_is_thrown_away() {
    let compaction = Policy { fan_in: 2, ..Policy::default() };
    let world = World::new(Settings { compaction, ..Settings::default() });
    let table = world.create("t", &[]);
    for checkpoint in 1..=2 {
        world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", checkpoint as i64)]))]);
    }
    let begun = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap().unwrap();
    let other = Care::default().merge(&world, &table, 2);
    let before = files_of(&table).len();
    assert_eq!((other, world.catalog.put_in_place(&begun, &fence(2), &GO_ON).unwrap()), (1, None));
    assert_eq!(files_of(&table).len(), before - 1, "what was written for nothing is gone");
    assert_eq!(world.read("t"), [row("a", 1), row("a", 2)]);
}

#[test]
fn a_merge_by_a_former_owner_is_refused_and_one_with_a_lost_reply_is_found() {
    let compaction = Policy { fan_in: 2, ..Policy::default() };
    let world = World::new(Settings { compaction, orphan_grace: Duration::ZERO, ..Settings::default() });
    let table = world.create("t", &[]);
    for checkpoint in 1..=2 {
        world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", checkpoint as i64)]))]);
    }
    let merge = || world.catalog.compact(table.name(), table.uuid(), &fence(2), &GO_ON);
    world.inject(Fault::RequestLost);
    assert_eq!(merge().unwrap().unwrap().files, 2);
    for checkpoint in 3..=4 {
        world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", checkpoint as i64)]))]);
    }
    world.inject(Fault::ReplyLost);
    assert!(merge().unwrap_err().is_retryable());
    assert_eq!(merge().unwrap(), None, "it was merged");
    assert_eq!(world.read("t").len(), 4);
    for checkpoint in 5..=7 {
        world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", checkpoint as i64)]))]);
    }
    world.other().claim_owner(VERSION, 2).unwrap();
    assert_eq!(merge().unwrap_err().code(), "fenced");
    assert_eq!(world.read("t").len(), 7);
    // What an attempt with an unknown outcome has written stays until it is known.
    let mut care = Care::default();
    assert!(care.sweep_as(&world, &table, time::new_ordered_uuid(), 2).unwrap() > 0);
    care.assert_nothing_is_missing_or_left(&world, &table);
}

#[test]
fn what_dead_processes_left_goes_and_what_others_write_stays() {
    let world = World::new(Settings { orphan_grace: Duration::ZERO, ..Settings::default() });
    let table = world.create("t", &[]);
    world.commit(&table, 1, vec![Change::Append(batch(&[row("a", 1)]))]);
    stage(&table, vec![Change::Append(batch(&[row("lost", 1)]))]);
    let folder = table.location().trim_start_matches("file://");
    std::fs::write(format!("{folder}/metadata/{}-m0.avro", time::new_ordered_uuid()), "of a commit that died").unwrap();
    for foreign in ["data/00000-0-x.parquet", "data/README.txt", "metadata/snap-1-1-x.avro"] {
        std::fs::write(format!("{folder}/{foreign}"), "of somebody else").unwrap();
    }
    let before = files_of(&table).len();
    let began = time::new_ordered_uuid();
    let staged = stage(&table, vec![Change::Append(batch(&[row("b", 2)]))]);
    let mut care = Care::default();
    // Who was taken over removes nothing.
    assert_eq!(care.sweep_as(&world, &table, began, 7).unwrap_err().code(), "fenced");
    assert_eq!((care.sweep_as(&world, &table, began, 1).unwrap(), files_of(&table).len()), (2, before - 2 + 1));
    world.catalog.commit(&[commit_of(&table, 2, staged)], &fence(2)).unwrap();
    assert_eq!(world.read("t"), [row("a", 1), row("b", 2)]);
}

/// Iceberg's own word for files that other tables or catalogs share.
#[test]
fn with_gc_enabled_false_nothing_is_forgotten_or_removed() {
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    let world = World::new(Settings { retention, orphan_grace: Duration::ZERO, ..Settings::default() });
    let properties = [("gc.enabled".to_owned(), "false".to_owned())].into();
    let table = world.catalog.create(&CreateTable { properties, ..create("t", &[]) }).unwrap();
    let mut care = Care::default();
    stage(&table, vec![Change::Append(batch(&[row("lost", 1)]))]);
    for checkpoint in 1..=20 {
        care.forgotten(&world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", 1)]))]));
        care.merge(&world, &table, checkpoint);
    }
    assert_eq!((care.forgotten.len(), care.clean(&world, &table), care.sweep(&world, &table)), (0, 0, 0));
    assert_eq!(world.read("t").len(), 20);
    // One for each commit, one that was lost, and what two merges have made.
    assert_eq!(files_of(&table).iter().filter(|file| file.contains("/data/")).count(), 23);
}

/// Another tool sets the table back to before a delete while a merge has left the row out: the merge must not come.
#[test]
fn a_merge_of_a_table_that_was_set_back_is_thrown_away() {
    let compaction = Policy { fan_in: 2, ..Policy::default() };
    let world = World::new(Settings { rewrite_below: 0, compaction, ..Settings::default() });
    let table = world.create("t", &["k"]);
    world.commit(&table, 1, vec![upsert(&[row("a", 1), row("b", 1)])]);
    let before = world.commit(&table, 2, vec![upsert(&[row("c", 1)])]);
    world.commit(&table, 3, vec![Change::Delete(keys(&[Some("b")]))]);
    let begun = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap().unwrap();
    set_back(&world.catalog, table.name(), snapshot_of(&before));
    assert_eq!(world.catalog.put_in_place(&begun, &fence(3), &GO_ON).unwrap(), None);
    assert_eq!(world.read("t"), [row("a", 1), row("b", 1), row("c", 1)]);
}

/// Manifests go whose files are in another one by now.
#[test]
fn a_file_that_another_manifest_names_stays() {
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    let compaction = Policy { fan_in: 1000, ..Policy::default() };
    let world = World::new(Settings { retention, compaction, merge_manifests_above: 1, ..Settings::default() });
    let table = world.create("t", &[]);
    let (mut care, mut removed) = (Care::default(), 0);
    for checkpoint in 1..=6 {
        care.forgotten(&world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", checkpoint as i64)]))]));
        removed += care.clean(&world, &table);
        assert_eq!(world.read("t").len(), checkpoint as usize);
    }
    assert!(removed > 6, "{removed} files");
    care.assert_nothing_is_missing_or_left(&world, &table);
}

/// Other engines write files of statistics beside a table, and name them in its metadata.
#[test]
fn statistics_of_other_engines_stay_as_long_as_their_snapshots() {
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    let world = World::new(Settings { retention, orphan_grace: Duration::ZERO, ..Settings::default() });
    let table = world.create("t", &[]);
    let append = |checkpoint: u64| world.commit(&table, checkpoint, vec![Change::Append(batch(&[row("a", 1)]))]);
    let (first, second) = (snapshot_of(&append(1)), snapshot_of(&append(2)));
    // A tag keeps the second; names as kappa could give them, which it must not take for its own.
    let [of_first, of_second, of_both, partitions] =
        [0; 4].map(|_| format!("{}/metadata/{}.stats", table.location(), time::new_ordered_uuid()));
    for path in [&of_first, &of_second, &of_both, &partitions] {
        std::fs::write(path.trim_start_matches("file://"), "statistics").unwrap();
    }
    world.catalog.alter(table.name(), |builder| {
        let tag = SnapshotReference::new(second, SnapshotRetention::Tag { max_ref_age_ms: None });
        let columns = [(first, &of_first), (second, &of_both)];
        let builder = columns.into_iter().fold(builder, |builder, (id, path)| builder.set_statistics(statistics(id, path)));
        let of_partitions = [(first, &of_both), (second, &of_second)].map(|(snapshot_id, path)| PartitionStatisticsFile {
            snapshot_id,
            statistics_path: path.clone(),
            file_size_in_bytes: 10,
        });
        of_partitions.into_iter().fold(builder, |it, file| it.set_partition_statistics(file)).set_ref("kept", tag).unwrap()
    });
    let named = || {
        let now = world.catalog.require(table.name()).unwrap();
        let of_columns: Vec<_> = now.metadata().statistics_iter().map(|file| file.statistics_path.clone()).collect();
        let of_partitions = now.metadata().partition_statistics_iter().map(|file| file.statistics_path.clone());
        (of_columns, of_partitions.collect::<Vec<_>>())
    };
    let mut care = Care::default();
    let there = |path: &String| std::path::Path::new(path.trim_start_matches("file://")).exists();
    // Of the files that look like kappa's, only the one goes that nothing names.
    assert_eq!(care.sweep(&world, &table), 1);
    assert_eq!([&of_first, &of_second, &of_both, &partitions].map(there), [true, true, true, false]);
    // The commit forgets the first snapshot, and all that is only of it.
    care.forgotten(&append(3));
    assert_eq!(named(), (vec![of_both.clone()], vec![of_second.clone()]));
    care.clean(&world, &table);
    assert_eq!([&of_first, &of_second, &of_both].map(there), [false, true, true]);
}

fn statistics(snapshot_id: i64, path: &str) -> StatisticsFile {
    StatisticsFile {
        snapshot_id,
        statistics_path: path.to_owned(),
        file_size_in_bytes: 10,
        file_footer_size_in_bytes: 1,
        key_metadata: None,
        blob_metadata: vec![],
    }
}

/// Does something each time after a catalog was asked where a table is.
struct AfterFind<F>(F);

impl<F: Fn() + Send + Sync> Keeper for AfterFind<F> {
    fn enter(&self, _: Act) -> Result<u64> {
        Ok(0)
    }

    fn leave(&self, act: Act, _: u64) -> Result<()> {
        if act == Act::Find {
            (self.0)();
        }
        Ok(())
    }
}

/// Between the catalog's answer and the look at the file, the table moves on and the file goes.
#[test]
fn a_metadata_file_that_is_gone_is_asked_for_again_as_long_as_the_table_moves() {
    let world = World::new(Settings::default());
    let table = world.create("t", &[]);
    world.commit(&table, 1, vec![Change::Append(batch(&[row("a", 1)]))]);
    let remove = |table: &Table| std::fs::remove_file(table.metadata_location().trim_start_matches("file://")).unwrap();
    // A reader that has not seen the table before, and what happens so many times when it has asked.
    let load = |times: u64| {
        let (other, left) = (world.other(), AtomicU64::new(times));
        let meanwhile = move || {
            if let Ok(left) = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                let before = other.require(&name("t")).unwrap();
                foreign_commit(&other, "t", 10 * times - left, &[row("b", 1)]).unwrap();
                remove(&before);
            }
        };
        world.other().behind(Door::kept_by(Arc::new(AfterFind(meanwhile)))).load(table.name())
    };
    assert_eq!(load(1).unwrap().unwrap().row_count(), 2);
    assert_eq!(load(3).unwrap().unwrap().row_count(), 5);
    // That is too often; it passes.
    let error = load(100).unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("table_moves", true), "{error}");
    // The catalog names nothing else: the file is lost.
    remove(&world.other().require(table.name()).unwrap());
    let error = load(0).unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("io", false), "{error}");
}
