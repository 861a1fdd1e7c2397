//! One output in one worker: the steps before the exchange, the owners after it, and the writer at the end.

use std::sync::Arc;

use super::channel::{Message, Outbox, Wakers};
use super::grouped::Grouped;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::operator::accumulator::RowOrder;
use crate::operator::aggregate::Outgoing;
use crate::operator::exchange::{DistinctBlock, PartialBlock};
use crate::operator::lookup::Room;
use crate::operator::steps::{Rows, Steps, columns_of};
use crate::plan::expr::AggregateFunction;
use crate::plan::lower::{AggregateSpec, PipelineSpec};
use crate::plan::schema::Schema;
use crate::plan::time_zones::ZoneTables;
use crate::protocol::checkpoint::OutputAck;
use crate::sink::dead_letter::{self, DeadLetter};
use crate::sink::{Change, StagingWriter};
use crate::state::StateStore;

/// Fewer changed groups than this never end an epoch early, however little memory there is.
const MANY_CHANGED: usize = 4096;

/// The writers of one output: its table, and its dead letters if anything can produce some.
pub struct Writers {
    /// Of the table.
    pub rows: Box<dyn StagingWriter>,
    /// Of the dead-letter table.
    pub dead_letters: Option<Box<dyn StagingWriter>>,
}

/// What all pipelines of a worker share.
#[derive(Clone)]
pub struct PipelineContext<'a> {
    /// Which worker it is.
    pub index: usize,
    /// How many workers there are.
    pub workers: usize,
    /// Bytes that the source side of each grouping may hold.
    pub local_bytes: usize,
    /// What each owner of state may hold.
    pub room: Room,
    /// The time zones of the plan.
    pub zones: &'a ZoneTables,
    /// The state.
    pub store: Arc<dyn StateStore>,
    /// Whether the state is empty: nothing needs to be looked up in it.
    pub fresh: bool,
    /// To wake a worker whose files are durable.
    pub wakers: Wakers,
}

/// One output in one worker.
pub struct Pipeline {
    /// Which source feeds it.
    pub source: usize,
    steps: Steps,
    tail: Tail,
    dead_letters: Option<Box<dyn StagingWriter>>,
    done: OutputAck,
}

enum Tail {
    Append(Box<dyn StagingWriter>),
    Grouped(Box<Grouped>),
}

/// The family of a grouping's own state.
pub fn group_family(spec: &AggregateSpec) -> String {
    spec.name.clone()
}

/// The family of the presence of one of its distinct counts.
pub fn distinct_family(spec: &AggregateSpec, call: usize) -> String {
    format!("{} distinct {call}", spec.name)
}

/// Whether an aggregate counts distinct values.
pub fn is_distinct(function: AggregateFunction) -> bool {
    matches!(function, AggregateFunction::NUnique | AggregateFunction::CountDistinct)
}

/// All families of a pipeline.
pub fn families(spec: &PipelineSpec) -> Vec<String> {
    spec.groupings().flat_map(families_of).collect()
}

/// All families of a grouping.
pub fn families_of(spec: &AggregateSpec) -> Vec<String> {
    let distinct = spec.calls.iter().enumerate().filter(|(_, call)| is_distinct(call.function));
    std::iter::once(group_family(spec)).chain(distinct.map(|(i, _)| distinct_family(spec, i))).collect()
}

impl Pipeline {
    /// Sets up output `number`, over batches of `input`.
    pub fn new(
        number: usize,
        spec: &PipelineSpec,
        input: &Schema,
        writers: Writers,
        context: &PipelineContext<'_>,
    ) -> Result<Self> {
        let Writers { rows, dead_letters } = writers;
        let (steps, tail) = match &spec.aggregate {
            None => {
                let used = spec.schema.fields.iter().map(|field| field.name.clone()).collect();
                let steps = Steps::compile(&spec.before, input, Some(&used), context.zones)?;
                (steps, Tail::Append(rows))
            }
            Some(aggregate) => {
                let mut used = std::collections::BTreeSet::new();
                aggregate.expressions().for_each(|expr| columns_of(expr, &mut used));
                let steps = Steps::compile(&spec.before, input, Some(&used), context.zones)?;
                let grouped = Grouped::new(number, spec, aggregate, steps.output(), rows, context)?;
                (steps, Tail::Grouped(Box::new(grouped)))
            }
        };
        Ok(Self { source: spec.source, steps, tail, dead_letters, done: OutputAck::default() })
    }

    /// Works on rows of its source. Blocks for other workers go to the outboxes.
    pub fn process(&mut self, rows: Rows, partition: i32, partials: &mut Outbox, distinct: &mut Outbox) -> Result<()> {
        let before = rows.batch.num_rows();
        let mut rows = self.steps.apply(rows)?;
        let accepted = rows.batch.num_rows();
        if let Tail::Grouped(grouped) = &self.tail {
            rows = grouped.keep(rows)?;
        }
        let used = rows.batch.num_rows();
        self.done.filtered += (before - accepted) as u64;
        self.done.expired += (accepted - used) as u64;
        self.done.used += used as u64;
        match &mut self.tail {
            Tail::Append(writer) => {
                self.done.rows_changed += used as u64;
                if used > 0 { writer.write(Change::Append(rows.batch)) } else { Ok(()) }
            }
            Tail::Grouped(grouped) => {
                let (times, offsets) = match &rows.order {
                    Some((times, offsets)) => (&times.values()[..], &offsets.values()[..]),
                    None => (&[][..], &[][..]),
                };
                let order = RowOrder { event_time: times, partition, offsets };
                grouped.local.process(&rows.batch, &order, &mut |to, block| send(to, block, partials, distinct))
            }
        }
    }

    /// Writes records that could not be used to the dead-letter table.
    pub fn bury(&mut self, topic: &str, dead: &[DeadLetter]) -> Result<()> {
        match &mut self.dead_letters {
            Some(writer) => writer.write(Change::Append(dead_letter::to_batch(topic, dead)?)),
            None => Err(Error::internal("there is no dead-letter table")),
        }
    }

    /// The source side of a barrier: nothing of the epoch stays behind.
    pub fn barrier_at_source(&mut self, epoch: Epoch, partials: &mut Outbox, distinct: &mut Outbox) -> Result<()> {
        if let Some(writer) = &mut self.dead_letters {
            self.done.dead_letters = writer.prepare(epoch)?;
        }
        match &mut self.tail {
            Tail::Append(writer) => self.done.files = writer.prepare(epoch)?,
            Tail::Grouped(grouped) => grouped.local.flush(&mut |to, block| send(to, block, partials, distinct)),
        }
        Ok(())
    }

    /// What was done at the source side since the last call: taken when the barrier passes it.
    pub fn take_done(&mut self) -> OutputAck {
        std::mem::take(&mut self.done)
    }

    fn grouped(&mut self) -> Result<&mut Grouped> {
        match &mut self.tail {
            Tail::Grouped(grouped) => Ok(grouped),
            Tail::Append(_) => Err(Error::internal("a block for an output that does not group")),
        }
    }

    /// Takes in values of its key groups. The state is only written if it `may_write`.
    pub fn take_distinct(&mut self, block: DistinctBlock, may_write: bool) -> Result<()> {
        let owner = self.grouped()?.distinct.iter_mut().find(|owner| owner.call() == block.call);
        owner.ok_or_else(|| Error::internal("values for an aggregate that counts none"))?.process(block, may_write)
    }

    /// Takes in results for its groups.
    pub fn take_results(&mut self, message: Message) -> Result<()> {
        let owner = &mut self.grouped()?.owner;
        match message {
            Message::Partial(block) => owner.merge(block),
            Message::Tally(block) => owner.tally(block),
            _ => Err(Error::internal("a message for another operator")),
        }
    }

    /// The value owners' side of a barrier: tallies go on, presence goes to the state.
    pub fn barrier_at_values(&mut self, workers: usize, tallies: &mut Outbox) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        for owner in &mut grouped.distinct {
            owner.flush_tallies(workers, &mut |to, block| tallies.send(to, Message::Tally(block)))?;
            owner.flush_state()?;
        }
        Ok(())
    }

    /// Works on what waits for the state to be read. That of values is only written if it `may_write`.
    pub fn settle(&mut self, may_write: bool) -> Result<()> {
        match &mut self.tail {
            Tail::Append(_) => Ok(()),
            Tail::Grouped(grouped) => grouped.settle(may_write),
        }
    }

    /// The group owners' side of a barrier: changed rows go to the writer, groups to the state. Where rows are grouped again
    /// that is left to [`Pipeline::emit_changes`].
    pub fn barrier_at_groups(&mut self, epoch: Epoch, ack: &mut OutputAck) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        grouped.barrier(epoch, ack)
    }

    /// At the barrier, sends some of the rows that changed to the owners of the second grouping. Whether there were any; if
    /// not, nothing of the epoch is left on this side.
    pub fn emit_changes(&mut self, changes: &mut Outbox) -> Result<bool> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(false) };
        grouped.emit_changes(changes)
    }

    /// Takes in changes for its groups of the second grouping.
    pub fn take_changes(&mut self, block: PartialBlock) -> Result<()> {
        match self.grouped()?.regroup() {
            Some(regroup) => regroup.merge(block),
            None => Err(Error::internal("changes for an output that does not group again")),
        }
    }

    /// The side of the second grouping's owners of a barrier: changed rows go to the writer, groups to the state.
    pub fn barrier_at_regroups(&mut self, epoch: Epoch, ack: &mut OutputAck) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        grouped.regroup().map_or(Ok(()), |regroup| regroup.barrier(epoch, ack))
    }

    /// Takes the files of the barrier that passed the owners, if they are durable by now. Whether none are on their way any more.
    pub fn take_staged(&mut self, ack: &mut OutputAck) -> Result<bool> {
        match &mut self.tail {
            Tail::Append(_) => Ok(true),
            Tail::Grouped(grouped) => grouped.take_staged(ack),
        }
    }

    /// Entries that the next barrier would write, and groups that changed in this epoch.
    pub fn pressure(&self) -> Pressure {
        match &self.tail {
            Tail::Append(_) => Pressure::default(),
            Tail::Grouped(grouped) => grouped.pressure(),
        }
    }

    /// Bytes that the source side holds.
    pub fn partial_results(&self) -> usize {
        match &self.tail {
            Tail::Append(_) => 0,
            Tail::Grouped(grouped) => grouped.local.memory(),
        }
    }

    /// Writes dirty values ahead of the barrier; with `evict`, empties their cache as well.
    pub fn relieve_values(&mut self, evict: bool, workers: usize, tallies: &mut Outbox) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        let mut emit = |to, block| tallies.send(to, Message::Tally(block));
        grouped.distinct.iter_mut().try_for_each(|owner| owner.relieve(evict, workers, &mut emit))
    }

    /// Writes dirty groups ahead of the barrier, with `flush`; with `evict`, empties their cache as well if that frees much.
    pub fn relieve_groups(&mut self, evict: bool, flush: bool) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        grouped.owner.relieve(evict, flush)
    }

    /// The same for the groups of the second grouping.
    pub fn relieve_regroups(&mut self, evict: bool, flush: bool) -> Result<()> {
        let Tail::Grouped(grouped) = &mut self.tail else { return Ok(()) };
        grouped.regroup().map_or(Ok(()), |regroup| regroup.relieve(evict, flush))
    }

    /// Drops what is kept of groups that have expired at this `closed`. The checkpoint that it is of must have been taken.
    pub fn expire(&mut self, closed_ms: i64) -> Result<()> {
        match &mut self.tail {
            Tail::Append(_) => Ok(()),
            Tail::Grouped(grouped) => grouped.expire(closed_ms),
        }
    }
}

/// What bounds a worker's memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of its caches.
    pub cache_bytes: usize,
    /// Dirty entries that may be left for a barrier.
    pub dirty: usize,
    /// Groups changed in an epoch; then a barrier is asked for.
    pub changed: usize,
}

impl Limits {
    /// Whether the groups that changed in an epoch, which stay in memory until its barrier, are `times` too many.
    pub(super) fn are_exceeded(&self, pressure: &Pressure, times: usize) -> bool {
        let pinned = pressure.changed > MANY_CHANGED && pressure.memory > times * self.cache_bytes;
        pinned || pressure.changed > times * self.changed
    }
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pressure {
    /// Presence entries to write.
    pub dirty_values: usize,
    /// Groups to write.
    pub dirty_groups: usize,
    /// Groups of second groupings to write.
    pub dirty_regroups: usize,
    /// Groups changed in this epoch.
    pub changed: usize,
    /// Bytes of caches.
    pub memory: usize,
}

impl Pressure {
    /// Adds up.
    pub fn plus(self, other: Self) -> Self {
        Self {
            dirty_values: self.dirty_values + other.dirty_values,
            dirty_groups: self.dirty_groups + other.dirty_groups,
            dirty_regroups: self.dirty_regroups + other.dirty_regroups,
            changed: self.changed + other.changed,
            memory: self.memory + other.memory,
        }
    }
}

fn send(to: usize, block: Outgoing, partials: &mut Outbox, distinct: &mut Outbox) {
    match block {
        Outgoing::Partial(block) => partials.send(to, Message::Partial(block)),
        Outgoing::Distinct(block) => distinct.send(to, Message::Distinct(block)),
    }
}
