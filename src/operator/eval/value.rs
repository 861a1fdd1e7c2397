//! What expressions are evaluated to: a value for each row, or one for all.

use arrow::array::{Array, ArrayRef, Datum, UInt32Array};

use crate::error::Result;

/// A column, or a constant as an array of one.
#[derive(Clone, Debug)]
pub(super) struct Value {
    array: ArrayRef,
    constant: bool,
}

impl Value {
    pub(super) fn rows(array: ArrayRef) -> Self {
        Self { array, constant: false }
    }

    /// `array` has one value.
    pub(super) fn constant(array: ArrayRef) -> Self {
        debug_assert_eq!(array.len(), 1);
        Self { array, constant: true }
    }

    /// A result: constant if its arguments were.
    pub(super) fn like(array: ArrayRef, args: &[Self]) -> Self {
        Self { array, constant: args.iter().all(|arg| arg.constant) }
    }

    pub(super) fn is_constant(&self) -> bool {
        self.constant
    }

    pub(super) fn array(&self) -> &ArrayRef {
        &self.array
    }

    /// One value for each of so many rows.
    pub(super) fn expand(self, rows: usize) -> Result<ArrayRef> {
        if !self.constant || rows == 1 {
            return Ok(self.array);
        }
        if self.array.is_null(0) {
            return Ok(arrow::array::new_null_array(self.array.data_type(), rows));
        }
        let first = UInt32Array::from(vec![0; rows]);
        Ok(arrow::compute::take(&self.array, &first, None)?)
    }
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        (self.array.as_ref(), self.constant)
    }
}

/// How many rows a function of these has: those of the columns, or one if all are constants.
pub(super) fn row_count(args: &[Value]) -> usize {
    args.iter().find(|arg| !arg.constant).map_or(1, |arg| arg.array.len())
}
