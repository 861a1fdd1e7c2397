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
use crate::operator::exchange::key_groups_of;
use crate::operator::expiry::{ExpiringRows, Expiry, Groups, Place, Values};
use crate::operator::merge::ChangedGroups;
use crate::operator::steps::Rows;
use crate::plan::lower::{AggregateSpec, PipelineSpec};
use crate::plan::schema::{Field, Schema};
use crate::protocol::checkpoint::OutputAck;
use crate::sink::StagingWriter;

/// Groups that are handed to a second grouping at a time.
const CHUNK: usize = 8 << 10;

/// A grouping, and what becomes of its rows.
pub(super) struct Grouped {
    pub(super) local: LocalAggregate,
    pub(super) distinct: Vec<Values>,
    pub(super) owner: Groups,
    /// Where its groups expire: which rows come in time.
    in_time: Option<ExpiringRows>,
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

/// Where the state of an operator lies.
fn place_of(family: String, context: &PipelineContext<'_>) -> Place {
    let key_groups = key_groups_of(context.index, context.workers);
    Place { store: context.store.clone(), family, key_groups, fresh: context.fresh }
}

/// The owner of a grouping's groups. `before_images`: of which another grouping follows.
pub(super) fn owner_of(spec: &AggregateSpec, context: &PipelineContext<'_>, before_images: bool) -> Result<Groups> {
    let (expiry, place) = (Expiry::new(spec, context.zones)?, place_of(group_family(spec), context));
    Ok(Groups::new(spec, expiry, place, context.room.waiting, before_images))
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
            let (expiry, place) = (Expiry::new(aggregate, context.zones)?, place_of(distinct_family(aggregate, call), context));
            Ok(Values::new(number, call, expiry, place, context.room))
        });
        let end = match &spec.regroup {
            None => End::Table(TableEnd::new(spec, &groups, writer, context)?),
            Some(regroup) => End::Regroup(Box::new(Regroup::new(number, spec, regroup, &groups, writer, context)?)),
        };
        Ok(Self {
            local: LocalAggregate::new(number, context.workers, context.local_bytes, aggregate, input, context.zones)?,
            distinct: distinct.collect::<Result<_>>()?,
            owner: owner_of(aggregate, context, spec.regroup.is_some())?,
            in_time: ExpiringRows::new(aggregate, input, context.zones)?,
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

    /// The rows whose groups have not expired.
    pub(super) fn keep(&self, rows: Rows) -> Result<Rows> {
        match &self.in_time {
            None => Ok(rows),
            Some(in_time) => in_time.keep(rows),
        }
    }

    /// Drops what is kept of groups that have expired at this `closed`.
    pub(super) fn expire(&mut self, closed_ms: i64) -> Result<()> {
        self.distinct.iter_mut().try_for_each(|values| values.expire(closed_ms))?;
        self.owner.expire(closed_ms)?;
        self.regroup().map_or(Ok(()), |regroup| regroup.expire(closed_ms))
    }

    /// Works on what waits for the state to be read.
    pub(super) fn settle(&mut self, may_write: bool) -> Result<()> {
        self.distinct.iter_mut().try_for_each(|values| values.settle(may_write))?;
        self.owner.settle()?;
        self.regroup().map_or(Ok(()), Regroup::settle)
    }

    /// The groups' side of a barrier, where the rows go to a table: what changed goes to its writer, groups to the state.
    pub(super) fn barrier(&mut self, epoch: Epoch, ack: &mut OutputAck) -> Result<()> {
        let End::Table(end) = &mut self.end else { return Ok(()) };
        while let Some(ChangedGroups { keys, results, .. }) = self.owner.take_changed(usize::MAX)? {
            let groups = batch_of(&self.groups, keys, results)?;
            ack.rows_changed += groups.num_rows() as u64;
            end.write(groups)?;
        }
        end.prepare(epoch);
        self.owner.flush_state()
    }

    /// Takes the files of the barrier that passed, if they are durable by now. Whether none are on their way any more.
    pub(super) fn take_staged(&mut self, ack: &mut OutputAck) -> Result<bool> {
        match &mut self.end {
            End::Table(end) => end.take_staged(&mut ack.files),
            End::Regroup(regroup) => regroup.take_staged(ack),
        }
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
            dirty_values: self.distinct.iter().map(Values::dirty).sum(),
            dirty_groups: self.owner.dirty(),
            dirty_regroups: 0,
            changed: self.owner.changed(),
            memory: self.owner.memory() + self.distinct.iter().map(Values::memory).sum::<usize>(),
        };
        match &self.end {
            End::Table(end) => Pressure { memory: first.memory + end.memory(), ..first },
            End::Regroup(regroup) => first.plus(regroup.pressure()),
        }
    }
}
