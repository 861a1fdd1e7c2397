//! Against serde_json and arrow-json, over random documents and random damage.

use std::sync::Arc;

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{block, decode_all, decode_one, schema};
use crate::plan::schema::{DataType, Field, Schema};

/// Whether a payload is a JSON object. serde_json's own value stops at numbers beyond a double, which are good JSON; its
/// skipping accepts half surrogate pairs, which we refuse: so both are asked.
pub(super) fn is_json_object(payload: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(payload) else { return false };
    if serde_json::from_str::<IgnoredAny>(text).is_err() || !text.trim_start().starts_with('{') {
        return false;
    }
    match serde_json::from_str::<Value>(text) {
        Ok(_) => true,
        Err(error) => error.to_string().contains("number out of range") && !has_half_pair(text),
    }
}

/// Whether one of a JSON text's escapes is half a surrogate pair. Backslashes stand in strings only, so that two escapes next
/// to each other are of one string.
fn has_half_pair(text: &str) -> bool {
    let (mut rest, mut high) = (text, false);
    while !rest.is_empty() {
        let unit = rest.strip_prefix("\\u").map(|hex| u16::from_str_radix(&hex[..4], 16).unwrap());
        let low = matches!(unit, Some(0xDC00..=0xDFFF));
        if low != high {
            return true;
        }
        high = matches!(unit, Some(0xD800..=0xDBFF));
        let step = match (unit, rest.starts_with('\\')) {
            (Some(_), _) => 6,
            (None, true) => 2,
            (None, false) => rest.chars().next().map_or(1, char::len_utf8),
        };
        rest = &rest[step..];
    }
    high
}

/// Random documents, written with random white space and escapes.
fn document(names: &'static [&'static str]) -> impl Strategy<Value = String> {
    let space = prop_oneof![8 => Just(""), 3 => Just(" "), 1 => Just("\n"), 1 => Just("\t \r")];
    let text = prop_oneof![
        4 => "[a-zA-Z0-9 _./-]{0,30}".prop_map(|s| s),
        2 => r#"(\\[nrtbf"/\\]|é|₹|😀|[a-z]|\\u00[2-7][0-9a-f]|\\ud83d\\ude0[0-9]){0,12}"#.prop_map(|s| s),
    ];
    let number = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        (-1000_i64..1000).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(|f| format!("{f:e}")),
        r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
    ];
    let leaf = prop_oneof![
        3 => text.prop_map(|s| format!("\"{s}\"")),
        3 => number,
        1 => prop_oneof![Just("true"), Just("false"), Just("null")].prop_map(String::from),
    ];
    let name = prop::sample::select(names);
    let object = move |members: Vec<(&'static str, &'static str, String)>, s: &str| {
        let members: Vec<_> =
            members.iter().map(|(name, space, value)| format!("{space}\"{name}\"{s}:{space}{value}{s}")).collect();
        format!("{{{s}{}}}", members.join(","))
    };
    let member = (name, space.clone());
    let value = leaf.prop_recursive(4, 24, 5, {
        let (member, space) = (member.clone(), space.clone());
        move |inner| {
            let members = prop::collection::vec((member.clone(), inner.clone()).prop_map(|((n, s), v)| (n, s, v)), 0..5);
            prop_oneof![
                (members, space.clone()).prop_map(move |(m, s)| object(m, s)),
                (prop::collection::vec(inner, 0..5), space.clone())
                    .prop_map(|(v, s)| format!("[{s}{}{s}]", v.join(&format!("{s},")))),
            ]
        }
    });
    let members = prop::collection::vec((member, value).prop_map(|((n, s), v)| (n, s, v)), 0..7);
    (members, space).prop_map(move |(m, s)| format!("{s}{}{s}", object(m, s)))
}

/// Bytes changed, dropped, doubled or inserted, mostly ones that mean something.
fn damaged(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![6 => prop::sample::select(&b"{}[]:,\"\\u-+.eE0123456789 \ntrfalsn"[..]), 1 => any::<u8>()];
    let edit = (0..4_u8, any::<prop::sample::Index>(), byte);
    (text, prop::collection::vec(edit, 0..3)).prop_map(|(text, edits)| {
        let mut bytes = text.into_bytes();
        for (kind, place, byte) in edits {
            let at = place.index(bytes.len().max(1));
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

const NAMES: &[&str] =
    &["a", "b", "status", "merchant_id", "\\u0061", "née", "", "a long name that takes more than a single step"];

/// Columns that the documents fill, sometimes.
fn typed() -> Schema {
    let inner = DataType::Struct(vec![Field::new("a", DataType::Int64), Field::new("status", DataType::String)]);
    schema(&[
        ("a", DataType::Int64),
        ("status", DataType::String),
        ("b", DataType::Float64),
        ("merchant_id", DataType::List(Box::new(DataType::String))),
        ("née", inner),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3_000) })]

    #[test]
    fn accepts_what_serde_json_accepts(payload in damaged(document(NAMES))) {
        let expected = is_json_object(&payload);
        let result = decode_one(&schema(&[]), &payload);
        prop_assert_eq!(result.is_ok(), expected, "{:?}: {:?}", String::from_utf8_lossy(&payload), result);
        // With columns, only more is refused.
        if decode_one(&typed(), &payload).is_ok() {
            prop_assert!(expected, "{}", String::from_utf8_lossy(&payload));
        }
    }

    #[test]
    fn a_record_does_not_depend_on_its_neighbours(payloads in prop::collection::vec(damaged(document(NAMES)), 1..12)) {
        let (decoded, bad) = decode_all(&typed(), &block(&payloads.iter().map(Some).collect::<Vec<_>>()));
        let rows = decoded.rows.unwrap_or_else(|| (0..payloads.len() as u32).collect());
        prop_assert_eq!(rows.len() + bad.len(), payloads.len());
        prop_assert_eq!(rows.len(), decoded.batch.num_rows());
        for (row, index) in rows.iter().enumerate() {
            let alone = decode_one(&typed(), &payloads[*index as usize]).unwrap();
            prop_assert_eq!(decoded.batch.slice(row, 1), alone);
        }
        for told in bad {
            let mut alone = decode_one(&typed(), &payloads[told.index]).unwrap_err();
            alone.index = told.index;
            prop_assert_eq!(told, alone);
        }
    }

    #[test]
    fn random_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..200), brace in any::<bool>()) {
        let payload = if brace { [b"{\"a\":".as_slice(), &payload].concat() } else { payload };
        prop_assert_eq!(decode_one(&schema(&[]), &payload).is_ok(), is_json_object(&payload));
        let _ = decode_one(&typed(), &payload);
    }
}

/// A record whose members have the types that the columns declare, some missing, in any order.
fn well_typed() -> impl Strategy<Value = String> {
    let nullable = |value: BoxedStrategy<String>| prop_oneof![5 => value, 1 => Just("null".to_owned())].boxed();
    let integer = nullable(any::<i64>().prop_map(|n| n.to_string()).boxed());
    let text =
        nullable(r#"([a-z ]{0,20}|(\\[nt"\\]|é|₹|😀|\\u00e9|\\ud83d\\ude00){0,8})"#.prop_map(|s| format!("\"{s}\"")).boxed());
    let float = nullable(any::<f64>().prop_filter("JSON has no others", |f| f.is_finite()).prop_map(|f| f.to_string()).boxed());
    let list = nullable(prop::collection::vec(text.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(", "))).boxed());
    let inner =
        (integer.clone(), text.clone()).prop_map(|(a, s)| format!("{{\"status\": {s}, \"zip\": [{s}], \"a\":{a}}}")).boxed();
    let members = (integer, text.clone(), float, list, nullable(inner), text)
        .prop_map(|(a, s, b, m, n, other)| {
            vec![("a", a), ("status", s), ("b", b), ("merchant_id", m), ("née", n), ("other", other)]
        })
        .prop_shuffle();
    (members, 0..7_usize, prop_oneof![Just(""), Just(" "), Just("\n  ")]).prop_map(|(mut members, keep, s)| {
        members.truncate(keep.max(1));
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{s}\"{name}\":{s}{value}")).collect();
        format!("{{{}{s}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn well_typed_records_are_what_arrow_json_reads(records in prop::collection::vec(well_typed(), 1..40)) {
        let (decoded, bad) = decode_all(&typed(), &block(&records.iter().map(Some).collect::<Vec<_>>()));
        prop_assert!(bad.is_empty(), "{:?}", bad);
        let mut theirs = arrow_json::ReaderBuilder::new(Arc::clone(&typed().to_arrow())).build_decoder().unwrap();
        let lines = records.join("\n");
        prop_assert_eq!(theirs.decode(lines.as_bytes()).unwrap(), lines.len());
        prop_assert_eq!(decoded.batch, theirs.flush().unwrap().unwrap());
    }
}
