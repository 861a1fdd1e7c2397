//! The key index of a large table, with the real commit: what it spares, and when it is not believed.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use iceberg::spec::{NestedField, Schema};

use super::testing::*;
use crate::error::Result;
use crate::sink::{Change, StagedContent};
use crate::table::catalog::Settings;
use crate::table::{Catalog, CommitKind, IndexPolicy, KeyStore, Table, TableCommit};

fn world() -> (World, Table) {
    let key_index = IndexPolicy { rows: 10, rows_a_key: 2 };
    let world = World::new(Settings { rewrite_below: 0, key_index, ..Settings::default() });
    let table = world.create("t", &["k"]);
    (world, table)
}

fn rows(numbers: std::ops::Range<i64>, plus: i64) -> Vec<Row> {
    numbers.map(|number| (Some(format!("key-{number:03}")), number + plus)).collect()
}

fn build(world: &World, table: &Table) -> bool {
    world.catalog.build_key_index(table.name(), table.uuid(), &GO_ON).unwrap()
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

#[test]
fn a_commit_of_few_keys_reads_no_data_file_once_there_is_an_index() {
    let (world, table) = world();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    assert!(!build(&world, &table), "nobody asked for it");
    // This one finds no index, and asks for one.
    world.commit(&table, 2, vec![upsert(&rows(0..3, 1000))]);
    assert!(build(&world, &table));
    for checkpoint in 3..6 {
        let first = checkpoint as i64 * 10;
        let changes = vec![upsert(&rows(first..first + 3, 1000)), Change::Delete(keys(&[Some("key-099")]))];
        without_data(&table, || world.commit(&table, checkpoint, changes));
    }
    let mut expected = rows(0..99, 0);
    expected.iter_mut().filter(|row| row.1 < 3 || (row.1 >= 30 && row.1 < 60 && row.1 % 10 < 3)).for_each(|row| row.1 += 1000);
    assert_eq!(world.read("t"), expected);
}

#[test]
fn after_a_commit_of_somebody_else_the_index_is_built_again() {
    let (world, table) = world();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    world.commit(&table, 2, vec![upsert(&rows(0..1, 0))]);
    assert!(build(&world, &table));
    foreign_commit(&world.other(), "t", 3, &rows(0..1, 5000)).unwrap();
    assert!(!build(&world, &table), "nobody knows yet");
    world.commit(&table, 3, vec![upsert(&rows(1..2, 6000))]);
    assert!(build(&world, &table));
    without_data(&table, || world.commit(&table, 4, vec![upsert(&rows(0..2, 7000))]));
    let mut expected = rows(0..100, 0);
    expected.iter_mut().filter(|row| row.1 < 2).for_each(|row| row.1 += 7000);
    assert_eq!(world.read("t"), expected);
}

#[test]
fn commits_while_the_index_is_built_are_in_it() {
    let (world, table) = world();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    world.commit(&table, 2, vec![upsert(&rows(0..1, 0))]);
    let busy = world.catalog.clone();
    std::thread::scope(|scope| {
        let building = scope.spawn(|| busy.build_key_index(table.name(), table.uuid(), &GO_ON).unwrap());
        for checkpoint in 3..12 {
            world.commit(&table, checkpoint, vec![upsert(&rows(5..8, checkpoint as i64 * 100))]);
        }
        building.join().unwrap();
    });
    build(&world, &table);
    without_data(&table, || world.commit(&table, 12, vec![upsert(&rows(6..9, 9000))]));
    let mut expected = rows(0..100, 0);
    expected[5].1 += 1100;
    expected[6..9].iter_mut().for_each(|row| row.1 += 9000);
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
    assert!(build(&world, &table));
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

#[test]
fn a_table_in_which_a_key_has_two_rows_gets_no_index() {
    let (world, table) = world();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    // As another engine's plain insert: a row more of a key that is there.
    let files = stage(&table, vec![upsert(&rows(0..1, 5000))]);
    let files = files.into_iter().filter(|file| file.content == StagedContent::Data).collect();
    let insert = TableCommit { kind: CommitKind::Append, ..commit_of(&table, 2, files) };
    world.catalog.commit(&[insert], &fence(2)).unwrap();
    world.commit(&table, 3, vec![upsert(&rows(50..51, 100))]);
    assert!(!build(&world, &table));
    world.commit(&table, 4, vec![upsert(&rows(60..61, 100))]);
    assert!(!build(&world, &table), "it was found unfit, and nobody else has committed");
    world.commit(&table, 5, vec![upsert(&rows(0..1, 7000))]);
    let mut expected = rows(0..100, 0);
    expected[0].1 += 7000;
    expected[50].1 += 100;
    expected[60].1 += 100;
    assert_eq!(world.read("t"), expected);
}

/// What happens when an index that is being built has noted some keys: one after the other.
type Meanwhile = Arc<Mutex<Vec<Box<dyn FnOnce() + Send>>>>;

struct Watched {
    keys: Keys,
    meanwhile: Meanwhile,
}

impl KeyStore for Watched {
    fn get(&self, keys: &[&[u8]]) -> Result<Vec<Option<u64>>> {
        self.keys.get(keys)
    }

    fn count(&self, stop: &AtomicBool) -> Result<u64> {
        self.keys.count(stop)
    }

    fn set(&self, changes: &mut dyn Iterator<Item = (&[u8], Option<u64>)>) -> Result<()> {
        self.keys.set(changes)?;
        let next = self.meanwhile.lock().unwrap().pop();
        if let Some(next) = next {
            next();
        }
        Ok(())
    }
}

fn watched() -> (World, Table, Meanwhile) {
    let (mut world, table) = world();
    let meanwhile = Meanwhile::default();
    let stores = meanwhile.clone();
    world.catalog = world
        .catalog
        .with_key_stores(Arc::new(move |_| Ok(Box::new(Watched { keys: Keys::default(), meanwhile: stores.clone() }))));
    (world, table, meanwhile)
}

fn commit(catalog: &Catalog, table: &Table, checkpoint: u64, changes: Vec<Change>) {
    catalog.commit(&[commit_of(table, checkpoint, stage(table, changes))], &fence(checkpoint)).unwrap();
}

/// However many commits come, those are in it: of keys in files that were read and of some that were not, and whole files.
#[test]
fn an_index_is_finished_while_more_commits_come_than_wait_for_it() {
    let (world, table, meanwhile) = watched();
    // A file of five rows each.
    for checkpoint in 1..=24 {
        let first = 15 + checkpoint as i64 * 5;
        world.commit(&table, checkpoint, vec![upsert(&rows(first..first + 5, 0))]);
    }
    world.commit(&table, 25, vec![upsert(&rows(20..21, 500))]);
    let mut model: BTreeMap<_, _> = rows(20..140, 0).into_iter().chain(rows(20..21, 500)).collect();
    let mut works: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    let mut checkpoint = 25;
    for _ in 0..6 {
        let mut commits = Vec::new();
        for _ in 0..2 {
            checkpoint += 1;
            let number = checkpoint as i64;
            let (first, gone) = (20 + number * 37 % 118, 20 + number * 53 % 120);
            let (changed, mut gone) = (rows(first..first + 2, number * 1000), rows(gone..gone + 1, 0));
            if number % 3 == 0 {
                let file = number / 3 * 10 - 60;
                gone.extend(rows(file..file + 5, 0));
            }
            gone.retain(|(key, _)| changed.iter().all(|(changed, _)| key != changed));
            model.retain(|key, _| gone.iter().all(|(gone, _)| gone != key));
            model.extend(changed.iter().cloned());
            commits.push((checkpoint, changed, gone));
        }
        let (catalog, table) = (world.catalog.clone(), table.clone());
        works.push(Box::new(move || {
            for (checkpoint, changed, gone) in commits {
                let gone: Vec<Option<&str>> = gone.iter().map(|(key, _)| key.as_deref()).collect();
                commit(&catalog, &table, checkpoint, vec![upsert(&changed), Change::Delete(keys(&gone))]);
            }
        }));
    }
    // Each fourth time that something is noted, so that few wait at once.
    let nothing = || (0..3).map(|_| Box::new(|| ()) as Box<dyn FnOnce() + Send>);
    *meanwhile.lock().unwrap() = works.into_iter().rev().flat_map(|work| std::iter::once(work).chain(nothing())).collect();
    assert!(build(&world, &table), "it was finished");
    assert!(meanwhile.lock().unwrap().is_empty());
    assert_eq!(world.read("t"), model.clone().into_iter().collect::<Vec<_>>());
    for first in [20, 50, 80, 110] {
        checkpoint += 1;
        let changed = rows(first..first + 7, 90_000);
        without_data(&table, || world.commit(&table, checkpoint, vec![upsert(&changed)]));
        model.extend(changed);
    }
    assert_eq!(world.read("t"), model.into_iter().collect::<Vec<_>>());
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
    let (world, table, meanwhile) = watched();
    world.commit(&table, 1, vec![upsert(&rows(0..100, 0))]);
    world.commit(&table, 2, vec![upsert(&rows(0..1, 1000))]);
    assert!(build(&world, &table));
    without_data(&table, || world.commit(&table, 3, vec![upsert(&rows(0..2, 2000))]));
    require_the_key(&world.other(), &table);
    let refused = commit_of(&table, 4, stage(&table, vec![upsert(&rows(1..3, 3000))]));
    without_data(&table, || world.catalog.commit(&[refused], &fence(4)).expect_err("the columns are read"));
    world.commit(&table, 4, vec![upsert(&rows(1..3, 3000))]);
    // Of the columns as they are now, it is of use again; unless they change while it is built.
    let (catalog, changed) = (world.catalog.clone(), table.clone());
    meanwhile.lock().unwrap().push(Box::new(move || {
        let now = catalog.require(changed.name()).unwrap();
        catalog.alter(now.name(), |builder| {
            let schema = changed.metadata().current_schema().as_ref().clone();
            builder.add_current_schema(schema).unwrap()
        });
        commit(&catalog, &changed, 5, vec![upsert(&rows(2..4, 4000))]);
    }));
    assert!(!build(&world, &table) && meanwhile.lock().unwrap().is_empty());
    world.commit(&table, 6, vec![upsert(&rows(3..5, 5000))]);
    assert!(build(&world, &table));
    without_data(&table, || world.commit(&table, 7, vec![upsert(&rows(4..6, 6000))]));
    let mut expected = rows(0..100, 0);
    let newest = [2000, 3000, 4000, 5000, 6000, 6000];
    expected.iter_mut().zip(newest).for_each(|(row, plus)| row.1 += plus);
    assert_eq!(world.read("t"), expected);
}
