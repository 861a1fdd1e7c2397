//! What all accumulators have in common: results of any split in any order, bytes, damage.

mod golden;
mod properties;
mod results;
mod retract;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::datatypes::Int32Type;

use super::*;
use crate::error::ErrorKind;
use crate::plan::expr::Expr;
use crate::plan::schema::TimeUnit;

const LEN: Function = Function::Len;

fn decimal_type() -> DataType {
    DataType::Decimal { precision: 38, scale: 2 }
}

fn list_type() -> DataType {
    DataType::List(Box::new(DataType::Int32))
}

fn output_type(function: Function, input: &DataType) -> DataType {
    use Function as F;
    match (function, input) {
        (F::Len | F::Count | F::NUnique | F::CountDistinct, _) => DataType::Int64,
        (F::Mean, _) => DataType::Float64,
        (F::Sum, DataType::Int32) => DataType::Int64,
        (F::Sum, DataType::Decimal { scale, .. }) => DataType::Decimal { precision: 38, scale: *scale },
        _ => input.clone(),
    }
}

fn call(function: Function, input: &DataType) -> AggregateCall {
    AggregateCall {
        name: "result".to_owned(),
        function,
        input: (function != LEN).then(|| Expr::Column("x".to_owned())),
        input_type: (function != LEN).then(|| input.clone()),
        filter: None,
        ignore_nulls: false,
        retracts: false,
        output_type: output_type(function, input),
    }
}

fn accumulator(function: Function, input: &DataType) -> Box<dyn Accumulator> {
    create(&call(function, input)).unwrap()
}

/// Adds all rows to slot 0, as offsets 0, 1, … of partition 0 at event times that are the offsets.
fn update(accumulator: &mut dyn Accumulator, column: &ArrayRef, filter: Option<&BooleanArray>) {
    let places: Vec<i64> = (0..column.len() as i64).collect();
    let order = RowOrder { event_time: &places, partition: 0, offsets: &places };
    accumulator.ensure(1);
    accumulator.update(&vec![0; column.len()], Some(column), filter, &order).unwrap();
}

fn encoded(accumulator: &dyn Accumulator, slot: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    accumulator.encode(slot, &mut bytes);
    bytes
}

fn decimals(values: Vec<Option<i128>>) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, 2).unwrap())
}

fn lists(values: Vec<Option<Vec<Option<i32>>>>) -> ArrayRef {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(values);
    let (_, offsets, elements, nulls) = list.into_parts();
    let arrow::datatypes::DataType::List(field) = list_type().to_arrow() else { panic!() };
    Arc::new(ListArray::new(field, offsets, elements, nulls))
}

/// A column of each type from the same small numbers.
fn column(data_type: &DataType, numbers: &[Option<i64>]) -> ArrayRef {
    let each = || numbers.iter().copied();
    let text = |number: i64| format!("{}{}", ["", "é", "zz"][number.rem_euclid(3) as usize], number / 3);
    match data_type {
        DataType::Boolean => Arc::new(each().map(|n| n.map(|n| n > 0)).collect::<BooleanArray>()),
        DataType::Int32 => Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        DataType::Date => Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
        DataType::Int64 => Arc::new(each().map(|n| n.map(|n| n.wrapping_mul(i64::MAX / 7))).collect::<Int64Array>()),
        DataType::Timestamp(TimeUnit::Microsecond) => {
            Arc::new(each().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        DataType::Decimal { .. } => decimals(each().map(|n| n.map(|n| i128::from(n) * 10_i128.pow(36))).collect()),
        DataType::Float64 => Arc::new(each().map(|n| n.map(float)).collect::<Float64Array>()),
        DataType::String => Arc::new(each().map(|n| n.map(text)).collect::<StringArray>()),
        DataType::Binary => {
            let values: Vec<_> = each().map(|n| n.map(|n| text(n).into_bytes())).collect();
            Arc::new(values.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        DataType::List(_) => lists(each().map(|n| n.map(|n| vec![Some(n as i32), None])).collect()),
        other => panic!("{other}"),
    }
}

fn float(number: i64) -> f64 {
    match number {
        -20 => f64::NEG_INFINITY,
        -19 => -0.0,
        18 => f64::from_bits(0xfff8_0000_0000_0001),
        19 => f64::NAN,
        20 => f64::INFINITY,
        n => n as f64 * 0.1 * 10_f64.powi(n as i32 * 3),
    }
}

fn types() -> Vec<DataType> {
    use DataType as T;
    let timestamp = T::Timestamp(TimeUnit::Microsecond);
    vec![T::Boolean, T::Int32, T::Date, T::Int64, timestamp, decimal_type(), T::Float64, T::String, T::Binary, list_type()]
}

/// Every call there is.
fn calls() -> Vec<(Function, DataType)> {
    use Function as F;
    let functions = [F::Len, F::Count, F::Sum, F::Mean, F::Min, F::Max, F::First, F::Last];
    let all = functions.into_iter().flat_map(|function| types().into_iter().map(move |data_type| (function, data_type)));
    all.filter(|(function, data_type)| create(&call(*function, data_type)).is_ok()).collect()
}
