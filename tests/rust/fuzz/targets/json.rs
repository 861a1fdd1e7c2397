//! A JSON payload, beside serde_json.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use kappa::codec::{JsonDecoder, JsonRowEncoder};
use kappa::message::{RecordBlock, RecordRef, Span};
use kappa::plan::schema::{DataType, Field, Schema, TimeUnit};
use serde::de::IgnoredAny;
use serde_json::Value;

pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"a": 1, "b": 2.5, "s": "text", "t": 1767225600000, "d": 12.50, "l": [1, 2, null], "o": {"a": 3, "s": "x"}, "e": true}"#,
        r#"{"s":"é₹😀\n\u0041\ud83d\ude00","d":"-0.10","t":"2026-01-31T09:30:00.250+05:30","x":{"y":[{"z":[]}]},"e":false}"#,
        r#" { "b" : -1e-5 , "unused" : [ [ [ {} ] ] , "long enough for more than one step of eight bytes" ] } "#,
        r#"{"a":-9223372036854775808,"a2":1,"l":[],"o":null,"b":1e308,"d":99999999999999999999.123456789}"#,
        "{}",
    ];
    let deep = |n: usize| format!("{{\"x\":{}{}}}", "[".repeat(n), "]".repeat(n));
    texts.map(str::to_owned).into_iter().chain([deep(100), deep(127)]).map(String::into_bytes).collect()
}

fn schema() -> Schema {
    let inner = vec![Field::new("a", DataType::Int64), Field::new("s", DataType::String)];
    Schema {
        fields: vec![
            Field::new("a", DataType::Int64),
            Field::new("b", DataType::Float64),
            Field::new("s", DataType::String),
            Field::new("t", DataType::Timestamp(TimeUnit::Millisecond)),
            Field::new("d", DataType::Decimal { precision: 38, scale: 9 }),
            Field::new("l", DataType::List(Box::new(DataType::Int64))),
            Field::new("o", DataType::Struct(inner)),
            Field::new("e", DataType::Boolean),
        ],
    }
}

/// Decodes a payload between two good ones, which must not suffer from it; twice, since the second time more is known.
fn decode(schema: &Schema, payload: &[u8]) -> Option<RecordBatch> {
    let mut block = RecordBlock::default();
    for value in [b"{}", payload, b"{}"] {
        let span = Span::new(block.data.len(), value.len());
        block.data.extend_from_slice(value);
        block.records.push(RecordRef { offset: 0, timestamp: 0, key: Span::NULL, value: span, headers: Span::NULL });
    }
    let mut decoder = JsonDecoder::new(schema).unwrap();
    let mut once = || {
        let mut bad = Vec::new();
        let decoded = decoder.decode(&block, 0..3, &mut bad).unwrap();
        assert_eq!(decoded.batch.num_rows() + bad.len(), 3);
        let is_bad = !bad.is_empty();
        assert!(bad.iter().all(|bad| bad.index == 1 && bad.text.len() < 400), "{bad:?}");
        (!is_bad).then(|| decoded.batch.slice(1, 1))
    };
    let first = once();
    assert_eq!(first, once(), "the second time it is another row");
    first
}

pub fn run(payload: &[u8]) {
    let skipped = decode(&Schema { fields: Vec::new() }, payload);
    let typed = decode(&schema(), payload);
    assert!(typed.is_none() || skipped.is_some(), "a projection makes it good");
    let text = std::str::from_utf8(payload);
    let Ok(text) = text else { return assert!(skipped.is_none(), "not UTF-8 is accepted") };
    let is_object = text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{');
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            assert_eq!(skipped.is_some(), is_object, "serde_json accepts it");
            if let Some(batch) = typed {
                compare(&batch, &value);
                writes_it_back(&batch);
            }
        }
        // Its own limits: a number is JSON whatever its size, and it stops a level before the decoder does.
        Err(error) if ["number out of range", "recursion limit"].iter().any(|limit| error.to_string().contains(limit)) => {
            let skips = serde_json::from_str::<IgnoredAny>(text);
            let also = skips.err().is_none_or(|error| error.to_string().contains("recursion limit"));
            assert!(also || skipped.is_none(), "serde_json refuses even to skip it");
        }
        Err(error) => assert!(skipped.is_none(), "serde_json refuses it: {error}"),
    }
}

fn compare(batch: &RecordBatch, value: &Value) {
    let column = |name: &str| batch.column_by_name(name).unwrap();
    for name in ["a", "t"].into_iter().filter(|name| !value[name].is_string()) {
        assert_eq!(integer(column(name), name == "t"), whole(&value[name]), "{name}");
    }
    assert_eq!(text(column("s")), value["s"].as_str());
    let float = column("b").as_primitive::<Float64Type>();
    let float = float.is_valid(0).then(|| float.value(0));
    // serde_json's own may be one bit off.
    let near = |ours: f64, theirs: f64| (ours - theirs).abs() <= ours.abs() * f64::EPSILON;
    match (float, value["b"].as_f64()) {
        (Some(ours), Some(theirs)) => assert!(near(ours, theirs), "{ours:e} {theirs:e}"),
        (ours, theirs) => assert_eq!(ours, theirs),
    }
    let truth = column("e").as_boolean();
    assert_eq!(truth.is_valid(0).then(|| truth.value(0)), value["e"].as_bool());
    let list = column("l").as_list::<i32>();
    let elements = list.is_valid(0).then(|| list.value(0));
    let elements = elements.map(|list| (0..list.len()).map(|i| integer(&list.slice(i, 1), false)).collect::<Vec<_>>());
    assert_eq!(elements, value["l"].as_array().map(|list| list.iter().map(whole).collect()));
    let object = column("o").as_struct();
    assert_eq!(object.is_valid(0), value["o"].is_object());
    if object.is_valid(0) {
        assert_eq!(integer(object.column(0), false), whole(&value["o"]["a"]));
        assert_eq!(text(object.column(1)), value["o"]["s"].as_str());
    }
}

/// An integer; -0 is one to the decoder, and a float to serde_json.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| (value.as_f64()? == 0.0).then_some(0))
}

fn integer(column: &ArrayRef, is_instant: bool) -> Option<i64> {
    let column = if is_instant { &arrow::compute::cast(column, &arrow::datatypes::DataType::Int64).unwrap() } else { column };
    let numbers = column.as_primitive::<Int64Type>();
    numbers.is_valid(0).then(|| numbers.value(0))
}

fn text(column: &ArrayRef) -> Option<&str> {
    let texts = column.as_string::<i32>();
    texts.is_valid(0).then(|| texts.value(0))
}

/// What was read is written as JSON that reads the same.
fn writes_it_back(batch: &RecordBatch) {
    let mut written = Vec::new();
    JsonRowEncoder::new(&schema()).rows(batch).unwrap().write(0, &mut written);
    let again = decode(&schema(), &written);
    assert_eq!(again.as_ref(), Some(batch), "{}", String::from_utf8_lossy(&written));
}
