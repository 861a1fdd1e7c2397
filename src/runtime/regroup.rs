//! A second grouping: over the rows of the first one, which change. At a barrier the first grouping's owners hand over each
//! row that changed as it was at the barrier before and as it is now; the one is taken back from its group, the other is
//! added. So at each barrier a group is what its rows make, as if they had been grouped just then.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::kernels::cmp::{gt, not_distinct};
use arrow::compute::{and, filter_record_batch, not, take};
use arrow::datatypes::{DataType, SchemaRef, UInt32Type};

use super::channel::{Message, Outbox};
use super::grouped::{groups_of, owner_of};
use super::pipeline::{PipelineContext, Pressure};
use super::table_end::TableEnd;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::operator::accumulator::RowOrder;
use crate::operator::aggregate::{LocalAggregate, Outgoing};
use crate::operator::exchange::PartialBlock;
use crate::operator::expiry::Groups;
use crate::operator::merge::ChangedGroups;
use crate::operator::steps::{Steps, columns_of};
use crate::plan::lower::{PipelineSpec, RegroupSpec};
use crate::plan::schema::Schema;
use crate::protocol::checkpoint::OutputAck;
use crate::sink::StagingWriter;

/// Groups that are handed to the writer at a time.
const CHUNK: usize = 64 << 10;
/// Nothing in a second grouping goes by the order of rows.
const NO_ORDER: RowOrder<'_> = RowOrder { event_time: &[], partition: 0, offsets: &[] };

/// The second grouping of an output in one worker: its local side, and the groups that the worker owns.
pub(super) struct Regroup {
    between: Steps,
    removed: LocalAggregate,
    added: LocalAggregate,
    owner: Groups,
    /// The key, then the aggregates; the count of a group's rows is not among them.
    groups: SchemaRef,
    end: TableEnd,
}

impl Regroup {
    /// Over rows that look like `input`.
    pub(super) fn new(
        number: usize,
        spec: &PipelineSpec,
        regroup: &RegroupSpec,
        input: &Schema,
        writer: Box<dyn StagingWriter>,
        context: &PipelineContext<'_>,
    ) -> Result<Self> {
        let aggregate = &regroup.aggregate;
        let mut used = std::collections::BTreeSet::new();
        aggregate.expressions().for_each(|expr| columns_of(expr, &mut used));
        let between = Steps::compile(&regroup.between, input, Some(&used), context.zones)?;
        let local = || {
            let (workers, bytes) = (context.workers, context.local_bytes);
            LocalAggregate::new(number, workers, bytes, aggregate, between.output(), context.zones)
        };
        let mut groups = groups_of(aggregate);
        groups.fields.pop();
        Ok(Self {
            removed: local()?,
            added: local()?,
            owner: owner_of(aggregate, context, false)?,
            end: TableEnd::new(spec, &groups, writer, context)?,
            groups: groups.to_arrow(),
            between,
        })
    }

    /// Folds rows of the first grouping that changed: `now`, and of those that existed at the last barrier (`existed`:
    /// positions in `now`, rising) what they were.
    pub(super) fn fold(
        &mut self,
        before: RecordBatch,
        existed: &UInt32Array,
        now: RecordBatch,
        changes: &mut Outbox,
    ) -> Result<()> {
        let all: UInt32Array = (0..now.num_rows() as u32).collect();
        let (before, accepted_before) = self.between.apply_numbered(before)?;
        let (now, accepted) = self.between.apply_numbered(now)?;
        let numbers_before = match accepted_before {
            None => existed.clone(),
            Some(accepted) => take(existed, &accepted, None)?.as_primitive::<UInt32Type>().clone(),
        };
        let (removed, added) = differing(&before, &numbers_before, &now, &accepted.unwrap_or(all))?;
        self.removed.process(&removed, &NO_ORDER, &mut |to, block| send(to, block, true, changes))?;
        self.added.process(&added, &NO_ORDER, &mut |to, block| send(to, block, false, changes))
    }

    /// Sends what is folded: nothing of the epoch stays behind.
    pub(super) fn flush(&mut self, changes: &mut Outbox) {
        self.removed.flush(&mut |to, block| send(to, block, true, changes));
        self.added.flush(&mut |to, block| send(to, block, false, changes));
    }

    /// Takes in changes of the groups that this worker owns.
    pub(super) fn merge(&mut self, block: PartialBlock) -> Result<()> {
        self.owner.merge(block)
    }

    /// Works on what waits for the state to be read.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.owner.settle()
    }

    /// The owners' side of a barrier: what changed goes to the writer, groups to the state.
    pub(super) fn barrier(&mut self, epoch: Epoch, ack: &mut OutputAck) -> Result<()> {
        while let Some(changed) = self.owner.take_changed(CHUNK)? {
            ack.rows_changed += self.write(changed)?;
        }
        self.end.prepare(epoch);
        self.owner.flush_state()
    }

    /// As of a grouping whose rows go to a table.
    pub(super) fn take_staged(&mut self, ack: &mut OutputAck) -> Result<bool> {
        self.end.take_staged(&mut ack.files)
    }

    fn write(&mut self, changed: ChangedGroups) -> Result<u64> {
        let mut columns: Vec<ArrayRef> = changed.keys.into_iter().chain(changed.results).collect();
        let rows = columns.pop().ok_or_else(|| Error::internal("a second grouping without a count of its rows"))?;
        let groups = RecordBatch::try_new(self.groups.clone(), columns)?;
        let is_there = gt(&rows, &arrow::array::Int64Array::new_scalar(0))?;
        self.end.delete(&filter_record_batch(&groups, &not(&is_there)?)?)?;
        self.end.write(filter_record_batch(&groups, &is_there)?)?;
        Ok(groups.num_rows() as u64)
    }

    pub(super) fn pressure(&self) -> Pressure {
        Pressure {
            dirty_regroups: self.owner.dirty(),
            changed: self.owner.changed(),
            memory: self.owner.memory() + self.end.memory(),
            ..Pressure::default()
        }
    }

    /// Writes dirty groups ahead of the barrier, with `flush`; with `evict`, empties their cache as well if that frees much.
    pub(super) fn relieve(&mut self, evict: bool, flush: bool) -> Result<()> {
        self.owner.relieve(evict, flush)
    }

    /// Drops what is kept of groups that have expired at this `closed`.
    pub(super) fn expire(&mut self, closed_ms: i64) -> Result<()> {
        self.owner.expire(closed_ms)
    }
}

fn send(to: usize, block: Outgoing, retract: bool, changes: &mut Outbox) {
    // No distinct values are counted here: all blocks are partial results.
    if let Outgoing::Partial(block) = block {
        changes.send(to, Message::Partial(PartialBlock { retract, ..block }));
    }
}

/// Leaves out the rows that are the same on both sides: taking back and adding the same changes nothing. Rows belong
/// together where their numbers, which rise, are equal.
fn differing(
    before: &RecordBatch,
    numbers_before: &UInt32Array,
    now: &RecordBatch,
    numbers: &UInt32Array,
) -> Result<(RecordBatch, RecordBatch)> {
    let (left, right) = pairs(numbers_before.values(), numbers.values());
    let mut same = BooleanArray::from(vec![true; left.len()]);
    for (a, b) in before.columns().iter().zip(now.columns()) {
        same = and(&same, &equal(&take(a, &left, None)?, &take(b, &right, None)?)?)?;
    }
    let keep = |batch: &RecordBatch, rows: &UInt32Array| {
        let mut keep = vec![true; batch.num_rows()];
        rows.values().iter().zip(same.values()).for_each(|(row, same)| keep[*row as usize] = !same);
        filter_record_batch(batch, &BooleanArray::from(keep))
    };
    Ok((keep(before, &left)?, keep(now, &right)?))
}

/// Where equal numbers stand in two rising lists.
fn pairs(a: &[u32], b: &[u32]) -> (UInt32Array, UInt32Array) {
    let (mut left, mut right, mut at) = (Vec::new(), Vec::new(), 0);
    for (i, number) in a.iter().enumerate() {
        at += b[at..].iter().take_while(|other| *other < number).count();
        if b.get(at) == Some(number) {
            left.push(i as u32);
            right.push(at as u32);
        }
    }
    (left.into(), right.into())
}

/// Where two columns have the same value, null like null. Lists and structs are taken to differ.
fn equal(a: &ArrayRef, b: &ArrayRef) -> Result<BooleanArray> {
    match a.data_type() {
        DataType::List(_) | DataType::Struct(_) => Ok(BooleanArray::from(vec![false; a.len()])),
        _ => Ok(not_distinct(a, b)?),
    }
}
