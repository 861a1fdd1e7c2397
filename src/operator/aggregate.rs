//! The local side of a grouping: folds batches by key where records are decoded, so that only one partial result per
//! group and epoch travels to the group's owner (`merge.rs`).

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};

use super::accumulator::{self, Accumulator, RowOrder};
use super::distinct::{EncodedColumn, LocalDistinct};
use super::eval::Evaluator;
use super::exchange::{DistinctBlock, PartialBlock, owner_of_hash};
use super::key_index::KeyIndex;
use crate::error::Result;
use crate::plan::expr::AggregateFunction;
use crate::plan::lower::{AggregateCall, AggregateSpec};
use crate::plan::schema::Schema;
use crate::plan::time_zones::ZoneTables;
use crate::state::encoding::{KeyEncoder, ValueEncoder, key_hash};

/// Groups that may be waiting before they are sent, so that a barrier has a bounded amount to send.
const TOUCHED_LIMIT: usize = 32 << 10;
/// Bytes of a block of partial results.
const BLOCK_BYTES: usize = 64 << 10;

/// What a worker sends to owners.
pub enum Outgoing {
    /// For the groups' owner.
    Partial(PartialBlock),
    /// For the values' owner.
    Distinct(DistinctBlock),
}

/// The local side of one grouping.
pub struct LocalAggregate {
    pipeline: usize,
    workers: usize,
    keys: Vec<Evaluator>,
    encoder: KeyEncoder,
    calls: Vec<Call>,
    plain: Vec<AggregateCall>,
    /// Bytes that may be held.
    budget: usize,
    accumulators: Vec<Box<dyn Accumulator>>,
    index: KeyIndex,
    touched: Vec<u32>,
    is_touched: Vec<bool>,
    slots: Vec<u32>,
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
}

struct Call {
    input: Option<Evaluator>,
    filter: Option<Evaluator>,
    distinct: Option<Distinct>,
}

struct Distinct {
    values: ValueEncoder,
    local: LocalDistinct,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl LocalAggregate {
    /// For a grouping over batches of `input`, whose results `workers` workers own, holding about `budget` bytes.
    pub fn new(
        pipeline: usize,
        workers: usize,
        budget: usize,
        spec: &AggregateSpec,
        input: &Schema,
        zones: &ZoneTables,
    ) -> Result<Self> {
        let compile = |expr| Evaluator::compile(expr, input, zones);
        let mut calls = Vec::with_capacity(spec.calls.len());
        for (number, call) in spec.calls.iter().enumerate() {
            let counts_null = match call.function {
                AggregateFunction::NUnique => Some(true),
                AggregateFunction::CountDistinct => Some(false),
                _ => None,
            };
            let distinct = match (counts_null, &call.input_type) {
                (Some(counts_null), Some(data_type)) => Some(Distinct {
                    values: ValueEncoder::new(data_type),
                    local: LocalDistinct::new(pipeline, number, counts_null),
                    bytes: Vec::new(),
                    ends: Vec::new(),
                }),
                _ => None,
            };
            calls.push(Call {
                input: call.input.as_ref().map(compile).transpose()?,
                filter: call.filter.as_ref().map(compile).transpose()?,
                distinct,
            });
        }
        Ok(Self {
            pipeline,
            workers,
            keys: spec.keys.iter().map(|key| compile(&key.expr)).collect::<Result<_>>()?,
            encoder: KeyEncoder::new(&spec.key_types)?,
            calls,
            plain: spec.calls.clone(),
            budget,
            accumulators: spec.calls.iter().map(accumulator::create).collect::<Result<_>>()?,
            index: KeyIndex::default(),
            touched: Vec::new(),
            is_touched: Vec::new(),
            slots: Vec::new(),
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
        })
    }

    /// Folds a batch in; sends what there is too much of: `emit(worker, block)`.
    pub fn process(&mut self, batch: &RecordBatch, order: &RowOrder<'_>, emit: &mut dyn FnMut(usize, Outgoing)) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.assign_slots(batch)?;
        self.accumulators.iter_mut().for_each(|a| a.ensure(self.index.len()));
        for (call, accumulator) in self.calls.iter_mut().zip(&mut self.accumulators) {
            let input: Option<ArrayRef> = call.input.as_ref().map(|e| e.evaluate(batch)).transpose()?;
            let filter: Option<BooleanArray> = call.filter.as_ref().map(|e| e.filter_mask(batch)).transpose()?;
            match (&mut call.distinct, &input) {
                (Some(distinct), Some(column)) => {
                    distinct.values.encode(column, &mut distinct.bytes, &mut distinct.ends)?;
                    let values = EncodedColumn { bytes: &distinct.bytes, ends: &distinct.ends, column: column.as_ref() };
                    distinct.local.update(&self.slots, &values, filter.as_ref());
                }
                _ => accumulator.update(&self.slots, input.as_ref(), filter.as_ref(), order)?,
            }
        }
        if self.calls.iter().any(|call| call.distinct.as_ref().is_some_and(|d| d.local.is_full())) {
            self.send_distinct(emit);
        }
        let full = self.memory() > self.budget;
        if full || self.touched.len() >= TOUCHED_LIMIT {
            self.flush(emit);
        }
        if full { self.forget() } else { Ok(()) }
    }

    /// Numbers the group of each row. Rows of one group often follow each other: those are not even hashed.
    fn assign_slots(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = self.keys.iter().map(|key| key.evaluate(batch)).collect::<Result<Vec<_>>>()?;
        self.encoder.encode(&columns, &mut self.key_bytes, &mut self.key_ends)?;
        self.slots.clear();
        let (mut start, mut last): (usize, Option<(&[u8], u32)>) = (0, None);
        for &end in &self.key_ends {
            let key = &self.key_bytes[start..end];
            start = end;
            let slot = match last {
                Some((same, slot)) if same == key => slot,
                _ => {
                    let (slot, new) = self.index.intern(key_hash(key), key);
                    if new {
                        self.is_touched.push(false);
                    }
                    if !self.is_touched[slot as usize] {
                        self.is_touched[slot as usize] = true;
                        self.touched.push(slot);
                    }
                    slot
                }
            };
            last = Some((key, slot));
            self.slots.push(slot);
        }
        Ok(())
    }

    fn send_distinct(&mut self, emit: &mut dyn FnMut(usize, Outgoing)) {
        for distinct in self.calls.iter_mut().filter_map(|call| call.distinct.as_mut()) {
            distinct.local.flush(&self.index, self.workers, &mut |worker, block| emit(worker, Outgoing::Distinct(block)));
        }
    }

    /// Sends everything that is held: before a barrier goes on, nothing of its epoch stays behind.
    pub fn flush(&mut self, emit: &mut dyn FnMut(usize, Outgoing)) {
        self.send_distinct(emit);
        let new = || PartialBlock { pipeline: self.pipeline, ..PartialBlock::default() };
        let mut blocks: Vec<PartialBlock> = (0..self.workers).map(|_| new()).collect();
        let mut partial = Vec::new();
        for slot in self.touched.drain(..) {
            self.is_touched[slot as usize] = false;
            partial.clear();
            for accumulator in &mut self.accumulators {
                accumulator.encode(slot, &mut partial);
                accumulator.reset(slot);
            }
            let worker = owner_of_hash(self.index.hash(slot), self.workers);
            let block = &mut blocks[worker];
            block.keys.push(self.index.key(slot));
            block.partials.push(&partial);
            if block.size() > BLOCK_BYTES {
                emit(worker, Outgoing::Partial(std::mem::replace(block, new())));
            }
        }
        for (worker, block) in blocks.into_iter().enumerate().filter(|(_, block)| !block.keys.is_empty()) {
            emit(worker, Outgoing::Partial(block));
        }
    }

    /// Forgets what was seen, and gives the memory back; nothing may be held. What comes again is sent again, which changes
    /// nothing at the owners.
    fn forget(&mut self) -> Result<()> {
        debug_assert!(self.touched.is_empty());
        self.index.clear();
        self.is_touched = Vec::new();
        self.calls.iter_mut().filter_map(|call| call.distinct.as_mut()).for_each(|d| d.local.forget());
        self.accumulators = self.plain.iter().map(accumulator::create).collect::<Result<_>>()?;
        Ok(())
    }

    /// Bytes of memory in use, about.
    pub fn memory(&self) -> usize {
        let distinct: usize = self.calls.iter().filter_map(|c| c.distinct.as_ref()).map(|d| d.local.memory()).sum();
        self.index.memory() + distinct + self.accumulators.iter().map(|a| a.memory()).sum::<usize>()
    }
}
