//! **reprocess == live == batch recomputation**, whatever the parallelism, the batch size, the checkpoint interval, the
//! restarts and the crashes. Each case is a seed and a few numbers: a failure prints them.

use std::time::Duration;

use kappa::checkpoint::manifest::Mode;
use kappa::job::{Outcome, Report, Run, RunOptions, start};
use proptest::prelude::*;

use crate::support::data::{BASE, Fault, Log, Random, Record, Row};
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::Domain;
use crate::support::world::{World, options, wait_for};

/// What a case consists of.
#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    records: usize,
    pub partitions: usize,
    pub job: Job,
    parallelism: usize,
    restarted: usize,
    pub interval_ms: u64,
    batch: usize,
    /// So little that caches are emptied all the time, or enough.
    memory: usize,
}

pub fn cases() -> impl Strategy<Value = Case> {
    let outputs = prop_oneof![
        Just(vec![Output::Wide]),
        Just(vec![Output::Daily]),
        Just(vec![Output::Rows]),
        Just(vec![Output::Nested]),
        Just(vec![Output::Nested]),
        Just(vec![Output::Wide, Output::Rows]),
        Just(vec![Output::Daily, Output::Nested, Output::Rows]),
        Just(vec![Output::Hourly]),
        Just(vec![Output::HourlyNested, Output::Hourly]),
        Just(vec![Output::Daily, Output::Rows, Output::Wide]),
    ];
    let policies =
        (prop::sample::select(vec!["keep", "drop", "dead_letter"]), prop::sample::select(vec!["fail", "skip", "dead_letter"]));
    let job = (outputs, policies).prop_map(|(outputs, (late, bad))| Job { outputs, late, bad });
    let tuning = (
        1..=4usize,
        1..=4usize,
        prop::sample::select(vec![1u64, 7, 50, 10_000]),
        prop::sample::select(vec![1usize, 3, 64, 8192]),
    );
    let memory = prop::sample::select(vec![1usize, 100_000, 32 << 20]);
    let size = prop::sample::select(vec![0usize, 1, 40, 700, 3_000]);
    (any::<u64>(), size, 1..=4usize, job, tuning, memory).prop_map(|(seed, records, partitions, job, tuning, memory)| {
        let (parallelism, restarted, interval_ms, batch) = tuning;
        Case { seed, records, partitions, job, parallelism, restarted, interval_ms, batch, memory }
    })
}

fn pressed() -> impl Strategy<Value = Case> {
    let outputs = prop_oneof![
        Just(vec![Output::Wide]),
        Just(vec![Output::Daily, Output::Rows]),
        Just(vec![Output::Nested, Output::Daily]),
        Just(vec![Output::HourlyNested, Output::Hourly])
    ];
    (any::<u64>(), outputs, 2..=4usize, 1..=4usize, 1..=4usize).prop_map(|(seed, outputs, parallelism, restarted, batch)| {
        let late = if outputs.contains(&Output::Hourly) { "keep" } else { "drop" };
        let job = Job { outputs, late, bad: "skip" };
        Case { seed, records: 8_000, partitions: 4, job, parallelism, restarted, interval_ms: 1, batch, memory: 1 }
    })
}

impl Case {
    pub fn log(&self) -> Log {
        let shape = Shape { records: self.records, partitions: self.partitions, bad: self.job.bad != "fail" };
        generate(self.seed, shape)
    }

    pub fn options(&self, mode: Mode) -> RunOptions {
        let options = options(&self.job, mode, self.parallelism, self.interval_ms);
        RunOptions { batch_records: Some(self.batch), memory_bytes: self.memory, ..options }
    }

    pub fn restart(&self, mode: Mode) -> RunOptions {
        RunOptions { parallelism: Some(self.restarted), ..self.options(mode) }
    }
}

pub fn begin(world: &World, job: &Job, options: RunOptions) -> Run {
    start(world.plan(job), options, world.settings.clone()).unwrap()
}

pub fn finish(world: &World, job: &Job, options: RunOptions) -> Report {
    begin(world, job, options).report().unwrap()
}

/// Waits until a live run has committed everything, and stops it.
pub fn stop_at(world: &World, job: &Job, run: &Run, position: &[i64]) {
    wait_for("the end of the log", || {
        assert!(!run.is_finished(), "{:?}", run.report());
        world.is_at(job, position)
    });
    run.request_stop();
    assert_eq!(run.report().unwrap().outcome, Outcome::Stopped);
}

pub fn config(cases: u32) -> ProptestConfig {
    // A case takes a while, and its seed says all: shrinking is not worth much here.
    ProptestConfig { cases, max_shrink_iters: 4, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn a_reprocess_is_the_batch_recomputation(case in cases()) {
        let log = case.log();
        let world = World::with(&log);
        let report = finish(&world, &case.job, case.options(Mode::Reprocess));
        prop_assert_eq!(report.outcome, Outcome::Complete);
        world.check_end(&log, &case.job, &Domain::whole(&log), "reprocess");
        world.check_history(&log, &case.job, &Domain::whole(&log));
    }
}

proptest! {
    #![proptest_config(config(6))]

    /// Checkpoints as fast as they can, batches so small that barriers fall between them, caches that are always emptied:
    /// what is torn shows when the job is aborted and goes on.
    #[test]
    fn checkpoints_are_whole_under_pressure(case in pressed()) {
        let log = case.log();
        let (world, whole) = (World::with(&log), Domain::whole(&log));
        let mut random = Random(case.seed ^ 4);
        for attempt in 0.. {
            let settings = if attempt % 2 == 0 { case.options(Mode::Reprocess) } else { case.restart(Mode::Reprocess) };
            let run = match start(case.job.plan(), settings, world.settings.clone()) {
                Ok(run) => run,
                // The abort came when everything was done.
                Err(error) => {
                    prop_assert_eq!(error.code(), "finished");
                    break;
                }
            };
            std::thread::sleep(Duration::from_millis(20 + random.below(80)));
            if attempt < 8 {
                run.abort();
            }
            let ended = run.report().unwrap().outcome == Outcome::Complete;
            world.check(&log, &case.job, &whole, &format!("attempt {attempt}"));
            if ended {
                break;
            }
        }
        world.check_end(&log, &case.job, &whole, "in the end");
        world.check_history(&log, &case.job, &whole);
    }
}

proptest! {
    #![proptest_config(config(12))]

    #[test]
    fn a_live_run_over_a_growing_log_is_the_batch_recomputation(case in cases()) {
        let log = case.log();
        let world = World::new(case.partitions);
        let mut random = Random(case.seed ^ 1);
        let mut upto: Vec<i64> = log.ends().iter().map(|end| random.between(0, *end)).collect();
        let mut writer = world.writer();
        writer.append(&log, &upto);
        let run = begin(&world, &case.job, RunOptions { checkpoint_interval_ms: case.interval_ms.min(50), ..case.options(Mode::Live) });
        while upto != log.ends() {
            upto = upto.iter().zip(log.ends()).map(|(now, end)| random.between(*now, end).min(now + 300)).collect();
            writer.append(&log, &upto);
            std::thread::sleep(Duration::from_millis(random.below(20)));
        }
        if log.ends().iter().any(|end| *end > 0) {
            stop_at(&world, &case.job, &run, &log.ends());
        } else {
            run.request_stop();
            run.report().unwrap();
        }
        world.check_end(&log, &case.job, &Domain::whole(&log), "live");
    }

    #[test]
    fn stops_and_aborts_at_any_moment_change_nothing(case in cases()) {
        let log = case.log();
        let world = World::with(&log);
        let whole = Domain::whole(&log);
        let mut random = Random(case.seed ^ 2);
        for attempt in 0..6 {
            let settings = if attempt % 2 == 0 { case.options(Mode::Reprocess) } else { case.restart(Mode::Reprocess) };
            let run = match start(case.job.plan(), settings, world.settings.clone()) {
                Ok(run) => run,
                Err(error) => {
                    prop_assert_eq!(error.code(), "finished");
                    break;
                }
            };
            std::thread::sleep(Duration::from_millis(random.below(60)));
            if random.once_in(2) { run.abort() } else { run.request_stop() }
            let report = run.report().unwrap();
            prop_assert_ne!(report.outcome, Outcome::Stopped);
            world.check(&log, &case.job, &whole, &format!("attempt {attempt}"));
        }
        match start(case.job.plan(), case.restart(Mode::Reprocess), world.settings.clone()) {
            Ok(run) => prop_assert_eq!(run.report().unwrap().outcome, Outcome::Complete),
            Err(error) => prop_assert_eq!(error.code(), "finished"),
        }
        world.check_end(&log, &case.job, &whole, "in the end");
    }

    #[test]
    fn live_goes_on_exactly_where_a_reprocess_ended(case in cases()) {
        let log = case.log();
        let world = World::new(case.partitions);
        let mut random = Random(case.seed ^ 3);
        let first: Vec<i64> = log.ends().iter().map(|end| random.between(0, *end)).collect();
        world.writer().append(&log, &first);
        finish(&world, &case.job, case.options(Mode::Reprocess));
        prop_assert_eq!(world.check(&log, &case.job, &Domain::whole(&log), "reprocess"), Some(first));
        let run = begin(&world, &case.job, RunOptions { checkpoint_interval_ms: 10, ..case.restart(Mode::Live) });
        world.writer().append(&log, &log.ends());
        stop_at(&world, &case.job, &run, &log.ends());
        world.check_end(&log, &case.job, &Domain::whole(&log), "live");
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn a_floor_and_an_end_are_those_of_the_log(case in cases(), from in 0..1200i64, length in 0..1200i64) {
        // Records come about every four minutes of the log's time.
        let (from, until) = (BASE + from * 600_000, BASE + (from + length) * 600_000);
        let text = |ms: i64| chrono::DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339();
        let log = case.log();
        let world = World::with(&log);
        let options = RunOptions { from: Some(text(from)), until: Some(text(until)), ..case.options(Mode::Reprocess) };
        finish(&world, &case.job, options);
        let domain = Domain { start: log.offsets_at(from - 3_600_000), floor: Some(from) };
        let end: Vec<i64> = log.offsets_at(until).iter().zip(&domain.start).map(|(end, start)| *end.max(start)).collect();
        prop_assert_eq!(world.check(&log, &case.job, &domain, "from and until"), Some(end));
        // Live afterwards keeps the floor.
        let run = begin(&world, &case.job, RunOptions { checkpoint_interval_ms: 10, ..case.restart(Mode::Live) });
        stop_at(&world, &case.job, &run, &log.ends());
        world.check_end(&log, &case.job, &domain, "live after");
    }
}

/// `--follow`: the frozen end is one moment of a run that goes on.
#[test]
fn a_reprocess_that_follows_goes_on_by_itself() {
    let job = Job::new(&[Output::Wide, Output::Rows], "keep", "skip");
    let log = generate(11, Shape { records: 2_000, partitions: 3, bad: true });
    let world = World::new(3);
    let half: Vec<i64> = log.ends().iter().map(|end| end / 2).collect();
    let mut writer = world.writer();
    writer.append(&log, &half);
    let follow = RunOptions { follow: true, ..options(&job, Mode::Reprocess, 2, 10) };
    let run = begin(&world, &job, follow.clone());
    wait_for("the first half", || world.is_at(&job, &half));
    let more: Vec<i64> = log.ends().iter().map(|end| end * 2 / 3).collect();
    writer.append(&log, &more);
    wait_for("more", || world.is_at(&job, &more));
    run.abort();
    run.report().unwrap();
    // The same command goes on.
    let run = begin(&world, &job, follow);
    writer.append(&log, &log.ends());
    stop_at(&world, &job, &run, &log.ends());
    world.check_end(&log, &job, &Domain::whole(&log), "follow");
    let run = begin(&world, &job, options(&job, Mode::Live, 4, 10));
    run.request_stop();
    run.report().unwrap();
    world.check_end(&log, &job, &Domain::whole(&log), "live again");
}

/// More groups than there is memory for: the epoch ends early, and owners let what comes wait until it does.
#[test]
fn more_changed_groups_than_memory_end_the_epoch_early() {
    many_groups(Output::Wide);
}

/// More changes at a barrier than the queues between workers hold.
#[test]
fn many_changed_groups_go_to_a_second_grouping() {
    many_groups(Output::Nested);
}

fn many_groups(output: Output) {
    const GROUPS: i64 = 24_000;
    let record = |i: i64| {
        let (k, t) = (format!("key {i}"), BASE + i * 1_000);
        let payload = Some(format!("{{\"k\":\"{k}\",\"s\":\"u\",\"n\":{i},\"t\":{t}}}").into_bytes());
        let row = Row { k: Some(k), s: Some("u".to_owned()), n: Some(i), t, ..Row::default() };
        Record { timestamp: t, payload, fault: Fault::None, row }
    };
    let log = Log { partitions: (0..2).map(|p| (0..GROUPS).filter(|i| i % 2 == p).map(record).collect()).collect() };
    let (world, job) = (World::with(&log), Job::new(&[output], "keep", "fail"));
    let little = RunOptions { memory_bytes: 1, batch_records: Some(500), ..options(&job, Mode::Reprocess, 2, 60_000) };
    let report = finish(&world, &job, little);
    assert_eq!(report.outcome, Outcome::Complete);
    // With memory enough there is one, at the end.
    assert!(report.checkpoints >= 2, "{}", report.checkpoints);
    world.check_end(&log, &job, &Domain::whole(&log), "little memory");
}
