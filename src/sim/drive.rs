//! The lives of a seed, one after the other, what is appended meanwhile, and what holds after each.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use kappa::error::{Error, ErrorKind, Result};
use kappa::job::{Outcome, Report};

use super::end;
use super::keeper::{DEAD, FAULT, Keeper};
use super::life::Life;
use super::script::{End, LifePlan, Script};
use crate::support::foreign;
use crate::support::oracle::Domain;
use crate::support::world::{World, Writer, wait_for};

/// What a seed came to.
pub struct Ran {
    /// The hash of its end state.
    pub end: String,
    /// The script, and what happened.
    pub story: String,
    pub lives: usize,
    /// The faults that were met, without their numbers.
    pub met: Vec<String>,
}

/// Runs a seed. An error says what went wrong, with all that helps to find out why.
pub fn run_seed(seed: u64) -> std::result::Result<Ran, String> {
    let script = Script::of(seed);
    let (happened, met) = (Mutex::new(String::new()), Mutex::new(Vec::new()));
    let outcome = catch_unwind(AssertUnwindSafe(|| Sim::new(&script, &happened, &met).run()));
    let happened = happened.into_inner().unwrap_or_default();
    let story = format!("the script\n{script}\nwhat happened\n{happened}");
    let met = met.into_inner().unwrap_or_default();
    let ran = outcome.map(|end| Ran { end, story: story.clone(), lives: script.lives.len(), met });
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        format!(
            "SEED {seed} FAILED: {text}\n\n{story}\n\
             run it again: KAPPA_SIM_SEED={seed} KAPPA_SIM_REPEAT=20 cargo test --release --test rust sim::seeds"
        )
    })
}

struct Sim<'a> {
    script: &'a Script,
    world: Arc<World>,
    writer: Writer,
    whole: Domain,
    happened: &'a Mutex<String>,
    met: &'a Mutex<Vec<String>>,
    /// What other tools set last.
    touched: Touched,
}

type Touched = Arc<Mutex<Option<String>>>;

/// What was seen of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Ended,
    Frozen,
    AtGoal,
}

/// A life that a successor takes over from.
struct Former {
    number: usize,
    life: Life,
    late: bool,
}

impl<'a> Sim<'a> {
    fn new(script: &'a Script, happened: &'a Mutex<String>, met: &'a Mutex<Vec<String>>) -> Self {
        let world = Arc::new(World::new(script.log.partitions.len()));
        let writer = world.writer();
        Self { script, world, writer, whole: Domain::whole(&script.log), happened, met, touched: Touched::default() }
    }

    fn run(mut self) -> String {
        let script = self.script;
        let mut former: Option<Former> = None;
        for (number, plan) in script.lives.iter().enumerate() {
            let life = self.begin(number, plan, former.is_some());
            let seen = self.watch(&life, plan, former.as_ref());
            let claimed = life.runs();
            // The next life takes over from one that is frozen, or that was to be taken over.
            let kept = match (seen, plan.end) {
                (Seen::Frozen, End::TakenOver { late }) | (Seen::AtGoal, End::TakenOver { late }) => {
                    Some(Former { number, life, late })
                }
                _ => {
                    self.end(number, plan, life, seen, former.is_some());
                    None
                }
            };
            if let Some(former) = former.take() {
                self.part(former, claimed);
            }
            if seen != Seen::Frozen {
                self.world.check(&script.log, &script.job, &self.whole, &format!("after life {number}"));
            }
            former = kept;
        }
        let touched = self.world.property(&script.job.table(0), foreign::PROPERTY);
        assert_eq!(touched, *self.touched.lock().unwrap(), "what another tool had done is gone");
        end::check(script, &self.world, &self.whole)
    }

    fn begin(&self, number: usize, plan: &LifePlan, take_over: bool) -> Life {
        let (world, table, touched) = (self.world.clone(), self.script.job.table(0), self.touched.clone());
        let rival = move || {
            let mut touched = touched.lock().unwrap();
            let now = foreign::touch(&world.dir.path().join("catalog.db"), &world.catalog(), &table);
            *touched = now.or(touched.take());
        };
        let keeper = Arc::new(Keeper::new(&plan.faults, Box::new(rival)));
        self.note(&format!("life {number} begins{}", if take_over { ", and takes over" } else { "" }));
        Life::begin(self.script.job.plan(), plan, take_over, self.world.settings.clone(), keeper)
    }

    /// Appends what the life is to read, until it is at its goal or did not get there.
    fn watch(&mut self, life: &Life, plan: &LifePlan, former: Option<&Former>) -> Seen {
        let (mut appended, mut seen) = (0, None);
        wait_for("a life to reach its goal", || {
            if let Some(former) = former.filter(|former| !former.late && life.runs()) {
                former.life.keeper.thaw();
            }
            let reached = appended == 0 || self.is_at(&plan.slices[appended - 1]);
            seen = if life.has_ended() {
                Some(Seen::Ended)
            } else if life.keeper.is_frozen() {
                Some(Seen::Frozen)
            } else if reached && appended == plan.slices.len() && life.runs() {
                Some(Seen::AtGoal)
            } else {
                None
            };
            if appended < plan.slices.len() && (reached || !plan.in_step) {
                self.writer.append(&self.script.log, &plan.slices[appended]);
                appended += 1;
            }
            seen.is_some()
        });
        seen.unwrap()
    }

    fn is_at(&self, position: &[i64]) -> bool {
        let (world, job) = (&self.world, &self.script.job);
        let nothing = position.iter().all(|offset| *offset == 0);
        nothing && world.position(&job.table(0)).is_none() || world.is_at(job, position)
    }

    /// Ends a life that nobody takes over from.
    fn end(&self, number: usize, plan: &LifePlan, life: Life, seen: Seen, took_over: bool) {
        match plan.end {
            End::Stop if seen == Seen::AtGoal => life.stop(),
            _ => life.abort(),
        }
        wait_for("a life to end", || life.has_ended());
        let (claimed, keeper) = (life.runs(), life.keeper.clone());
        let outcome = life.outcome();
        self.tell(number, &keeper, seen, &outcome);
        match outcome {
            Ok(report) if seen == Seen::AtGoal && plan.end == End::Stop => assert_eq!(report.outcome, Outcome::Stopped),
            Ok(_) => assert_eq!(seen, Seen::AtGoal, "life {number} ended by itself"),
            Err(error) => {
                // Two that want one version: one of them loses, and before it has it that may be the second.
                let lost = took_over && !claimed && error.kind() == ErrorKind::Conflict;
                assert!(lost || self.is_of_a_fault(&keeper, &error), "life {number} ended with {error:?}");
            }
        }
    }

    /// A life that was taken over finds out, and has changed nothing.
    fn part(&self, former: Former, claimed: bool) {
        let Former { number, life, .. } = former;
        life.keeper.thaw();
        // It finds out at the latest when it has something to publish.
        life.stop();
        wait_for("a life that was taken over to end", || life.has_ended());
        let keeper = life.keeper.clone();
        let outcome = life.outcome();
        self.tell(number, &keeper, Seen::Ended, &outcome);
        match outcome {
            Ok(_) => assert!(!claimed, "life {number} was taken over and did not find out"),
            Err(error) => {
                let found_out = error.kind() == ErrorKind::Conflict;
                assert!(found_out || self.is_of_a_fault(&keeper, &error), "life {number}, taken over, ended with {error:?}");
            }
        }
    }

    /// Whether an error is one that the keeper made, or what comes of it: never a bug, and no damage.
    fn is_of_a_fault(&self, keeper: &Keeper, error: &Error) -> bool {
        let known = error.code() == FAULT || error.code() == DEAD;
        known || keeper.is_dead() && !matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corruption)
    }

    fn tell(&self, number: usize, keeper: &Keeper, seen: Seen, outcome: &Result<Report>) {
        let met: Vec<String> = keeper.met().iter().map(ToString::to_string).collect();
        let kinds = keeper.met().into_iter().map(|fault| fault.kind());
        self.met.lock().unwrap().extend(kinds);
        let ended = match outcome {
            Ok(report) => format!("{:?} after checkpoint {}", report.outcome, report.checkpoints),
            Err(error) => format!("{error:?}"),
        };
        self.note(&format!("life {number} was seen {seen:?} and ended: {ended}; met: {met:?}"));
    }

    fn note(&self, text: &str) {
        let position = self.world.position(&self.script.job.table(0));
        let _ = writeln!(self.happened.lock().unwrap(), "  {text}; tables at {position:?}");
    }
}
