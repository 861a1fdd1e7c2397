//! The state of plain aggregates.
//!
//! An accumulator holds one aggregate of many groups, each group in a slot. The same code folds a batch before the
//! exchange and merges what arrives behind it. What [`Accumulator::encode`] writes goes over the exchange and into
//! checkpoints: format version 1, held by golden tests. Integers are little endian, a varint is LEB128, a *signed number*
//! is a length byte and then as many bytes of two's complement as are needed (none for 0).
//!
//! | id | state | bytes |
//! |---|---|---|
//! | 1 | count | i64 |
//! | 2 | sum, mean of integers (i128) and decimals (i256, unscaled) | varint count; signed number |
//! | 3 | sum, mean of floats | flags; varint count; if it is not 0: first chunk, chunks, u32 each (see `float_sum`) |
//! | 4 | min, max of fixed width | 0, or 1 and the value: i32, i64, i128; booleans as i32, floats as `float_order` |
//! | 5 | min, max of text and bytes | 0, or 1, varint length and the bytes |
//! | 6 | first, last | 0, or 1, event time i64, partition i32, offset i64, varint length and the value (`ValueEncoder`) |
//! | 7 | sum, mean of floats that are taken back | varint count; if it is not 0: varint NaNs, +∞, −∞; sign 0 or 1; first chunk, chunks, u32 each |
//!
//! Each is a function of the rows alone: neither their order nor how they were split into partials shows in the bytes.
//! Counts, sums and means can also take rows back ([`Accumulator::retract`]): what is left has the bytes of a state that
//! never saw them.

mod count;
mod extreme;
mod extreme_bytes;
mod first_last;
pub mod float_sum;
mod select;
mod sum;
mod sum_float;
mod sum_float_counted;
#[cfg(test)]
mod tests;
mod wire;

use arrow::array::{ArrayRef, BooleanArray};

use crate::error::{Error, Result};
use crate::plan::expr::AggregateFunction as Function;
use crate::plan::lower::AggregateCall;
use crate::plan::schema::DataType;

pub use count::{DistinctTally, encode_count};
use sum_float::{Flagged, FloatSums};
use sum_float_counted::Counted;

/// Where the rows of a batch stand, parallel to them: what `first` and `last` go by.
#[derive(Clone, Copy, Debug)]
pub struct RowOrder<'a> {
    /// Event times, all in one unit.
    pub event_time: &'a [i64],
    /// The partition that the batch was read from.
    pub partition: i32,
    /// Offsets in it.
    pub offsets: &'a [i64],
}

/// The state of one plain aggregate for many groups, addressed by dense slot numbers.
///
/// Slots must have been made by [`Accumulator::ensure`]; another number panics. Whoever implements this guarantees that
/// the encoded bytes and the output depend only on the rows that a slot has seen.
pub trait Accumulator: Send {
    /// Makes slots 0 to `slots` − 1 exist; new ones are empty. Never removes any.
    fn ensure(&mut self, slots: usize);

    /// Adds row i to slot `slots[i]`, for every row. Rows where `filter` is false or null are left out.
    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        order: &RowOrder<'_>,
    ) -> Result<()>;

    /// Appends the state of a slot. The bytes tell where they end.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);

    /// Takes an encoded partial off the front of `bytes` and adds it to the slot. A corruption error if it is not one;
    /// the slot is then as it was.
    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()>;

    /// Takes an encoded partial off the front of `bytes` and takes its rows back from the slot, to which they were added
    /// before. A corruption error if they were not, as far as that shows; the slot is then as it was. An internal error
    /// where rows cannot be taken back: an extreme of what is left is not known.
    fn retract(&mut self, _slot: u32, _bytes: &mut &[u8]) -> Result<()> {
        Err(Error::internal("rows were taken back from an aggregate that cannot do so"))
    }

    /// Empties a slot for reuse.
    fn reset(&mut self, slot: u32);

    /// The results of these slots, in this order, of the call's output type. A data error if one does not fit: whoever
    /// wants to name its key asks again, one slot at a time.
    fn output(&self, slots: &[u32]) -> Result<ArrayRef>;

    /// Which of the encodings above this is, as manifests store it.
    fn encoding_id(&self) -> u8;

    /// Bytes of memory in use.
    fn memory(&self) -> usize;
}

/// The accumulator of a call. For distinct counts it is a [`DistinctTally`]: it adds up what the owners of the values
/// report. A plan error if the function does not take this type.
pub fn create(call: &AggregateCall) -> Result<Box<dyn Accumulator>> {
    let unsupported = || {
        let input = call.input_type.as_ref().map_or("no input".to_owned(), ToString::to_string);
        Error::plan("invalid_aggregate", format!("column {}: {:?} of {input} is not defined", call.name, call.function))
    };
    let (accumulator, output_type): (Box<dyn Accumulator>, DataType) = match (call.function, &call.input_type) {
        (Function::Len, _) => (Box::new(count::Count::rows()), DataType::Int64),
        (Function::Count, Some(_)) => (Box::new(count::Count::values()), DataType::Int64),
        (Function::NUnique | Function::CountDistinct, Some(_)) => (Box::new(DistinctTally::default()), DataType::Int64),
        (Function::Sum | Function::Mean, Some(DataType::Float64)) if call.retracts => {
            (Box::new(FloatSums::<Counted>::new(call.function == Function::Mean)), DataType::Float64)
        }
        (Function::Sum | Function::Mean, Some(DataType::Float64)) => {
            (Box::new(FloatSums::<Flagged>::new(call.function == Function::Mean)), DataType::Float64)
        }
        (Function::Sum | Function::Mean, Some(input)) => sum::create(call, input).ok_or_else(unsupported)?,
        (Function::Min | Function::Max, Some(input)) => (extreme::create(call, input).ok_or_else(unsupported)?, input.clone()),
        (Function::First | Function::Last, Some(input)) => {
            let last = call.function == Function::Last;
            (Box::new(first_last::FirstLast::new(input, last, call.ignore_nulls)), input.clone())
        }
        (_, None) => return Err(unsupported()),
    };
    if output_type != call.output_type {
        return Err(Error::internal(format!("column {} is {output_type}, the plan says {}", call.name, call.output_type)));
    }
    Ok(accumulator)
}

/// The input that every aggregate but `len` has.
fn required(input: Option<&ArrayRef>) -> Result<&ArrayRef> {
    input.ok_or_else(|| Error::internal("an aggregate of a column was updated without one"))
}

/// The input as this Arrow array.
fn typed<T: 'static>(input: &ArrayRef) -> Result<&T> {
    input.as_any().downcast_ref().ok_or_else(|| {
        Error::internal(format!("an aggregate was given {} instead of {}", input.data_type(), std::any::type_name::<T>()))
    })
}
