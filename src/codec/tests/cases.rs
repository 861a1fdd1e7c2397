//! The cases of `tests/data/json_cases.jsonl`: named as in JSONTestSuite (Nicolas Seriot), each value as a member of a payload.
//!
//! `y_` is good and `n_` is bad. RFC 8259 leaves `i_` open, or kappa has a rule of its own: the case says what is decided and
//! why. `rule` names the rule by which a parser that does not know it may think otherwise. The same file is read by
//! `tests/python/test_hostile_payloads.py`, which takes every payload through a whole job and asks other parsers.

use serde::Deserialize;

use super::oracles::is_json_object;
use super::{decode_one, schema};
use crate::plan::schema::{DataType, Field, TimeUnit};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    text: Option<String>,
    hex: Option<String>,
    /// Texts, each so many times.
    parts: Option<Vec<(String, usize)>>,
    good: Option<bool>,
    rule: Option<String>,
    why: Option<String>,
}

impl Case {
    fn payload(&self) -> Vec<u8> {
        match (&self.text, &self.hex, &self.parts) {
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(hex), None) => {
                let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                (0..hex.len()).step_by(2).map(byte).collect()
            }
            (None, None, Some(parts)) => parts.iter().map(|(text, times)| text.repeat(*times)).collect::<String>().into_bytes(),
            _ => panic!("{}: one of text, hex and parts", self.case),
        }
    }

    fn is_good(&self) -> bool {
        match (&self.case[..2], self.good, &self.why) {
            ("y_", None, None) => true,
            ("n_", None, None) => false,
            ("i_", Some(good), Some(_)) => good,
            _ => panic!("{}: the name, the decision and its reason do not fit", self.case),
        }
    }
}

fn cases() -> Vec<Case> {
    include_str!("../../../tests/data/json_cases.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_case_is_decided_as_it_says() {
    let fields = schema(&[("at", DataType::Timestamp(TimeUnit::Millisecond))]);
    let cases = cases();
    assert!(cases.len() > 400 && cases.iter().any(Case::is_good));
    for case in &cases {
        let decoded = decode_one(&fields, case.payload());
        assert_eq!(decoded.is_ok(), case.is_good(), "{}: {decoded:?}", case.case);
        if let Err(bad) = decoded {
            assert!(!bad.reason.is_empty() && bad.text.len() < 200, "{}: {bad:?}", case.case);
        }
    }
}

#[test]
fn serde_json_agrees_but_for_rules_that_it_does_not_know() {
    for case in cases().iter().filter(|case| case.rule.is_none()) {
        assert_eq!(is_json_object(&case.payload()), case.is_good(), "{}", case.case);
    }
}

/// A column takes what fits it or refuses the record; what is no JSON is bad in every column.
#[test]
fn no_column_makes_a_bad_case_good() {
    let object = DataType::Struct(vec![Field::new("a", DataType::Int64), Field::new("b", DataType::Float64)]);
    let types = [
        DataType::String,
        DataType::Boolean,
        DataType::Int32,
        DataType::Int64,
        DataType::Float64,
        DataType::Decimal { precision: 38, scale: 9 },
        DataType::Date,
        DataType::Timestamp(TimeUnit::Nanosecond),
        object,
    ];
    for case in cases() {
        let payload = case.payload();
        let lists = types.iter().map(|inner| DataType::List(Box::new(inner.clone())));
        for data_type in types.iter().cloned().chain(lists) {
            let decoded = decode_one(&schema(&[("v", data_type.clone())]), &payload);
            // Without the column `at` its duplicates are nobody's.
            if !case.is_good() && case.rule.as_deref() != Some("duplicate") {
                assert!(decoded.is_err(), "{} as {data_type}: {decoded:?}", case.case);
            }
        }
    }
}
