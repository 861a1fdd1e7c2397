//! Cases that no seed comes to: manifests that lie beside the chain, and a chain that lacks one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kappa::checkpoint::manifest::{Manifest, Mode};
use kappa::error::ErrorKind;
use kappa::job::Outcome;
use kappa::protocol::door::Act;

use super::keeper::{DEAD, Keeper};
use super::life::Life;
use super::script::{End, Fault, Kind, LifePlan, Spot, What};
use crate::support::data::Log;
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::oracle::Domain;
use crate::support::world::{World, options, wait_for};

/// A job over a log that is appended piece by piece.
struct Case {
    log: Log,
    job: Job,
    world: World,
    part: i64,
}

const PARTS: i64 = 300;

impl Case {
    fn new(seed: u64) -> Self {
        let log = generate(seed, Shape { records: 900, partitions: 2, bad: true });
        Self { log, job: Job::new(&[Output::Wide, Output::Rows], "keep", "skip"), world: World::new(2), part: 0 }
    }

    fn begin(&self, take_over: bool, faults: &[(Act, u64, What)]) -> Life {
        let fault = |&(act, number, what): &_| Fault { spot: Spot::Act(Kind::Engine(act), number), what };
        let faults: Vec<Fault> = faults.iter().map(fault).collect();
        let keeper = Arc::new(Keeper::new(&faults, Box::new(|| {})));
        let options = options(&self.job, Mode::Live, 2, 1);
        let plan = LifePlan { options, fetch: None, slices: vec![], in_step: false, faults, end: End::Abort };
        Life::begin(self.job.plan(), &plan, take_over, self.world.settings.clone(), keeper)
    }

    /// Appends piece by piece until something has happened.
    fn append_until(&mut self, what: &str, mut happened: impl FnMut() -> bool) {
        let mut writer = self.world.writer();
        wait_for(what, || {
            self.part = (self.part + 1).min(PARTS);
            let upto: Vec<i64> = self.log.ends().iter().map(|end| end * self.part / PARTS).collect();
            writer.append(&self.log, &upto);
            std::thread::sleep(Duration::from_millis(20));
            happened()
        });
    }

    fn died(life: Life) {
        wait_for("a life to end", || life.has_ended());
        let error = life.outcome().unwrap_err();
        assert_eq!(error.code(), DEAD, "{error:?}");
    }

    fn manifests(&self) -> PathBuf {
        self.world.versions().remove(0).join("manifests")
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.manifests().join(format!("{number:020}.manifest"))
    }

    /// A life without faults comes to the end of the log, and all is right.
    fn check(self) {
        let life = self.begin(false, &[]);
        wait_for("the last life to run", || life.runs() || life.has_ended());
        if self.part < PARTS {
            self.world.writer().append(&self.log, &self.log.ends());
        }
        wait_for("the end of the log", || life.has_ended() || self.world.is_at(&self.job, &self.log.ends()));
        life.stop();
        wait_for("the last life to end", || life.has_ended());
        assert_eq!(life.outcome().unwrap().outcome, Outcome::Stopped);
        let whole = Domain::whole(&self.log);
        self.world.check_end(&self.log, &self.job, &whole, "in the end");
        self.world.check_chain();
        self.world.assert_tidy("in the end");
    }
}

/// It is stopped before it publishes, three take the version over, and none of them gets further than that; then it goes on,
/// finds its number free, and is gone before it can look behind itself.
#[test]
fn what_a_process_of_the_past_published_is_not_delivered() {
    let mut case = Case::new(41);
    let first = case.begin(false, &[(Act::Publish, 4, What::Freeze)]);
    case.append_until("the first to freeze", || first.keeper.is_frozen());
    for _ in 0..3 {
        Case::died(case.begin(true, &[(Act::Clear, 1, What::Die)]));
    }
    let stray = case.manifest(3);
    assert!(!stray.exists(), "the first claim is cleared away");
    first.keeper.thaw_until(Kind::Engine(Act::Look));
    Case::died(first);
    let stray = Manifest::decode(&std::fs::read(stray).unwrap()).unwrap().manifest;
    assert!(stray.owner == 1 && !stray.claim && stray.outputs.iter().any(|output| !output.files.is_empty()));
    case.check();
}

/// Of manifests that are durable and not delivered, one is taken out: what it lists would be skipped in silence.
#[test]
fn a_chain_that_lacks_what_was_not_delivered_is_refused() {
    let mut case = Case::new(42);
    // After the first commit the catalog is away.
    let away: Vec<_> = (2..500).map(|number| (Act::Swap, number, What::Fail)).collect();
    let first = case.begin(false, &away);
    wait_for("the version", || !case.world.versions().is_empty());
    let last = case.manifest(5);
    case.append_until("manifests that wait", || last.exists());
    first.abort();
    wait_for("the first to end", || first.has_ended());
    let (lost, aside) = (case.manifest(4), case.manifests().join("aside"));
    std::fs::rename(&lost, &aside).unwrap();
    for _ in 0..2 {
        let life = case.begin(false, &[]);
        wait_for("the refusal", || life.has_ended());
        let error = life.outcome().unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corruption, "manifest_missing"), "{error:?}");
        assert!(error.to_string().contains("manifest 4 is missing"), "{error}");
    }
    std::fs::rename(&aside, &lost).unwrap();
    case.check();
}
