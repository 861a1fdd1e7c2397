//! Hostile bytes, by the thousand: seeded changes of good inputs for each target of `targets`.
//!
//! Each target runs in a process of its own whose address space is limited, so that a length which is believed is an abort; an
//! input that takes half a minute is a hang. `make test` runs a share that is the same every time, seconds long. More:
//!
//! ```text
//! KAPPA_FUZZ_SECONDS=600 cargo test --release --test rust fuzz     ten minutes each, from a new seed
//! KAPPA_FUZZ_SEED=7 …                                              the same inputs again
//! KAPPA_FUZZ_INPUT=FILE cargo test --release --test rust fuzz::json    one input
//! KAPPA_FUZZ_CORPUS=fuzz/corpus …                                  writes the seeds there, for libFuzzer (see fuzz/README.md)
//! ```

mod mutate;
mod targets;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use kappa::time::{instant, now_ms};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use mutate::{Random, mutate};
use targets::Target;

/// What a child runs.
const TARGET: &str = "KAPPA_FUZZ_TARGET";
/// Address space beyond what is taken at the start: the greatest batch once unpacked, with room, and what it is unpacked from.
const ADDRESS_SPACE: u64 = 1 << 30;
const HANG: Duration = Duration::from_secs(30);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

/// Runs a target in a process of its own.
fn fuzz(name: &str) {
    let current = targets::memory().join(format!("kappa-fuzz-{name}-{}", std::process::id()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "fuzz::child", "--nocapture", "--test-threads=1"])
        .env(TARGET, name)
        .env("KAPPA_FUZZ_CURRENT", &current);
    let output = command.output().unwrap();
    if output.status.success() {
        let _ = std::fs::remove_file(&current);
        return;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    panic!("{name}: {}; the input is in {}\n{text}", output.status, current.display());
}

macro_rules! tests {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            fuzz(stringify!($name));
        }
    )*};
}
tests!(json, log, batches, bombs, manifest, messages, plan, config, table);

/// Not a test: what a child does. Without a target it does nothing.
#[test]
fn child() {
    let Ok(name) = std::env::var(TARGET) else { return };
    let (target, _cleared) = (targets::named(&name), Cleared);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    if let Ok(corpus) = std::env::var("KAPPA_FUZZ_CORPUS") {
        return write_corpus(&PathBuf::from(corpus).join(target.name), &seeds);
    }
    limit_memory();
    let tries = Arc::new(AtomicU64::new(0));
    watch(tries.clone());
    match std::env::var("KAPPA_FUZZ_INPUT") {
        Ok(file) => (target.run)(&std::fs::read(file).unwrap()),
        Err(_) => try_many(target, &seeds, &tries),
    }
}

/// Removes the targets' files at the end, also when an input was the last.
struct Cleared;

impl Drop for Cleared {
    fn drop(&mut self) {
        targets::clear();
    }
}

fn try_many(target: &Target, seeds: &[Vec<u8>], tries: &AtomicU64) {
    let current = PathBuf::from(std::env::var("KAPPA_FUZZ_CURRENT").unwrap());
    let budget = number("KAPPA_FUZZ_SECONDS").map(Duration::from_secs);
    let seed = number("KAPPA_FUZZ_SEED").unwrap_or_else(|| budget.map_or(1, |_| now_ms().unsigned_abs()));
    eprintln!("{}: KAPPA_FUZZ_SEED={seed}", target.name);
    let (mut random, began) = (Random(seed), instant());
    let goes_on = |n: usize| target.quick > 0 && budget.map_or(n < target.quick, |budget| began.elapsed() < budget);
    let mut n = 0;
    // The seeds first: they must pass the target's own checks. A target without a share of its own has nothing but them.
    while n < seeds.len() || goes_on(n) {
        let input = seeds.get(n).cloned().unwrap_or_else(|| mutate(&mut random, seeds));
        std::fs::write(&current, &input).unwrap();
        (target.run)(&input);
        tries.fetch_add(1, SeqCst);
        n += 1;
    }
    eprintln!("{}: {n} inputs in {:.1?}", target.name, began.elapsed());
}

/// An abort is seen from outside; a length of gigabytes that is believed is one.
fn limit_memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let Some(size) = size else { return };
    let (current, maximum) = (Some(size * 1024 + ADDRESS_SPACE), getrlimit(Resource::As).maximum);
    setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
}

/// Ends the process when no input is done for long.
fn watch(tries: Arc<AtomicU64>) {
    std::thread::spawn(move || {
        loop {
            let before = tries.load(SeqCst);
            std::thread::sleep(HANG);
            if tries.load(SeqCst) == before {
                eprintln!("an input takes longer than {HANG:?}");
                std::process::abort();
            }
        }
    });
}

fn write_corpus(folder: &std::path::Path, seeds: &[Vec<u8>]) {
    std::fs::create_dir_all(folder).unwrap();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
    }
}
