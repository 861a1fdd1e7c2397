//! What holds for the embedded log holds for a real Kafka cluster: reprocess == live == batch recomputation.

use kappa::checkpoint::manifest::Mode;
use kappa::job::{Outcome, RunOptions, start};
use proptest::prelude::*;

use crate::properties::{Case, begin, cases, config, finish, stop_at};
use crate::support::cluster;
use crate::support::data::Random;
use crate::support::oracle::Domain;
use crate::support::world::World;

proptest! {
    #![proptest_config(config(6))]

    #[test]
    fn a_reprocess_of_a_topic_is_the_batch_recomputation(case in cases()) {
        let Some(address) = cluster::address() else { return Ok(()) };
        let log = case.log();
        let world = World::on_kafka(&address, case.partitions);
        world.kafka_writer().append(&log, &log.ends());
        let report = finish(&world, &case.job, case.options(Mode::Reprocess));
        prop_assert_eq!(report.outcome, Outcome::Complete);
        world.check_end(&log, &case.job, &Domain::whole(&log), "reprocess");
        world.check_history(&log, &case.job, &Domain::whole(&log));
    }

    #[test]
    fn stops_and_aborts_at_any_moment_change_nothing(case in cases()) {
        let Some(address) = cluster::address() else { return Ok(()) };
        let log = case.log();
        let (world, whole) = (World::on_kafka(&address, case.partitions), Domain::whole(&log));
        world.kafka_writer().append(&log, &log.ends());
        interrupted(&case, &world, &log, &whole)?;
        world.check_end(&log, &case.job, &whole, "in the end");
    }

    #[test]
    fn a_live_run_over_a_growing_topic_is_the_batch_recomputation(case in cases()) {
        let Some(address) = cluster::address() else { return Ok(()) };
        let log = case.log();
        let world = World::on_kafka(&address, case.partitions);
        let mut random = Random(case.seed ^ 1);
        let mut upto: Vec<i64> = log.ends().iter().map(|end| random.between(0, *end)).collect();
        let mut writer = world.kafka_writer();
        writer.append(&log, &upto);
        let live = RunOptions { checkpoint_interval_ms: case.interval_ms.min(50), ..case.options(Mode::Live) };
        let mut run = begin(&world, &case.job, live);
        while upto != log.ends() {
            upto = upto.iter().zip(log.ends()).map(|(now, end)| random.between(*now, end).min(now + 300)).collect();
            writer.append(&log, &upto);
            if random.once_in(4) {
                // The process ends without a word, and another goes on.
                run.abort();
                run.report().unwrap();
                run = begin(&world, &case.job, RunOptions { checkpoint_interval_ms: 10, ..case.restart(Mode::Live) });
            }
        }
        if log.ends().iter().any(|end| *end > 0) {
            stop_at(&world, &case.job, &run, &log.ends());
        } else {
            run.request_stop();
            run.report().unwrap();
        }
        world.check_end(&log, &case.job, &Domain::whole(&log), "live");
    }
}

/// Runs a job that is stopped or aborted at any moment until it is complete; the tables are right after each.
fn interrupted(case: &Case, world: &World, log: &crate::support::data::Log, whole: &Domain) -> Result<(), TestCaseError> {
    let mut random = Random(case.seed ^ 2);
    for attempt in 0.. {
        let settings = if attempt % 2 == 0 { case.options(Mode::Reprocess) } else { case.restart(Mode::Reprocess) };
        let run = match start(world.plan(&case.job), settings, world.settings.clone()) {
            Ok(run) => run,
            Err(error) => {
                prop_assert_eq!(error.code(), "finished");
                break;
            }
        };
        if attempt < 5 {
            std::thread::sleep(std::time::Duration::from_millis(random.below(150)));
            if random.once_in(2) { run.abort() } else { run.request_stop() }
        }
        let complete = run.report().unwrap().outcome == Outcome::Complete;
        world.check(log, &case.job, whole, &format!("attempt {attempt}"));
        if complete {
            break;
        }
    }
    Ok(())
}
