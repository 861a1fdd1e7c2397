use super::*;
use crate::plan::expr::{AggregateFunction as A, Function as F};
use crate::plan::logical::{MetadataColumn, MetadataKind};
use crate::plan::testing::*;
use crate::plan::typing::type_of;

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields.iter().map(|field| field.name.as_str()).collect()
}

fn sum() -> Expr {
    agg(A::Sum, col("amount"))
}

fn daily(input: Node, aggregates: impl Into<Vec<NamedExpr>>) -> Node {
    group(input, [named("day", dt_date(col("event_time"), "UTC"))], aggregates)
}

/// Follows the steps and gives the columns that come out.
fn run_types(lowered: &Lowered, pipeline: &PipelineSpec) -> Schema {
    let follow = |schema: Schema, steps: &[Step]| {
        steps.iter().fold(schema, |schema, step| match step {
            Step::Filter(predicate) => {
                assert_eq!(type_of(predicate, &schema).unwrap().0, Some(DataType::Boolean));
                schema
            }
            Step::Project(columns) => {
                let types = columns.iter().map(|c| (c.name.as_str(), type_of(&c.expr, &schema).unwrap().0.unwrap()));
                super::super::testing::schema(&types.collect::<Vec<_>>())
            }
        })
    };
    let mut now = follow(lowered.sources[pipeline.source].schema.clone(), &pipeline.before);
    if let Some(spec) = &pipeline.aggregate {
        now = group_types(spec, &now);
    }
    if let Some(regroup) = &pipeline.regroup {
        now = group_types(&regroup.aggregate, &follow(now, &regroup.between));
        // The count of rows is not a column.
        let rows = now.fields.pop().unwrap();
        assert!(pipeline.schema.find(&rows.name).is_none());
    }
    follow(now, &pipeline.after)
}

/// The columns of a grouping.
fn group_types(spec: &AggregateSpec, now: &Schema) -> Schema {
    for (key, key_type) in spec.keys.iter().zip(&spec.key_types) {
        assert_eq!(type_of(&key.expr, now).unwrap().0.as_ref(), Some(key_type));
    }
    for call in &spec.calls {
        assert_eq!(call.input.as_ref().and_then(|input| type_of(input, now).unwrap().0), call.input_type);
        call.filter.iter().for_each(|filter| assert!(type_of(filter, now).is_ok()));
    }
    let keys = spec.keys.iter().zip(&spec.key_types).map(|(key, data_type)| (key.name.as_str(), data_type.clone()));
    let calls = spec.calls.iter().map(|call| (call.name.as_str(), call.output_type.clone()));
    super::super::testing::schema(&keys.chain(calls).collect::<Vec<_>>())
}

fn lowered(outputs: impl IntoIterator<Item = Node>) -> Lowered {
    let lowered = lower(&job(outputs)).unwrap();
    for pipeline in &lowered.pipelines {
        let made = run_types(&lowered, pipeline);
        for field in &pipeline.schema.fields {
            let (_, found) = made.find(&field.name).unwrap();
            assert_eq!(found.data_type, field.data_type);
        }
        if pipeline.after.iter().chain(&pipeline.before).any(|step| matches!(step, Step::Project(_))) {
            assert_eq!(names(&made), names(&pipeline.schema));
        }
    }
    lowered
}

#[test]
fn only_used_columns_are_decoded() {
    let plan = lowered([merchants()]);
    assert_eq!(plan.sources.len(), 1);
    assert_eq!(names(&plan.sources[0].payload), ["status", "amount", "merchant_id", "event_time"]);
    assert_eq!(plan.sources[0].event_time, 3);
    let pipeline = &plan.pipelines[0];
    assert_eq!(pipeline.before, [Step::Filter(captured())]);
    assert!(pipeline.after.is_empty());
    assert_eq!(pipeline.primary_key, ["day"]);
    let spec = pipeline.aggregate.as_ref().unwrap();
    assert_eq!(spec.name, "output 0 aggregate");
    assert_eq!(spec.key_types, [DataType::Date]);
    assert_eq!(spec.calls[0].name, "merchants");
    assert_eq!(spec.calls[0].input_type, Some(DataType::String));

    // The event time is always read, whatever the plan uses.
    let plan = lowered([group(source(), [named("k", col("status"))], [named("n", len())])]);
    assert_eq!(names(&plan.sources[0].payload), ["status", "event_time"]);
    assert_eq!(plan.sources[0].event_time, 1);
}

#[test]
fn what_nothing_uses_is_not_computed() {
    let wide = with_columns(source(), [named("x", call(F::Add, [col("amount"), int(1)])), named("y", col("note"))]);
    let plan = lowered([daily(wide, [named("n", agg(A::Sum, col("x")))])]);
    assert_eq!(names(&plan.sources[0].payload), ["amount", "event_time"]);
    let Step::Project(columns) = &plan.pipelines[0].before[0] else { panic!("{:?}", plan.pipelines[0].before) };
    assert_eq!(columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["event_time", "x"]);

    let dropped =
        select(daily(source(), [named("a", sum()), named("b", len())]), [named("day", col("day")), named("b", col("b"))]);
    let plan = lowered([dropped]);
    let spec = plan.pipelines[0].aggregate.as_ref().unwrap();
    assert_eq!(spec.calls.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(names(&plan.sources[0].payload), ["event_time"]);

    // A group key alone still needs something to count.
    let keys = select(daily(source(), [named("a", len()), named("b", sum())]), [named("day", col("day"))]);
    assert_eq!(lowered([keys]).pipelines[0].aggregate.as_ref().unwrap().calls.len(), 1);
}

#[test]
fn compound_aggregates_are_split() {
    let mean = call(F::Div, [sum(), len()]);
    let plan = lowered([daily(source(), [named("mean", mean.clone()), named("n", len())])]);
    let pipeline = &plan.pipelines[0];
    let calls: Vec<_> = pipeline.aggregate.as_ref().unwrap().calls.iter().map(|c| (c.name.as_str(), c.function)).collect();
    assert_eq!(calls, [("n", A::Len), ("mean#0", A::Sum)], "the count is shared");
    let projected = [named("day", col("day")), named("mean", call(F::Div, [col("mean#0"), col("n")])), named("n", col("n"))];
    assert_eq!(pipeline.after, [Step::Project(projected.to_vec())]);
    assert_eq!(names(&pipeline.schema), ["day", "mean", "n"]);

    // Two names for one aggregate, and a name that is taken.
    let plan = lowered([daily(source(), [named("a", sum()), named("b", sum()), named("c#0", len()), named("c", mean)])]);
    let calls: Vec<_> = plan.pipelines[0].aggregate.as_ref().unwrap().calls.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(calls, ["a", "c#0"]);
}

#[test]
fn keys_are_followed_through_renames() {
    let grouped = daily(source(), [named("n", len())]);
    let plan = lowered([filter(
        select(grouped, [named("rows", col("n")), named("date", col("day"))]),
        call(F::Gt, [col("rows"), int(10)]),
    )]);
    assert_eq!(plan.pipelines[0].primary_key, ["date"]);
    assert_eq!(plan.pipelines[0].after.len(), 2);
}

#[test]
fn outputs_share_their_source() {
    let mut with_offset = read();
    with_offset.metadata = vec![
        MetadataColumn { name: "at".into(), kind: MetadataKind::Offset },
        MetadataColumn { name: "key".into(), kind: MetadataKind::Key },
    ];
    let source = || Node::Read(Box::new(with_offset.clone()));
    let raw = select(source(), [named("note", col("note")), named("at", col("at"))]);
    let plan = lowered([daily(source(), [named("n", len())]), raw]);
    assert_eq!(plan.sources.len(), 1);
    assert_eq!(names(&plan.sources[0].payload), ["event_time", "note"]);
    assert_eq!(names(&plan.sources[0].schema), ["event_time", "note", "at"]);
    assert_eq!(plan.pipelines.iter().map(|p| p.source).collect::<Vec<_>>(), [0, 0]);
    assert!(plan.pipelines[1].primary_key.is_empty());

    let mut second = read();
    (second.id, second.topic) = (1, "refunds".into());
    let plan = lowered([daily(Node::Read(Box::new(second)), [named("n", len())]), merchants()]);
    assert_eq!(plan.sources.iter().map(|s| s.read.topic.as_str()).collect::<Vec<_>>(), ["refunds", "payments.captured.v1"]);
    assert_eq!(plan.pipelines[1].aggregate.as_ref().unwrap().name, "output 1 aggregate");
}

#[test]
fn a_second_grouping_follows_the_first() {
    let plan = lowered([nested()]);
    let pipeline = &plan.pipelines[0];
    let first = pipeline.aggregate.as_ref().unwrap();
    let RegroupSpec { between, aggregate: second } = pipeline.regroup.as_ref().unwrap();
    assert_eq!((first.name.as_str(), second.name.as_str()), ("output 0 aggregate", "output 0 aggregate 2"));
    let calls = |spec: &AggregateSpec| -> Vec<(String, A, bool)> {
        spec.calls.iter().map(|call| (call.name.clone(), call.function, call.retracts)).collect()
    };
    assert_eq!(calls(first), [("rows".to_owned(), A::Len, false), ("total".to_owned(), A::Sum, false)]);
    let second_calls = [("users", A::Len), ("mean#0", A::Sum), ("rows#0", A::Len)];
    assert_eq!(calls(second), second_calls.map(|(name, function)| (name.to_owned(), function, true)));
    assert_eq!(*between, [Step::Filter(call(F::Gt, [col("rows"), int(1)]))]);
    let mean = named("mean", call(F::Div, [col("mean#0"), col("users")]));
    let projected = [named("day", col("day")), named("size", col("size")), named("users", col("users")), mean];
    assert_eq!(pipeline.after, [Step::Project(projected.to_vec())]);
    assert_eq!(pipeline.primary_key, ["day", "size"]);
    assert_eq!(pipeline.groupings().count(), 2);
    assert_eq!(names(&plan.sources[0].payload), ["status", "amount", "merchant_id", "event_time"]);
}

#[test]
fn what_a_second_grouping_does_not_use_is_not_computed() {
    let wide = with_columns(nested(), [named("k", col("users"))]);
    let plan = lowered([select(wide, [named("day", col("day")), named("size", col("size"))])]);
    let regroup = plan.pipelines[0].regroup.as_ref().unwrap();
    // Only what counts the rows.
    assert_eq!(regroup.aggregate.calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["rows#0"]);
    let first = plan.pipelines[0].aggregate.as_ref().unwrap();
    assert_eq!(first.calls.iter().map(|call| call.name.as_str()).collect::<Vec<_>>(), ["rows"]);
    // The condition before the first still needs the amount.
    assert_eq!(names(&plan.sources[0].payload), ["status", "amount", "merchant_id", "event_time"]);

    // Steps between the two are pruned by what the second uses.
    let users = daily(source(), [named("rows", len()), named("total", sum()), named("note", agg(A::Max, col("note")))]);
    let between = select(users, [named("total", col("total")), named("note", col("note")), named("rows#0", col("rows"))]);
    let plan = lowered([group(between, [named("rows#0", col("rows#0"))], [named("sum", agg(A::Sum, col("total")))])]);
    let regroup = plan.pipelines[0].regroup.as_ref().unwrap();
    assert_eq!(regroup.between, [Step::Project(vec![named("total", col("total")), named("rows#0", col("rows"))])]);
    assert_eq!(regroup.aggregate.calls.last().unwrap().name, "rows#1", "a name that is taken");
    assert_eq!(names(&plan.sources[0].payload), ["amount", "event_time"]);
}
