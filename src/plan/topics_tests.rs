use super::*;
use crate::plan::explain::explain;
use crate::plan::fingerprint::fingerprint;
use crate::plan::logical::Node;
use crate::plan::schema::DataType;
use crate::plan::testing::*;
use crate::plan::validate::check_plan;

fn to(topic: &str, key: &[&str]) -> Option<KafkaTopic> {
    Some(KafkaTopic { topic: topic.to_owned(), key: key.iter().map(|name| (*name).to_owned()).collect() })
}

fn written(nodes: impl IntoIterator<Item = Node>, targets: &[Option<KafkaTopic>]) -> JobPlan {
    let mut plan = job(nodes);
    plan.outputs.iter_mut().zip(targets).for_each(|(output, target)| output.to.clone_from(target));
    plan
}

fn refusal(plan: &JobPlan) -> (&'static str, String) {
    let error = check_plan(plan).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn where_rows_go_is_in_the_json_and_not_in_the_fingerprint() {
    let plan = written([source()], &[to("out", &["merchant_id"])]);
    let json = plan.to_json().unwrap();
    assert!(json.ends_with(r#""to":{"topic":"out","key":["merchant_id"]}}]}"#), "{json}");
    assert_eq!(JobPlan::from_json(&json).unwrap(), plan);
    let table = job([source()]);
    assert!(!table.to_json().unwrap().contains("\"to\""));
    assert_eq!(fingerprint(&plan).unwrap(), fingerprint(&table).unwrap());
    assert!(JobPlan::from_json(&json.replace("\"key\"", "\"keys\"")).is_err());
}

#[test]
fn key_columns_are_columns_of_the_stream() {
    assert!(check_plan(&written([source()], &[to("out", &[])])).is_ok());
    assert!(check_plan(&written([source()], &[to("out", &["merchant_id", "amount"])])).is_ok());
    let (code, text) = refusal(&written([source()], &[to("out", &["merchantid"])]));
    assert_eq!(code, "unknown_column");
    assert!(text.contains("did you mean \"merchant_id\"?"), "{text}");
    assert_eq!(refusal(&written([source()], &[to("out", &["amount", "amount"])])).0, "duplicate_column");
}

#[test]
fn a_grouped_result_has_its_group_key() {
    assert!(check_plan(&written([merchants()], &[to("out", &[])])).is_ok());
    assert!(check_plan(&written([merchants()], &[to("out", &["day"])])).is_ok());
    let (code, text) = refusal(&written([merchants()], &[to("out", &["merchants"])]));
    assert_eq!(code, "invalid_topic_key");
    assert!(text.contains("(day)"), "{text}");
}

#[test]
fn topics_are_written_once_and_not_read_by_their_writer() {
    let out = |name| to(name, &[]);
    assert_eq!(refusal(&written([source(), merchants()], &[out("a"), out("a")])).0, "topic_written_twice");
    assert_eq!(refusal(&written([source()], &[out("payments.captured.v1")])).0, "topic_read_and_written");
    for name in ["", ".", "a/b", "ä", "__kappa_commits"] {
        assert_eq!(refusal(&written([source()], &[out(name)])).0, "invalid_topic", "{name}");
    }
    assert!(check_plan(&written([source(), merchants()], &[out("a"), None])).is_ok());
}

#[test]
fn dead_letters_need_a_table() {
    let mut node = source();
    if let Node::Read(read) = &mut node {
        read.on_bad_record = BadRecordPolicy::DeadLetter;
    }
    assert_eq!(refusal(&written([node.clone()], &[to("a", &[])])).0, "no_dead_letter_table");
    assert!(check_plan(&written([node.clone(), node], &[to("a", &[]), None])).is_ok());
}

#[test]
fn a_topic_holds_nanoseconds_and_a_table_does_not() {
    let stamp = cast(col("event_time"), DataType::Timestamp(crate::plan::schema::TimeUnit::Nanosecond), true);
    let node = Node::Select { input: Box::new(source()), columns: vec![named("at", stamp)] };
    assert!(check_plan(&written([node.clone()], &[to("a", &[])])).is_ok());
    assert_eq!(refusal(&job([node])).0, "nanoseconds");
}

#[test]
fn the_plan_says_where_rows_go() {
    let rows = group(source(), [named("m", col("merchant_id"))], [named("rows", len())]);
    let plan = written([source(), source(), rows], &[to("a", &["amount", "status"]), to("b", &[]), to("c", &[])]);
    let text = explain(&plan).unwrap();
    for line in ["o0: append to topic a, key (amount, status)", "o1: append to topic b, without keys"] {
        assert!(text.contains(&format!("output {line}\n")), "{text}");
    }
    assert!(text.contains("output o2: upsert, primary key (m), to topic c\n"), "{text}");
}
