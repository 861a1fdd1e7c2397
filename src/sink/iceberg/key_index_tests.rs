//! The key index of a large table, with the real commit: what it spares, and when it is not believed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use iceberg::spec::{NestedField, Schema};

use super::testing::*;
use crate::error::{Error, Result};
use crate::sink::{Change, StagedContent};
use crate::table::catalog::Settings;
use crate::table::maintenance::Policy;
use crate::table::{Catalog, CommitKind, IndexPolicy, KeyStore, Table, TableCommit};

fn world() -> (World, Table) {
    world_with(Settings::default(), 2)
}

fn world_with(settings: Settings, few: u64) -> (World, Table) {
    let key_index = IndexPolicy { rows: 10, rows_a_key: 2, few };
    let world = World::new(Settings { rewrite_below: 0, key_index, ..settings });
    let table = world.create("t", &["k"]);
    (world, table)
}

fn rows(numbers: std::ops::Range<i64>, plus: i64) -> Vec<Row> {
    numbers.map(|number| (Some(format!("key-{number:03}")), number + plus)).collect()
}

/// Takes the data files out of the way while `work` runs: whoever reads their key columns fails.
fn without_data<T>(table: &Table, work: impl FnOnce() -> T) -> T {
    let data = table.location().trim_start_matches("file://").to_owned() + "/data";
    let files = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    // Position deletes hold no keys, and are merged now and then.
    let files: Vec<_> = files.filter(|path| !path.to_string_lossy().contains("-deletes")).collect();
    files.iter().for_each(|path| std::fs::rename(path, path.with_extension("away")).unwrap());
    let done = work();
    files.iter().for_each(|path| std::fs::rename(path.with_extension("away"), path).unwrap());
    done
}

/// A table of a hundred rows, with an index.
fn indexed(world: &World, table: &Table) {
    world.commit(table, 1, vec![upsert(&rows(0..100, 0))]);
    // This one finds no index, and the next makes one.
    world.commit(table, 2, vec![upsert(&rows(0..1, 0))]);
    world.commit(table, 3, vec![upsert(&rows(0..1, 0))]);
}

#[test]
fn a_commit_of_few_keys_reads_no_data_file_once_there_is_an_index() {
    let (world, table) = world();
    indexed(&world, &table);
    for checkpoint in 4..7 {
        let first = checkpoint as i64 * 10;
        let changes = vec![upsert(&rows(first..first + 3, 1000)), Change::Delete(keys(&[Some("key-099")]))];
        without_data(&table, || world.commit(&table, checkpoint, changes));
    }
    // One of many keys reads them, and is in the index too.
    world.commit(&table, 7, vec![upsert(&rows(0..80, 2000))]);
    without_data(&table, || world.commit(&table, 8, vec![upsert(&rows(79..81, 3000))]));
    let mut expected = rows(0..99, 0);
    expected[..79].iter_mut().for_each(|row| row.1 += 2000);
    expected[79..81].iter_mut().for_each(|row| row.1 += 3000);
    assert_eq!(world.read("t"), expected);
}

#[test]
fn after_a_commit_of_somebody_else_the_index_is_built_again() {
    let (world, table) = world();
    indexed(&world, &table);
    foreign_commit(&world.other(), "t", 3, &rows(0..1, 5000)).unwrap();
    world.commit(&table, 4, vec![upsert(&rows(1..2, 6000))]);
    world.commit(&table, 5, vec![upsert(&rows(2..3, 6000))]);
    without_data(&table, || world.commit(&table, 6, vec![upsert(&rows(0..2, 7000))]));
    let mut expected = rows(0..100, 0);
    expected[..2].iter_mut().for_each(|row| row.1 += 7000);
    expected[2].1 += 6000;
    assert_eq!(world.read("t"), expected);
}

#[test]
fn rows_are_found_where_a_merge_has_put_them() {
    let (world, table) = world();
    for checkpoint in 1..9 {
        let first = checkpoint as i64 * 20;
        world.commit(&table, checkpoint, vec![upsert(&rows(first..first + 20, 0))]);
    }
    world.commit(&table, 9, vec![upsert(&rows(20..22, 500))]);
    let rewritten = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap();
    let rewritten = rewritten.expect("eight small files are worth a merge");
    // Between its two halves a row of the merged files goes away.
    world.commit(&table, 10, vec![upsert(&rows(30..31, 500))]);
    world.catalog.put_in_place(&rewritten, &fence(10), &GO_ON).unwrap().expect("it is put in place");
    without_data(&table, || world.commit(&table, 11, vec![upsert(&rows(30..33, 700))]));
    let mut expected = rows(20..180, 0);
    expected.iter_mut().filter(|row| row.1 < 22).for_each(|row| row.1 += 500);
    expected.iter_mut().filter(|row| (30..33).contains(&row.1)).for_each(|row| row.1 += 700);
    assert_eq!(world.read("t"), expected);
}

/// An index stays through merges of merges, with a commit in the middle of each, whether rows are noted anew or not.
#[test]
fn an_index_stays_through_a_long_run_of_merges() {
    for few in [0, 7, 1000] {
        let compaction = Policy { smallest: 1500, fan_in: 3, ..Policy::default() };
        let (world, table) = world_with(Settings { compaction, ..Settings::default() }, few);
        indexed(&world, &table);
        let mut model: BTreeMap<_, _> = rows(0..100, 0).into_iter().collect();
        let (mut begun, mut merges) = (None, 0);
        for checkpoint in 4..100 {
            let number = checkpoint as i64;
            let (first, gone) = (number * number * 7 % 140, format!("key-{:03}", number * 31 % 140));
            let changed: Vec<Row> = rows(first..first + 6, number * 1000);
            let mut changes = vec![upsert(&changed)];
            if changed.iter().all(|(key, _)| key.as_deref() != Some(gone.as_str())) {
                changes.push(Change::Delete(keys(&[Some(gone.as_str())])));
                model.remove(&Some(gone));
            }
            without_data(&table, || world.commit(&table, checkpoint, changes));
            model.extend(changed);
            if let Some(rewritten) = begun.take() {
                let merged = world.catalog.put_in_place(&rewritten, &fence(checkpoint), &GO_ON).unwrap();
                merges += usize::from(merged.is_some());
            }
            begun = world.catalog.rewrite(table.name(), table.uuid(), &GO_ON).unwrap();
            assert_eq!(world.read("t"), model.clone().into_iter().collect::<Vec<_>>(), "checkpoint {checkpoint}");
        }
        assert!(merges > 20, "{merges} merges");
    }
}

/// A store that fails when it is told to, and how many there were.
struct Faulty {
    keys: Keys,
    fails: Arc<AtomicBool>,
}

impl KeyStore for Faulty {
    fn load(&self, rows: &mut dyn Iterator<Item = (&[u8], u64)>) -> Result<()> {
        self.keys.load(rows)
    }

    fn loaded(&self) -> Result<bool> {
        self.keys.loaded()
    }

    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>> {
        self.keys.get(keys)
    }

    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()> {
        if self.fails.load(SeqCst) { Err(Error::corruption("state", "a block is damaged")) } else { self.keys.set(changes) }
    }
}

fn faulty() -> (World, Table, Arc<AtomicBool>, Arc<AtomicU64>) {
    let (mut world, table) = world();
    let (fails, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (of_store, count) = (fails.clone(), opened.clone());
    world.catalog = world.catalog.with_key_stores(Arc::new(move |_| {
        count.fetch_add(1, SeqCst);
        Ok(Box::new(Faulty { keys: Keys::default(), fails: of_store.clone() }))
    }));
    (world, table, fails, opened)
}

#[test]
fn an_index_that_fails_is_told_and_built_again_and_the_commits_are_right() {
    let (world, table, fails, opened) = faulty();
    indexed(&world, &table);
    assert!(world.catalog.key_index_failure(table.uuid()).is_none());
    fails.store(true, SeqCst);
    without_data(&table, || world.commit(&table, 4, vec![upsert(&rows(5..6, 1000))]));
    for checkpoint in 5..8 {
        world.commit(&table, checkpoint, vec![upsert(&rows(5..7, 2000))]);
    }
    assert_eq!(opened.load(SeqCst), 1, "nobody has asked why it failed");
    let told = world.catalog.key_index_failure(table.uuid()).expect("it failed");
    assert_eq!(told.code(), "key_index");
    assert!(told.to_string().contains("metric.t failed: a block is damaged"), "{told}");
    assert!(world.catalog.key_index_failure(table.uuid()).is_none(), "it is told once");
    fails.store(false, SeqCst);
    for checkpoint in 8..10 {
        world.commit(&table, checkpoint, vec![upsert(&rows(6..8, 3000))]);
    }
    without_data(&table, || world.commit(&table, 10, vec![upsert(&rows(7..9, 4000))]));
    assert_eq!(opened.load(SeqCst), 2);
    let mut expected = rows(0..100, 0);
    expected[5..9].iter_mut().zip([2000, 3000, 4000, 4000]).for_each(|(row, plus)| row.1 += plus);
    assert_eq!(world.read("t"), expected);
}

#[test]
fn a_table_in_which_a_key_has_two_rows_gets_no_index() {
    let (world, table, _, opened) = faulty();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    // As another engine's plain insert: a row more of a key that is there.
    let files = stage(&table, vec![upsert(&rows(0..1, 5000))]);
    let files = files.into_iter().filter(|file| file.content == StagedContent::Data).collect();
    let insert = TableCommit { kind: CommitKind::Append, ..commit_of(&table, 2, files) };
    world.catalog.commit(&[insert], &fence(2)).unwrap();
    for checkpoint in 3..7 {
        let first = checkpoint as i64 * 10;
        world.commit(&table, checkpoint, vec![upsert(&rows(first..first + 1, 100))]);
    }
    assert_eq!(opened.load(SeqCst), 1, "it was found unfit, and nobody else has committed");
    world.commit(&table, 7, vec![upsert(&rows(0..1, 7000))]);
    let mut expected = rows(0..100, 0);
    expected[0].1 += 7000;
    [30, 40, 50, 60].iter().for_each(|row: &usize| expected[*row].1 += 100);
    assert_eq!(world.read("t"), expected);
    // Once that is gone, somebody else's commit is an occasion to look again.
    foreign_commit(&world.other(), "t", 8, &rows(0..1, 7000)).unwrap();
    for checkpoint in 8..10 {
        world.commit(&table, checkpoint, vec![upsert(&rows(1..2, 0))]);
    }
    without_data(&table, || world.commit(&table, 10, vec![upsert(&rows(1..2, 0))]));
    assert_eq!((opened.load(SeqCst), world.read("t")), (2, expected));
}

/// As another engine does it: without a snapshot.
fn require_the_key(catalog: &Catalog, table: &Table) {
    let fields = table.metadata().current_schema().as_struct().fields().iter();
    let fields = fields.map(|field| match field.name.as_str() {
        "k" => Arc::new(NestedField::required(field.id, "k", (*field.field_type).clone())),
        _ => field.clone(),
    });
    let schema = Schema::builder().with_fields(fields).build().unwrap();
    catalog.alter(table.name(), |builder| builder.add_current_schema(schema).unwrap());
}

/// Keys of other columns are other bytes: an index of those before would find nothing, and rows would be there twice.
#[test]
fn an_index_of_a_key_whose_columns_changed_without_a_snapshot_is_not_believed() {
    let (world, table) = world();
    indexed(&world, &table);
    without_data(&table, || world.commit(&table, 4, vec![upsert(&rows(0..2, 2000))]));
    require_the_key(&world.other(), &table);
    let refused = without_data(&table, || {
        let commit = commit_of(&table, 5, stage(&table, vec![upsert(&rows(1..3, 3000))]));
        world.catalog.commit(&[commit], &fence(5)).expect_err("the columns are read")
    });
    assert_eq!(refused.code(), "file_missing");
    // Of the columns as they are now, it is of use again.
    world.commit(&table, 5, vec![upsert(&rows(1..3, 3000))]);
    without_data(&table, || world.commit(&table, 6, vec![upsert(&rows(2..4, 4000))]));
    let mut expected = rows(0..100, 0);
    expected.iter_mut().zip([2000, 3000, 4000, 4000]).for_each(|(row, plus)| row.1 += plus);
    assert_eq!(world.read("t"), expected);
}
