use super::*;
use crate::plan::expr::{AggregateFunction as A, Expr, Function as F};
use crate::plan::logical::BadRecordPolicy;
use crate::plan::schema::DataType;
use crate::plan::testing::*;

fn found(before: &JobPlan, after: &JobPlan) -> Vec<String> {
    changes(before, after).unwrap().iter().map(ToString::to_string).collect()
}

fn is_captured() -> Expr {
    call(F::Eq, [col("status"), text("captured")])
}

fn positive(least: i64) -> Expr {
    call(F::Gt, [col("amount"), int(least)])
}

fn totals(input: Node, aggregates: impl Into<Vec<NamedExpr>>) -> Node {
    group(input, [named("day", dt_date(col("event_time"), "UTC"))], aggregates)
}

#[test]
fn a_step_that_changed_is_shown_as_it_was_and_is() {
    let plan = |least| job([totals(filter(source(), call(F::And, [is_captured(), positive(least)])), [named("n", len())])]);
    let expected = r#"filter: (status == "captured") & (amount > 0) → (status == "captured") & (amount > 5)"#;
    assert_eq!(found(&plan(0), &plan(5)), [expected]);
    assert!(found(&plan(0), &plan(0)).is_empty());
}

#[test]
fn steps_that_come_and_go_are_told_from_those_that_stay() {
    let with = job([totals(filter(filter(source(), is_captured()), positive(0)), [named("n", len())])]);
    let without = job([totals(filter(source(), positive(0)), [named("n", len())])]);
    assert_eq!(found(&with, &without), [r#"filter is gone: status == "captured""#]);
    assert_eq!(found(&without, &with), [r#"filter is new: status == "captured""#]);
}

#[test]
fn columns_change_one_by_one() {
    let before = job([totals(source(), [named("n", len()), named("total", agg(A::Sum, col("amount")))])]);
    let after =
        job([totals(source(), [named("total", agg(A::Max, col("amount"))), named("mean", agg(A::Mean, col("amount")))])]);
    let expected = ["agg n is gone: len()", "agg total: amount.sum() → amount.max()", "agg mean is new: amount.mean()"];
    assert_eq!(found(&before, &after), expected);
    let turned = job([totals(source(), [named("total", agg(A::Sum, col("amount"))), named("n", len())])]);
    assert_eq!(found(&before, &turned), ["order in group_by: group_by day, agg n, agg total → group_by day, agg total, agg n"]);
}

#[test]
fn what_is_read_and_how_is_compared_too() {
    let before = job([source()]);
    let mut read = read();
    read.max_out_of_orderness_ms = 60_000;
    read.on_bad_record = BadRecordPolicy::Skip;
    read.schema = schema(&[("status", DataType::String), ("amount", DataType::Int32), ("event_time", MS), ("new", MS)]);
    let after = job([Node::Read(Box::new(read))]);
    let expected = [
        "max_out_of_orderness: 30s → 1m",
        "on_bad_record: fail → skip",
        "column amount: Int64 → Int32",
        "column merchant_id is gone: String",
        "column note is gone: String",
        "column new is new: Timestamp(\"ms\")",
    ];
    assert_eq!(found(&before, &after), expected);
}

#[test]
fn the_type_of_a_literal_is_a_change_although_its_text_is_not() {
    let plan = |zero| job([filter(source(), call(F::Gt, [col("amount"), zero]))]);
    let found = found(&plan(int(0)), &plan(lit(DataType::Int32, 0)));
    assert!(found[0].contains(r#""type":"int64""#) && found[0].contains(r#""type":"int32""#), "{found:?}");
}

#[test]
fn outputs_are_told_apart_by_name() {
    let output = |name: &str, least| Output { name: Some(name.to_owned()), plan: filter(source(), positive(least)), to: None };
    let plan = |outputs| JobPlan { outputs, ..job([source()]) };
    let before = plan(vec![output("a", 0), output("b", 0)]);
    let after = plan(vec![output("b", 1), output("c", 0)]);
    let expected = [
        "output a is gone: payments.captured.v1; amount > 0",
        "b: filter: amount > 0 → amount > 1",
        "output c is new: payments.captured.v1; amount > 0",
    ];
    assert_eq!(found(&before, &after), expected);
}
