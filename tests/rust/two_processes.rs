//! Two processes that want one version: the second is refused, or takes over and the first finds out.

use std::time::Duration;

use kappa::checkpoint::manifest::Mode;
use kappa::error::ErrorKind;
use kappa::job::{Outcome, RunOptions, start};
use rustix::process::{Signal, kill_process};

use crate::support::child;
use crate::support::data::Random;
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::Domain;
use crate::support::world::{World, options, wait_for};

fn job() -> Job {
    Job::new(&[Output::Wide, Output::Rows], "drop", "dead_letter")
}

#[test]
fn the_second_process_is_refused() {
    let job = job();
    let log = generate(21, Shape { records: 300, partitions: 2, bad: true });
    let world = World::with(&log);
    let live = options(&job, Mode::Live, 2, 1);
    let mut first = child::run(&world, &job, &live, None);
    wait_for("the first to run", || world.is_at(&job, &log.ends()));
    let error = start(job.plan(), live.clone(), world.settings.clone()).err().unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "locked"));
    let other = child::run(&world, &job, &live, None).wait();
    assert_eq!(other.status.code(), Some(6), "{}", other.stderr);
    assert!(other.stderr.contains("error locked:"), "{}", other.stderr);
    assert!(!first.has_ended());
    world.check_end(&log, &job, &Domain::whole(&log), "after the refusals");
}

/// The first is stopped at any moment, not dead; the second takes over; the first wakes up.
fn take_over(seed: u64, job: &Job) {
    let log = generate(seed, Shape { records: 1_500, partitions: 2, bad: true });
    let (world, whole) = (World::new(2), Domain::whole(&log));
    let upto = |part: i64| -> Vec<i64> { log.ends().iter().map(|end| end * part / 20).collect() };
    let mut random = Random(seed);
    let mut writer = world.writer();
    writer.append(&log, &upto(2));
    let mut first = child::run(&world, job, &options(job, Mode::Live, 2, 1), None);
    wait_for("the first to run", || world.is_at(job, &upto(2)));
    for part in 3..10 {
        writer.append(&log, &upto(part));
        std::thread::sleep(Duration::from_millis(random.below(25)));
    }
    kill_process(first.id(), Signal::STOP).unwrap();
    let again = options(job, Mode::Live, 3, 5);
    assert_eq!(start(job.plan(), again.clone(), world.settings.clone()).err().unwrap().code(), "locked");
    let second = loop {
        match start(job.plan(), RunOptions { take_over: true, ..again.clone() }, world.settings.clone()) {
            Ok(second) => break second,
            // Stopped in the middle of a transaction it holds the lock of SQLite's file.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.hint_text().is_some_and(|hint| hint.contains("kill -9")), "{error}");
            }
        }
        kill_process(first.id(), Signal::CONT).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        kill_process(first.id(), Signal::STOP).unwrap();
    };
    wait_for("the second to run", || {
        assert!(!second.is_finished(), "{:?}", second.report());
        world.is_at(job, &upto(9))
    });
    world.check(&log, job, &whole, "taken over");
    kill_process(first.id(), Signal::CONT).unwrap();
    // It has something to read, and so something to publish.
    for part in 10..=20 {
        writer.append(&log, &upto(part));
        std::thread::sleep(Duration::from_millis(10));
    }
    wait_for("the first to find out", || first.has_ended());
    let ended = first.wait();
    assert_eq!(ended.status.code(), Some(6), "{}", ended.stderr);
    world.check_chain();
    wait_for("the end of the log", || {
        assert!(!second.is_finished(), "{:?}", second.report());
        world.is_at(job, &log.ends())
    });
    second.request_stop();
    assert_eq!(second.report().unwrap().outcome, Outcome::Stopped);
    world.check_end(&log, job, &whole, "in the end");
}

#[test]
fn a_process_that_was_taken_over_stops_and_has_changed_nothing() {
    // With state, whose files the second clears away; and without, where only the manifest's name is in its way.
    (31..=33).for_each(|seed| take_over(seed, &job()));
    (34..=36).for_each(|seed| take_over(seed, &Job::new(&[Output::Rows], "keep", "skip")));
}
