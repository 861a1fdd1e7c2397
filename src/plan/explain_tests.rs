use super::*;
use crate::plan::expr::{AggregateExpr, AggregateFunction as A, Expr, Function as F};
use crate::plan::schema::DataType;
use crate::plan::testing::*;

#[test]
fn a_plan_reads_like_its_script() {
    let text = explain(&job([merchants()])).unwrap();
    let fingerprint = fingerprint(&job([merchants()])).unwrap();
    let expected = format!(
        r#"job distinct-merchants
fingerprint {fingerprint}

output 0: upsert, primary key (day)
  day        Date not null
  merchants  Int64 not null
  └ group_by day=event_time.dt.date(time_zone="Asia/Kolkata")
    agg merchants=merchant_id.count_distinct(): Int64
    └ filter (status == "captured") & (amount > 0)
      └ read payments.captured.v1
        event time event_time, late after 30s: kept
        4 of 5 columns used:
          status: String
          amount: Int64
          merchant_id: String
          event_time: Timestamp("ms")
"#
    );
    assert_eq!(text, expected);
}

#[test]
fn both_groupings_are_shown() {
    let text = explain(&job([nested()])).unwrap();
    let steps = r#"output 0: upsert, primary key (day, size)
  day    Date not null
  size   Int64 not null
  users  Int64 not null
  mean   Float64
  └ group_by day, size=rows
    agg users=len(): Int64
    agg mean=total.sum() / len(): Float64
    └ filter rows > 1
      └ group_by day=event_time.dt.date(), user=merchant_id
        agg rows=len(): Int64
        agg total=amount.sum(): Int64
        └ filter (status == "captured") & (amount > 0)
"#;
    assert!(text.contains(steps), "{text}");
}

#[test]
fn expiry_is_shown() {
    let text = explain(&job([expiring(merchants(), 7 * 86_400_000)])).unwrap();
    assert!(
        text.contains("\n    groups expire 7d after the end of their interval: records after that are left out\n"),
        "{text}"
    );
}

#[test]
fn expressions_are_printed_as_they_are_written() {
    let sum = call(F::Add, [col("a"), call(F::Mul, [int(2), call(F::Neg, [col("b")])])]);
    let when = call(F::When, [col("p"), text("x"), call(F::IsNull, [col("q")]), null(), lit(DataType::Boolean, true)]);
    let filtered = AggregateExpr {
        function: A::First,
        input: Some(Box::new(col("x"))),
        filter: Some(Box::new(col("p"))),
        ignore_nulls: true,
    };
    for (expr, expected) in [
        (sum.clone(), "a + (2 * (-b))"),
        (call(F::Not, [call(F::Or, [col("p"), col("q")])]), "~(p | q)"),
        (call(F::Abs, [sum]), "(a + (2 * (-b))).abs()"),
        (when, "when(p).then(\"x\").when(q.is_null()).then(None).otherwise(True)"),
        (call(F::IsIn, [col("a"), int(1), int(2)]), "a.is_in([1, 2])"),
        (call(F::Coalesce, [col("a"), float(0.5)]), "coalesce(a, 0.5)"),
        (cast(col("odd name"), DataType::Int64, false), "col(\"odd name\").cast(Int64, strict=False)"),
        (call(F::DtTruncate { every: "1h".into(), time_zone: "UTC".into() }, [col("ts")]), "ts.dt.truncate(\"1h\")"),
        (call(F::StrSlice, [col("s"), int(-3)]), "s.str.slice(-3)"),
        (call(F::Gt, [col("day"), lit(DataType::Date, 20_513)]), "day > date(2026-03-01)"),
        (call(F::Gt, [col("ts"), lit(MS, 1_772_323_200_000_i64)]), "ts > datetime(2026-03-01T00:00:00.000Z)"),
        (call(F::Eq, [col("d"), lit(decimal(5, 2), "1.50")]), "d == lit(1.50, Decimal(5, 2))"),
        (Expr::Aggregate(filtered), "x.filter(p).first(ignore_nulls=True)"),
        (len(), "len()"),
    ] {
        assert_eq!(expr.to_string(), expected);
    }
}

#[test]
fn durations_are_short() {
    let all: Vec<_> = [0, 1, 1_500, 90_000, 7_200_000, 86_400_000].map(duration).to_vec();
    assert_eq!(all, ["0s", "1ms", "1500ms", "90s", "2h", "1d"]);
}
