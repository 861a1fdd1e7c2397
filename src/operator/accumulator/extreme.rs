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
use crate::error::Result;
use crate::plan::schema::{DataType, TimeUnit};
use crate::state::encoding::{float_of_order, float_order};

const ENCODING: u8 = 4;

/// The accumulator of `min` or `max` of this type, unless its values do not compare.
pub(super) fn create(input: &DataType, max: bool) -> Option<Box<dyn Accumulator>> {
    Some(match input {
        DataType::Boolean => of::<BooleanArray, i32>(input, max),
        DataType::Int32 => of::<Int32Array, i32>(input, max),
        DataType::Date => of::<Date32Array, i32>(input, max),
        DataType::Int64 => of::<Int64Array, i64>(input, max),
        DataType::Float64 => of::<Float64Array, i64>(input, max),
        DataType::Decimal { .. } => of::<Decimal128Array, i128>(input, max),
        DataType::Timestamp(TimeUnit::Second) => of::<TimestampSecondArray, i64>(input, max),
        DataType::Timestamp(TimeUnit::Millisecond) => of::<TimestampMillisecondArray, i64>(input, max),
        DataType::Timestamp(TimeUnit::Microsecond) => of::<TimestampMicrosecondArray, i64>(input, max),
        DataType::Timestamp(TimeUnit::Nanosecond) => of::<TimestampNanosecondArray, i64>(input, max),
        DataType::String => Box::new(ExtremeBytes::text(max)),
        DataType::Binary => Box::new(ExtremeBytes::binary(max)),
        DataType::List(_) | DataType::Struct(_) => return None,
    })
}

fn of<A: Column<N>, N: Number>(input: &DataType, max: bool) -> Box<dyn Accumulator> {
    if max {
        Box::new(Extreme::<A, N, true> { slots: Vec::new(), data_type: input.clone(), column: PhantomData })
    } else {
        Box::new(Extreme::<A, N, false> { slots: Vec::new(), data_type: input.clone(), column: PhantomData })
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
    fn valid(number: N, data_type: &DataType) -> bool;
    fn build(numbers: impl Iterator<Item = Option<N>>, data_type: &DataType) -> ArrayRef;
}

macro_rules! primitive_column {
    ($($array:ty as $number:ty),*) => {$(
        impl Column<$number> for $array {
            fn each(&self, rows: &Selection, slots: &[u32], add: impl FnMut(usize, $number)) {
                rows.for_each_value(slots, self.values(), add);
            }

            fn valid(_: $number, _: &DataType) -> bool {
                true
            }

            fn build(numbers: impl Iterator<Item = Option<$number>>, data_type: &DataType) -> ArrayRef {
                Arc::new(numbers.collect::<PrimitiveArray<_>>().with_data_type(data_type.to_arrow()) as $array)
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

    fn valid(number: i128, data_type: &DataType) -> bool {
        let DataType::Decimal { precision, .. } = data_type else { return false };
        10_u128.checked_pow((*precision).into()).is_some_and(|limit| number.unsigned_abs() < limit)
    }

    fn build(numbers: impl Iterator<Item = Option<i128>>, data_type: &DataType) -> ArrayRef {
        Arc::new(numbers.collect::<Self>().with_data_type(data_type.to_arrow()))
    }
}

impl Column<i64> for Float64Array {
    fn each(&self, rows: &Selection, slots: &[u32], mut add: impl FnMut(usize, i64)) {
        rows.for_each_value(slots, self.values(), |slot, value| add(slot, float_order(value)));
    }

    fn valid(number: i64, _: &DataType) -> bool {
        float_order(float_of_order(number)) == number
    }

    fn build(numbers: impl Iterator<Item = Option<i64>>, _: &DataType) -> ArrayRef {
        Arc::new(numbers.map(|number| number.map(float_of_order)).collect::<Self>())
    }
}

impl Column<i32> for BooleanArray {
    fn each(&self, rows: &Selection, slots: &[u32], mut add: impl FnMut(usize, i32)) {
        rows.for_each(slots, |slot, row| add(slot, self.value(row).into()));
    }

    fn valid(number: i32, _: &DataType) -> bool {
        matches!(number, 0 | 1)
    }

    fn build(numbers: impl Iterator<Item = Option<i32>>, _: &DataType) -> ArrayRef {
        Arc::new(numbers.map(|number| number.map(|number| number == 1)).collect::<Self>())
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
            if !A::valid(number, &self.data_type) {
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
        Ok(A::build(numbers, &self.data_type))
    }

    fn encoding_id(&self) -> u8 {
        ENCODING
    }

    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot<N>>()
    }
}
