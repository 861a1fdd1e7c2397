//! One life: the engine, started as Python starts it, in a thread of its own, since even its start may freeze.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use kappa::config::Settings;
use kappa::error::Result;
use kappa::job::prepare::prepare;
use kappa::job::{Report, RunOptions, start_prepared};
use kappa::plan::logical::JobPlan;
use kappa::protocol::door::Door;
use kappa::source::LogSource;

use super::keeper::Keeper;
use super::log::FaultyLog;
use super::script::LifePlan;

const NOTHING: u8 = 0;
const STOP: u8 = 1;
const ABORT: u8 = 2;

/// A life that goes on until it ends by itself or is asked to.
pub struct Life {
    pub keeper: Arc<Keeper>,
    /// Whether the version is its own: its start has returned.
    runs: Arc<AtomicBool>,
    wish: Arc<AtomicU8>,
    thread: JoinHandle<Result<Report>>,
}

impl Life {
    pub fn begin(plan: JobPlan, life: &LifePlan, take_over: bool, settings: Settings, keeper: Arc<Keeper>) -> Self {
        let options = RunOptions { take_over, ..life.options.clone() };
        let (fetch, wish, runs) = (life.fetch, Arc::new(AtomicU8::new(NOTHING)), Arc::default());
        let (kept, asked, told) = (keeper.clone(), wish.clone(), Arc::clone(&runs));
        let live = move || live(plan, options, &settings, fetch, &kept, &asked, &told);
        Self { keeper, runs, wish, thread: std::thread::spawn(live) }
    }

    /// Asks for a last checkpoint and the end.
    pub fn stop(&self) {
        self.wish.store(STOP, SeqCst);
    }

    /// Asks for the end.
    pub fn abort(&self) {
        self.wish.store(ABORT, SeqCst);
    }

    pub fn runs(&self) -> bool {
        self.runs.load(SeqCst)
    }

    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// What it said at its end.
    pub fn outcome(self) -> Result<Report> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn live(
    plan: JobPlan,
    options: RunOptions,
    settings: &Settings,
    fetch: Option<usize>,
    keeper: &Arc<Keeper>,
    wish: &AtomicU8,
    runs: &AtomicBool,
) -> Result<Report> {
    let mut prepared = prepare(plan, &options, settings)?.behind(Door::kept_by(keeper.clone()));
    for log in &mut prepared.sources {
        let faulty = FaultyLog { log: log.clone(), keeper: keeper.clone(), fetch };
        *log = Arc::new(faulty) as Arc<dyn LogSource>;
    }
    let run = start_prepared(prepared, options)?;
    runs.store(true, SeqCst);
    while !run.is_finished() {
        match wish.load(SeqCst) {
            STOP => run.request_stop(),
            ABORT => run.abort(),
            _ => {}
        }
        run.next_event(Duration::from_millis(2));
    }
    run.report()
}
