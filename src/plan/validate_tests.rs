use super::*;
use crate::plan::expr::{AggregateExpr, AggregateFunction as A, Function as F};
use crate::plan::logical::{MetadataColumn, MetadataKind};
use crate::plan::testing::*;

fn error_of(node: &Node) -> String {
    schema_of(node).unwrap_err().to_string()
}

fn daily(aggregates: impl Into<Vec<NamedExpr>>) -> Node {
    group(source(), [named("day", dt_date(col("event_time"), "UTC"))], aggregates)
}

#[test]
fn the_job_of_the_readme() {
    let shape = shape_of(&merchants()).unwrap();
    assert_eq!(shape.keys, Some(vec!["day".to_owned()]));
    let columns: Vec<_> = shape.schema.fields.iter().map(|f| (f.name.as_str(), f.data_type.clone(), f.nullable)).collect();
    // A record without event time is a bad record, so the day is never null.
    assert_eq!(columns, [("day", DataType::Date, false), ("merchants", DataType::Int64, false)]);
}

#[test]
fn reads_are_checked() {
    let with = |change: &dyn Fn(&mut Read)| {
        let mut read = read();
        change(&mut read);
        error_of(&Node::Read(Box::new(read)))
    };
    assert_eq!(
        with(&|r| r.event_time = "evnt_time".into()),
        "event_time \"evnt_time\" is not in the schema (topic=payments.captured.v1); did you mean \"event_time\"? \
         The columns are status, amount, merchant_id, event_time, note"
    );
    assert!(with(&|r| r.event_time = "amount".into()).contains("is Int64, not a Timestamp"));
    assert!(with(&|r| r.schema.fields[3].data_type = DataType::Date).contains("is Date, not a Timestamp"));
    assert!(with(&|r| r.schema.fields[0].data_type = DataType::List(Box::new(DataType::Binary))).contains("Binary"));
    assert!(with(&|r| r.schema.fields[0].name = "amount".into()).contains("two columns \"amount\""));
    assert!(with(&|r| r.schema.fields[0].data_type = decimal(39, 2)).contains("Decimal(39, 2) is not a decimal type"));
    let taken = MetadataColumn { name: "amount".into(), kind: MetadataKind::Offset };
    assert!(with(&|r| r.metadata = vec![taken.clone()]).contains("two columns \"amount\""));
    assert!(with(&|r| r.max_out_of_orderness_ms = -1).contains("cannot be negative"));
}

#[test]
fn filters_are_conditions() {
    assert!(error_of(&filter(source(), col("amount"))).contains("filter takes a condition; amount is Int64"));
    assert!(error_of(&filter(source(), len())).contains("an aggregate outside of agg"));
    assert!(schema_of(&filter(source(), null())).is_ok());
}

#[test]
fn columns_keep_their_place_and_names_are_distinct() {
    let added = with_columns(source(), [named("amount", call(F::Mul, [col("amount"), int(2)])), named("k", int(1))]);
    let names: Vec<_> = schema_of(&added).unwrap().fields.into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["status", "amount", "merchant_id", "event_time", "note", "k"]);
    assert!(error_of(&select(source(), [named("a", int(1)), named("a", int(2))])).contains("two columns \"a\""));
    assert!(error_of(&select(source(), [])).contains("no column is left"));
    assert!(error_of(&select(source(), [named("x", null())])).contains("kappa.lit(None, kappa.String)"));
    let wrong = select(source(), [named("x", call(F::Add, [col("status"), int(2)]))]);
    assert!(error_of(&wrong).contains("(column=x)"), "{}", error_of(&wrong));
}

#[test]
fn agg_takes_aggregates_only() {
    let sum = || agg(A::Sum, col("amount"));
    assert!(schema_of(&daily([named("mean", call(F::Div, [sum(), len()]))])).is_ok());
    assert!(error_of(&daily([named("x", int(1))])).contains("1 in agg has no aggregate"));
    assert!(error_of(&daily([named("x", col("amount"))])).contains("\"amount\" stands outside an aggregate"));
    assert!(error_of(&daily([named("x", call(F::Div, [sum(), col("amount")]))])).contains("stands outside an aggregate"));
    assert!(error_of(&daily([named("x", agg(A::Max, sum()))])).contains("inside another"));
    assert!(error_of(&daily([])).contains("at least one aggregate"));
    assert!(error_of(&daily([named("day", len())])).contains("two columns \"day\""));
    let filtered = |filter| {
        Expr::Aggregate(AggregateExpr { function: A::Len, input: None, filter: Some(Box::new(filter)), ignore_nulls: false })
    };
    assert!(schema_of(&daily([named("x", filtered(captured()))])).is_ok());
    assert!(error_of(&daily([named("x", filtered(col("amount")))])).contains("is Int64, not Boolean"));
    assert!(error_of(&daily([named("x", agg(A::Sum, null()))])).contains("a null without a type"));
    let ignoring = AggregateExpr { function: A::Sum, input: Some(Box::new(col("amount"))), filter: None, ignore_nulls: true };
    assert!(error_of(&daily([named("x", Expr::Aggregate(ignoring))])).contains("takes no ignore_nulls"));
}

#[test]
fn group_keys_are_exact() {
    let by = |expr| group(source(), [named("k", expr)], [named("n", len())]);
    assert!(error_of(&by(call(F::Div, [col("amount"), int(2)]))).contains("group key \"k\" is Float64"));
    assert!(error_of(&group(source(), [], [named("n", len())])).contains("group_by needs at least one key"));
    assert!(error_of(&by(len())).contains("outside of agg"));
    assert!(schema_of(&by(int(1))).is_ok());
}

#[test]
fn after_agg_the_key_stays() {
    let grouped = || daily([named("n", len())]);
    let renamed = select(grouped(), [named("n", col("n")), named("date", col("day"))]);
    assert_eq!(shape_of(&renamed).unwrap().keys, Some(vec!["date".to_owned()]));
    let twice = select(grouped(), [named("copy", col("day")), named("day", col("day"))]);
    assert_eq!(shape_of(&twice).unwrap().keys, Some(vec!["day".to_owned()]));
    let written = |node: Node| check_plan(&job([node])).unwrap_err().to_string();
    let dropped = "the group key column \"day\" is dropped or replaced; it is part of the table's primary key: keep \
                   col(\"day\"), under another name if you like";
    assert_eq!(written(select(grouped(), [named("n", col("n"))])), dropped);
    let renamed = || select(grouped(), [named("n", col("n")), named("date", col("day"))]);
    assert!(written(select(renamed(), [named("n", col("n"))])).contains("column \"date\" is dropped"));
    let replaced = with_columns(grouped(), [named("day", cast(col("day"), DataType::String, true))]);
    assert_eq!(written(replaced), dropped);
    // What is gone does not come back under the same name.
    let again = select(select(grouped(), [named("n", col("n"))]), [named("day", col("n"))]);
    assert_eq!(written(again), dropped);
    assert!(schema_of(&filter(grouped(), call(F::Gt, [col("n"), int(5)]))).is_ok());
    let by_status = group(source(), [named("s", col("status"))], [named("n", len())]);
    assert!(error_of(&expiring(by_status, 1)).contains("no group key of (s) truncates the event time"));
    assert!(schema_of(&expiring(grouped(), 1)).is_ok());
}

#[test]
fn rows_are_grouped_twice_at_most() {
    let shape = shape_of(&nested()).unwrap();
    assert_eq!((shape.keys, shape.groupings), (Some(vec!["day".to_owned(), "size".to_owned()]), 2));
    let columns: Vec<_> = shape.schema.fields.iter().map(|f| (f.name.as_str(), f.data_type.clone(), f.nullable)).collect();
    let expected = [
        ("day", DataType::Date, false),
        ("size", DataType::Int64, false),
        ("users", DataType::Int64, false),
        ("mean", DataType::Float64, true),
    ];
    assert_eq!(columns, expected);
    // Between the two the key of the first may go.
    let total = select(merchants(), [named("merchants", col("merchants"))]);
    let by = |key: Expr| group(total.clone(), [named("k", key)], [named("days", len())]);
    assert!(check_plan(&job([by(col("merchants"))])).is_ok());
    assert!(error_of(&by(col("day"))).contains("\"day\""));
    assert!(error_of(&by(call(F::Div, [col("merchants"), int(2)]))).contains("group key \"k\" is Float64"));
    let third = group(nested(), [named("day", col("day"))], [named("n", len())]);
    assert_eq!(
        error_of(&third),
        "a third group_by is not supported: rows are grouped twice at most; leave one of the first two out, or write their \
         result as an output of its own"
    );
    assert!(error_of(&expiring(nested(), 1)).contains("needs one of the first that is not longer"));
    // The key of the second is that of its table.
    let dropped = check_plan(&job([select(nested(), [named("users", col("users")), named("day", col("day"))])])).unwrap_err();
    assert_eq!((dropped.code(), dropped.message().contains("\"size\"")), ("group_key_dropped", true));
}

#[test]
fn a_second_group_by_takes_what_can_be_taken_back() {
    let top = |aggregate: Expr| group(merchants(), [named("day", col("day"))], [named("n", len()), named("top", aggregate)]);
    let merchants = || col("merchants");
    let wanted = |input: Option<Expr>, function| AggregateExpr {
        function,
        input: input.map(Box::new),
        filter: Some(Box::new(call(F::Gt, [merchants(), int(3)]))),
        ignore_nulls: false,
    };
    for function in [A::Count, A::Sum, A::Mean] {
        assert!(schema_of(&top(Expr::Aggregate(wanted(Some(merchants()), function)))).is_ok());
    }
    assert!(schema_of(&top(Expr::Aggregate(wanted(None, A::Len)))).is_ok());
    assert_eq!(
        error_of(&top(agg(A::Max, merchants()))),
        "column \"top\": a second group_by cannot take max(); rows of the first group_by change, and from max() alone an old \
         value cannot be taken back: take max() in the first group_by, and len, count, sum or mean in the second"
    );
    for function in [A::Min, A::Max, A::First, A::Last, A::NUnique, A::CountDistinct] {
        let compound = call(F::Add, [agg(A::Sum, merchants()), cast(agg(function, merchants()), DataType::Int64, true)]);
        let error = schema_of(&top(compound)).unwrap_err();
        assert_eq!(error.code(), "not_retractable");
        assert!(error.message().contains(&format!("{}()", function.name())), "{error}");
    }
}

#[test]
fn jobs_are_checked() {
    let error = |plan: &JobPlan| check_plan(plan).unwrap_err().to_string();
    assert!(check_plan(&job([merchants(), source()])).is_ok());
    assert!(error(&job([])).contains("writes nothing"));
    let mut unnamed = job([merchants(), source()]);
    unnamed.outputs[1].name = None;
    assert!(error(&unnamed).contains("needs a name for each"));
    unnamed.outputs[1].name = Some("o0".into());
    assert!(error(&unnamed).contains("used twice"));
    let again = |change: &dyn Fn(&mut Read)| {
        let mut other = read();
        change(&mut other);
        error(&job([merchants(), Node::Read(Box::new(other))]))
    };
    assert!(again(&|r| r.topic = "other".into()).contains("two different reads have the id 0"));
    assert!(again(&|r| r.id = 1).contains("is read twice"));
    let mut nanos = read();
    nanos.schema.fields[3].data_type = DataType::Timestamp(TimeUnit::Nanosecond);
    let nanos = error(&job([Node::Read(Box::new(nanos))]));
    assert!(nanos.contains("cast(kappa.Timestamp(\"us\"))"), "{nanos}");
    assert!(error(&JobPlan { format: 2, ..job([source()]) }).contains("format 2"));
    assert!(error(&JobPlan { job: " ".into(), ..job([source()]) }).contains("needs a name"));
}
