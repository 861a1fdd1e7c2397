use super::*;
use crate::plan::logical::{MetadataColumn, Read};
use crate::plan::testing::*;

fn codes(plan: &JobPlan) -> Vec<&'static str> {
    check(plan).into_iter().map(|finding| finding.code).collect()
}

fn with_read(change: impl Fn(&mut Read)) -> JobPlan {
    let mut read = read();
    change(&mut read);
    job([select(Node::Read(Box::new(read)), [named("amount", col("amount"))])])
}

#[test]
fn the_job_of_the_readme_is_clean() {
    assert_eq!(check(&job([merchants()])), []);
}

#[test]
fn what_leaves_rows_out_is_named() {
    assert_eq!(codes(&with_read(|r| r.late = LatePolicy::Drop)), ["late_rows_lost"]);
    assert_eq!(
        codes(&with_read(|r| (r.late, r.max_out_of_orderness_ms) = (LatePolicy::DeadLetter, 0))),
        ["no_out_of_orderness", "late_rows_aside"],
        "the worst first"
    );
    assert_eq!(codes(&with_read(|r| r.on_bad_record = BadRecordPolicy::Skip)), ["bad_records_lost"]);
    assert_eq!(codes(&with_read(|r| r.max_future_ms = 366 * 86_400_000)), ["long_future"]);
}

#[test]
fn state_without_end_is_named() {
    let by_status = |aggregate| job([group(source(), [named("k", col("status"))], [named("x", aggregate)])]);
    assert_eq!(codes(&by_status(agg(AggregateFunction::NUnique, col("note")))), ["state_grows"]);
    assert_eq!(codes(&by_status(len())), ["key_without_time"]);
}

#[test]
fn expired_groups_leave_records_out() {
    let late = |late| {
        let read = Node::Read(Box::new(Read { late, ..read() }));
        let day = [named("day", dt_date(col("event_time"), "UTC"))];
        job([expiring(group(read, day, [named("n", len())]), 1)])
    };
    assert_eq!(codes(&late(LatePolicy::Keep)), ["expired_rows_lost"]);
    // What is late never comes so far.
    assert_eq!(codes(&late(LatePolicy::Drop)), ["late_rows_lost"]);
}

#[test]
fn expressions_are_looked_into() {
    let lenient = filter(source(), call(Function::IsNull, [cast(col("note"), DataType::Int64, false)]));
    assert_eq!(codes(&job([lenient])), ["lenient_cast"]);
    let mut read = read();
    read.metadata = vec![MetadataColumn { name: "at".into(), kind: MetadataKind::Offset }];
    let position = filter(Node::Read(Box::new(read)), call(Function::Gt, [col("at"), int(5)]));
    assert_eq!(codes(&job([position])), ["log_position_in_result"]);
}

#[test]
fn a_wrong_plan_is_one_error() {
    let findings = check(&job([filter(source(), col("amuont"))]));
    let json = serde_json::to_string(&findings).unwrap();
    assert_eq!(
        json,
        r#"[{"level":"error","code":"unknown_column","message":"there is no column \"amuont\"","hint":"did you mean \"amount\"? The columns are status, amount, merchant_id, event_time, note"}]"#
    );
}
