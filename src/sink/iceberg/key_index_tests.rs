//! The key index of a large table, with the real commit: what it spares, and when it is not believed.

use super::testing::*;
use crate::sink::StagedContent;
use crate::table::catalog::Settings;
use crate::table::{CommitKind, IndexPolicy, Table, TableCommit};

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
    let files: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).collect();
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
        let changes = vec![upsert(&rows(first..first + 3, 1000)), crate::sink::Change::Delete(keys(&[Some("key-099")]))];
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
