//! `min` and `max` of text (by its UTF-8 bytes, which is by code points) and of bytes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, StringArray};

use super::select::Selection;
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::Result;

const ENCODING: u8 = 5;

pub(super) struct ExtremeBytes {
    slots: Vec<Option<Vec<u8>>>,
    /// Capacity of all values.
    heap: usize,
    max: bool,
    text: bool,
}

impl ExtremeBytes {
    pub(super) fn text(max: bool) -> Self {
        Self { slots: Vec::new(), heap: 0, max, text: true }
    }

    pub(super) fn binary(max: bool) -> Self {
        Self { slots: Vec::new(), heap: 0, max, text: false }
    }

    #[inline]
    fn add(&mut self, slot: usize, value: &[u8]) {
        match &mut self.slots[slot] {
            Some(old) => {
                let ahead = if self.max { value > &old[..] } else { value < &old[..] };
                if ahead {
                    self.heap -= old.capacity();
                    old.clear();
                    old.extend_from_slice(value);
                    self.heap += old.capacity();
                }
            }
            empty => {
                let value = value.to_vec();
                self.heap += value.capacity();
                *empty = Some(value);
            }
        }
    }
}

impl Accumulator for ExtremeBytes {
    fn ensure(&mut self, slots: usize) {
        if slots > self.slots.len() {
            self.slots.resize(slots, None);
        }
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        _: &RowOrder<'_>,
    ) -> Result<()> {
        let input = required(input)?;
        let rows = Selection::of(slots.len(), filter, input)?;
        if self.text {
            let input = typed::<StringArray>(input)?;
            rows.for_each(slots, |slot, row| self.add(slot, input.value(row).as_bytes()));
        } else {
            let input = typed::<BinaryArray>(input)?;
            rows.for_each(slots, |slot, row| self.add(slot, input.value(row)));
        }
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        match &self.slots[slot as usize] {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                wire::put_bytes(value, out);
            }
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        if wire::present(bytes)? {
            let value = wire::bytes(bytes)?;
            if self.text && std::str::from_utf8(value).is_err() {
                return Err(wire::damaged("text is not UTF-8"));
            }
            self.add(slot as usize, value);
        }
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        if let Some(value) = self.slots[slot as usize].take() {
            self.heap -= value.capacity();
        }
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let values = slots.iter().map(|&slot| self.slots[slot as usize].as_deref());
        if !self.text {
            return Ok(Arc::new(values.collect::<BinaryArray>()));
        }
        let texts = values.map(|value| value.map(std::str::from_utf8).transpose());
        let texts = texts.collect::<std::result::Result<StringArray, _>>();
        Ok(Arc::new(texts.map_err(|_| wire::damaged("text is not UTF-8"))?))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Vec<u8>>>() + self.heap
    }
}
