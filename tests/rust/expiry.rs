//! Groups that expire: their rows are those of a recomputation under the same rule, whatever happens to the process, and of
//! their state nothing is left.

use std::path::Path;

use kappa::checkpoint::manifest::{Manifest, Mode};
use kappa::job::{Report, RunOptions};
use kappa::state::StateStore;
use kappa::state::rocksdb::RocksStore;

use crate::properties::{begin, finish, stop_at};
use crate::support::child;
use crate::support::data::{BASE, Fault, Log, Random, Record, Row};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::{Domain, recompute};
use crate::support::world::{World, options, wait_for};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn job() -> Job {
    Job::new(&[Output::Hourly, Output::HourlyNested], "keep", "fail")
}

fn record(t: i64, s: &str, n: Option<i64>) -> Record {
    let row = Row { k: Some("k".to_owned()), s: Some(s.to_owned()), n, t, ..Row::default() };
    let n = n.map_or("null".to_owned(), |n| n.to_string());
    let payload = format!("{{\"k\":\"k\",\"s\":\"{s}\",\"n\":{n},\"t\":{t}}}").into_bytes();
    Record { timestamp: t, payload: Some(payload), fault: Fault::None, row }
}

/// So many days in `partitions` partitions, `a_day` records a day, some of them hours late.
fn days(seed: u64, days: i64, partitions: usize, a_day: i64) -> Log {
    let mut random = Random(seed);
    let mut log = Log { partitions: vec![Vec::new(); partitions] };
    for i in 0..days * a_day {
        let late = if random.once_in(9) { random.between(0, 5 * HOUR) } else { 0 };
        let t = BASE + i * DAY / a_day - late;
        log.partitions[random.below(partitions as u64) as usize].push(record(t, &format!("u{}", random.below(300)), Some(i)));
    }
    log
}

/// Records that belong to no group and bring these partitions far beyond the end of all.
fn close(log: &mut Log, partitions: &[usize]) {
    for partition in partitions {
        let last = log.partitions[*partition].iter().map(|record| record.row.t).max().unwrap_or(BASE);
        log.partitions[*partition].extend((1..6).map(|i| record(last + i * DAY / 2, "", None)));
    }
}

/// One more record in each partition, for one more checkpoint.
fn nudge(log: &mut Log) {
    for records in &mut log.partitions {
        let again = records.last().unwrap().clone();
        records.push(again);
    }
}

/// Entries of the state in the newest checkpoint.
fn entries(world: &World) -> usize {
    let Manifest { state, operators, .. } = world.newest_manifest();
    let version = world.versions().into_iter().max().unwrap();
    entries_of(&version.join(state.unwrap()), operators.into_iter().flat_map(|operator| operator.families).collect())
}

fn entries_of(state: &Path, families: Vec<String>) -> usize {
    let copy = tempfile::tempdir_in(state.parent().unwrap().parent().unwrap()).unwrap();
    let copy = copy.path().join("copy");
    RocksStore::clone_checkpoint(state, &copy, None).unwrap();
    let store = RocksStore::open(&copy, &families, 8 << 20).unwrap();
    let mut entries = 0;
    for family in &families {
        let mut count = |_: &[u8], _: &[u8]| {
            entries += 1;
            Ok(())
        };
        store.scan(family, &mut count).unwrap();
    }
    entries
}

/// A live run from where the last one stopped to the end of the log.
fn live(world: &World, job: &Job, log: &Log, parallelism: usize) -> Report {
    world.writer().append(log, &log.ends());
    let run = begin(world, job, options(job, Mode::Live, parallelism, 5));
    stop_at(world, job, &run, &log.ends());
    world.check_end(log, job, &Domain::whole(log), "live");
    run.report().unwrap()
}

#[test]
fn nothing_is_left_of_groups_that_are_over_whatever_the_parallelism() {
    let (world, job) = (World::new(3), job());
    let mut log = days(1, 4, 3, 700);
    live(&world, &job, &log, 2);
    let alive = entries(&world);
    assert!(alive > 0);
    // Most of the groups are over already: no more is kept than of the last hours.
    let groups = recompute(&log, &job, &Domain::whole(&log), &log.ends()).outputs[0].rows.len();
    assert!(groups > 90, "{groups}");
    assert!(alive < 3 * 700, "{alive}");
    close(&mut log, &[0, 1, 2]);
    let report = live(&world, &job, &log, 3);
    assert!(report.expired > 50, "{}", report.expired);
    nudge(&mut log);
    live(&world, &job, &log, 1);
    assert_eq!(entries(&world), 0);
    // The rows stay, and are those of a reprocess.
    let again = World::with(&log);
    assert_eq!(finish(&again, &job, options(&job, Mode::Reprocess, 2, 20)).expired, report.expired);
    again.check_end(&log, &job, &Domain::whole(&log), "reprocess");
    for output in 0..2 {
        assert_eq!(again.rows(&job.table(output)), world.rows(&job.table(output)));
    }
}

#[test]
fn state_does_not_grow_with_the_days() {
    let log = days(2, 16, 2, 400);
    let (world, job) = (World::new(2), job());
    let mut writer = world.writer();
    let run = begin(&world, &job, options(&job, Mode::Live, 2, 1));
    let mut kept = Vec::new();
    for half_day in 1..=32 {
        let upto: Vec<i64> = log.ends().iter().map(|end| end * half_day / 32).collect();
        writer.append(&log, &upto);
        wait_for("half a day", || world.is_at(&job, &upto));
        if half_day == 5 || half_day == 31 {
            // A checkpoint is not removed while it is the newest.
            kept.push(entries(&world));
        }
    }
    stop_at(&world, &job, &run, &log.ends());
    world.check_end(&log, &job, &Domain::whole(&log), "live");
    assert!(kept[1] < kept[0] * 3 / 2, "{kept:?}");
}

#[test]
fn a_partition_that_falls_silent_holds_what_its_records_may_still_change() {
    let (world, job) = (World::new(3), job());
    let mut log = days(3, 2, 3, 300);
    let silent = log.partitions[1].split_off(20);
    close(&mut log, &[0, 2]);
    nudge(&mut log);
    let report = live(&world, &job, &log, 2);
    assert_eq!(report.held_by.as_deref(), Some("events.v1/1"));
    assert!(report.closed_ms.unwrap() < report.watermark_ms.unwrap() || report.closed_ms < Some(BASE + DAY));
    let held = entries(&world);
    assert!(held > 100, "{held}");
    // It goes on where it was: its records are in time, by its own watermark, and find what is there.
    log.partitions[1].extend(silent);
    live(&world, &job, &log, 2);
    close(&mut log, &[1]);
    live(&world, &job, &log, 2);
    nudge(&mut log);
    live(&world, &job, &log, 2);
    assert_eq!(entries(&world), 0);
}

/// Killed at points on the way of a checkpoint, early and late, and resumed at another parallelism.
#[test]
fn groups_expire_once_whatever_dies() {
    const SLICES: i64 = 10;
    for (number, point) in ["K1:4", "K3:5", "K6:3", "K10:6", "K16:4"].into_iter().enumerate() {
        let (world, job) = (World::new(3), job());
        let mut log = days(10 + number as u64, 3, 3, 400);
        let memory_bytes = if number % 2 == 0 { 1 } else { 32 << 20 };
        let run = RunOptions { memory_bytes, ..options(&job, Mode::Live, 1 + number % 3, 1) };
        let mut child = child::run(&world, &job, &run, Some(point));
        let mut writer = world.writer();
        for slice in 1..=SLICES {
            let upto: Vec<i64> = log.ends().iter().map(|end| end * slice / SLICES).collect();
            writer.append(&log, &upto);
            wait_for("a slice", || child.has_ended() || world.is_at(&job, &upto));
        }
        assert!(child.has_ended(), "{point} was not reached");
        child.wait().assert_died_at(point.split(':').next().unwrap());
        world.check(&log, &job, &Domain::whole(&log), point);
        drop(writer);
        live(&world, &job, &log, 3 - number % 3);
        close(&mut log, &[0, 1, 2]);
        live(&world, &job, &log, 2);
        nudge(&mut log);
        live(&world, &job, &log, 2);
        assert_eq!(entries(&world), 0, "{point}");
    }
}
