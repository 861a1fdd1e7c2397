//! Which rows of a batch an aggregate takes.

use arrow::array::{Array, BooleanArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};

use crate::error::{Error, Result};

/// The rows that take part.
pub(super) struct Selection {
    rows: usize,
    /// Absent: all of them.
    mask: Option<BooleanBuffer>,
}

impl Selection {
    /// Rows where `filter` is true and, if `nulls` are given, the input is not null. Columns must be `rows` long.
    pub(super) fn new(rows: usize, filter: Option<&BooleanArray>, nulls: Option<&NullBuffer>) -> Result<Self> {
        let lengths = [filter.map(Array::len), nulls.map(NullBuffer::len)];
        if lengths.into_iter().flatten().any(|length| length != rows) {
            return Err(Error::internal("an aggregate was updated with columns of different lengths"));
        }
        let valid = |nulls: &NullBuffer| (nulls.null_count() > 0).then(|| nulls.inner().clone());
        let mask = [
            filter.map(|filter| filter.values().clone()),
            filter.and_then(Array::nulls).and_then(valid),
            nulls.and_then(valid),
        ]
        .into_iter()
        .flatten()
        .reduce(|a, b| &a & &b);
        Ok(Self { rows, mask })
    }

    /// Rows where `filter` is true and `input` is not null.
    pub(super) fn of(rows: usize, filter: Option<&BooleanArray>, input: &dyn Array) -> Result<Self> {
        if input.len() != rows {
            return Err(Error::internal("an aggregate was updated with columns of different lengths"));
        }
        Self::new(rows, filter, input.nulls())
    }

    /// Calls `add` with the slot and the number of each row that takes part.
    #[inline]
    pub(super) fn for_each(&self, slots: &[u32], mut add: impl FnMut(usize, usize)) {
        match &self.mask {
            None => slots[..self.rows].iter().enumerate().for_each(|(row, &slot)| add(slot as usize, row)),
            Some(mask) => mask.set_indices().for_each(|row| add(slots[row] as usize, row)),
        }
    }

    /// As [`Self::for_each`], with the row's value.
    #[inline]
    pub(super) fn for_each_value<T: Copy>(&self, slots: &[u32], values: &[T], mut add: impl FnMut(usize, T)) {
        match &self.mask {
            None => slots[..self.rows].iter().zip(values).for_each(|(&slot, &value)| add(slot as usize, value)),
            Some(mask) => mask.set_indices().for_each(|row| add(slots[row] as usize, values[row])),
        }
    }
}
