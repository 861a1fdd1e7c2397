//! Over a real log, with real versions.

use std::path::Path;

use super::*;
use crate::job::RunOptions;
use crate::log::{LogDir, NewRecord, Retention, Topic, WriterOptions};
use crate::message::Partition;
use crate::plan::expr::Function as F;
use crate::plan::testing::*;

const TOPIC: &str = "payments.captured.v1";

/// Settings under which everything lies in a directory.
fn settings(root: &Path) -> Settings {
    let overrides = [("log.url".to_owned(), format!("file://{}/log", root.display()))].into();
    Settings::resolve(&overrides, None).unwrap().in_directory(root)
}

/// A topic whose records go after a second, and 1,000 records in each of its two partitions, a hundred a second.
fn topic(root: &Path) -> Topic {
    let topic = LogDir::open(root.join("log")).create_topic(TOPIC, 2, Retention { ms: Some(1_000), bytes: None }).unwrap();
    let options = WriterOptions { batch_bytes: 300, segment_bytes: 8_000, ..WriterOptions::default() };
    for partition in topic.partitions() {
        let mut writer = topic.writer(partition, options).unwrap();
        for n in 0..1_000 {
            let value = format!(
                r#"{{"status": "captured", "amount": {n}, "merchant_id": "m{}", "event_time": {}}}"#,
                n % 7,
                n * 10 - 5
            );
            writer.push(&NewRecord { value: Some(value.as_bytes()), timestamp: n * 10, ..NewRecord::default() }).unwrap();
        }
        writer.flush().unwrap();
    }
    topic
}

fn merchants_above(least: i64) -> JobPlan {
    let above = call(F::Gt, [col("amount"), int(least)]);
    let day = named("day", dt_date(col("event_time"), "UTC"));
    job([group(filter(source(), above), [day], [named("n", len())])])
}

fn build(plan: JobPlan, table: &str, settings: &Settings) {
    let options = serde_json::json!({"mode": "reprocess", "output_tables": {"": table}, "parallelism": 1});
    let options: RunOptions = serde_json::from_value(options).unwrap();
    crate::job::start(plan, options, settings.clone()).unwrap().report().unwrap();
}

fn planned(job: JobPlan, settings: &Settings, options: &[(&str, &str)]) -> Result<Plan> {
    let mut given = serde_json::json!({"parallelism": 1, "memory_bytes": 64 << 20});
    options.iter().for_each(|(name, value)| given[name] = (*value).into());
    plan(job, &serde_json::from_value(given).unwrap(), settings, &|| Ok(()))
}

#[test]
fn a_plan_says_what_is_read_and_keeps_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (settings, topic) = (settings(root.path()), topic(root.path()));
    let plan = planned(merchants_above(0), &settings, &[]).unwrap();
    let [read] = &plan.topics[..] else { panic!("{:?}", plan.topics) };
    let bytes: u64 = topic.partitions().map(|partition| topic.extent(partition).unwrap().bytes).sum();
    assert_eq!((plan.verdict, plan.records, read.records, read.bytes), ("fine", 2_000, 2_000, Some(bytes)));
    assert_eq!((read.written_ms, read.event_time_ms), (Some((0, 9_990)), Some((-5, 9_985))));
    // Nothing was written to it since 1970.
    assert_eq!((read.growth_per_second, plan.headroom), (None, None));
    assert_eq!(plan.sample.records, 2_000);
    let cost = plan.cost.unwrap();
    assert!(cost.exact && cost.state_bytes > 0 && cost.output_bytes > 0 && cost.records_per_second > 0.0, "{cost:?}");
    assert!(!root.path().join("catalog.db").exists() && !root.path().join("checkpoints").exists());
    let part = planned(merchants_above(0), &settings, &[("from", "0:900,1:1000"), ("until", "0:950")]).unwrap();
    assert_eq!((part.records, part.topics[0].event_time_ms), (50, Some((8_995, 9_485))));
    assert!(part.topics[0].bytes.unwrap() < bytes / 20, "{part:?}");
}

#[test]
fn records_that_are_gone_since_are_a_refusal() {
    let root = tempfile::tempdir().unwrap();
    let (settings, topic) = (settings(root.path()), topic(root.path()));
    build(merchants_above(0), "v3", &settings);
    let same = planned(merchants_above(0), &settings, &[("against", "v3")]).unwrap();
    let against = same.against.unwrap();
    assert_eq!((same.verdict, against.same, against.changes.len()), ("fine", true, 0));
    assert!(against.state_bytes > 0);
    LogDir::open(root.path().join("log")).enforce_retention(5_000).unwrap();
    let gone = topic.extent(Partition(0)).unwrap().start.0 + topic.extent(Partition(1)).unwrap().start.0;
    assert!(gone > 500, "{gone}");
    let other = planned(merchants_above(7), &settings, &[("against", "v3")]).unwrap();
    assert_eq!(
        (other.verdict, other.findings[0].code, other.records),
        ("refused", "retention_gap", 2_000 - gone.unsigned_abs())
    );
    assert!(other.findings[0].message.starts_with(&format!("{gone} records of topic {TOPIC}")), "{:?}", other.findings);
    assert_eq!(other.against.unwrap().changes[0].to_string(), "filter: amount > 0 → amount > 7");
    // What lies before the time that is asked for is not missed, and that it is less than before is said.
    let later = planned(merchants_above(0), &settings, &[("against", "v3"), ("from", "0:900,1:900")]).unwrap();
    assert_eq!((later.verdict, later.findings[0].code), ("fine", "begins_later"));
    let before = planned(merchants_above(0), &settings, &[("from", "0:3")]).unwrap();
    assert_eq!((before.verdict, before.findings[0].code), ("refused", "offset_out_of_range"));
    let error = planned(merchants_above(0), &settings, &[("against", "v9")]).unwrap_err();
    assert_eq!(error.code(), "no_such_table");
}

#[test]
fn a_record_that_would_stop_the_job_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let (settings, topic) = (settings(root.path()), topic(root.path()));
    let mut writer = topic.writer(Partition(1), WriterOptions::default()).unwrap();
    writer.push(&NewRecord { value: Some(b"{"), timestamp: 9_999, ..NewRecord::default() }).unwrap();
    writer.flush().unwrap();
    let plan = planned(merchants_above(0), &settings, &[]).unwrap();
    assert_eq!((plan.verdict, plan.findings[0].code, plan.cost), ("warning", "bad_record", None));
    assert!(plan.findings[0].message.contains("partition 1, offset 1000"), "{:?}", plan.findings);
    // Nothing to read is nothing to measure.
    let nothing = planned(merchants_above(0), &settings, &[("from", "head")]).unwrap();
    assert_eq!((nothing.verdict, nothing.records, nothing.cost), ("fine", 0, None));
}
