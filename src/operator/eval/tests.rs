mod functions;
mod guards;
mod oracle;
mod speed;
mod times;

use std::sync::Arc;

use arrow::array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::datatypes::Int64Type;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::*;
use crate::plan::testing::wide;

pub(super) fn zones() -> &'static ZoneTables {
    static TABLES: std::sync::OnceLock<ZoneTables> = std::sync::OnceLock::new();
    TABLES.get_or_init(|| ZoneTables::load(["UTC", "Asia/Kolkata", "America/New_York"]).unwrap())
}

/// Three rows of every type; the last is null throughout.
pub(super) fn batch() -> RecordBatch {
    let decimal = |values: [Option<i128>; 3], precision, scale| {
        Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap()) as ArrayRef
    };
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None, Some(3)]), Some(vec![]), None]);
    let list = {
        let (_, offsets, values, nulls) = list.into_parts();
        let ArrowType::List(field) = wide().find("list").unwrap().1.data_type.to_arrow() else { unreachable!() };
        ListArray::new(field, offsets, values, nulls)
    };
    let ArrowType::Struct(members) = wide().find("struct").unwrap().1.data_type.to_arrow() else { unreachable!() };
    let parts: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![7, 8, 9])), Arc::new(StringArray::from(vec!["p", "q", "r"]))];
    let structs = StructArray::new(members, parts, Some(vec![true, true, false].into()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![Some("Añb"), Some("  x "), None])),
        Arc::new(StringArray::from(vec![Some("ñ"), Some("zz"), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(true), None])),
        Arc::new(Int32Array::from(vec![Some(5), Some(-7), None])),
        Arc::new(Int64Array::from(vec![Some(10), Some(i64::MAX), None])),
        Arc::new(Int64Array::from(vec![Some(3), Some(0), None])),
        Arc::new(Float64Array::from(vec![Some(2.5), Some(-0.0), None])),
        Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.0), None])),
        decimal([Some(1_250), Some(-10), None], 10, 2),
        decimal([Some(30_000), Some(25), None], 12, 4),
        Arc::new(Date32Array::from(vec![Some(20_513), Some(-1), None])),
        // 2026-03-01T20:15:30.123Z; 1969-12-31T23:59:59.999Z
        Arc::new(TimestampMillisecondArray::from(vec![Some(1_772_396_130_123), Some(-1), None]).with_timezone("UTC")),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_772_396_130_123_000), Some(-1), None]).with_timezone("UTC")),
        Arc::new(BinaryArray::from(vec![Some(&b"key"[..]), Some(&[0xff][..]), None])),
        Arc::new(list),
        Arc::new(structs),
    ];
    RecordBatch::try_new(wide().to_arrow(), columns).unwrap()
}

pub(super) fn evaluate(expr: &Expr) -> Result<ArrayRef> {
    let evaluator = Evaluator::compile(expr, &wide(), zones())?;
    let all = evaluator.evaluate(&batch())?;
    // No row depends on another: row by row gives the same.
    for row in 0..3 {
        let one = evaluator.evaluate(&batch().slice(row, 1))?;
        assert_eq!(one.to_data(), all.slice(row, 1).to_data(), "row {row} of {expr}");
    }
    assert_eq!(evaluator.evaluate(&batch().slice(0, 0))?.len(), 0);
    Ok(all)
}

/// The values as text; null as `-`.
pub(super) fn rows(expr: &Expr) -> String {
    match evaluate(expr) {
        Ok(array) => show(&array),
        Err(error) => error.to_string(),
    }
}

pub(super) fn show(array: &ArrayRef) -> String {
    let options = FormatOptions::new().with_null("-");
    let formatter = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).to_string()).collect::<Vec<_>>().join("|")
}
