//! Figures, by hand: `cargo test --release -- --ignored --nocapture measure`.

use std::time::Duration;

use super::testing::*;
use crate::sink::Change;
use crate::table::catalog::Settings;
use crate::time;

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
}

#[test]
#[ignore = "takes a while"]
fn measure_commits() {
    for (what, rewrite_below) in [("rewrite", 8 << 20), ("position deletes", 0)] {
        let world = World::new(Settings { rewrite_below, ..Settings::default() });
        let table = world.create("t", &["k"]);
        let rows: Vec<Row> = (0..56).map(|key| row(&format!("day-{key}"), key)).collect();
        world.commit(&table, 1, vec![upsert(&rows)]);
        let (mut staging, mut commits) = (Vec::new(), Vec::new());
        for checkpoint in 2..=300_u64 {
            let start = time::instant();
            let files = stage(&table, vec![upsert(&rows[(checkpoint % 52) as usize..][..4])]);
            staging.push(start.elapsed());
            let start = time::instant();
            world.catalog.commit(&[commit_of(&table, checkpoint, files)], &fence(checkpoint)).unwrap();
            commits.push(start.elapsed());
        }
        assert_eq!(world.read("t").len(), 56);
        report(&format!("{what}: stage 4 rows"), staging);
        report(&format!("{what}: first 100 commits"), commits[..100].to_vec());
        report(&format!("{what}: last 100 commits"), commits[commits.len() - 100..].to_vec());
    }
}

#[test]
#[ignore = "takes a while"]
fn measure_throughput() {
    let world = World::rewriting_below(0);
    let table = world.create("t", &["k"]);
    const ROWS: i64 = 4_000_000;
    let batches: Vec<_> = (0..ROWS / 16_384)
        .map(|part| (0..16_384).map(|n| row(&format!("key-{}", (part * 16_384 + n) * 7919 % ROWS), n)).collect::<Vec<_>>())
        .map(|rows| batch(&rows))
        .collect();
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let rate = |what: &str, start: std::time::Instant| {
        let seconds = start.elapsed().as_secs_f64();
        println!("{what}: {rows} rows in {seconds:.2} s, {:.2} M rows/s", rows as f64 / seconds / 1e6);
    };
    let start = time::instant();
    let files = stage(&table, batches.into_iter().map(Change::Upsert).collect());
    rate("stage an upsert", start);
    println!("{:?}", files.iter().map(|file| (file.content, file.bytes)).collect::<Vec<_>>());
    world.catalog.commit(&[commit_of(&table, 1, files)], &fence(1)).unwrap();
    let start = time::instant();
    world.commit(&table, 2, vec![upsert(&[row("key-5", 1)])]);
    rate("commit one changed row", start);
    let start = time::instant();
    let batches = scan(&world.catalog, "t", None);
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), rows);
    rate("scan", start);
}
