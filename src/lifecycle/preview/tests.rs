//! Over a real log, with real versions.

use std::path::Path;

use super::*;
use crate::job::RunOptions;
use crate::log::{LogDir, NewRecord, Retention, WriterOptions};
use crate::plan::expr::Function as F;
use crate::plan::testing::*;

const TOPIC: &str = "payments.captured.v1";
const HOUR: i64 = 3_600_000;
/// 2026-04-20T00:00:00Z.
const START: i64 = 1_776_643_200_000;

fn settings(root: &Path) -> Settings {
    let overrides = [("log.url".to_owned(), format!("file://{}/log", root.display()))].into();
    Settings::resolve(&overrides, None).unwrap().in_directory(root)
}

/// A topic with a record each hour for five days, by their timestamps too.
fn topic(root: &Path) {
    let topic = LogDir::open(root.join("log")).create_topic(TOPIC, 1, Retention { ms: Some(1), bytes: None }).unwrap();
    let options = WriterOptions { batch_bytes: 100, segment_bytes: 2_000, ..WriterOptions::default() };
    let mut writer = topic.writer(crate::message::Partition(0), options).unwrap();
    for hour in 0..120 {
        let at = START + hour * HOUR;
        let value = format!(r#"{{"status": "captured", "amount": {hour}, "merchant_id": "m", "event_time": {at}}}"#);
        writer.push(&NewRecord { value: Some(value.as_bytes()), timestamp: at, ..NewRecord::default() }).unwrap();
    }
    writer.flush().unwrap();
}

fn by(key: crate::plan::expr::Expr, least: i64) -> JobPlan {
    let above = call(F::Gt, [col("amount"), int(least)]);
    job([group(filter(source(), above), [named("k", key)], [named("n", len())])])
}

fn by_day(least: i64) -> JobPlan {
    by(dt_date(col("event_time"), "Asia/Kolkata"), least)
}

fn build(plan: JobPlan, table: &str, settings: &Settings) {
    let options = serde_json::json!({"mode": "reprocess", "output_tables": {"": table}, "parallelism": 1});
    let options: RunOptions = serde_json::from_value(options).unwrap();
    crate::job::start(plan, options, settings.clone()).unwrap().report().unwrap();
}

fn asked(job: JobPlan, last_hours: i64, table: &str, against: Option<&str>, settings: &Settings) -> Result<Scope> {
    let options = Options {
        last_ms: last_hours * HOUR,
        output_tables: [(String::new(), table.to_owned())].into(),
        against: against.map(str::to_owned),
        certify: true,
        allow_gaps: false,
    };
    scope(job, &options, settings)
}

#[test]
fn it_counts_back_from_the_newest_event_and_on_to_where_a_group_begins() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    topic(root.path());
    let found = asked(by_day(0), 24, "v4", None, &settings).unwrap();
    // 2026-04-24T23:00Z less a day is 2026-04-24 in Kolkata, which begins at 18:30 the day before in UTC.
    assert_eq!((found.until_ms, found.from_ms), (START + 119 * HOUR, START + 90 * HOUR + HOUR / 2));
    // An hour's margin before that.
    assert_eq!((found.vectors[TOPIC][&0], found.records), ((90, 120), 30));
    assert_eq!(found.new.tables[""], "default.v4__preview");
    assert!(found.old.is_none() && found.pairs.is_empty() && found.notes[0].contains("nothing to compare with"), "{found:?}");
    let again = found.again.unwrap();
    assert_eq!((again.tables[""].as_str(), again.preview.halts), ("default.v4__again__preview", true));
    assert_eq!(again.preview.vectors, found.new.preview.vectors);
    let whole = asked(by_day(0), 24 * 30, "v4", None, &settings).unwrap();
    assert_eq!(whole.records, 120);
    assert_eq!(asked(by_day(0), 0, "v4", None, &settings).unwrap_err().code(), "usage");
}

#[test]
fn groups_without_a_time_are_not_widened_to_and_that_is_said() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    topic(root.path());
    let found = asked(by(col("merchant_id"), 0), 24, "v4", None, &settings).unwrap();
    assert_eq!(found.from_ms, found.until_ms - 24 * HOUR);
    assert!(found.notes.iter().any(|note| note.starts_with("no key of default.v4 (k) is an event time")), "{:?}", found.notes);
    // Rows that are not grouped begin where they are asked to.
    let rows = asked(job([source()]), 24, "v4", None, &settings).unwrap();
    assert_eq!((rows.from_ms, rows.notes.len()), (rows.until_ms - 24 * HOUR, 1));
}

#[test]
fn the_old_plan_is_the_one_that_is_stored_and_both_begin_where_the_earlier_group_does() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    topic(root.path());
    build(by_day(7), "v3", &settings);
    let hours = by(call(F::DtTruncate { every: "1h".into(), time_zone: "UTC".into() }, [col("event_time")]), 0);
    let found = asked(hours, 24, "v4", Some("v3"), &settings).unwrap();
    assert_eq!(found.from_ms, START + 90 * HOUR + HOUR / 2, "the old plan's day");
    let old = found.old.unwrap();
    assert_eq!((old.plan, old.found_by.as_deref()), (by_day(7), Some("default.v3")));
    assert_eq!(old.preview.time_zones.unwrap().get("Asia/Kolkata").unwrap().name, "Asia/Kolkata");
    assert_eq!(old.preview.vectors, found.new.preview.vectors);
    let tables = ["default.v3__preview".to_owned(), "default.v4__preview".to_owned()];
    assert_eq!(found.pairs, [(String::new(), tables)]);
    // By itself it is what the output's table holds; the two do not go into one table.
    let found = asked(by_day(0), 24, "v3", None, &settings).unwrap();
    let tables = ["default.v3__before__preview".to_owned(), "default.v3__preview".to_owned()];
    assert_eq!(found.pairs, [(String::new(), tables)]);
    assert_eq!(asked(by_day(0), 24, "v4", Some("v9"), &settings).unwrap_err().code(), "no_such_table");
}

#[test]
fn what_the_log_has_no_more_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let settings = settings(root.path());
    topic(root.path());
    LogDir::open(root.path().join("log")).enforce_retention(START + 100 * HOUR).unwrap();
    let error = asked(by_day(0), 24, "v4", None, &settings).unwrap_err();
    assert_eq!(error.code(), "retention_gap");
    assert!(error.message().contains("2026-04-23T18:30:00Z, where groups begin"), "{error}");
    assert!(error.to_string().contains("partition 0, log_start "), "{error}");
    assert!(asked(by_day(0), 4, "v4", None, &settings).is_ok());
    let options = Options {
        last_ms: i64::MAX,
        output_tables: [(String::new(), "v4".to_owned())].into(),
        against: None,
        certify: false,
        allow_gaps: true,
    };
    let all = scope(by_day(0), &options, &settings).unwrap();
    assert_eq!(all.vectors[TOPIC][&0].1, 120);
    assert!(all.vectors[TOPIC][&0].0 > 80 && all.from_ms == EARLIEST_MS, "{all:?}");
}
