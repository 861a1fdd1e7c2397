//! What is refused, with which code; and that nothing has changed then.

use std::collections::BTreeMap;

use kappa::checkpoint::manifest::Mode;
use kappa::error::{Error, ErrorKind};
use kappa::job::{Outcome, RunOptions, start};
use kappa::log::Retention;
use kappa::plan::schema::{DataType, Field, Schema};
use kappa::table::field_ids::FieldIds;
use kappa::table::{CreateTable, TableName};

use crate::support::data::{Fault, Log, TOPIC};
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::Domain;
use crate::support::world::{World, options, wait_for};

fn log() -> Log {
    generate(5, Shape { records: 500, partitions: 2, bad: false })
}

fn job() -> Job {
    Job::new(&[Output::Daily], "keep", "fail")
}

fn refusal(world: &World, job: &Job, options: RunOptions) -> Error {
    match start(job.plan(), options, world.settings.clone()) {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

fn run(world: &World, job: &Job, options: RunOptions) -> Outcome {
    start(job.plan(), options, world.settings.clone()).unwrap().report().unwrap().outcome
}

#[test]
fn a_finished_reprocess_is_not_run_again_unless_it_is_replaced() {
    let (log, job) = (log(), job());
    let world = World::with(&log);
    let reprocess = options(&job, Mode::Reprocess, 2, 1_000);
    assert_eq!(run(&world, &job, reprocess.clone()), Outcome::Complete);
    let error = refusal(&world, &job, reprocess.clone());
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "finished"));
    assert!(error.hint_text().unwrap().contains("--replace"), "{error}");
    world.check_end(&log, &job, &Domain::whole(&log), "after the refusal");
    let old = world.versions();
    assert_eq!(run(&world, &job, RunOptions { replace: true, ..reprocess }), Outcome::Complete);
    world.check_end(&log, &job, &Domain::whole(&log), "replaced");
    let new = world.versions();
    assert!(new.len() == 1 && new != old, "{old:?} {new:?}");
}

#[test]
fn a_table_of_another_plan_is_refused() {
    let (log, job) = (log(), job());
    let world = World::with(&log);
    run(&world, &job, options(&job, Mode::Reprocess, 1, 1_000));
    let other = Job { late: "drop", ..job.clone() };
    let error = refusal(&world, &other, options(&job, Mode::Live, 1, 1_000));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "other_plan"));
    // What happens to bad records may change on the same version.
    let skipping = Job { bad: "dead_letter", ..job.clone() };
    let live = start(skipping.plan(), options(&job, Mode::Live, 1, 1_000), world.settings.clone()).unwrap();
    live.request_stop();
    assert_eq!(live.report().unwrap().outcome, Outcome::Stopped);
    world.check_end(&log, &skipping, &Domain::whole(&log), "another policy");
}

#[test]
fn a_table_of_somebody_else_is_refused() {
    let (log, job) = (log(), job());
    let world = World::with(&log);
    let schema = Schema { fields: vec![Field::new("day", DataType::Date)] };
    let name = TableName::parse(&job.table(0), "").unwrap();
    let create = CreateTable { name, schema, primary_key: vec![], properties: BTreeMap::new(), field_ids: FieldIds::default() };
    world.catalog().create(&create).unwrap();
    let replace = RunOptions { replace: true, ..options(&job, Mode::Reprocess, 1, 1_000) };
    for options in [options(&job, Mode::Reprocess, 1, 1_000), options(&job, Mode::Live, 1, 1_000), replace] {
        assert_eq!(refusal(&world, &job, options).code(), "foreign_table");
    }
    assert!(world.versions().is_empty());
}

#[test]
fn a_topic_made_again_is_another_topic() {
    let (log, job) = (log(), job());
    let world = World::with(&log);
    run(&world, &job, options(&job, Mode::Reprocess, 2, 1_000));
    world.log().delete_topic(TOPIC).unwrap();
    world.log().create_topic(TOPIC, 2, Retention::default()).unwrap();
    world.writer().append(&log, &log.ends());
    let error = refusal(&world, &job, options(&job, Mode::Live, 2, 1_000));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "topic_recreated"));
}

#[test]
fn another_domain_is_refused_and_an_unfinished_reprocess_is_no_live_table() {
    let job = Job { bad: "fail", ..job() };
    let log = generate(6, Shape { records: 400, partitions: 2, bad: true });
    let world = World::with(&log);
    let run = start(job.plan(), options(&job, Mode::Reprocess, 2, 1_000), world.settings.clone()).unwrap();
    assert_eq!(run.report().unwrap_err().code(), "bad_record");
    let floor = RunOptions { from: Some("2026-04-21".into()), ..options(&job, Mode::Reprocess, 2, 1_000) };
    assert_eq!(refusal(&world, &job, floor).code(), "other_domain");
    assert_eq!(refusal(&world, &job, options(&job, Mode::Live, 2, 1_000)).code(), "unfinished");
}

/// `fail` stops at the record and says where; with another policy the same version goes on.
#[test]
fn a_bad_record_stops_the_job_and_another_policy_goes_on() {
    let failing = Job::new(&[Output::Wide, Output::Rows], "keep", "fail");
    let log = generate(7, Shape { records: 900, partitions: 1, bad: true });
    let world = World::with(&log);
    let few = RunOptions { batch_records: Some(8), ..options(&failing, Mode::Reprocess, 2, 1) };
    let run = start(failing.plan(), few.clone(), world.settings.clone()).unwrap();
    let error = run.report().unwrap_err();
    let first = log.partitions[0].iter().position(|record| record.fault != Fault::None).unwrap();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Data, "bad_record"));
    let text = error.to_string();
    for part in [format!("topic={TOPIC}"), "partition=0".into(), format!("offset={first}"), "on_bad_record".into()] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let skipping = Job { bad: "skip", ..failing };
    world.check(&log, &skipping, &Domain::whole(&log), "stopped at a bad record");
    assert_eq!(self::run(&world, &skipping, few), Outcome::Complete);
    world.check_end(&log, &skipping, &Domain::whole(&log), "skipped");
}

/// Records that were deleted before they were read are a gap, and never skipped in silence.
#[test]
fn a_gap_in_the_log_is_refused() {
    let job = job();
    let log = generate(8, Shape { records: 3_000, partitions: 1, bad: false });
    let world = World::new(1);
    world.log().delete_topic(TOPIC).unwrap();
    world.log().create_topic(TOPIC, 1, Retention { ms: Some(1_000), bytes: None }).unwrap();
    let mut writer = world.writer();
    writer.append(&log, &[100]);
    assert_eq!(run(&world, &job, options(&job, Mode::Reprocess, 2, 1_000)), Outcome::Complete);
    writer.append(&log, &log.ends());
    drop(writer);
    world.log().enforce_retention(log.partitions[0].last().unwrap().timestamp + 10 * 86_400_000).unwrap();
    let error = refusal(&world, &job, options(&job, Mode::Live, 2, 1_000));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "retention_gap"));
    assert_eq!(world.check(&log, &job, &Domain::whole(&log), "after the refusal"), Some(vec![100]));
}

/// State that another release wrote in another form is not read as if it were this one's.
#[test]
fn state_of_another_form_is_refused() {
    let (log, job) = (log(), job());
    let world = World::with(&log);
    run(&world, &job, options(&job, Mode::Reprocess, 2, 1_000));
    let mut manifest = world.newest_manifest();
    manifest.operators[0].hash_seed ^= 1;
    let dir = world.versions().pop().unwrap().join("manifests");
    let file = dir.join(format!("{:020}.manifest", manifest.checkpoint.0));
    std::fs::write(file, manifest.encode().unwrap().0).unwrap();
    let error = refusal(&world, &job, options(&job, Mode::Live, 2, 1_000));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "state_format"));
    world.check_end(&log, &job, &Domain::whole(&log), "after the refusal");
}

/// Checkpoints that were put back from a copy are behind the table: going on from them would skip what they make again.
#[test]
fn an_older_copy_of_the_checkpoints_is_refused() {
    let (log, job) = (log(), job());
    let world = World::new(2);
    let half: Vec<i64> = log.ends().iter().map(|end| end / 2).collect();
    world.writer().append(&log, &half);
    run(&world, &job, options(&job, Mode::Reprocess, 2, 1_000));
    let manifests = world.versions().pop().unwrap().join("manifests");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    let backup = world.dir.path().join("backup");
    copy(&manifests, &backup);
    world.writer().append(&log, &log.ends());
    let live = start(job.plan(), options(&job, Mode::Live, 2, 1), world.settings.clone()).unwrap();
    wait_for("the end of the log", || world.is_at(&job, &log.ends()));
    live.request_stop();
    live.report().unwrap();
    std::fs::remove_dir_all(&manifests).unwrap();
    copy(&backup, &manifests);
    let error = refusal(&world, &job, options(&job, Mode::Live, 2, 1_000));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "old_checkpoints"));
    world.check_end(&log, &job, &Domain::whole(&log), "after the refusal");
}
