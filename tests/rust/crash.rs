//! Processes that die by SIGKILL, at named points and at any moment. After EACH death the tables equal the recomputation at
//! the position that they say (the prefix property), and in the end at the end of the log.

use std::path::Path;
use std::time::Duration;

use kappa::checkpoint::manifest::Mode;
use kappa::job::{Outcome, Run, RunOptions, start};
use kappa::table::Settings;
use kappa::table::expiry::Retention;
use kappa::table::maintenance::Policy;

use crate::support::child;
use crate::support::data::{Log, Random};
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::{Domain, recompute};
use crate::support::world::{World, options, wait_for};

fn job() -> Job {
    Job::new(&[Output::Wide, Output::Daily, Output::Rows, Output::Nested], "dead_letter", "dead_letter")
}

fn log(seed: u64) -> Log {
    generate(seed, Shape { records: 2_000, partitions: 3, bad: true })
}

fn begin(world: &World, job: &Job, options: RunOptions) -> Run {
    start(job.plan(), options, world.settings.clone()).unwrap()
}

/// Resumes live at another parallelism, until everything is committed.
fn live_to_the_end(world: &World, job: &Job, log: &Log, parallelism: usize) {
    let run = begin(world, job, options(job, Mode::Live, parallelism, 10));
    wait_for("the end of the log", || {
        assert!(!run.is_finished(), "{:?}", run.report());
        world.is_at(job, &log.ends())
    });
    run.request_stop();
    assert_eq!(run.report().unwrap().outcome, Outcome::Stopped);
    world.check_end(log, job, &Domain::whole(log), "live to the end");
}

fn reprocess_to_the_end(world: &World, job: &Job, log: &Log, parallelism: usize) {
    match start(job.plan(), options(job, Mode::Reprocess, parallelism, 10), world.settings.clone()) {
        Ok(run) => assert_eq!(run.report().unwrap().outcome, Outcome::Complete),
        // It died after its last commit: whoever goes on clears away what it left.
        Err(error) => {
            assert_eq!(error.code(), "finished");
            live_to_the_end(world, job, log, parallelism);
        }
    }
    world.check_end(log, job, &Domain::whole(log), "reprocess to the end");
}

/// At the first hit, in a reprocess.
fn die_in_a_reprocess(point: &str) {
    let (log, job) = (log(100 + point.len() as u64), job());
    let world = World::with(&log);
    let run = options(&job, Mode::Reprocess, 2, 1);
    child::run(&world, &job, &run, Some(point)).wait().assert_died_at(point);
    world.check(&log, &job, &Domain::whole(&log), point);
    reprocess_to_the_end(&world, &job, &log, 3);
    world.assert_tidy(point);
}

/// At a later hit, in a live run: each slice of the log makes at least one checkpoint.
fn die_in_a_live_run(point: &str, hit: u64, parallelism: usize) {
    const SLICES: i64 = 12;
    let (log, job) = (log(200 + hit), job());
    let world = World::new(log.partitions.len());
    let mut writer = world.writer();
    let armed = format!("{point}:{hit}");
    // With so little memory that caches are emptied all the time, or with enough.
    let memory_bytes = if hit.is_multiple_of(2) { 1 } else { 32 << 20 };
    // Tables that are merged and cleaned after nearly every commit, by rewriting them or by position deletes.
    let tables = eager(if hit.is_multiple_of(2) { 0 } else { 8 << 20 });
    let run = RunOptions { memory_bytes, tables, ..options(&job, Mode::Live, parallelism, 1) };
    let mut child = child::run(&world, &job, &run, Some(&armed));
    for slice in 1..=SLICES {
        let upto: Vec<i64> = log.ends().iter().map(|end| end * slice / SLICES).collect();
        writer.append(&log, &upto);
        wait_for("a slice", || child.has_ended() || world.is_at(&job, &upto));
        if child.has_ended() {
            break;
        }
    }
    assert!(child.has_ended(), "{armed} was not reached");
    child.wait().assert_died_at(point);
    world.check(&log, &job, &Domain::whole(&log), &armed);
    writer.append(&log, &log.ends());
    live_to_the_end(&world, &job, &log, 4 - parallelism);
    world.assert_tidy(&armed);
    // What a next process would remove as nobody's is.
    world.sweep();
    world.check_end(&log, &job, &Domain::whole(&log), "swept");
}

/// Limits under which there is always something to merge and to remove.
fn eager(rewrite_below: u64) -> Settings {
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    let compaction = Policy { smallest: 256, fan_in: 2, ..Policy::default() };
    let merge_deletes_at = 3;
    Settings { rewrite_below, merge_deletes_at, retention, compaction, ..Settings::default() }
}

macro_rules! points {
    ($die:ident: $($name:ident $point:literal)*) => {$(
        #[test]
        fn $name() {
            $die($point);
        }
    )*};
}

/// On the way of every checkpoint.
fn die_on_the_way(point: &str) {
    die_in_a_reprocess(point);
    die_in_a_live_run(point, 3, 1);
    die_in_a_live_run(point, 8, 2);
}

/// In the thread that looks after the tables: the job dies with it.
fn die_in_maintenance(point: &str) {
    die_in_a_live_run(point, 1, 2);
    die_in_a_live_run(point, 4, 1);
    die_in_a_live_run(point, 5, 3);
}

points! {
    die_on_the_way:
    k1_a_barrier_has_begun "K1"
    k2_some_inputs_are_at_the_barrier_and_others_not "K2"
    k3_in_the_middle_of_a_state_checkpoint "K3"
    k5_in_the_middle_of_a_staged_file "K5"
    k6_staged_files_without_a_manifest "K6"
    k7_half_a_manifest "K7"
    k8_a_manifest_that_has_no_name_yet "K8"
    k9_a_manifest_whose_directory_is_not_synced "K9"
    k10_a_durable_manifest_and_nothing_committed "K10"
    k15_metadata_written_and_the_catalog_not_swapped "K15"
    k16_the_catalog_swapped_and_nobody_told "K16"
    k18_committed_and_not_noted "K18"
}

points! {
    die_in_maintenance:
    c1_merged_and_in_no_snapshot "C1"
    c2_the_merge_committed_and_nobody_told "C2"
    c3_snapshots_forgotten_and_their_files_there "C3"
    c4_data_removed_and_the_manifests_that_named_it_there "C4"
}

#[test]
fn k20_half_of_an_old_checkpoint_removed() {
    die_in_a_live_run("K20", 1, 2);
    die_in_a_live_run("K20", 4, 1);
    die_in_a_live_run("K20", 7, 3);
}

/// Recovery itself dies, five times in a row, at one step or another; what it recovers is a manifest that nothing of was
/// committed.
fn die_in_recovery(seed: u64, hits: [u64; 5]) {
    let (log, job) = (log(seed), job());
    let (world, whole) = (World::with(&log), Domain::whole(&log));
    let run = RunOptions { batch_records: Some(16), ..options(&job, Mode::Reprocess, 2, 1) };
    child::run(&world, &job, &run, Some("K10")).wait().assert_died_at("K10");
    for hit in hits {
        let restarted = RunOptions { parallelism: Some(1 + hit as usize % 3), ..run.clone() };
        let armed = format!("K21:{hit}");
        child::run(&world, &job, &restarted, Some(&armed)).wait().assert_died_at("K21");
        world.check(&log, &job, &whole, &armed);
    }
    reprocess_to_the_end(&world, &job, &log, 2);
    world.assert_tidy("K21");
}

#[test]
fn k21_recovery_at_each_step() {
    die_in_recovery(301, [1, 2, 3, 4, 4]);
}

#[test]
fn k21_recovery_always_before_its_first_commit() {
    die_in_recovery(302, [3, 3, 3, 3, 3]);
}

#[test]
fn k21_recovery_behind_its_commits() {
    die_in_recovery(303, [4, 1, 4, 2, 4]);
}

/// The log's writer dies; what readers have seen stays, what was torn goes, and the jobs over it are exact.
fn die_while_appending(point: &str, hit: u64) {
    let log = generate(400 + hit, Shape { records: 1_500, partitions: 1, bad: true });
    let job = job();
    let world = World::new(1);
    let half = vec![log.ends()[0] / 3];
    world.writer().append(&log, &half);
    assert_eq!(begin(&world, &job, options(&job, Mode::Reprocess, 2, 10)).report().unwrap().outcome, Outcome::Complete);
    let armed = format!("{point}:{hit}");
    child::append(&world, &log, half[0], 100, Some(&armed)).wait().assert_died_at(point);
    let run = begin(&world, &job, options(&job, Mode::Live, 2, 10));
    run.request_stop();
    run.report().unwrap();
    world.check(&log, &job, &Domain::whole(&log), &armed);
    // Goes on where the log really ends: a record that was lost or doubled would shift all that follow.
    world.writer().append(&log, &log.ends());
    live_to_the_end(&world, &job, &log, 3);
}

#[test]
fn f4_a_torn_tail_of_the_last_segment() {
    (1..=3).for_each(|hit| die_while_appending("F4", hit));
}

#[test]
fn f4_the_log_dies_around_its_sync() {
    ["L1", "L2", "L3"].iter().for_each(|point| die_while_appending(point, 2));
}

/// The end of the last segment's file is torn by hand, at any byte: what was published stays whole.
#[test]
fn f4_rubbish_behind_the_published_end() {
    for seed in 0..3 {
        let log = generate(500 + seed, Shape { records: 900, partitions: 1, bad: true });
        let (world, job) = (World::new(1), job());
        let half = vec![log.ends()[0] / 2];
        world.writer().append(&log, &half);
        let segment = last_segment(&world.dir.path().join("log").join(crate::support::data::TOPIC).join("0"));
        let mut bytes = std::fs::read(&segment).unwrap();
        let again = bytes.len() - bytes.len().min(700 + seed as usize * 61);
        bytes.extend_from_within(again..);
        std::fs::write(&segment, bytes).unwrap();
        assert_eq!(begin(&world, &job, options(&job, Mode::Reprocess, 2, 10)).report().unwrap().outcome, Outcome::Complete);
        assert_eq!(world.check(&log, &job, &Domain::whole(&log), "rubbish"), Some(half));
        world.writer().append(&log, &log.ends());
        live_to_the_end(&world, &job, &log, 1);
    }
}

fn last_segment(dir: &Path) -> std::path::PathBuf {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|e| e == "log")).max().unwrap()
}

/// SIGKILL at any moment, again and again, on one version after the other.
#[test]
fn kills_at_any_moment() {
    const KILLS: usize = 40;
    let mut random = Random(77);
    let (mut kills, mut seed) = (0, 600);
    while kills < KILLS {
        seed += 1;
        let (log, job) = (log(seed), job());
        let (world, whole) = (World::with(&log), Domain::whole(&log));
        for _ in 0..8 {
            let parallelism = 1 + random.below(3) as usize;
            let run = RunOptions {
                batch_records: Some(4),
                memory_bytes: random.pick(&[1, 32 << 20]),
                ..options(&job, Mode::Reprocess, parallelism, random.below(40))
            };
            let mut child = child::run(&world, &job, &run, None);
            std::thread::sleep(std::time::Duration::from_millis(random.below(250)));
            child.kill();
            child.wait();
            kills += 1;
            world.check(&log, &job, &whole, &format!("kill {kills}, seed {seed}"));
        }
        reprocess_to_the_end(&world, &job, &log, 2);
        world.assert_tidy(&format!("seed {seed}"));
    }
}

/// Dead letters of a durable manifest are delivered, whatever is to become of bad records from now on.
#[test]
fn dead_letters_that_are_durable_are_delivered_under_another_policy() {
    let burying = Job::new(&[Output::Wide, Output::Rows], "keep", "dead_letter");
    let (log, skipping) = (log(700), Job { bad: "skip", ..burying.clone() });
    let (world, whole) = (World::with(&log), Domain::whole(&log));
    let run = RunOptions { batch_records: Some(200), ..options(&burying, Mode::Reprocess, 2, 1) };
    child::run(&world, &burying, &run, Some("K10")).wait().assert_died_at("K10");
    let manifest = world.newest_manifest();
    let durable: Vec<i64> = manifest.positions()[crate::support::data::TOPIC].values().map(|offset| offset.0).collect();
    let expected: usize = recompute(&log, &burying, &whole, &durable).dead_letters.values().sum();
    assert!(expected > 0, "no dead letter at {durable:?}");
    reprocess_to_the_end(&world, &skipping, &log, 3);
    for table in ["test.wide__dead_letter", "test.rows__dead_letter"] {
        assert_eq!(world.rows(table).values().sum::<usize>(), expected, "{table}");
    }
}

/// `--replace` dies between its tables: all of them are of one version, and the next run goes on.
#[test]
fn a_replacement_that_died_goes_on() {
    let (old, new) = (Job::new(&[Output::Wide, Output::Rows], "drop", "skip"), job());
    let new = Job { outputs: old.outputs.clone(), ..new };
    for (seed, armed) in ["V1", "V2", "V2:2"].into_iter().enumerate() {
        let log = log(710 + seed as u64);
        let world = World::with(&log);
        assert_eq!(begin(&world, &old, options(&old, Mode::Reprocess, 2, 10)).report().unwrap().outcome, Outcome::Complete);
        let replace = RunOptions { replace: true, ..options(&new, Mode::Reprocess, 2, 10) };
        child::run(&world, &new, &replace, Some(armed)).wait().assert_died_at(&armed[..2]);
        reprocess_to_the_end(&world, &new, &log, 3);
        // And the other way, where the tables of dead letters are in the way of nobody.
        let replace = RunOptions { replace: true, ..options(&old, Mode::Reprocess, 1, 10) };
        child::run(&world, &old, &replace, Some("V1")).wait().assert_died_at("V1");
        reprocess_to_the_end(&world, &old, &log, 2);
        let burying = Job { bad: "dead_letter", ..old.clone() };
        live_to_the_end(&world, &Job { bad: "skip", ..burying.clone() }, &log, 2);
        let run = begin(&world, &burying, options(&burying, Mode::Live, 2, 10));
        run.request_stop();
        assert_eq!(run.report().unwrap().outcome, Outcome::Stopped);
    }
}

/// The end of the log is published after the records are durable: a power cut can leave an end that is older than what was
/// read, and the job goes on all the same.
#[test]
fn f4_an_older_end_of_the_log_than_was_read() {
    let (log, job) = (generate(720, Shape { records: 600, partitions: 1, bad: true }), job());
    let world = World::new(1);
    world.writer().append(&log, &[log.ends()[0] - 3]);
    let extent = world.dir.path().join("log").join(crate::support::data::TOPIC).join("0").join("extent");
    let older = std::fs::read(&extent).unwrap();
    world.writer().append(&log, &log.ends());
    assert_eq!(begin(&world, &job, options(&job, Mode::Reprocess, 2, 10)).report().unwrap().outcome, Outcome::Complete);
    std::fs::write(&extent, older).unwrap();
    live_to_the_end(&world, &job, &log, 3);
}
