//! `min` and `max` of values of fixed width.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, PrimitiveArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
};

use super::extreme_bytes::ExtremeBytes;
use super::select::Selection;
use super::{Accumulator, RowOrder, required, typed, wire};
use crate::error::{Error, Result};
use crate::plan::expr::AggregateFunction;
use crate::plan::lower::AggregateCall;
use crate::plan::schema::{DataType, TimeUnit};
use crate::state::encoding::{float_of_order, float_order};

const ENCODING: u8 = 4;

/// The accumulator of `min` or `max` of this type, unless its values do not compare.
pub(super) fn create(call: &AggregateCall, input: &DataType) -> Option<Box<dyn Accumulator>> {
    let max = call.function == AggregateFunction::Max;
    Some(match input {
        DataType::Boolean => of::<BooleanArray, i32>(call, input),
        DataType::Int32 => of::<Int32Array, i32>(call, input),
        DataType::Date => of::<Date32Array, i32>(call, input),
        DataType::Int64 => of::<Int64Array, i64>(call, input),
        DataType::Float64 => of::<Float64Array, i64>(call, input),
        DataType::Decimal { .. } => of::<Decimal128Array, i128>(call, input),
        DataType::Timestamp(TimeUnit::Second) => of::<TimestampSecondArray, i64>(call, input),
        DataType::Timestamp(TimeUnit::Millisecond) => of::<TimestampMillisecondArray, i64>(call, input),
        DataType::Timestamp(TimeUnit::Microsecond) => of::<TimestampMicrosecondArray, i64>(call, input),
        DataType::Timestamp(TimeUnit::Nanosecond) => of::<TimestampNanosecondArray, i64>(call, input),
        DataType::String => Box::new(ExtremeBytes::text(max)),
        DataType::Binary => Box::new(ExtremeBytes::binary(max)),
        DataType::List(_) | DataType::Struct(_) => return None,
    })
}

fn of<A: Column<N>, N: Number>(call: &AggregateCall, input: &DataType) -> Box<dyn Accumulator> {
    let (name, data_type) = (call.name.clone(), input.clone());
    if call.function == AggregateFunction::Max {
        Box::new(Extreme::<A, N, true> { slots: Vec::new(), name, data_type, column: PhantomData })
    } else {
        Box::new(Extreme::<A, N, false> { slots: Vec::new(), name, data_type, column: PhantomData })
    }
}

/// A number that values are compared and written as.
trait Number: Copy + Ord + Send + 'static {
    const LEAST: Self;
    const GREATEST: Self;
    fn put(self, out: &mut Vec<u8>);
    fn read(bytes: &mut &[u8]) -> Result<Self>;
}

macro_rules! number {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const LEAST: Self = Self::MIN;
            const GREATEST: Self = Self::MAX;

            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &mut &[u8]) -> Result<Self> {
                Ok(Self::from_le_bytes(wire::array(bytes)?))
            }
        }
    )*};
}
number!(i32, i64, i128);

/// A kind of column, and how its values are numbers.
trait Column<N>: Array + Sized + 'static {
    fn each(&self, rows: &Selection, slots: &[u32], add: impl FnMut(usize, N));
    /// Whether a value of this column is this number.
    fn valid(number: N) -> bool;
    /// The column. A data error if a number does not fit the type.
    fn build(numbers: impl Iterator<Item = Option<N>>, data_type: &DataType) -> Result<ArrayRef>;
}

macro_rules! primitive_column {
    ($($array:ty as $number:ty),*) => {$(
        impl Column<$number> for $array {
            fn each(&self, rows: &Selection, slots: &[u32], add: impl FnMut(usize, $number)) {
                rows.for_each_value(slots, self.values(), add);
            }

            fn valid(_: $number) -> bool {
                true
            }

            fn build(numbers: impl Iterator<Item = Option<$number>>, data_type: &DataType) -> Result<ArrayRef> {
                Ok(Arc::new(numbers.collect::<PrimitiveArray<_>>().with_data_type(data_type.to_arrow()) as $array))
            }
        }
    )*};
}
primitive_column!(
    Int32Array as i32,
    Date32Array as i32,
    Int64Array as i64,
    TimestampSecondArray as i64,
    TimestampMillisecondArray as i64,
    TimestampMicrosecondArray as i64,
    TimestampNanosecondArray as i64
);

impl Column<i128> for Decimal128Array {
    fn each(&self, rows: &Selection, slots: &[u32], add: impl FnMut(usize, i128)) {
        rows.for_each_value(slots, self.values(), add);
    }

    /// Arithmetic may leave more digits than the type has: that shows in the result, and is no damage.
    fn valid(_: i128) -> bool {
        true
    }

    fn build(numbers: impl Iterator<Item = Option<i128>>, data_type: &DataType) -> Result<ArrayRef> {
        let column = numbers.collect::<Self>().with_data_type(data_type.to_arrow());
        column.validate_decimal_precision(column.precision()).map_err(|error| {
            Error::data("value_overflow", format!("a value does not fit {data_type}: {error}"))
                .hint("cast to a decimal of more digits before the arithmetic")
        })?;
        Ok(Arc::new(column))
    }
}

impl Column<i64> for Float64Array {
    fn each(&self, rows: &Selection, slots: &[u32], mut add: impl FnMut(usize, i64)) {
        rows.for_each_value(slots, self.values(), |slot, value| add(slot, float_order(value)));
    }

    fn valid(number: i64) -> bool {
        float_order(float_of_order(number)) == number
    }

    fn build(numbers: impl Iterator<Item = Option<i64>>, _: &DataType) -> Result<ArrayRef> {
        Ok(Arc::new(numbers.map(|number| number.map(float_of_order)).collect::<Self>()))
    }
}

impl Column<i32> for BooleanArray {
    fn each(&self, rows: &Selection, slots: &[u32], mut add: impl FnMut(usize, i32)) {
        rows.for_each(slots, |slot, row| add(slot, self.value(row).into()));
    }

    fn valid(number: i32) -> bool {
        matches!(number, 0 | 1)
    }

    fn build(numbers: impl Iterator<Item = Option<i32>>, _: &DataType) -> Result<ArrayRef> {
        Ok(Arc::new(numbers.map(|number| number.map(|number| number == 1)).collect::<Self>()))
    }
}

#[derive(Clone, Copy)]
struct Slot<N> {
    /// In an empty slot the number that loses against every other.
    number: N,
    present: bool,
}

struct Extreme<A, N, const MAX: bool> {
    slots: Vec<Slot<N>>,
    name: String,
    data_type: DataType,
    column: PhantomData<fn(A)>,
}

impl<A, N: Number, const MAX: bool> Extreme<A, N, MAX> {
    const EMPTY: Slot<N> = Slot { number: if MAX { N::LEAST } else { N::GREATEST }, present: false };

    #[inline]
    fn add(slot: &mut Slot<N>, number: N) {
        slot.number = if MAX { slot.number.max(number) } else { slot.number.min(number) };
        slot.present = true;
    }
}

impl<A: Column<N>, N: Number, const MAX: bool> Accumulator for Extreme<A, N, MAX> {
    fn ensure(&mut self, slots: usize) {
        if slots > self.slots.len() {
            self.slots.resize(slots, Self::EMPTY);
        }
    }

    fn update(
        &mut self,
        slots: &[u32],
        input: Option<&ArrayRef>,
        filter: Option<&BooleanArray>,
        _: &RowOrder<'_>,
    ) -> Result<()> {
        let input = typed::<A>(required(input)?)?;
        let state = &mut self.slots[..];
        let rows = Selection::of(slots.len(), filter, input)?;
        input.each(&rows, slots, |slot, number| Self::add(&mut state[slot], number));
        Ok(())
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        let slot = self.slots[slot as usize];
        out.push(slot.present.into());
        if slot.present {
            slot.number.put(out);
        }
    }

    fn merge(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        if wire::present(bytes)? {
            let number = N::read(bytes)?;
            if !A::valid(number) {
                return Err(wire::damaged("an extreme value is not of its type").with("type", &self.data_type));
            }
            Self::add(&mut self.slots[slot as usize], number);
        }
        Ok(())
    }

    fn reset(&mut self, slot: u32) {
        self.slots[slot as usize] = Self::EMPTY;
    }

    fn output(&self, slots: &[u32]) -> Result<ArrayRef> {
        let numbers = slots.iter().map(|&slot| self.slots[slot as usize]).map(|slot| slot.present.then_some(slot.number));
        A::build(numbers, &self.data_type).map_err(|error| error.with("column", &self.name))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<N>>()
    }
}
