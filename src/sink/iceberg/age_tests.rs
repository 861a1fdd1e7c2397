//! A table that a job has committed to every second for hours: what it keeps, and what a commit to it costs.

use std::time::Duration;

use super::testing::*;
use crate::sink::Change;
use crate::table::catalog::Settings;
use crate::table::expiry::Retention;
use crate::table::{CommitOutcome, Table, files};
use crate::time;

const SECOND: Duration = Duration::from_secs(1);
/// A table, and who looks after it.
struct Ageing {
    rows: i64,
    world: World,
    table: Table,
    care: Care,
    checkpoint: u64,
}

impl Ageing {
    /// A table that gets so many rows with each commit.
    fn new(retention: Retention, key: &[&str], rows: i64) -> Self {
        let world = World::new(Settings { retention, ..Settings::default() });
        let table = world.create("t", key);
        Self { rows, world, table, care: Care::default(), checkpoint: 0 }
    }

    /// A second passes and a checkpoint is committed, with what a job says in the summary. How long that took.
    fn commit(&mut self) -> Duration {
        self.checkpoint += 1;
        self.world.catalog.pass(SECOND);
        let change = self.change(self.checkpoint as i64);
        let mut commit = commit_of(&self.table, self.checkpoint, stage(&self.table, vec![change]));
        commit.summary.extend(crate::table::said_by_a_job(self.checkpoint));
        let start = time::instant();
        let outcome = self.world.catalog.commit(&[commit], &fence(self.checkpoint)).unwrap().remove(0);
        let took = start.elapsed();
        assert!(matches!(outcome, CommitOutcome::Committed { .. }));
        self.care.forgotten(&outcome);
        self.care.merge(&self.world, &self.table, self.checkpoint);
        self.care.clean(&self.world, &self.table);
        took
    }

    fn change(&self, number: i64) -> Change {
        // Each key once.
        let rows: Vec<Row> = (0..self.rows).map(|at| row(&format!("k{}", (number * 7 + at) % 50_000), number)).collect();
        if self.table.primary_key().unwrap().is_empty() { Change::Append(batch(&rows)) } else { upsert(&rows) }
    }

    /// The same rows in a table of one commit.
    fn fresh(&self) -> Table {
        let key: Vec<String> = self.table.primary_key().unwrap();
        let fresh = self.world.create("fresh", &key.iter().map(String::as_str).collect::<Vec<_>>());
        let rows = self.world.read("t");
        let changes = rows.chunks(8_192).map(|rows| if key.is_empty() { Change::Append(batch(rows)) } else { upsert(rows) });
        self.world.commit(&fresh, 1, changes.collect());
        self.world.catalog.require(fresh.name()).unwrap()
    }

    fn metadata(&self) -> (Table, u64) {
        let now = self.world.catalog.require(self.table.name()).unwrap();
        let bytes = std::fs::metadata(files::path_of(now.metadata_location()).unwrap()).unwrap().len();
        (now, bytes)
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// By a retention of a minute instead of an hour.
#[test]
fn an_old_table_keeps_what_its_retention_says() {
    let retention = Retention { all: 60 * SECOND, hourly: Duration::ZERO, at_least: 16 };
    let mut ageing = Ageing::new(retention, &[], 2);
    let mut most = 0;
    for _ in 0..200 {
        ageing.commit();
        most = most.max(ageing.metadata().0.metadata().snapshots().len());
    }
    assert!((60..60 + 60 / 7 + 2 * 16).contains(&most), "{most} snapshots");
    let (now, _) = ageing.metadata();
    assert!(now.metadata_location().ends_with(".gz.metadata.json"));
    assert_eq!(ageing.world.other().require(now.name()).unwrap().metadata(), now.metadata());
    assert_eq!(ageing.world.read("t").len(), 400);
    ageing.care.assert_nothing_is_missing_or_left(&ageing.world, &ageing.table);
}

/// Figures, and the tables for other readers: benches/table/age.py, `make bench-table`.
#[test]
#[ignore = "takes minutes"]
fn measure_age() {
    let last: u64 = std::env::var("KAPPA_AGE").ok().and_then(|age| age.parse().ok()).unwrap_or(10_000);
    for (kind, key) in [("append", &[][..]), ("upsert", &["k"][..])] {
        let mut ageing = Ageing::new(Retention::default(), key, 100);
        let mut times = Vec::new();
        for number in 1..=last {
            times.push(ageing.commit());
            if [100, 1_000].contains(&number) || number == last {
                let (now, bytes) = ageing.metadata();
                let json = serde_json::to_vec(now.metadata()).unwrap().len();
                let line = serde_json::json!({
                    "table": kind, "commits": number, "commit_ms": median(times.split_off(times.len().saturating_sub(50))),
                    "metadata_bytes": bytes, "json_bytes": json, "snapshots": now.metadata().snapshots().len(),
                    "files": files_of(&ageing.table).len(), "metadata": now.metadata_location(),
                });
                println!("AGE {line}");
            }
        }
        let fresh = ageing.fresh();
        println!("FRESH {}", serde_json::json!({ "table": kind, "metadata": fresh.metadata_location() }));
        let _ = ageing.world.directory.keep();
    }
}
