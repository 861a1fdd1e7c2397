//! `first` and `last` by (event time, partition, offset).

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::take;

use super::select::Selection;
use super::{Accumulator, RowOrder, required, wire};
use crate::error::{Error, Result};
use crate::plan::schema::DataType;
use crate::state::encoding::{NULL_VALUE, ValueEncoder};

const ENCODING: u8 = 6;

/// Where a row stands. No two rows stand at the same place: a partition has one record at an offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    event_time: i64,
    partition: i32,
    offset: i64,
}

#[derive(Clone, Default)]
struct Slot {
    place: Option<Place>,
    /// As [`ValueEncoder`] writes it.
    value: Vec<u8>,
    /// While a batch is added: the row that is ahead, if it is one of the batch.
    row: Option<u32>,
}

pub(super) struct FirstLast {
    slots: Vec<Slot>,
    encoder: ValueEncoder,
    last: bool,
    ignore_nulls: bool,
    /// Capacity of all values.
    heap: usize,
    /// The slots that the batch changes, and its encoded values: kept for their memory.
    changed: Vec<u32>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl FirstLast {
    pub(super) fn new(input: &DataType, last: bool, ignore_nulls: bool) -> Self {
        Self {
            slots: Vec::new(),
            encoder: ValueEncoder::lossless(input),
            last,
            ignore_nulls,
            heap: 0,
            changed: Vec::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Puts `place` into the slot if it is ahead of what is there.
    #[inline]
    fn advance(slot: &mut Slot, place: Place, last: bool) -> bool {
        let ahead = slot.place.is_none_or(|old| if last { place > old } else { place < old });
        if ahead {
            slot.place = Some(place);
        }
        ahead
    }

    fn store(&mut self, slot: u32, value: &[u8]) {
        let to = &mut self.slots[slot as usize].value;
        self.heap -= to.capacity();
        to.clear();
        to.extend_from_slice(value);
        self.heap += to.capacity();
    }

    /// Encodes the rows that are ahead, each once.
    fn store_rows(&mut self, input: &ArrayRef) -> Result<()> {
        let changed = std::mem::take(&mut self.changed);
        let rows = changed.iter().map(|&slot| self.slots[slot as usize].row.take());
        let values = take(input, &rows.collect::<UInt32Array>(), None)?;
        let (mut bytes, mut ends) = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ends));
        self.encoder.encode(&values, &mut bytes, &mut ends)?;
        let mut start = 0;
        for (&slot, &end) in changed.iter().zip(&ends) {
            self.store(slot, &bytes[start..end]);
            start = end;
        }
        (self.changed, self.bytes, self.ends) = (changed, bytes, ends);
        self.changed.clear();
        Ok(())
    }
}

impl Accumulator for FirstLast {
    fn ensure(&mut self, slots: usize) {
        if slots > self.slots.len() {
            self.slots.resize(slots, Slot::default());
        }
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        order: &RowOrder<'_>,
    ) -> Result<()> {
        let input = required(input)?;
        let rows = slots.len();
        if [input.len(), order.event_time.len(), order.offsets.len()] != [rows; 3] {
            return Err(Error::internal("an aggregate was updated with columns of different lengths"));
        }
        let nulls = if self.ignore_nulls { input.nulls() } else { None };
        let (state, changed, last) = (&mut self.slots[..], &mut self.changed, self.last);
        Selection::new(rows, filter, nulls)?.for_each(slots, |slot, row| {
            let place = Place { event_time: order.event_time[row], partition: order.partition, offset: order.offsets[row] };
            let to = &mut state[slot];
            if Self::advance(to, place, last) && to.row.replace(row as u32).is_none() {
                changed.push(slot as u32);
            }
        });
        if changed.is_empty() { Ok(()) } else { self.store_rows(input) }
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let Slot { place, value, .. } = &self.slots[slot as usize];
        let Some(place) = place else { return out.push(0) };
        out.push(1);
        out.extend_from_slice(&place.event_time.to_le_bytes());
        out.extend_from_slice(&place.partition.to_le_bytes());
        out.extend_from_slice(&place.offset.to_le_bytes());
        wire::put_bytes(value, out);
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        if wire::present(bytes)? {
            let place = Place {
                event_time: i64::from_le_bytes(wire::array(bytes)?),
                partition: i32::from_le_bytes(wire::array(bytes)?),
                offset: i64::from_le_bytes(wire::array(bytes)?),
            };
            let value = wire::bytes(bytes)?;
            if Self::advance(&mut self.slots[slot as usize], place, self.last) {
                self.store(slot, value);
            }
        }
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        let old = std::mem::take(&mut self.slots[slot as usize]);
        self.heap -= old.value.capacity();
    }

    /// A value that was damaged on its way through the state shows here, as a corruption error.
    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|&slot| {
            let Slot { place, value, .. } = &self.slots[slot as usize];
            if place.is_some() { &value[..] } else { NULL_VALUE }
        });
        self.encoder.decode(&values.collect::<Vec<_>>())
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.heap
            + self.bytes.capacity()
            + self.changed.capacity() * size_of::<u32>()
            + self.ends.capacity() * size_of::<usize>()
    }
}
