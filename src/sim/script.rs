//! A seed, written out: everything that it decides, in words that can be read when it fails.

use std::fmt;

use kappa::checkpoint::manifest::Mode;
use kappa::job::RunOptions;
use kappa::protocol::door::Act;
use kappa::table::Settings;
use kappa::table::expiry::Retention;
use kappa::table::maintenance::Policy;
use std::time::Duration;

use crate::support::data::{Log, Random};
use crate::support::generate::{Shape, generate};
use crate::support::jobs::{Job, Output};
use crate::support::world::options;

/// What a life does to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogAct {
    /// Asks how far it goes.
    Extents,
    /// Opens a partition.
    Open,
    /// Asks whether it is still the same.
    Verify,
}

/// An act at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of the store, the staged files or the catalog.
    Engine(Act),
    /// Of the log.
    Log(LogAct),
}

/// Where in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot {
    /// At the n-th act of a kind, from 1.
    Act(Kind, u64),
    /// Where a partition's record of this offset is fetched.
    Record(i32, i64),
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It takes so many milliseconds.
    Slow(u64),
    /// It is not done, and that is an error which passes.
    Fail,
    /// It is done, and the reply is an error which passes.
    LoseReply,
    /// Another tool changes the first table just before.
    Rival,
    /// The life ends before it is done.
    Die,
    /// The life ends after it is done.
    DieAfter,
    /// Every thread stops at its next door, as under SIGSTOP, until another life has taken over.
    Freeze,
    /// The same, after it is done.
    FreezeAfter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub spot: Spot,
    pub what: What,
}

/// How a life ends that reaches its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After a last checkpoint.
    Stop,
    /// At once.
    Abort,
    /// The next life takes over while it runs, or is frozen.
    TakenOver {
        /// A frozen one goes on when its successor has ended, and not as soon as that runs.
        late: bool,
    },
}

/// One life.
#[derive(Clone, Debug)]
pub struct LifePlan {
    pub options: RunOptions,
    /// Bytes that a fetch asks for at most.
    pub fetch: Option<usize>,
    /// What is appended while it lives, up to which positions, one after the other.
    pub slices: Vec<Vec<i64>>,
    /// Each only when what was appended before is in the tables.
    pub in_step: bool,
    pub faults: Vec<Fault>,
    pub end: End,
}

/// A seed, written out.
pub struct Script {
    pub seed: u64,
    pub log: Log,
    pub job: Job,
    /// The last of them has no faults.
    pub lives: Vec<LifePlan>,
}

impl Script {
    pub fn of(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1));
        let records = random.pick(&[60, 250, 250, 700]);
        let log = generate(random.next(), Shape { records, partitions: 1 + random.below(4) as usize, bad: true });
        let all = [Output::Wide, Output::Daily, Output::Nested, Output::Rows];
        let mut outputs: Vec<Output> = all.into_iter().filter(|_| random.once_in(2)).collect();
        if outputs.is_empty() {
            outputs.push(random.pick(&all));
        }
        let job = Job::new(&outputs, random.pick(&["keep", "drop", "dead_letter"]), random.pick(&["skip", "dead_letter"]));
        let mode = if random.once_in(3) { Mode::Reprocess } else { Mode::Live };
        let lives = 2 + random.below(4);
        let mut at = vec![0; log.partitions.len()];
        let mut plans = Vec::new();
        for life in 0..lives {
            let until = life as i64 + 1;
            let goal: Vec<i64> = log.ends().iter().map(|end| end * until / lives as i64).collect();
            let slices = slices(&mut random, &at, &goal);
            let mut plan = life_plan(&mut random, &job, mode, slices);
            if until == lives as i64 {
                // The last life is alone.
                plan.end = End::Abort;
            }
            plan.faults = faults(&mut random, &at, &goal, plan.end);
            plans.push(plan);
            at = goal;
        }
        let mut last = life_plan(&mut random, &job, mode, vec![at]);
        last.end = End::Stop;
        plans.push(last);
        Self { seed, log, job, lives: plans }
    }
}

fn life_plan(random: &mut Random, job: &Job, mode: Mode, slices: Vec<Vec<i64>>) -> LifePlan {
    let options = RunOptions {
        follow: mode == Mode::Reprocess,
        memory_bytes: random.pick(&[1, 32 << 20]),
        batch_records: random.pick(&[None, Some(1), Some(7), Some(64)]),
        tables: tables(random),
        ..options(job, mode, 1 + random.below(3) as usize, random.pick(&[1, 1, 3, 20]))
    };
    let end = match random.below(6) {
        1 => End::Stop,
        2 | 3 => End::TakenOver { late: random.once_in(2) },
        // Whatever does not kill it: the faults of most lives do.
        _ => End::Abort,
    };
    LifePlan {
        options,
        fetch: random.pick(&[None, Some(1), Some(900)]),
        slices,
        in_step: random.once_in(2),
        faults: vec![],
        end,
    }
}

/// Limits under which there is always something to merge and to remove, or those of production.
fn tables(random: &mut Random) -> Settings {
    let rewrite_below = random.pick(&[0, 8 << 20]);
    if random.once_in(3) {
        return Settings { rewrite_below, ..Settings::default() };
    }
    let retention = Retention { all: Duration::ZERO, hourly: Duration::ZERO, at_least: 1 };
    let compaction = Policy { smallest: 256, fan_in: 2, ..Policy::default() };
    Settings { rewrite_below, merge_deletes_at: 3, retention, compaction, ..Settings::default() }
}

/// From one position to another in a few steps.
fn slices(random: &mut Random, from: &[i64], to: &[i64]) -> Vec<Vec<i64>> {
    let steps = 1 + random.below(8) as i64;
    let step = |n: i64| from.iter().zip(to).map(|(from, to)| from + (to - from) * n / steps).collect();
    (1..=steps).map(step).collect()
}

fn faults(random: &mut Random, from: &[i64], to: &[i64], end: End) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..random.below(4) {
        let spot = spot(random, from, to, false);
        let what = match random.below(6) {
            0 | 1 => What::Slow(random.below(40)),
            2 | 3 => What::LoseReply,
            4 if spot_is(spot, Act::Swap) => What::Rival,
            _ => What::Fail,
        };
        faults.push(Fault { spot, what });
    }
    for _ in 0..random.below(3) {
        let spot = Spot::Act(Kind::Engine(Act::Swap), 1 + random.below(6));
        faults.push(Fault { spot, what: random.pick(&[What::Rival, What::LoseReply]) });
    }
    let what = match end {
        End::TakenOver { .. } if random.once_in(3) => return faults,
        End::TakenOver { .. } => random.pick(&[What::Freeze, What::FreezeAfter]),
        _ if random.once_in(4) => return faults,
        _ => random.pick(&[What::Die, What::DieAfter]),
    };
    faults.push(Fault { spot: spot(random, from, to, matches!(end, End::TakenOver { .. })), what });
    faults
}

fn spot_is(spot: Spot, act: Act) -> bool {
    matches!(spot, Spot::Act(Kind::Engine(at), _) if at == act)
}

/// Somewhere in a life; with `claimed` not before the version is its own.
fn spot(random: &mut Random, from: &[i64], to: &[i64], claimed: bool) -> Spot {
    let act = |random: &mut Random, act, most| Spot::Act(Kind::Engine(act), 1 + random.below(most));
    let log = |random: &mut Random, act, most| Spot::Act(Kind::Log(act), 1 + random.below(most));
    match random.below(if claimed { 12 } else { 20 }) {
        0 | 1 => Spot::Act(Kind::Engine(Act::Publish), 2 + random.below(7)),
        2..=4 => act(random, Act::Swap, 9),
        5 | 6 => act(random, Act::Stage, 16),
        7 => act(random, Act::State, 7),
        8 => act(random, Act::Forget, 6),
        9 => log(random, LogAct::Verify, 7),
        10 | 11 => {
            let partition = random.below(from.len() as u64) as usize;
            let records = (to[partition] - from[partition]).max(1) as u64;
            Spot::Record(partition as i32, from[partition] + random.below(records) as i64)
        }
        12 => Spot::Act(Kind::Engine(Act::Publish), 1),
        13 => act(random, Act::Claim, 1),
        14 => act(random, Act::Create, 4),
        15 => act(random, Act::Look, 8),
        16 => act(random, Act::Find, 30),
        17 => act(random, Act::Lock, 1),
        18 => act(random, Act::Clear, 1),
        _ => {
            let kind = random.pick(&[LogAct::Extents, LogAct::Open]);
            log(random, kind, 4)
        }
    }
}

impl Fault {
    /// Without its numbers.
    pub fn kind(&self) -> String {
        let place = match self.spot {
            Spot::Act(kind, _) => kind.to_string(),
            Spot::Record(..) => "record".to_owned(),
        };
        let what = if let What::Slow(_) = self.what { "slow".to_owned() } else { self.what.to_string() };
        format!("{place}: {what}")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(act) => write!(f, "{act:?}"),
            Self::Log(act) => write!(f, "log {act:?}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.spot {
            Spot::Act(kind, n) => write!(f, "{kind} {n}: {}", self.what),
            Spot::Record(partition, offset) => write!(f, "record {partition}:{offset}: {}", self.what),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(ms) => write!(f, "takes {ms} ms"),
            Self::Fail => f.write_str("fails"),
            Self::LoseReply => f.write_str("is done, and the reply is lost"),
            Self::Rival => f.write_str("another tool changes the table just before"),
            Self::Die => f.write_str("dies before it"),
            Self::DieAfter => f.write_str("dies after it"),
            Self::Freeze => f.write_str("freezes before it"),
            Self::FreezeAfter => f.write_str("freezes after it"),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Job { outputs, late, bad } = &self.job;
        writeln!(f, "seed {}: {outputs:?}, late={late}, bad={bad}, a log that ends at {:?}", self.seed, self.log.ends())?;
        for (number, life) in self.lives.iter().enumerate() {
            let RunOptions { mode, parallelism, checkpoint_interval_ms, memory_bytes, batch_records, tables, .. } =
                &life.options;
            writeln!(
                f,
                "  life {number}: {mode:?}, parallelism {}, checkpoints each {checkpoint_interval_ms} ms, memory {memory_bytes}, \
                 batches of {batch_records:?}, fetches of {:?}, tables {} and rewritten below {}; appends {:?}{}; then {:?}",
                parallelism.unwrap_or_default(),
                life.fetch,
                if tables.retention.at_least == 1 { "merged and cleaned" } else { "left alone" },
                tables.rewrite_below,
                life.slices,
                if life.in_step { " in step" } else { "" },
                life.end,
            )?;
            life.faults.iter().try_for_each(|fault| writeln!(f, "    {fault}"))?;
        }
        Ok(())
    }
}
