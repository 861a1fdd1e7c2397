//! One thread that gathers facts, asks the protocol, and acts: begins barriers, collects acknowledgements, takes the
//! state's checkpoint, publishes the manifest, and hands it to the committer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, select};

use super::committer::{Committer, Confirmed, News};
use super::gc::Kept;
use super::manifest::{Manifest, Mode, PartitionState, Sealed, SourceState, UNKNOWN_EPOCH};
use super::rendezvous::Host;
use super::store::{VersionDir, VersionLock, taken_over};
use crate::error::{Error, Result};
use crate::message::{Epoch, Offset, Partition};
use crate::protocol::checkpoint::{
    Ack, BarrierDecision, BarrierFacts, Command, MemoryUse, Report, StagedContent, StagedFile, decide_barrier,
};
use crate::protocol::event_time::{PartitionTime, TimeBounds, closed, visible};
use crate::protocol::failpoint;
use crate::protocol::progress::Adoption;
use crate::state::StateStore;
use crate::table::TableName;
use crate::table::retire::Retired;
use crate::table::serving::Trouble;
use crate::time::{instant, now_ms};

/// How long the loop waits for news.
const TICK: Duration = Duration::from_millis(20);

/// How often a job without anything to publish looks whether it still has the version.
const LOOK: Duration = Duration::from_secs(2);

/// How long an epoch lasts at most, beyond its interval, while the catalog or a cluster is away.
const OVERDUE: Duration = Duration::from_secs(10);

/// What others ask of a running job.
#[derive(Debug, Default)]
pub struct Control {
    /// A last checkpoint, then the end.
    pub stop: AtomicBool,
    /// The end, now. What was not checkpointed never happened.
    pub abort: AtomicBool,
}

/// A checkpoint that the tables have.
#[derive(Clone, Debug)]
pub struct CheckpointDone {
    /// Its number.
    pub checkpoint: Epoch,
    /// From the barrier's beginning until the catalog had it.
    pub duration: Duration,
    /// The longest time that a worker stood still for it.
    pub stall: Duration,
    /// Bytes of state on disk.
    pub state_bytes: u64,
    /// What is held in memory.
    pub memory: MemoryUse,
    /// Rows that it changed.
    pub rows_changed: u64,
    /// By source, the positions.
    pub positions: Vec<BTreeMap<Partition, Offset>>,
}

/// Who is told what happens.
pub trait Observer: Send {
    /// A checkpoint was committed.
    fn checkpoint(&self, done: CheckpointDone);
    /// A checkpoint is durable, but the catalog or a topic cannot have it now: it is tried again.
    fn delivery_waits(&self, checkpoint: Epoch, why: &Error);
    /// Files of a table cannot be merged or removed now, or its keys not be indexed: it grows, or commits take longer, and it is
    /// right.
    fn table_neglected(&self, table: &TableName, why: &Error);
    /// Something is wrong with a name that shows a table of the version, which goes on.
    fn name_in_trouble(&self, trouble: &Trouble);
    /// A promote has retired the version: the run ends.
    fn retired(&self, retired: &Retired);
    /// The position is at the end as it was frozen at the start; with `goes_on` the run does.
    fn caught_up(&self, goes_on: bool);
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The frozen end was reached and everything is committed.
    Complete,
    /// It was stopped after a last checkpoint.
    Stopped,
    /// It was told to end now.
    Aborted,
}

/// What the coordinator works with.
pub struct Coordinator {
    /// The version's directory.
    pub dir: VersionDir,
    /// The lock on it: taken as soon as it can be, by a process that took over from one that still has it.
    pub lock: Arc<VersionLock>,
    /// The last manifest, and its hash.
    pub last: Sealed,
    /// What is kept on disk.
    pub kept: Kept,
    /// The running state; none for a job without.
    pub store: Option<Arc<dyn StateStore>>,
    /// By source, the bounds of its event time.
    pub bounds: Vec<TimeBounds>,
    /// To the workers.
    pub commands: Vec<Sender<Command>>,
    /// Wakes the workers.
    pub wake: Box<dyn Fn() + Send>,
    /// From the workers.
    pub reports: Receiver<Report>,
    /// The sum of all positions as they are now: whether anything moved since the last manifest.
    pub positions: Box<dyn Fn() -> i64 + Send>,
    /// Whether the topics are still those that were opened.
    pub verify: Box<dyn Fn() -> Result<()> + Send>,
    /// Commits.
    pub committer: Committer,
    /// What is asked of the job.
    pub control: Arc<Control>,
    /// The longest time between two checkpoints while records come.
    pub interval: Duration,
    /// After the frozen end, goes on as a live run.
    pub follow: bool,
    /// Is told what happens.
    pub observer: Box<dyn Observer>,
}

/// A barrier on its way.
struct InFlight {
    epoch: Epoch,
    begun: Instant,
    acks: Vec<Ack>,
    finishing: bool,
}

/// What changes while it runs.
struct Run {
    in_flight: Option<InFlight>,
    unconfirmed: BTreeMap<Epoch, CheckpointDoneDraft>,
    at_end: Vec<bool>,
    wanted: bool,
    /// Workers were told to read nothing more before the next barrier.
    held: bool,
    last_begun: Instant,
    /// When it last looked whether it still has the version.
    looked: Instant,
    ending: Option<Ending>,
    commits: Sender<Sealed>,
    rendezvous: Host,
}

struct CheckpointDoneDraft {
    begun: Instant,
    stall: Duration,
    state_bytes: u64,
    memory: MemoryUse,
    rows_changed: u64,
    positions: Vec<BTreeMap<Partition, Offset>>,
}

/// How many records of topics are staged.
fn records(files: &[StagedFile]) -> u64 {
    files.iter().filter(|file| file.content == StagedContent::Records).map(|file| file.rows).sum()
}

impl Coordinator {
    /// Runs the job to its end. Whatever happens, the workers are told to stop.
    pub fn run(mut self) -> Result<(Ending, Sealed)> {
        let (commits, requests) = crossbeam_channel::unbounded();
        let (replies, confirmations) = crossbeam_channel::unbounded();
        let over = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let Committer { owner, claimed, began, .. } = self.committer;
            let idle = Committer { catalog: self.committer.catalog.clone(), targets: Vec::new(), owner, claimed, began };
            let mut committer = std::mem::replace(&mut self.committer, idle);
            let mut maintenance = committer.maintenance(&self.last.manifest.version);
            let (committed, news) = (crossbeam_channel::unbounded(), replies.clone());
            let (ended, control) = (&over, self.control.clone());
            let endless = self.follow || self.last.manifest.mode == Mode::Live;
            let goes_on = move || endless && !control.stop.load(SeqCst) && !control.abort.load(SeqCst);
            let named = |name: &str| std::thread::Builder::new().name(name.into());
            let spawned = named("kappa-committer")
                .spawn_scoped(scope, move || committer.run(&requests, &replies, &committed.0, ended, &goes_on))
                .and_then(|_| named("kappa-tables").spawn_scoped(scope, move || maintenance.run(&committed.1, &news, ended)));
            let outcome = match spawned {
                Ok(_) => self.coordinate(commits, &confirmations),
                Err(e) => Err(Error::internal(format!("start a thread: {e}"))),
            };
            over.store(true, SeqCst);
            self.command_all(&Command::Shutdown);
            outcome
        });
        outcome.map_err(|error| self.explain(error)).map(|ending| (ending, self.last))
    }

    /// A successor clears this process' files away: whatever failed then, that is why.
    fn explain(&self, error: Error) -> Error {
        self.check_successor().err().unwrap_or(error)
    }

    /// Is refused if another process has taken the version over. One that publishes finds out by that; one that has nothing to
    /// publish would stay for ever, and look as if it ran.
    fn check_successor(&self) -> Result<()> {
        match self.dir.newest() {
            Ok(Some(newest)) if newest.manifest.owner > self.last.manifest.owner => Err(taken_over(&newest.manifest)),
            _ => Ok(()),
        }
    }

    fn coordinate(&mut self, commits: Sender<Sealed>, confirmations: &Receiver<Result<News>>) -> Result<Ending> {
        let mut run = Run {
            in_flight: None,
            unconfirmed: BTreeMap::new(),
            at_end: vec![false; self.commands.len()],
            wanted: false,
            held: false,
            last_begun: instant(),
            looked: instant(),
            ending: None,
            commits,
            rendezvous: Host::new(&self.dir, self.commands.len()),
        };
        let reports = self.reports.clone();
        loop {
            select! {
                recv(reports) -> report => match report {
                    Ok(report) => self.take_report(report, &mut run)?,
                    Err(_) => return Err(Error::internal("all workers are gone")),
                },
                recv(confirmations) -> news => match news {
                    Ok(Ok(News::Confirmed(confirmed))) => self.confirmed(confirmed, &mut run)?,
                    Ok(Ok(News::Waits(checkpoint, why))) => self.observer.delivery_waits(checkpoint, &why),
                    Ok(Ok(News::Neglected(table, why))) => self.observer.table_neglected(&table, &why),
                    Ok(Ok(News::Serving(trouble))) => self.observer.name_in_trouble(&trouble),
                    Ok(Ok(News::Retired(retired))) => self.retire(&retired),
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Err(Error::internal("the committer is gone")),
                },
                default(TICK) => {}
            }
            if run.in_flight.is_none() && run.last_begun.elapsed().min(run.looked.elapsed()) >= LOOK {
                run.looked = instant();
                self.check_successor()?;
            }
            // Without it the job goes on as before; the claim is what keeps others out.
            let _ = self.lock.take_if_free();
            if self.control.abort.load(SeqCst) {
                return Ok(Ending::Aborted);
            }
            if let Some(ending) = run.ending.filter(|_| run.in_flight.is_none() && run.unconfirmed.is_empty()) {
                return Ok(ending);
            }
            if run.ending.is_none() {
                run.rendezvous.look(&self.last.manifest).iter().for_each(|command| self.command_all(command));
                self.maybe_begin(&mut run);
            }
        }
    }

    /// Ends as if it was asked to stop.
    fn retire(&self, retired: &Retired) {
        self.observer.retired(retired);
        self.control.stop.store(true, SeqCst);
    }

    fn command_all(&self, command: &Command) {
        for worker in &self.commands {
            // A worker that is gone has reported why.
            let _ = worker.send(command.clone());
        }
        (self.wake)();
    }

    fn maybe_begin(&mut self, run: &mut Run) {
        let at_end = run.at_end.iter().all(|at| *at);
        let stopping = self.control.stop.load(SeqCst);
        let facts = BarrierFacts {
            in_flight: run.in_flight.is_some(),
            unconfirmed: run.unconfirmed.len(),
            moved: (self.positions)() != self.last.manifest.position_sum(),
            due: run.last_begun.elapsed() >= self.interval,
            overdue: run.last_begun.elapsed() >= self.interval.max(OVERDUE),
            wanted: run.wanted || at_end || stopping || run.rendezvous.wants_barrier(),
        };
        match decide_barrier(facts) {
            BarrierDecision::Wait => return,
            BarrierDecision::Hold => {
                if !std::mem::replace(&mut run.held, true) {
                    self.command_all(&Command::Hold);
                }
                return;
            }
            BarrierDecision::Begin => {}
        }
        let epoch = self.last.manifest.checkpoint.next();
        run.last_begun = instant();
        (run.wanted, run.held) = (false, false);
        run.in_flight = Some(InFlight { epoch, begun: instant(), acks: Vec::new(), finishing: at_end });
        self.command_all(&Command::Barrier(epoch));
        run.rendezvous.barrier_begun(epoch, &self.last.manifest).iter().for_each(|command| self.command_all(command));
    }

    fn take_report(&mut self, report: Report, run: &mut Run) -> Result<()> {
        match report {
            Report::Failed(error) => Err(error),
            Report::Stopped => Err(Error::internal("a worker stopped by itself")),
            Report::Grown(adoption) => self.adopt(adoption),
            Report::WantsBarrier => {
                run.wanted = true;
                Ok(())
            }
            Report::AtPause { worker } => {
                run.rendezvous.at_place(worker);
                Ok(())
            }
            Report::AtEnd { worker } => {
                run.at_end[worker] = true;
                Ok(())
            }
            Report::Ack(ack) => {
                let Some(flight) = run.in_flight.as_mut().filter(|flight| flight.epoch == ack.epoch) else {
                    return Err(Error::internal(format!("barrier {} was acknowledged but is not on its way", ack.epoch)));
                };
                flight.acks.push(*ack);
                if flight.acks.len() < self.commands.len() {
                    return Ok(());
                }
                match run.in_flight.take() {
                    Some(flight) => self.take(flight, run),
                    None => Ok(()),
                }
            }
        }
    }

    /// A new partition is in the domain from now on, from its beginning, and one of the workers reads it.
    fn adopt(&mut self, mut adoption: Adoption) -> Result<()> {
        // Of barriers on their way `closed` takes this partition in.
        adoption.time = PartitionTime::found_at(self.last.manifest.closed_ms);
        let partitions: usize = self.last.manifest.sources.iter().map(|source| source.partitions.len()).sum();
        let Some(source) = self.last.manifest.sources.get_mut(adoption.source) else {
            return Err(Error::internal("a partition of a topic that is not read"));
        };
        source
            .partitions
            .entry(adoption.partition.0)
            .or_insert_with(|| PartitionState::beginning(adoption.start, adoption.time));
        if let Some(worker) = self.commands.get(partitions % self.commands.len().max(1)) {
            // A worker that is gone has reported why.
            let _ = worker.send(Command::Adopt(adoption));
        }
        (self.wake)();
        Ok(())
    }

    /// All workers have acknowledged: the checkpoint is taken, published and handed on.
    fn take(&mut self, flight: InFlight, run: &mut Run) -> Result<()> {
        let state = self.checkpoint_state(flight.epoch)?;
        let manifest = self.next_manifest(&flight, state.clone())?;
        let state = state.map(|(name, _)| name);
        self.command_all(&Command::Taken { epoch: flight.epoch, closed_ms: manifest.closed_ms });
        manifest.check_account()?;
        self.verify_sources()?;
        let hash = self.dir.publish(&manifest)?;
        failpoint::hit("K10");
        let rows_changed = manifest.outputs.iter().map(|output| output.rows_changed).sum();
        let stall = Duration::from_micros(flight.acks.iter().map(|ack| ack.stall_us).max().unwrap_or(0));
        let size = self.store.as_ref().map(|store| store.size()).unwrap_or_default();
        let mut memory = MemoryUse { rocksdb: size.memory, ..MemoryUse::default() };
        flight.acks.iter().for_each(|ack| memory.add(ack.memory));
        let positions = manifest.sources.iter().map(SourceState::positions).collect();
        let draft = CheckpointDoneDraft { begun: flight.begun, stall, state_bytes: size.disk, memory, rows_changed, positions };
        run.unconfirmed.insert(flight.epoch, draft);
        self.kept.add(flight.epoch, state);
        self.last = Sealed { manifest, hash };
        run.rendezvous.taken(&self.last.manifest).iter().for_each(|command| self.command_all(command));
        // A committer that is gone has said why: that is heard next, and is the reason.
        let _ = run.commits.send(self.last.clone());
        if flight.finishing {
            let goes_on = self.follow && !self.control.stop.load(SeqCst);
            self.observer.caught_up(goes_on);
            if goes_on {
                run.at_end.fill(false);
                let partitions = self.last.manifest.sources.iter_mut().flat_map(|source| source.partitions.values_mut());
                partitions.for_each(|partition| partition.end = None);
                self.command_all(&Command::Unbound);
            } else {
                run.ending = Some(Ending::Complete);
            }
        } else if self.control.stop.load(SeqCst) {
            run.ending = Some(Ending::Stopped);
        }
        Ok(())
    }

    /// What was read from another topic of the same name must not become durable. While the log is away this waits: without
    /// it nothing more is read either.
    fn verify_sources(&self) -> Result<()> {
        loop {
            match (self.verify)() {
                Err(error) if error.is_retryable() && !self.control.stop.load(SeqCst) && !self.control.abort.load(SeqCst) => {
                    std::thread::sleep(TICK);
                }
                outcome => return outcome,
            }
        }
    }

    /// The name of the state's checkpoint, and the checksum of what it lists its files in.
    fn checkpoint_state(&self, epoch: Epoch) -> Result<Option<(String, u32)>> {
        let Some(store) = &self.store else { return Ok(None) };
        self.dir.take_state(store.as_ref(), epoch, self.last.manifest.owner).map(Some)
    }

    fn next_manifest(&self, flight: &InFlight, state: Option<(String, u32)>) -> Result<Manifest> {
        let mut manifest = self.last.manifest.clone();
        manifest.checkpoint = flight.epoch;
        manifest.previous.clone_from(&self.last.hash);
        manifest.claim = false;
        manifest.created_ms = now_ms();
        (manifest.state, manifest.state_checksum) = state.unzip();
        if flight.finishing {
            manifest.finished = true;
            if self.follow {
                manifest.mode = Mode::Live;
            }
        }
        for ack in &flight.acks {
            for ((source, partition), now) in &ack.partitions {
                let state = manifest.sources.get_mut(*source).and_then(|s| s.partitions.get_mut(&partition.0));
                let state = state.ok_or_else(|| Error::internal(format!("partition {partition} is not in the domain")))?;
                state.next = now.next;
                state.time = now.time;
                state.counts = now.counts;
                state.leader_epoch = now.leader_epoch.unwrap_or(UNKNOWN_EPOCH);
            }
        }
        let frontiers: Vec<_> = manifest.frontiers(&self.bounds).map(|(_, _, frontier)| frontier).collect();
        manifest.closed_ms = closed(&frontiers);
        manifest.visible_ms = visible(&frontiers);
        for (number, output) in manifest.outputs.iter_mut().enumerate() {
            output.rows_changed = 0;
            output.files.clear();
            output.dead_letters.clear();
            for done in flight.acks.iter().filter_map(|ack| ack.outputs.get(number)) {
                output.filtered += done.filtered;
                output.expired += done.expired;
                output.used += done.used;
                output.rows_changed += done.rows_changed;
                output.records += records(&done.files);
                output.files.extend(done.files.iter().cloned());
                output.dead_letters.extend(done.dead_letters.iter().cloned());
            }
        }
        Ok(manifest)
    }

    fn confirmed(&mut self, confirmed: Confirmed, run: &mut Run) -> Result<()> {
        failpoint::hit("K18");
        if let Some(draft) = run.unconfirmed.remove(&confirmed.checkpoint) {
            self.observer.checkpoint(CheckpointDone {
                checkpoint: confirmed.checkpoint,
                duration: draft.begun.elapsed(),
                stall: draft.stall,
                state_bytes: draft.state_bytes,
                memory: draft.memory,
                rows_changed: draft.rows_changed,
                positions: draft.positions,
            });
        }
        run.rendezvous.delivered(confirmed.checkpoint, &self.last.manifest);
        self.kept.confirm(confirmed.checkpoint, confirmed.released);
        self.kept.collect(&self.dir)
    }
}
