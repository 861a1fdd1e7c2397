//! One grouped output in one worker: the local side before the exchange, the owners behind it, and what follows.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::channel::Outbox;
use super::pipeline::{PipelineContext, Pressure, distinct_family, group_family, is_distinct};
use super::regroup::Regroup;
use super::table_end::TableEnd;
use crate::error::Result;
use crate::message::Epoch;
use crate::operator::aggregate::LocalAggregate;
use crate::operator::distinct::DistinctOwner;
use crate::operator::merge::{ChangedGroups, GroupOwner};
use crate::plan::lower::{AggregateSpec, PipelineSpec};
use crate::plan::schema::{Field, Schema};
use crate::protocol::checkpoint::OutputAck;
use crate::sink::StagingWriter;

/// Groups that are handed to a second grouping at a time.
const CHUNK: usize = 8 << 10;

/// A grouping, and what becomes of its rows.
pub(super) struct Grouped {
    pub(super) local: LocalAggregate,
    pub(super) distinct: Vec<DistinctOwner>,
    pub(super) owner: GroupOwner,
    groups: SchemaRef,
    end: End,
}

enum End {
    Table(TableEnd),
    Regroup(Box<Regroup>),
}

/// The columns of a grouping's rows: the key, then the aggregates.
pub(super) fn groups_of(spec: &AggregateSpec) -> Schema {
    let keys = spec.keys.iter().zip(&spec.key_types).map(|(key, data_type)| Field::new(&key.name, data_type.clone()));
    let calls = spec.calls.iter().map(|call| Field::new(&call.name, call.output_type.clone()));
    Schema { fields: keys.chain(calls).collect() }
}

/// The owner of a grouping's groups.
pub(super) fn owner_of(spec: &AggregateSpec, context: &PipelineContext<'_>) -> Result<GroupOwner> {
    GroupOwner::new(spec, group_family(spec), context.store.clone(), context.fresh, context.room.waiting)
}

/// Groups as rows.
fn batch_of(schema: &SchemaRef, keys: Vec<ArrayRef>, results: Vec<ArrayRef>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(schema.clone(), keys.into_iter().chain(results).collect())?)
}

impl Grouped {
    pub(super) fn new(
        number: usize,
        spec: &PipelineSpec,
        aggregate: &AggregateSpec,
        input: &Schema,
        writer: Box<dyn StagingWriter>,
        context: &PipelineContext<'_>,
    ) -> Result<Self> {
        let groups = groups_of(aggregate);
        let distinct = aggregate.calls.iter().enumerate().filter(|(_, call)| is_distinct(call.function)).map(|(call, _)| {
            let (family, store) = (distinct_family(aggregate, call), context.store.clone());
            DistinctOwner::new(number, call, family, store, context.fresh, context.room)
        });
        let owner = owner_of(aggregate, context)?;
        let (owner, end) = match &spec.regroup {
            None => (owner, End::Table(TableEnd::new(spec, &groups, writer, context.zones)?)),
            Some(regroup) => {
                let regroup = Regroup::new(number, spec, regroup, &groups, writer, context)?;
                (owner.with_before_images(), End::Regroup(Box::new(regroup)))
            }
        };
        Ok(Self {
            local: LocalAggregate::new(number, context.workers, context.local_bytes, aggregate, input, context.zones)?,
            distinct: distinct.collect(),
            owner,
            groups: groups.to_arrow(),
            end,
        })
    }

    /// The second grouping, if there is one.
    pub(super) fn regroup(&mut self) -> Option<&mut Regroup> {
        match &mut self.end {
            End::Table(_) => None,
            End::Regroup(regroup) => Some(regroup),
        }
    }

    /// Works on what waits for the state to be read.
    pub(super) fn settle(&mut self, may_write: bool) -> Result<()> {
        self.distinct.iter_mut().try_for_each(|owner| owner.settle(may_write))?;
        self.owner.settle()?;
        self.regroup().map_or(Ok(()), Regroup::settle)
    }

    /// The groups' side of a barrier, where the rows go to a table: what changed goes to its writer, groups to the state.
    pub(super) fn barrier(&mut self, epoch: Epoch, ack: &mut OutputAck) -> Result<()> {
        let End::Table(end) = &mut self.end else { return Ok(()) };
        if let Some(ChangedGroups { keys, results, .. }) = self.owner.take_changed(usize::MAX)? {
            let groups = batch_of(&self.groups, keys, results)?;
            ack.rows_changed += groups.num_rows() as u64;
            end.write(groups)?;
        }
        ack.files = end.prepare(epoch)?;
        self.owner.flush_state()
    }

    /// The same, where the rows are grouped again: some of what changed goes to the owners of the second grouping. Whether
    /// there was any; if not, nothing of the epoch is left here.
    pub(super) fn emit_changes(&mut self, changes: &mut Outbox) -> Result<bool> {
        let End::Regroup(regroup) = &mut self.end else { return Ok(false) };
        let Some(ChangedGroups { keys, results, previous: Some(previous) }) = self.owner.take_changed(CHUNK)? else {
            regroup.flush(changes);
            self.owner.flush_state()?;
            return Ok(false);
        };
        let take = |key: &ArrayRef| Ok(arrow::compute::take(key, &previous.rows, None)?);
        let previous_keys = keys.iter().map(take).collect::<Result<_>>()?;
        let before = batch_of(&self.groups, previous_keys, previous.results)?;
        let now = batch_of(&self.groups, keys, results)?;
        regroup.fold(before, &previous.rows, now, changes)?;
        Ok(true)
    }

    pub(super) fn pressure(&self) -> Pressure {
        let first = Pressure {
            dirty_values: self.distinct.iter().map(DistinctOwner::dirty).sum(),
            dirty_groups: self.owner.dirty(),
            dirty_regroups: 0,
            changed: self.owner.changed(),
            memory: self.owner.memory() + self.distinct.iter().map(DistinctOwner::memory).sum::<usize>(),
        };
        match &self.end {
            End::Table(_) => first,
            End::Regroup(regroup) => first.plus(regroup.pressure()),
        }
    }
}

/// Writes dirty groups ahead of the barrier, with `flush`; with `evict`, empties their cache as well if that frees much.
pub(super) fn relieve(owner: &mut GroupOwner, evict: bool, flush: bool) -> Result<()> {
    let evict = evict && owner.is_evictable();
    if evict || flush {
        owner.flush_state()?;
    }
    if evict { owner.evict() } else { Ok(()) }
}
