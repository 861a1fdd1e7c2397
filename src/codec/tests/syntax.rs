//! JSON's grammar, in the manner of JSONTestSuite: in a member that no column asks for, and in one that is projected.

use super::{decode_one, schema};
use crate::plan::schema::DataType;

/// Values that are JSON.
const GOOD: &[&str] = &[
    "0",
    "-0",
    "-1",
    "123",
    "1.5",
    "-0.1",
    "0e1",
    "0e+1",
    "1E22",
    "1e-2",
    "1E-2",
    "1E+2",
    "123.456e78",
    "1e400",
    "-1e-400",
    "123123123123123123123123123123123123",
    "true",
    "false",
    "null",
    "\"\"",
    "\"a\"",
    "\" \"",
    "\"\u{7f}\"",
    "\"é₹😀\"",
    r#""\"\\\/\b\f\n\r\t""#,
    r#""\u0060\u012a\u12AB""#,
    r#""\u0000""#,
    r#""\uD801\udc37""#,
    r#""\ud83d\ude39\ud83d\udc8d""#,
    r#""\\u0000""#,
    r#""\uFFFF""#,
    r#""\uDBFF\uDFFF""#,
    "\"\u{FEFF}\"",
    "\"\u{2028}\"",
    "[]",
    "[ ]",
    "[[]]",
    "[1,\n2\r\n]",
    "[null, 1, \"1\", {}]",
    "[1,null,null,null,2]",
    "{}",
    "{ }",
    "{\"a\":[]}",
    "{\"\":0}",
    "{\"a\":\"b\",\"a\":\"c\"}",
    "{\"foo\\u0000bar\": 42}",
    "{ \"min\": -1.0e+28, \"max\": 1.0e+28 }",
    "[[[[[[]]], {}]]]",
    "{\"a\":{\"b\":{\"c\":[{}]}}}",
    "\t\r\n 1 \t\r\n",
    "\"long enough for more than one step of eight bytes, surely\"",
];

/// Values that are not JSON.
const BAD: &[&str] = &[
    "",
    "+1",
    "-",
    "--1",
    "-01",
    "01",
    "00",
    "012",
    "1.",
    "-2.",
    ".5",
    "-.5",
    "1.e1",
    "0.e1",
    "1e",
    "1e+",
    "1E-",
    "0e",
    "0E+",
    "1eE2",
    "1e1.5",
    "0x1",
    "1_000",
    "1 000",
    "1a",
    "1.2a",
    "1+2",
    "NaN",
    "Infinity",
    "-Infinity",
    "-NaN",
    "Inf",
    "１",
    "1\u{0}",
    "tru",
    "True",
    "TRUE",
    "truee",
    "fals",
    "nul",
    "nulll",
    "undefined",
    "\"",
    "\"a",
    "a\"",
    "'a'",
    "`a`",
    "\"\\\"",
    "\"\\a\"",
    "\"\\x00\"",
    "\"\\'\"",
    "\"\\\u{0}\"",
    "\"\\u\"",
    "\"\\u1\"",
    "\"\\u12\"",
    "\"\\u123\"",
    "\"\\u123g\"",
    "\"\\u 123\"",
    "\"\\u+123\"",
    "\"\\U0061\"",
    "\"\\uD800\"",
    "\"\\uDC00\"",
    "\"\\uD800\\u0061\"",
    "\"\\uD800\\uD800\"",
    "\"\\uD800\\n\"",
    "\"\\uDC00\\uD800\"",
    "\"\\uD800\\u\"",
    "\"\\uD8\"",
    "\"\t\"",
    "\"\n\"",
    "\"\u{0}\"",
    "\"\u{1f}\"",
    "\"a\rb\"",
    "\"é\u{1}\"",
    "\"é\\x\"",
    "[",
    "]",
    "[1",
    "[1,",
    "[1,]",
    "[,1]",
    "[,]",
    "[1,,2]",
    "[1 2]",
    "[1;2]",
    "[\"a\":1]",
    "[1]]",
    "[}",
    "[1}",
    "[\"a",
    "[tru]",
    "[-]",
    "[\u{c}]",
    "[\u{a0}1]",
    "[\u{2060}]",
    "\u{FEFF}1",
    "{",
    "}",
    "{]",
    "{1:1}",
    "{a:1}",
    "{'a':1}",
    "{\"a\"}",
    "{\"a\" 1}",
    "{\"a\":}",
    "{\"a\":1",
    "{\"a\":1,",
    "{\"a\":1,}",
    "{,\"a\":1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1,,\"b\":2}",
    "{\"a\"::1}",
    "{\"a\":1:2}",
    "{\"a\",1}",
    "{\"a\":1]",
    "{null:1}",
    "{[1]:1}",
    "{\"\\uD800\":1}",
    "{\"\n\":1}",
    "/**/1",
    "1//",
    "1/**/",
    "1#",
    "<null>",
    "*",
    ",",
    ":",
    "\\u0031",
    "{}}",
    "{},",
    "1,2",
    "[1],",
    "\"a\",",
];

#[test]
fn grammar_in_members_nobody_asks_for() {
    for column in ["x", "other"] {
        let fields = schema(&[(column, DataType::Int64)]);
        for json in GOOD {
            let payload = format!("{{\"a\":{json}, \"b\" :{json},\"c\":[{json}]}}");
            decode_one(&fields, &payload).unwrap_or_else(|bad| panic!("{payload}: {bad:?}"));
            decode_one(&fields, format!(" \n{{ \"a\" : {json} }}\t\r\n")).expect(json);
        }
        for json in BAD {
            for payload in
                [format!("{{\"a\":{json}}}"), format!("{{\"a\":[{json} ,1]}}"), format!("{{\"a\":1,\"b\":{{\"c\": {json} }}}}")]
            {
                // `[` + "1,2" + ` ,1]` is a list, and so on: what breaks out of its place is tried in the first form only.
                if !["1,2", "1,", ","].contains(json) || payload.starts_with("{\"a\":1") {
                    decode_one(&fields, &payload).expect_err(&payload);
                }
            }
        }
    }
}

#[test]
fn grammar_in_projected_members() {
    let list = DataType::List(Box::new(DataType::String));
    let decimal = DataType::Decimal { precision: 38, scale: 2 };
    for data_type in [
        DataType::Int64,
        DataType::Int32,
        DataType::Float64,
        decimal,
        DataType::String,
        DataType::Boolean,
        DataType::Date,
        list,
    ] {
        let fields = schema(&[("a", data_type.clone())]);
        for json in BAD {
            let payload = format!("{{\"a\":{json}}}");
            decode_one(&fields, &payload).expect_err(&format!("{data_type}: {payload}"));
        }
    }
    let fields = schema(&[("a", DataType::String)]);
    for json in GOOD.iter().filter(|json| json.starts_with('"')) {
        let batch = decode_one(&fields, format!("{{\"a\":{json}}}")).expect(json);
        let expected: String = serde_json::from_str(json).unwrap();
        assert_eq!(arrow::array::AsArray::as_string::<i32>(batch.column(0)).value(0), expected);
    }
}

#[test]
fn whole_payloads() {
    let fields = schema(&[("a", DataType::Int64)]);
    for good in ["{}", " {} ", "\n{\"a\":1}\r\n\t", "{ }"] {
        decode_one(&fields, good).expect(good);
    }
    let bad = [
        " ",
        "\u{FEFF}{}",
        "{}{}",
        "{},",
        "{} x",
        "{}\0",
        "[]",
        "[{}]",
        "\"a\"",
        "1",
        "null",
        "true",
        "{",
        "{\"",
        "{\"a",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{\"a\" :1 ,\"b\":2 ,}",
        "{\"a\":1}}",
        "{{}}",
        "{\"a\":1\u{b}}",
        "}",
    ];
    for bad in bad {
        decode_one(&fields, bad).expect_err(bad);
    }
}

#[test]
fn not_utf_8() {
    let fields = schema(&[("a", DataType::String)]);
    let invalid: &[&[u8]] = &[
        b"\xFF",
        b"\xC3",
        b"\xC3\x28",
        b"\xE2\x82",
        b"\xF0\x9F\x98",
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\x80",
        b"\xF8\x88\x80\x80\x80",
    ];
    for bytes in invalid {
        for (before, after) in [
            ("{\"a\":\"", "\"}"),
            ("{\"b\":\"", "\"}"),
            ("{\"b\":\"12345678 abc é", " tail\"}"),
            ("{\"", "\":1}"),
            ("{", "}"),
            ("{\"b\":[\"", "\\n\"]}"),
        ] {
            let payload = [before.as_bytes(), bytes, after.as_bytes()].concat();
            decode_one(&fields, &payload).expect_err(&String::from_utf8_lossy(&payload));
        }
    }
}

#[test]
fn nesting_is_limited_to_128() {
    for (open, inner, close) in [("[", "", "]"), ("{\"a\":", "1", "}"), ("[{\"b\":", "[]", "}]")] {
        let fields = schema(&[("x", DataType::Int64)]);
        let nested = |n: usize| format!("{{\"a\":{}{inner}{}}}", open.repeat(n), close.repeat(n));
        let (step, own) = (open.matches(['[', '{']).count(), 1 + inner.matches('[').count());
        let most = (128 - own) / step;
        decode_one(&fields, nested(most)).expect("128 deep");
        decode_one(&fields, nested(most + 1)).expect_err("129 deep");
        decode_one(&fields, nested(1_000_000)).expect_err("very deep");
    }
}

#[test]
fn ten_megabytes_in_one_payload() {
    let fields = schema(&[("a", DataType::String), ("n", DataType::List(Box::new(DataType::Int64)))]);
    let text = "₹ and more, ".repeat(10 << 16);
    let numbers = (0..500_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let batch =
        decode_one(&fields, format!("{{\"b\": [{numbers}], \"a\": \"{text}\", \"n\": [{numbers}], \"c\": \"{text}\"}}"))
            .unwrap();
    assert_eq!(arrow::array::AsArray::as_string::<i32>(batch.column(0)).value(0), text);
    assert_eq!(arrow::array::AsArray::as_list::<i32>(batch.column(1)).values().len(), 500_000);
}
