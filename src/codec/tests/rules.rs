//! What each type accepts and refuses, and how bad records are told.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes as types;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::{block, decode_all, decode_one, schema};
use crate::codec::{BadRecord, JsonDecoder};
use crate::error::ErrorKind;
use crate::message::{RecordBlock, RecordRef, Span};
use crate::plan::schema::{DataType, Field, Schema, TimeUnit};

/// What the value `json` becomes in a column of this type: as text, or why it is refused.
fn value(data_type: DataType, json: &str) -> Result<String, BadRecord> {
    let fields = schema(&[("x", data_type)]);
    let batch = decode_one(&fields, format!("{{\"before\": [1], \"x\": {json}, \"after\": {{}}}}"))?;
    assert_eq!(batch.schema(), fields.to_arrow());
    Ok(shown(&batch, 0))
}

fn shown(batch: &RecordBatch, column: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    ArrayFormatter::try_new(batch.column(column), &options).unwrap().value(0).to_string()
}

#[track_caller]
fn accepts(data_type: DataType, cases: &[(&str, &str)]) {
    for (json, expected) in cases {
        assert_eq!(value(data_type.clone(), json).as_deref(), Ok(*expected), "{data_type} from {json}");
    }
}

#[track_caller]
fn refuses(data_type: DataType, cases: &[&str]) {
    for json in cases {
        let bad = value(data_type.clone(), json).expect_err(json);
        assert_eq!(bad.column.as_deref(), Some("x"), "{data_type} from {json}: {bad:?}");
        assert_eq!(bad.text, *json, "{data_type} from {json}: {bad:?}");
    }
}

#[test]
fn integers_are_exact_or_refused() {
    accepts(
        DataType::Int64,
        &[
            ("0", "0"),
            ("-0", "0"),
            ("7", "7"),
            ("12345678", "12345678"),
            ("123456789", "123456789"),
            ("-1767225600123", "-1767225600123"),
            ("1234567890123456", "1234567890123456"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("null", "null"),
        ],
    );
    refuses(
        DataType::Int64,
        &[
            "1.9",
            "1.0",
            "1e3",
            "1E3",
            "1e0",
            "-0.0",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999999",
            "10000000000000000000",
            "\"12\"",
            "true",
            "[1]",
            "{\"a\": 1}",
        ],
    );
    accepts(DataType::Int32, &[("2147483647", "2147483647"), ("-2147483648", "-2147483648"), ("-0", "0")]);
    refuses(DataType::Int32, &["2147483648", "-2147483649", "1.0", "1e1", "4294967297", "99999999999999999999"]);
}

#[test]
fn every_integer_length_is_read_right() {
    for digits in 1..=18 {
        for number in [10_i64.pow(digits - 1), 10_i64.pow(digits) - 1, 1234567890123456789 / 10_i64.pow(19 - digits)] {
            accepts(DataType::Int64, &[(&number.to_string(), &number.to_string())]);
            accepts(DataType::Int64, &[(&(-number).to_string(), &(-number).to_string())]);
        }
    }
}

#[test]
fn floats_are_rounded_once() {
    let float = |json: &str| {
        let batch = decode_one(&schema(&[("x", DataType::Float64)]), format!("{{\"x\":{json}}}")).unwrap();
        batch.column(0).as_primitive::<types::Float64Type>().value(0)
    };
    for json in
        ["1", "-1.5", "1e3", "0.1", "2.2250738585072011e-308", "9007199254740993", "1e-400", "123456789012345678901234567890"]
    {
        assert_eq!(float(json).to_bits(), json.parse::<f64>().unwrap().to_bits(), "{json}");
    }
    assert_eq!(float("-0").to_bits(), (-0.0_f64).to_bits());
    assert_eq!(float("1.7976931348623157e308"), f64::MAX);
    refuses(DataType::Float64, &["1e309", "-1e400", "1.7976931348623159e308", "\"1.5\"", "\"NaN\"", "true"]);
}

#[test]
fn decimals_are_read_from_the_digits() {
    let decimal = |precision, scale| DataType::Decimal { precision, scale };
    accepts(
        decimal(10, 2),
        &[
            ("12.30", "12.30"),
            ("12.3", "12.30"),
            ("12.3000000", "12.30"),
            ("1e2", "100.00"),
            ("1.5E+1", "15.00"),
            ("125e-2", "1.25"),
            ("1250000e-6", "1.25"),
            ("-0.01", "-0.01"),
            ("0", "0.00"),
            ("-0.000", "0.00"),
            ("0e999999999999999999999", "0.00"),
            ("0.0000000000000000000000000000000000000000000000000", "0.00"),
            ("99999999.99", "99999999.99"),
            ("\"12.30\"", "12.30"),
            ("\"\\u0031e1\"", "10.00"),
            ("null", "null"),
        ],
    );
    refuses(
        decimal(10, 2),
        &[
            "12.345",
            "0.001",
            "1e-3",
            "100000000",
            "99999999.999",
            "1e8",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "\"\"",
            "\" 1\"",
            "\"1 \"",
            "\"1,5\"",
            "\"01\"",
            "\"+1\"",
            "\".5\"",
            "\"1.\"",
            "\"NaN\"",
            "true",
            "[1]",
        ],
    );
    // 0.1 + 0.2 and 38 digits: no float could hold them.
    accepts(decimal(38, 17), &[("0.30000000000000004", "0.30000000000000004")]);
    accepts(decimal(38, 0), &[("99999999999999999999999999999999999999", "99999999999999999999999999999999999999")]);
    accepts(decimal(38, 38), &[("-0.12345678901234567890123456789012345678", "-0.12345678901234567890123456789012345678")]);
    refuses(decimal(38, 0), &["100000000000000000000000000000000000000", "999999999999999999999999999999999999990"]);
    refuses(decimal(1, 1), &["1", "1.0", "0.11"]);
}

#[test]
fn timestamps_are_integers_or_rfc_3339() {
    let ms = DataType::Timestamp(TimeUnit::Millisecond);
    accepts(
        ms.clone(),
        &[
            ("1767225600123", "2026-01-01T00:00:00.123Z"),
            ("-1", "1969-12-31T23:59:59.999Z"),
            ("\"2026-01-31T09:30:00.250+05:30\"", "2026-01-31T04:00:00.250Z"),
            ("\"2026-01-31t09:30:00z\"", "2026-01-31T09:30:00Z"),
            ("\"2024-02-29 23:59:59.1230000-00:00\"", "2024-02-29T23:59:59.123Z"),
            ("\"2000-02-29T00:00:00Z\"", "2000-02-29T00:00:00Z"),
            ("\"1899-12-31T23:00:00-01:00\"", "1900-01-01T00:00:00Z"),
            ("\"0000-03-01T00:00:00Z\"", "0000-03-01T00:00:00Z"),
            ("\"9999-12-31T23:59:59.999Z\"", "9999-12-31T23:59:59.999Z"),
            ("\"2026-01-31T09:30:00\\u005a\"", "2026-01-31T09:30:00Z"),
        ],
    );
    refuses(
        ms,
        &[
            "1767225600123.0",
            "1.7e12",
            "\"1767225600123\"",
            "\"2026-01-31T09:30:00\"",
            "\"2026-01-31\"",
            "\"2026-01-31T09:30:00.0001Z\"",
            "\"2016-12-31T23:59:60Z\"",
            "\"2026-02-29T00:00:00Z\"",
            "\"1900-02-29T00:00:00Z\"",
            "\"2026-13-01T00:00:00Z\"",
            "\"2026-00-01T00:00:00Z\"",
            "\"2026-01-00T00:00:00Z\"",
            "\"2026-01-31T24:00:00Z\"",
            "\"2026-01-31T09:60:00Z\"",
            "\"2026-01-31T09:30:00.Z\"",
            "\"2026-01-31T09:30:00+0530\"",
            "\"2026-01-31T09:30:00+5:30\"",
            "\"2026-01-31T09:30:00+24:00\"",
            "\"2026-01-31T09:30:00+05:60\"",
            "\"2026-01-31T09:30:00Z \"",
            "\"2026-01-31T09:30:00ZZ\"",
            "\"2026-01-31T9:30:00Z\"",
            "\"2026-01-31T09:30Z\"",
            "\"12026-01-31T09:30:00Z\"",
            "\"2026/01/31T09:30:00Z\"",
            "\"\"",
            "true",
        ],
    );
    accepts(DataType::Timestamp(TimeUnit::Second), &[("\"2026-01-31T09:30:00.000Z\"", "2026-01-31T09:30:00Z")]);
    refuses(DataType::Timestamp(TimeUnit::Second), &["\"2026-01-31T09:30:00.5Z\""]);
    accepts(
        DataType::Timestamp(TimeUnit::Nanosecond),
        &[("\"2026-01-31T09:30:00.123456789Z\"", "2026-01-31T09:30:00.123456789Z")],
    );
    refuses(DataType::Timestamp(TimeUnit::Nanosecond), &["\"2300-01-01T00:00:00Z\"", "\"1600-01-01T00:00:00Z\""]);
    accepts(DataType::Timestamp(TimeUnit::Microsecond), &[("\"2300-01-01T00:00:00.000001Z\"", "2300-01-01T00:00:00.000001Z")]);
}

#[test]
fn every_day_of_the_calendar() {
    let fields = schema(&[("x", DataType::Date)]);
    for days in (-719_528..2_932_897).step_by(97).chain([-719_528, 2_932_896, 0, -1, 59, 60]) {
        let day = chrono::NaiveDate::from_num_days_from_ce_opt(days + 719_163).unwrap();
        let batch = decode_one(&fields, format!("{{\"x\":\"{}\"}}", day.format("%Y-%m-%d"))).unwrap();
        assert_eq!(batch.column(0).as_primitive::<types::Date32Type>().value(0), days, "{day}");
    }
    refuses(
        DataType::Date,
        &["20000", "\"2026-1-01\"", "\"2026-02-30\"", "\"2026-04-31\"", "\"2026-01-01T\"", "\"2026-01-01T00:00:00Z\""],
    );
}

#[test]
fn booleans_and_text_are_only_themselves() {
    accepts(DataType::Boolean, &[("true", "true"), ("false", "false"), ("null", "null")]);
    refuses(DataType::Boolean, &["0", "\"true\"", "[]"]);
    accepts(
        DataType::String,
        &[
            ("\"\"", ""),
            ("\"captured\"", "captured"),
            ("\"exactly 16 bytes\"", "exactly 16 bytes"),
            ("\"and a little more than that\"", "and a little more than that"),
            (r#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r#""a\u00e9\uD83D\uDE00z""#, "aé😀z"),
            ("\"né ₹ 😀 \\n é\"", "né ₹ 😀 \n é"),
            ("\"\\u0000\u{7f}\"", "\0\u{7f}"),
            ("null", "null"),
        ],
    );
    refuses(DataType::String, &["1", "true", "[\"a\"]", "{\"a\": \"b\"}", "1.50"]);
}

#[test]
fn lists_and_structs_nest() {
    let point = DataType::Struct(vec![
        Field::new("x", DataType::Int32),
        Field::new("tags", DataType::List(Box::new(DataType::String))),
    ]);
    let lists = DataType::List(Box::new(DataType::List(Box::new(DataType::Int64))));
    accepts(lists.clone(), &[("[]", "[]"), ("[ [ ] , [1, null ,3],null]", "[[], [1, null, 3], null]"), ("null", "null")]);
    accepts(
        point.clone(),
        &[
            ("{}", "{x: null, tags: null}"),
            ("{\"y\": {\"x\": 9, \"x\": 9}, \"tags\": [\"a\"], \"x\": 1}", "{x: 1, tags: [a]}"),
            ("null", "null"),
        ],
    );
    accepts(
        DataType::List(Box::new(point.clone())),
        &[("[{\"x\":1},null,{\"x\":2}]", "[{x: 1, tags: null}, null, {x: 2, tags: null}]")],
    );
    refuses(lists.clone(), &["{}", "1", "\"[]\""]);
    refuses(point.clone(), &["[]", "1", "\"{}\""]);
    let deep = value(DataType::List(Box::new(point)), "[{\"x\":1}, {\"tags\": [\"a\", \"b\", 7 ]}]").unwrap_err();
    assert_eq!((deep.column.as_deref(), deep.text.as_str()), (Some("x[1].tags[2]"), "7"));
    assert_eq!(deep.reason, "expected String, found a number");
    for json in ["[1,]", "[,1]", "[1 2]", "[", "[1", "[1}", "[[1]"] {
        value(DataType::List(Box::new(DataType::Int64)), json).unwrap_err();
    }
}

#[test]
fn a_projected_name_stands_once() {
    let inner = DataType::Struct(vec![Field::new("a", DataType::Int64)]);
    let fields = schema(&[("a", DataType::Int64), ("s", inner)]);
    for json in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":1}"#,
        r#"{"a":null,"a":1}"#,
        r#"{"a" : 1, "a": 1}"#,
        r#"{"s":{"a":1,"a":2}}"#,
        r#"{"s":{},"s":{}}"#,
    ] {
        let bad = decode_one(&fields, json).expect_err(json);
        assert_eq!(bad.reason, "the name occurs twice", "{json}");
    }
    let twice = decode_one(&fields, r#"{"s":{"a":1,"b":0,"a":2}}"#).unwrap_err();
    assert_eq!((twice.column.as_deref(), twice.text.as_str()), (Some("s.a"), "2"));
    for json in [r#"{"b":1,"b":1}"#, r#"{"A":1,"a":1}"#, r#"{"a":1,"s":{"a":1}}"#, r#"{"a":1,"":{"a":1,"a":2}}"#] {
        decode_one(&fields, json).expect(json);
    }
}

#[test]
fn missing_names_are_null_and_null_may_be_refused() {
    let mut fields = schema(&[("a", DataType::Int64), ("b", DataType::String)]);
    let batch = decode_one(&fields, "{}").unwrap();
    assert!(batch.columns().iter().all(|column| column.is_null(0)));
    fields.fields[0].nullable = false;
    decode_one(&fields, "{\"a\":1}").unwrap();
    for json in ["{}", "{\"a\":null}"] {
        assert_eq!(decode_one(&fields, json).unwrap_err().column.as_deref(), Some("a"));
    }
    // Within a struct that is null itself nothing is missing.
    let fields = Schema { fields: vec![Field::new("s", DataType::Struct(fields.fields))] };
    assert!(decode_one(&fields, "{\"s\":null}").unwrap().column(0).is_null(0));
    assert!(decode_one(&fields, "{}").unwrap().column(0).is_null(0));
    assert_eq!(decode_one(&fields, "{\"s\":{}}").unwrap_err().column.as_deref(), Some("s.a"));
}

#[test]
fn names_are_compared_as_decoded_text() {
    let fields = schema(&[("né \"q\"", DataType::Int64), ("", DataType::Int64)]);
    let batch = decode_one(&fields, r#"{"n\u00e9 \"q\"": 1, "": 2}"#).unwrap();
    assert_eq!((shown(&batch, 0), shown(&batch, 1)), ("1".into(), "2".into()));
}

#[test]
fn bad_records_leave_no_trace_in_the_others() {
    let inner = DataType::Struct(vec![Field::new("t", DataType::List(Box::new(DataType::String)))]);
    let fields = schema(&[("a", DataType::Int64), ("s", inner), ("b", DataType::Boolean), ("n", DataType::String)]);
    let payloads = [
        Some(r#"{"a":1,"s":{"t":["x"]},"b":true,"n":"one"}"#),
        Some(r#"{"a":2,"s":{"t":["lost",null,"long enough not to be inlined",5]},"b":true}"#),
        None,
        Some(r#"{"b":false,"n":"lost","s":{"t":["lost"]},"a":"#),
        Some(r#"{"s":null,"a":3,"n":"two"}"#),
        Some(r#"{"n":"lost","a":4} x"#),
        Some(""),
        Some(r#"{"a":5}"#),
        Some("1"),
    ];
    let (decoded, bad) = decode_all(&fields, &block(&payloads));
    assert_eq!(decoded.rows, Some(vec![0, 4, 7]));
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1, 2, 3, 5, 6, 8]);
    let good: Vec<_> = [0, 4, 7].iter().map(|i| payloads[*i]).collect();
    let (alone, none) = decode_all(&fields, &block(&good));
    assert!(none.is_empty() && alone.rows.is_none());
    assert_eq!(decoded.batch, alone.batch);
    let told: Vec<_> = bad.iter().map(|bad| (bad.column.as_deref(), bad.reason.as_str(), bad.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("s.t[3]"), "expected String, found a number", "5"),
            (None, "the payload is null", ""),
            (Some("a"), "the payload ends before its object does", r#""lost","s":{"t":["lost"]},"a":"#),
            (None, "text after the object at byte 19", r#"{"n":"lost","a":4} x"#),
            (None, "the payload is empty", ""),
            (None, "expected an object, found a number", "1"),
        ]
    );
}

#[test]
fn the_offending_text_is_cut_between_characters() {
    let long = format!("\"{}\"", "₹".repeat(1000));
    let bad = value(DataType::Int64, &long).unwrap_err();
    assert!(bad.text.len() <= 104 && bad.text.ends_with("₹…"), "{}", bad.text);
    let bad = decode_one(&schema(&[]), [b"{\"a\":\"".as_slice(), &[0xFF; 500], b"\"}"].concat()).unwrap_err();
    assert_eq!(bad.reason, "not UTF-8 at byte 6");
    assert!(bad.text.starts_with("{\"a\":\"\u{FFFD}"), "{}", bad.text);
}

#[test]
fn ranges_are_of_the_block() {
    let payloads: Vec<_> =
        (0..10).map(|i| Some(format!("{{\"a\":{}}}", if i == 7 { "x".into() } else { i.to_string() }))).collect();
    let (block, fields) = (block(&payloads), schema(&[("a", DataType::Int64)]));
    let mut decoder = JsonDecoder::new(&fields).unwrap();
    let mut bad = Vec::new();
    let part = decoder.decode(&block, 2..6, &mut bad).unwrap();
    assert_eq!(part.rows, None);
    assert_eq!(part.batch.column(0).as_primitive::<types::Int64Type>().values(), &[2, 3, 4, 5]);
    let part = decoder.decode(&block, 6..10, &mut bad).unwrap();
    assert_eq!((part.rows, bad[0].index), (Some(vec![6, 8, 9]), 7));
    assert_eq!(decoder.decode(&block, 3..3, &mut bad).unwrap().batch.num_rows(), 0);
    assert_eq!(decoder.decode(&block, 3..11, &mut bad).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn no_columns_still_check_and_count() {
    let (decoded, bad) = decode_all(&schema(&[]), &block(&[Some("{\"a\":1}"), Some("{\"a\":01}"), Some(" { } ")]));
    assert_eq!((decoded.batch.num_rows(), decoded.batch.num_columns(), bad.len()), (2, 0, 1));
}

#[test]
fn plans_that_json_cannot_fill_are_refused() {
    let refused = |fields: &[(&str, DataType)]| JsonDecoder::new(&schema(fields)).err().expect("refused").kind();
    assert_eq!(refused(&[("a", DataType::Binary)]), ErrorKind::Plan);
    assert_eq!(refused(&[("a", DataType::List(Box::new(DataType::Binary)))]), ErrorKind::Plan);
    assert_eq!(refused(&[("a", DataType::Int64), ("a", DataType::String)]), ErrorKind::Plan);
    assert_eq!(refused(&[("a", DataType::Decimal { precision: 39, scale: 0 })]), ErrorKind::Plan);
    let nested = |n| (0..n).fold(DataType::Int64, |inner, _| DataType::List(Box::new(inner)));
    assert_eq!(refused(&[("a", nested(128))]), ErrorKind::Plan);
    let batch =
        decode_one(&schema(&[("a", nested(127))]), format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127))).unwrap();
    assert_eq!(batch.num_rows(), 1);
}

#[test]
fn a_batch_beyond_32_bit_offsets_is_refused() {
    // The same 16 MiB, 200 times.
    let data = format!("{{\"a\":\"{}\"}}", "x".repeat(16 << 20)).into_bytes();
    let value = Span::new(0, data.len());
    let record = RecordRef { offset: 0, timestamp: 0, key: Span::NULL, value, headers: Span::NULL };
    let block = RecordBlock { data, records: vec![record; 200], ..RecordBlock::default() };
    let mut decoder = JsonDecoder::new(&schema(&[("a", DataType::String)])).unwrap();
    let error = decoder.decode(&block, 0..200, &mut Vec::new()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, "batch_too_large"));
    assert_eq!(decoder.decode(&block, 0..2, &mut Vec::new()).unwrap().batch.num_rows(), 2);
}

#[test]
fn names_without_number_and_of_any_length() {
    let fields = schema(&[("a", DataType::Int64), (&"long".repeat(30), DataType::Int64)]);
    let payload = |i: usize| {
        let map: Vec<_> = (0..20).map(|k| format!("\"key{}\":{{\"a\":[]}}", i * 20 + k)).collect();
        format!("{{{}, \"a\": {i},\"{}\":{}}}", map.join(","), "long".repeat(30), i + 1)
    };
    let payloads: Vec<_> = (0..2_000).map(|i| Some(payload(i))).collect();
    let (decoded, bad) = decode_all(&fields, &block(&payloads));
    assert_eq!(bad, []);
    for (column, first) in [(0, 0), (1, 1)] {
        let values = decoded.batch.column(column).as_primitive::<types::Int64Type>().values();
        assert!(values.iter().copied().eq(first..first + 2_000));
    }
}

#[test]
fn what_was_learned_is_not_believed_where_it_does_not_stand() {
    let fields = schema(&[("a", DataType::Int64), ("b", DataType::Int64)]);
    let payloads = [
        r#"{"a":1,"b":2}"#,
        r#"{"a": 1,"b" :2}"#,
        r#"{"a":1"b":2}"#,
        r#"{"a":1{"a":2}"#,
        r#"{"a":1,"b":,"b":2}"#,
        r#","b":2}"#,
        r#"{"b":2,"a":1}"#,
        r#"{"a":1,"b":2,"b":2}"#,
        r#"{"a":1,"b":2"#,
        r#"{"a":1,"b":"#,
        r#"{"a":1,"b""#,
        r#"{"a":"#,
        r#"{"a"#,
        r#"{"a":	1,"b":
2}"#,
    ];
    let mut decoder = JsonDecoder::new(&fields).unwrap();
    for round in 0..3 {
        let mut bad = Vec::new();
        let records = block(&payloads.map(Some));
        let decoded = decoder.decode(&records, 0..payloads.len(), &mut bad).unwrap();
        assert_eq!(decoded.rows, Some(vec![0, 1, 6, 13]), "round {round}: {bad:?}");
        for (column, value) in [(0, 1), (1, 2)] {
            assert_eq!(decoded.batch.column(column).as_primitive::<types::Int64Type>().values(), &[value; 4]);
        }
    }
}
