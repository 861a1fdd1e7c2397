//! A seeded simulation: the real engine, in-process, over a faulty log, store and catalog.
//!
//! A **seed** is written out into a [`script::Script`]: a log, a job, and the *lives* of the job, one after the other, some of
//! them overlapping. A **life** is the engine as Python starts it (`job::prepare`, `job::start_prepared`), with all its
//! threads, over one temporary directory. In its doors (`protocol::door`, and the traits of `source`) stands a
//! [`keeper::Keeper`] that does what the script says: slows an act down, fails it, loses its reply, lets another tool change
//! the table in between, freezes the life, or ends it. A life that was ended finds every door shut: its threads run into
//! errors and are gone, and what was durable at that moment is what the next life finds. That is a crash without a process.
//! (Of power cuts nothing is said here, nor of the inside of an act: the crash tests kill real processes at named points.)
//!
//! After each life the **prefix property** holds: each table is what the oracle (`tests/rust/support/oracle.rs`, which calls
//! nothing of the engine) recomputes from the records up to the `kappa.offsets` of its snapshot, and so are its account and
//! its dead letters. Faults are for the lives of the script only. The **last life** has none and must reach the end of the log
//! (so faults may not leave anything stuck), after which the directories hold what two checkpoints need, and a sweep of the
//! tables leaves only files that they name.
//!
//! **What the seed decides**: the log, the job, the options of each life, what is appended in it, and where the faults are:
//! at the n-th act of a kind in a life, or at a record. **What it does not**: how the engine's threads interleave, how often a
//! source is polled and how many checkpoints a life makes, hence sometimes which checkpoint a fault meets, or whether it
//! meets any. **The end state does not depend on it**: rows, dead letters, positions and accounts are the same for the same
//! seed, which is tested by its hash. A seed that failed is run again many times with `KAPPA_SIM_REPEAT`.
//!
//! This is part of the tests (`tests/rust/main.rs`); the library is built without it. In reading order: [`script`],
//! [`keeper`], [`log`], [`life`], [`drive`], [`end`]; [`chain`] has cases that no seed comes to.

mod chain;
mod drive;
mod end;
mod keeper;
mod life;
mod log;
mod script;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use drive::{Ran, run_seed};
use kappa::time::instant;

/// Seeds that found something once.
const KEPT: &str = include_str!("../../tests/rust/kept_seeds");
/// How long the quick share goes on beginning seeds.
const SHARE: Duration = Duration::from_secs(15);
/// Seeds at a time: most of a life is waiting for a disk.
const SEEDS_AT_A_TIME: usize = 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs the seeds that `next` gives, several at a time, until one fails.
fn run_all(next: impl Fn() -> Option<u64> + Sync) -> Vec<(u64, Ran)> {
    let (ran, failures, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..SEEDS_AT_A_TIME {
            scope.spawn(|| {
                while let Some(seed) = next().filter(|_| !failed.load(SeqCst)) {
                    match run_seed(seed) {
                        Ok(this) => ran.lock().unwrap().push((seed, this)),
                        Err(failure) => {
                            failed.store(true, SeqCst);
                            failures.lock().unwrap().push(failure);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    ran.into_inner().unwrap()
}

/// `KAPPA_SIM_SEED=17 KAPPA_SIM_REPEAT=50`, or `KAPPA_SIM_SEEDS=1000 KAPPA_SIM_FROM=5000`; else as many as fit.
#[test]
fn seeds() {
    let next = AtomicU64::new(0);
    let began = instant();
    let ran = if let Some(seed) = number("KAPPA_SIM_SEED") {
        let times = number("KAPPA_SIM_REPEAT").unwrap_or(1);
        run_all(|| (next.fetch_add(1, SeqCst) < times).then_some(seed))
    } else {
        let (from, seeds) = (number("KAPPA_SIM_FROM").unwrap_or(1), number("KAPPA_SIM_SEEDS"));
        run_all(|| {
            let done = next.fetch_add(1, SeqCst);
            seeds.map_or(began.elapsed() < SHARE, |seeds| done < seeds).then_some(from + done)
        })
    };
    if number("KAPPA_SIM_SEED").is_some() {
        ran.iter().for_each(|(_, ran)| eprintln!("{}", ran.story));
    }
    let lives: usize = ran.iter().map(|(_, ran)| ran.lives).sum();
    eprintln!("{} seeds, {lives} lives in {:.0?}; faults that were met:", ran.len(), began.elapsed());
    let mut met = BTreeMap::new();
    ran.iter().flat_map(|(_, ran)| &ran.met).for_each(|kind| *met.entry(kind).or_insert(0) += 1);
    met.iter().for_each(|(kind, times)| eprintln!("{times:6}  {kind}"));
}

#[test]
fn kept_seeds() {
    let lines = KEPT.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    let seeds: Vec<u64> = lines.map(|line| line.parse().unwrap_or_else(|_| panic!("{line:?} is not a seed"))).collect();
    let next = AtomicU64::new(0);
    run_all(|| seeds.get(next.fetch_add(1, SeqCst) as usize).copied());
}

#[test]
fn the_same_seed_gives_the_same_end_state() {
    let run = || {
        let next = AtomicU64::new(100_001);
        let ran = run_all(|| Some(next.fetch_add(1, SeqCst)).filter(|seed| *seed <= 100_004));
        ran.into_iter().map(|(seed, ran)| (seed, ran.end)).collect::<BTreeMap<_, _>>()
    };
    let ends = run();
    assert_eq!(ends, run());
    let different: std::collections::BTreeSet<_> = ends.values().collect();
    assert_eq!(different.len(), ends.len(), "what is compared says nothing: {ends:?}");
}
