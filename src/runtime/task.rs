//! THE loop of a worker: commands, inboxes, source, in this order, and nothing that blocks.
//!
//! A worker is four operators in one thread: the **source side** (partitions it reads, folding locally), the **value
//! owner** (presence for distinct counts), the **group owner** (groups and their rows) and, where some output groups twice,
//! the **owner of second groupings**. Barrier N goes through them in this order; behind it an operator may change memory,
//! but writes nothing to the state until the coordinator says `Taken(N)`.
//!
//! Changes for a second grouping travel at barriers only: barrier N+1 begins after N was taken, so that between the group
//! owners' barrier N and its own the owner of second groupings meets changes of epoch N and no others.

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::align::{Aligned, Aligner};
use super::channel::{Message, Outbox, Wakers};
use super::decode::SourceDecoder;
use super::partition::PartitionTask;
use super::pause::Pause;
use super::pipeline::{Limits, Pipeline, Pressure};
use super::rate_limit::RateLimit;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Epoch;
use crate::operator::steps::Rows;
use crate::protocol::checkpoint::{Ack, Command, PartitionAck, Report};
use crate::protocol::failpoint;
use crate::protocol::progress::Adoption;
use crate::source::LogSource;
use crate::time::instant;

/// Messages taken from an inbox before the loop looks elsewhere.
const TURN: usize = 32;
/// A pause with nothing to do, and one with a full outbox.
const IDLE: Duration = Duration::from_millis(5);
const BLOCKED: Duration = Duration::from_micros(200);

/// The ends of a worker's queues.
pub struct Links {
    /// To group owners.
    pub partials: Outbox,
    /// To value owners.
    pub distinct: Outbox,
    /// From value owners to group owners.
    pub tallies: Outbox,
    /// At this worker's value owner.
    pub values_in: Aligner,
    /// At this worker's group owner: partial results and tallies.
    pub groups_in: Aligner,
    /// Behind the group owners, if some output groups twice.
    pub regroup: Option<RegroupLinks>,
}

/// The ends of the edge from group owners to the owners of second groupings.
pub struct RegroupLinks {
    /// To owners of second groupings.
    pub changes: Outbox,
    /// At this worker's owner of second groupings.
    pub changes_in: Aligner,
}

impl Links {
    /// Sends what waits, as far as there is room. Whether anything was sent.
    fn pump(&mut self) -> bool {
        let changes = self.regroup.as_mut().is_some_and(|links| links.changes.pump());
        self.partials.pump() | self.distinct.pump() | self.tallies.pump() | changes
    }

    /// Whether nothing waits.
    fn are_clear(&self) -> bool {
        let changes = self.regroup.as_ref().is_none_or(|links| links.changes.is_clear());
        self.partials.is_clear() && self.distinct.is_clear() && self.tallies.is_clear() && changes
    }
}

/// A worker, before it runs.
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// How many there are.
    pub workers: usize,
    /// The partitions it reads.
    pub partitions: Vec<PartitionTask>,
    /// By source.
    pub decoders: Vec<SourceDecoder>,
    /// By source, the topic's name.
    pub topics: Vec<String>,
    /// By source, the topic: partitions may be found while it is read.
    pub sources: Vec<Arc<dyn LogSource>>,
    /// By output.
    pub pipelines: Vec<Pipeline>,
    /// Its queues.
    pub links: Links,
    /// From the coordinator.
    pub commands: Receiver<Command>,
    /// To the coordinator.
    pub reports: Sender<Report>,
    /// To wake and be woken.
    pub wakers: Wakers,
    /// The `closed` of the checkpoint that it goes on from.
    pub closed_ms: Option<i64>,
    /// Of memory.
    pub limits: Limits,
    /// Of reading, if there is one.
    pub rate: Option<Arc<RateLimit>>,
}

/// What a running worker keeps besides.
#[derive(Default)]
struct State {
    ack: Option<Ack>,
    values_frozen: bool,
    groups_frozen: bool,
    regroups_frozen: bool,
    /// Of the barrier that has passed everything, while its files are made.
    staging: Option<Ack>,
    /// The barrier that has reached the group owner, whose changes are on their way to the second grouping.
    emitting: Option<Epoch>,
    next_partition: usize,
    reported_end: bool,
    pause: Pause,
    wanted_barrier: bool,
    /// Nothing is read before the next barrier.
    held: bool,
    running: bool,
}

impl Worker {
    /// Runs until told to stop, or until something fails. A panic is reported as what it is: a bug.
    pub fn run(mut self) {
        self.wakers.register(self.index);
        let reports = self.reports.clone();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work()));
        let report = match outcome {
            Ok(Ok(())) => Report::Stopped,
            Ok(Err(error)) => Report::Failed(error),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                Report::Failed(Error::internal(format!("a worker panicked: {}", text.unwrap_or_default())))
            }
        };
        // Without a coordinator there is nobody to tell.
        let _ = reports.send(report);
    }

    fn work(&mut self) -> Result<()> {
        let mut state = State { running: true, ..State::default() };
        self.expire(self.closed_ms)?;
        while state.running {
            self.obey(&mut state)?;
            self.acknowledge(&mut state)?;
            let sent = self.links.pump();
            let owned = self.own_regroups(&mut state)? | self.own_groups(&mut state)? | self.own_values(&mut state)?;
            let clear = self.links.partials.is_clear() && self.links.distinct.is_clear();
            let read = clear && !state.held && self.read(&mut state)?;
            self.relieve(&mut state)?;
            if !(sent || owned || read) {
                let clear = self.links.are_clear();
                if clear {
                    self.pipelines.iter_mut().try_for_each(|pipeline| pipeline.settle(!state.values_frozen))?;
                }
                std::thread::park_timeout(if clear { IDLE } else { BLOCKED });
            }
        }
        Ok(())
    }

    fn obey(&mut self, state: &mut State) -> Result<()> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Barrier(epoch)) => self.begin_barrier(epoch, state)?,
                Ok(Command::Taken { closed_ms, .. }) => {
                    state.values_frozen = false;
                    state.groups_frozen = false;
                    state.regroups_frozen = false;
                    self.expire(closed_ms)?;
                }
                Ok(Command::Hold) => state.held = true,
                Ok(Command::Pause(place)) => state.pause.begin(place.as_ref(), &mut self.partitions),
                Ok(Command::Resume) => state.pause.end(&mut self.partitions),
                Ok(Command::Unbound) => {
                    self.partitions.iter_mut().for_each(PartitionTask::unbound);
                    state.reported_end = true;
                }
                Ok(Command::Adopt(adoption)) => self.adopt(adoption, &state.pause)?,
                Ok(Command::Shutdown) | Err(TryRecvError::Disconnected) => {
                    state.running = false;
                    return Ok(());
                }
                Err(TryRecvError::Empty) => return Ok(()),
            }
        }
    }

    /// Drops what a checkpoint has made final: it was taken, and no record that is read after it belongs to that.
    fn expire(&mut self, closed_ms: Option<i64>) -> Result<()> {
        let Some(closed_ms) = closed_ms else { return Ok(()) };
        self.pipelines.iter_mut().try_for_each(|pipeline| pipeline.expire(closed_ms))
    }

    /// Begins to read a partition that was found.
    fn adopt(&mut self, adoption: Adoption, pause: &Pause) -> Result<()> {
        let Adoption { source, partition, start, time, progress } = adoption;
        let log = self.sources.get(source).ok_or_else(|| Error::internal("a partition of a topic that is not read"))?;
        let reader = log.open(partition, start, None)?;
        let task = PartitionTask::new(source, partition, PartitionAck::at(start, time), None, reader, progress);
        self.partitions.push(pause.found(task));
        Ok(())
    }

    /// The source side of a barrier: what was folded locally goes out, and the barrier behind it.
    fn begin_barrier(&mut self, epoch: Epoch, state: &mut State) -> Result<()> {
        failpoint::hit("K1");
        let started = instant();
        let mut ack = Ack { worker: self.index, epoch, ..Ack::default() };
        for pipeline in &mut self.pipelines {
            pipeline.barrier_at_source(epoch, &mut self.links.partials, &mut self.links.distinct)?;
            ack.outputs.push(pipeline.take_done());
        }
        self.links.partials.send_barrier(epoch);
        self.links.distinct.send_barrier(epoch);
        ack.partitions = self.partitions.iter().map(|p| ((p.source, p.partition), p.ack())).collect::<BTreeMap<_, _>>();
        ack.stall_us = started.elapsed().as_micros() as u64;
        state.ack = Some(ack);
        state.wanted_barrier = false;
        state.held = false;
        Ok(())
    }

    /// The value owner: presence in, tallies out.
    fn own_values(&mut self, state: &mut State) -> Result<bool> {
        let mut moved = false;
        for _ in 0..TURN {
            if !self.links.tallies.is_clear() || (state.values_frozen && self.pressure().memory > self.limits.cache_bytes) {
                break;
            }
            match self.links.values_in.poll()? {
                Aligned::Data(Message::Distinct(block)) => {
                    self.pipeline(block.pipeline)?.take_distinct(block, !state.values_frozen)?;
                }
                Aligned::Data(other) => return Err(Error::internal(format!("{other:?} at a value owner"))),
                Aligned::Barrier(epoch) => {
                    let started = instant();
                    for pipeline in &mut self.pipelines {
                        pipeline.barrier_at_values(self.workers, &mut self.links.tallies)?;
                    }
                    self.links.tallies.send_barrier(epoch);
                    state.values_frozen = true;
                    if let Some(ack) = &mut state.ack {
                        ack.stall_us += started.elapsed().as_micros() as u64;
                    }
                }
                Aligned::Empty => break,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// The group owner: partial results and tallies in; at the barrier, rows out.
    fn own_groups(&mut self, state: &mut State) -> Result<bool> {
        if let Some(epoch) = state.emitting {
            return self.emit_changes(epoch, state);
        }
        let mut moved = false;
        // A barrier was asked for, and the catalog is too slow for one: what comes waits in the queues until it begins. The
        // barrier that is on its way is not among what comes if it has passed.
        let passed = state.ack.is_none() || state.groups_frozen;
        if passed && self.limits.are_exceeded(&self.pressure(), 2) {
            return Ok(false);
        }
        for _ in 0..TURN {
            if state.groups_frozen && self.pressure().memory > self.limits.cache_bytes {
                break;
            }
            match self.links.groups_in.poll()? {
                Aligned::Data(message) => {
                    let pipeline = match &message {
                        Message::Partial(block) => block.pipeline,
                        Message::Tally(block) => block.pipeline,
                        other => return Err(Error::internal(format!("{other:?} at a group owner"))),
                    };
                    self.pipeline(pipeline)?.take_results(message)?;
                }
                Aligned::Barrier(epoch) => {
                    self.barrier_at_groups(epoch, state)?;
                    return Ok(true);
                }
                Aligned::Empty => break,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// The barrier has passed the group owner: rows are staged, state is flushed. Where some output groups twice, it goes on
    /// to the owners of second groupings, else this was all.
    fn barrier_at_groups(&mut self, epoch: Epoch, state: &mut State) -> Result<()> {
        let started = instant();
        let mut ack = take_ack(epoch, state)?;
        for (pipeline, output) in self.pipelines.iter_mut().zip(&mut ack.outputs) {
            pipeline.barrier_at_groups(epoch, output)?;
        }
        ack.stall_us += started.elapsed().as_micros() as u64;
        if self.links.regroup.is_some() {
            state.emitting = Some(epoch);
            state.ack = Some(ack);
            return Ok(());
        }
        state.groups_frozen = true;
        state.staging = Some(ack);
        Ok(())
    }

    /// Sends what changed to the owners of second groupings as far as there is room, and at last the barrier. Until then
    /// the group owner takes nothing in.
    fn emit_changes(&mut self, epoch: Epoch, state: &mut State) -> Result<bool> {
        let Some(links) = &mut self.links.regroup else { return Err(Error::internal("changes, but nobody groups twice")) };
        let (started, mut moved) = (instant(), false);
        while state.emitting.is_some() && links.changes.is_clear() {
            moved = true;
            let mut left = false;
            for pipeline in &mut self.pipelines {
                left = left || pipeline.emit_changes(&mut links.changes)?;
            }
            if !left {
                links.changes.send_barrier(epoch);
                state.groups_frozen = true;
                state.emitting = None;
            }
        }
        if let Some(ack) = &mut state.ack {
            ack.stall_us += started.elapsed().as_micros() as u64;
        }
        Ok(moved)
    }

    /// The owner of second groupings: changes in; at the barrier, rows out. It takes in whatever comes, however little
    /// memory there is: what it waits for would be the barrier that it holds up.
    fn own_regroups(&mut self, state: &mut State) -> Result<bool> {
        let mut moved = false;
        for _ in 0..TURN {
            let Some(links) = &mut self.links.regroup else { break };
            match links.changes_in.poll()? {
                Aligned::Data(Message::Partial(block)) => self.pipeline(block.pipeline)?.take_changes(block)?,
                Aligned::Data(other) => return Err(Error::internal(format!("{other:?} at a second grouping"))),
                Aligned::Barrier(epoch) => {
                    let started = instant();
                    let mut ack = take_ack(epoch, state)?;
                    for (pipeline, output) in self.pipelines.iter_mut().zip(&mut ack.outputs) {
                        pipeline.barrier_at_regroups(epoch, output)?;
                    }
                    state.regroups_frozen = true;
                    ack.stall_us += started.elapsed().as_micros() as u64;
                    state.staging = Some(ack);
                }
                Aligned::Empty => break,
            }
            moved = true;
        }
        Ok(moved)
    }

    /// The barrier has passed everything in this worker: the coordinator hears of it once its files are durable.
    fn acknowledge(&mut self, state: &mut State) -> Result<()> {
        let Some(mut ack) = state.staging.take() else { return Ok(()) };
        let mut durable = true;
        for (pipeline, output) in self.pipelines.iter_mut().zip(&mut ack.outputs) {
            durable &= pipeline.take_staged(output)?;
        }
        if !durable {
            state.staging = Some(ack);
            return Ok(());
        }
        ack.memory.caches = self.pressure().memory as u64;
        ack.memory.partial_results = self.pipelines.iter().map(|pipeline| pipeline.partial_results() as u64).sum();
        self.report(Report::Ack(Box::new(ack)))
    }

    /// Reads and processes one batch from the next partition that has one.
    fn read(&mut self, state: &mut State) -> Result<bool> {
        for _ in 0..self.partitions.len() {
            let turn = state.next_partition;
            state.next_partition = (turn + 1) % self.partitions.len();
            if self.read_partition(turn)? {
                return Ok(true);
            }
        }
        if !state.reported_end && self.partitions.iter().all(PartitionTask::at_end) {
            state.reported_end = true;
            self.report(Report::AtEnd { worker: self.index })?;
        }
        if state.pause.is_reached(&self.partitions) {
            self.report(Report::AtPause { worker: self.index })?;
        }
        Ok(false)
    }

    fn read_partition(&mut self, turn: usize) -> Result<bool> {
        if self.rate.as_ref().is_some_and(|rate| !rate.is_open()) {
            return Ok(false);
        }
        let task = &mut self.partitions[turn];
        let Some((block, range)) = task.fetch()? else { return Ok(false) };
        if let Some(rate) = &self.rate {
            // Of a block that is worked on in parts, each pays its share.
            rate.take(block.data.len() * range.len() / block.len().max(1));
        }
        let (source, partition, done) = (task.source, task.partition.0, range.end);
        let decoded = self.decoders[source].decode(&block, range, &mut task.time, &mut task.counts)?;
        task.advance(block, done);
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| pipeline.source == source) {
            let mut process = |rows| pipeline.process(rows, partition, &mut self.links.partials, &mut self.links.distinct);
            if let Err(error) = process(decoded.rows.clone()) {
                let (row, error) = first_failure(&decoded.rows, error, &mut process);
                let offset = row.and_then(|row| self.partitions[turn].offset_of(decoded.origin.record_of(row)));
                return Err(match offset {
                    None => error,
                    Some(offset) => error
                        .without("row")
                        .with("topic", &self.topics[source])
                        .with("partition", partition)
                        .with("offset", offset),
                });
            }
            if !decoded.dead.is_empty() {
                pipeline.bury(&self.topics[source], &decoded.dead)?;
            }
        }
        Ok(true)
    }

    /// Keeps memory and the work left for the next barrier within bounds.
    fn relieve(&mut self, state: &mut State) -> Result<()> {
        let pressure = self.pressure();
        let evict = pressure.memory > self.limits.cache_bytes;
        if !state.values_frozen && (evict || pressure.dirty_values > self.limits.dirty) {
            for pipeline in &mut self.pipelines {
                pipeline.relieve_values(evict, self.workers, &mut self.links.tallies)?;
            }
        }
        let flush = pressure.dirty_groups > self.limits.dirty;
        if !state.groups_frozen && (evict || flush) {
            self.pipelines.iter_mut().try_for_each(|pipeline| pipeline.relieve_groups(evict, flush))?;
        }
        let flush = pressure.dirty_regroups > self.limits.dirty;
        if !state.regroups_frozen && (evict || flush) {
            self.pipelines.iter_mut().try_for_each(|pipeline| pipeline.relieve_regroups(evict, flush))?;
        }
        if !state.wanted_barrier && state.ack.is_none() && self.limits.are_exceeded(&self.pressure(), 1) {
            state.wanted_barrier = true;
            self.report(Report::WantsBarrier)?;
        }
        Ok(())
    }

    fn pressure(&self) -> Pressure {
        self.pipelines.iter().fold(Pressure::default(), |sum, pipeline| sum.plus(pipeline.pressure()))
    }

    fn pipeline(&mut self, index: usize) -> Result<&mut Pipeline> {
        self.pipelines.get_mut(index).ok_or_else(|| Error::internal(format!("there is no output {index}")))
    }

    fn report(&self, report: Report) -> Result<()> {
        self.reports.send(report).map_err(|_| Error::internal("the coordinator is gone"))
    }
}

/// Which row an error about data is of, and the error of that row alone: they are tried one by one.
fn first_failure(rows: &Rows, error: Error, process: &mut dyn FnMut(Rows) -> Result<()>) -> (Option<usize>, Error) {
    if error.kind() == ErrorKind::Data {
        for row in 0..rows.batch.num_rows() {
            if let Err(error) = process(rows.one(row)) {
                return (Some(row), error);
            }
        }
    }
    (None, error)
}

/// The acknowledgement in the making.
fn take_ack(epoch: Epoch, state: &mut State) -> Result<Ack> {
    let ack = state.ack.take().filter(|ack| ack.epoch == epoch);
    ack.ok_or_else(|| Error::internal(format!("barrier {epoch} was not begun here")))
}
