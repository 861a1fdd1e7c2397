//! The encoder of rows: what it writes word for word, and that the decoder reads the same back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use proptest::prelude::*;

use super::{block, decode_all, schema};
use crate::codec::JsonRowEncoder;
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};

fn written(schema: &Schema, columns: Vec<ArrayRef>) -> (RecordBatch, Vec<String>) {
    let batch = RecordBatch::try_new(schema.to_arrow(), columns).unwrap();
    let rows = JsonRowEncoder::new(schema).rows(&batch).unwrap();
    let row = |row| {
        let mut out = Vec::new();
        rows.write(row, &mut out);
        String::from_utf8(out).unwrap()
    };
    let texts = (0..batch.num_rows()).map(row).collect();
    (batch, texts)
}

/// The values of one column, as they are written.
fn values(data_type: DataType, column: ArrayRef) -> Vec<String> {
    let (_, texts) = written(&schema(&[("x", data_type)]), vec![column]);
    texts.into_iter().map(|text| text.strip_prefix("{\"x\":").unwrap().strip_suffix('}').unwrap().to_owned()).collect()
}

fn decimal(precision: u8, scale: i8, values: Vec<Option<i128>>) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
}

#[test]
fn numbers() {
    let ints = Int64Array::from(vec![Some(0), Some(-1), Some(i64::MIN), Some(i64::MAX), None]);
    let expected = ["0", "-1", "-9223372036854775808", "9223372036854775807", "null"];
    assert_eq!(values(DataType::Int64, Arc::new(ints)), expected);
    let floats = Float64Array::from(vec![0.1, -0.0, 1e300, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.0]);
    let expected = ["0.1", "-0.0", "1e300", "5e-324", "\"NaN\"", "\"Infinity\"", "\"-Infinity\"", "3.0"];
    assert_eq!(values(DataType::Float64, Arc::new(floats)), expected);
    let two = decimal(10, 2, vec![Some(0), Some(5), Some(-5), Some(-1234), Some(100), None]);
    let expected = ["0.00", "0.05", "-0.05", "-12.34", "1.00", "null"];
    assert_eq!(values(DataType::Decimal { precision: 10, scale: 2 }, two), expected);
    let greatest = 10_i128.pow(38) - 1;
    let (nines, zero) = ("9".repeat(38), format!("-0.{}", "9".repeat(38)));
    assert_eq!(values(DataType::Decimal { precision: 38, scale: 0 }, decimal(38, 0, vec![Some(greatest)])), [nines]);
    assert_eq!(values(DataType::Decimal { precision: 38, scale: 38 }, decimal(38, 38, vec![Some(-greatest)])), [zero]);
}

#[test]
fn texts_and_bytes() {
    let texts = StringArray::from(vec!["", "ä€😀", "a\"b\\c/", "\n\r\t\u{8}\u{0}\u{1f}\u{7f}"]);
    let expected = ["\"\"", "\"ä€😀\"", r#""a\"b\\c/""#, "\"\\n\\r\\t\\u0008\\u0000\\u001f\u{7f}\""];
    assert_eq!(values(DataType::String, Arc::new(texts)), expected);
    // The vectors of RFC 4648.
    let bytes = BinaryArray::from_vec(vec![b"", b"f", b"fo", b"foo", b"foob", b"fooba", b"foobar", b"\xff\xfe"]);
    let expected = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy", "//4="].map(|text| format!("\"{text}\""));
    assert_eq!(values(DataType::Binary, Arc::new(bytes)), expected);
}

#[test]
fn days_and_instants() {
    let days = Date32Array::from(vec![0, -1, 11_016, 2_932_896, 2_932_897, -719_528, -719_529]);
    let expected = ["1970-01-01", "1969-12-31", "2000-02-29", "9999-12-31", "+10000-01-01", "0000-01-01", "-0001-12-31"];
    assert_eq!(values(DataType::Date, Arc::new(days)), expected.map(|day| format!("\"{day}\"")));
    let seconds = TimestampSecondArray::from(vec![0, -1, 253_402_300_799, 253_402_300_800]).with_timezone("UTC");
    let expected = ["\"1970-01-01T00:00:00Z\"", "\"1969-12-31T23:59:59Z\"", "\"9999-12-31T23:59:59Z\"", "253402300800"];
    assert_eq!(values(DataType::Timestamp(TimeUnit::Second), Arc::new(seconds)), expected);
    let millis = TimestampMillisecondArray::from(vec![-1, 1_777_117_130_250]).with_timezone("UTC");
    let expected = ["\"1969-12-31T23:59:59.999Z\"", "\"2026-04-25T11:38:50.250Z\""];
    assert_eq!(values(DataType::Timestamp(TimeUnit::Millisecond), Arc::new(millis)), expected);
    let micros = TimestampMicrosecondArray::from(vec![1, i64::MAX]).with_timezone("UTC");
    let expected = ["\"1970-01-01T00:00:00.000001Z\"", "9223372036854775807"];
    assert_eq!(values(DataType::Timestamp(TimeUnit::Microsecond), Arc::new(micros)), expected);
    let nanos = TimestampNanosecondArray::from(vec![i64::MIN]).with_timezone("UTC");
    assert_eq!(values(DataType::Timestamp(TimeUnit::Nanosecond), Arc::new(nanos)), ["\"1677-09-21T00:12:43.145224192Z\""]);
}

#[test]
fn rows_of_lists_and_objects() {
    let mut list = ListBuilder::new(StringBuilder::new()).with_field(Arc::new(arrow::datatypes::Field::new(
        "element",
        arrow::datatypes::DataType::Utf8,
        true,
    )));
    list.append_value([Some("a"), None]);
    list.append_null();
    list.append_value([] as [Option<&str>; 0]);
    let inner = DataType::Struct(vec![Field::new("b", DataType::Boolean), Field::new("i", DataType::Int32)]);
    let arrow::datatypes::DataType::Struct(fields) = inner.to_arrow() else { unreachable!() };
    let members: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int32Array::from(vec![Some(1), None, Some(-3)])),
    ];
    let object = StructArray::new(fields, members, Some(vec![true, true, false].into()));
    let schema = schema(&[("l\"", DataType::List(Box::new(DataType::String))), ("o", inner)]);
    let (_, texts) = written(&schema, vec![Arc::new(list.finish()), Arc::new(object)]);
    let expected =
        [r#"{"l\"":["a",null],"o":{"b":true,"i":1}}"#, r#"{"l\"":null,"o":{"b":false,"i":null}}"#, r#"{"l\"":[],"o":null}"#];
    assert_eq!(texts, expected);
}

/// What JSON payloads hold, but for numbers that are none.
fn readable() -> Schema {
    schema(&[
        ("text", DataType::String),
        ("flag", DataType::Boolean),
        ("small", DataType::Int32),
        ("large", DataType::Int64),
        ("float", DataType::Float64),
        ("exact", DataType::Decimal { precision: 38, scale: 9 }),
        ("day", DataType::Date),
        ("s", DataType::Timestamp(TimeUnit::Second)),
        ("ms", DataType::Timestamp(TimeUnit::Millisecond)),
        ("us", DataType::Timestamp(TimeUnit::Microsecond)),
        ("ns", DataType::Timestamp(TimeUnit::Nanosecond)),
        ("list", DataType::List(Box::new(DataType::Int64))),
        ("object", DataType::Struct(vec![Field::new("näme", DataType::String), Field::new("n", DataType::Int64)])),
    ])
}

type Row = (
    (Option<String>, Option<bool>, Option<i32>, Option<i64>, Option<f64>, Option<i128>),
    (Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<i64>),
    (Option<Vec<Option<i64>>>, Option<(Option<String>, Option<i64>)>),
);

fn row() -> impl Strategy<Value = Row> {
    use proptest::option::of;
    let float = any::<f64>().prop_filter("JSON has no others", |value| value.is_finite());
    let wide = 10_i128.pow(38) - 1;
    // Seconds that microseconds can count, and days of four-digit years.
    let seconds = i64::MAX / 1_000_000;
    (
        (of(any::<String>()), of(any::<bool>()), of(any::<i32>()), of(any::<i64>()), of(float), of(-wide..=wide)),
        (
            of(-719_528..=2_932_896),
            of(-seconds..=seconds),
            of(-seconds * 1_000..=seconds * 1_000),
            of(-i64::MAX..=i64::MAX),
            of(-i64::MAX..=i64::MAX),
        ),
        (of(proptest::collection::vec(of(any::<i64>()), 0..4)), of((of(any::<String>()), of(any::<i64>())))),
    )
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    let mut list = ListBuilder::new(arrow::array::Int64Builder::new()).with_field(Arc::new(arrow::datatypes::Field::new(
        "element",
        arrow::datatypes::DataType::Int64,
        true,
    )));
    rows.iter().for_each(|row| list.append_option(row.2.0.clone()));
    let (_, object) = readable().fields.last().map(|field| (field.name.clone(), field.data_type.to_arrow())).unwrap();
    let arrow::datatypes::DataType::Struct(fields) = object else { unreachable!() };
    let members: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.2.1.clone().and_then(|o| o.0)).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.2.1.clone().and_then(|o| o.1)).collect::<Int64Array>()),
    ];
    let present: Vec<bool> = rows.iter().map(|row| row.2.1.is_some()).collect();
    let exact: Decimal128Array = rows.iter().map(|row| row.0.5).collect();
    vec![
        Arc::new(rows.iter().map(|row| row.0.0.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.0.1).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.0.2).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|row| row.0.3).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.0.4).collect::<Float64Array>()),
        Arc::new(exact.with_precision_and_scale(38, 9).unwrap()),
        Arc::new(rows.iter().map(|row| row.1.0).collect::<Date32Array>()),
        Arc::new(rows.iter().map(|row| row.1.1).collect::<TimestampSecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1.2).collect::<TimestampMillisecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1.3).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.1.4).collect::<TimestampNanosecondArray>().with_timezone("UTC")),
        Arc::new(list.finish()),
        Arc::new(StructArray::new(fields, members, Some(present.into()))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_written_is_read_back(rows in proptest::collection::vec(row(), 1..8)) {
        let (batch, texts) = written(&readable(), columns(&rows));
        texts.iter().for_each(|text| assert!(serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()));
        let payloads: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let (decoded, bad) = decode_all(&readable(), &block(&payloads));
        prop_assert_eq!(bad, Vec::new());
        // Members of an object that is null are nobody's: compared is what can be seen.
        prop_assert_eq!(written(&readable(), decoded.batch.columns().to_vec()).1, texts);
        prop_assert_eq!(decoded.batch.column(4), batch.column(4));
        prop_assert_eq!(decoded.batch.project(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]).unwrap(),
            batch.project(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]).unwrap());
    }
}
