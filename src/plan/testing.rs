//! Short ways to write plans in tests.

use super::expr::{AggregateExpr, AggregateFunction, Expr, Function, Literal, NamedExpr};
use super::logical::{BadRecordPolicy, JobPlan, LatePolicy, Node, Output, Read};
use super::schema::{DataType, Field, Schema, TimeUnit};

pub(crate) const MS: DataType = DataType::Timestamp(TimeUnit::Millisecond);
pub(crate) const US: DataType = DataType::Timestamp(TimeUnit::Microsecond);

pub(crate) fn decimal(precision: u8, scale: i8) -> DataType {
    DataType::Decimal { precision, scale }
}

pub(crate) fn schema(fields: &[(&str, DataType)]) -> Schema {
    Schema { fields: fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone())).collect() }
}

/// A column of every kind.
pub(crate) fn wide() -> Schema {
    schema(&[
        ("s", DataType::String),
        ("t", DataType::String),
        ("b", DataType::Boolean),
        ("c", DataType::Boolean),
        ("i", DataType::Int32),
        ("n", DataType::Int64),
        ("m", DataType::Int64),
        ("f", DataType::Float64),
        ("g", DataType::Float64),
        ("d", decimal(10, 2)),
        ("e", decimal(12, 4)),
        ("day", DataType::Date),
        ("ms", MS),
        ("us", US),
        ("bin", DataType::Binary),
        ("list", DataType::List(Box::new(DataType::Int64))),
        ("struct", DataType::Struct(vec![Field::new("x", DataType::Int64), Field::new("y", DataType::String)])),
    ])
}

pub(crate) fn col(name: &str) -> Expr {
    Expr::Column(name.to_owned())
}

pub(crate) fn lit(data_type: DataType, value: impl Into<serde_json::Value>) -> Expr {
    Expr::Literal(Literal::new(data_type, value))
}

pub(crate) fn int(value: i64) -> Expr {
    lit(DataType::Int64, value)
}

pub(crate) fn float(value: f64) -> Expr {
    lit(DataType::Float64, value)
}

pub(crate) fn text(value: &str) -> Expr {
    lit(DataType::String, value)
}

pub(crate) fn null() -> Expr {
    Expr::Literal(Literal::null())
}

pub(crate) fn call(function: Function, args: impl Into<Vec<Expr>>) -> Expr {
    Expr::Call { function, args: args.into() }
}

pub(crate) fn cast(input: Expr, to: DataType, strict: bool) -> Expr {
    Expr::Cast { input: Box::new(input), to, strict }
}

pub(crate) fn dt_date(input: Expr, time_zone: &str) -> Expr {
    call(Function::DtDate { time_zone: time_zone.to_owned() }, [input])
}

pub(crate) fn agg(function: AggregateFunction, input: Expr) -> Expr {
    Expr::Aggregate(AggregateExpr { function, input: Some(Box::new(input)), filter: None, ignore_nulls: false })
}

pub(crate) fn len() -> Expr {
    Expr::Aggregate(AggregateExpr { function: AggregateFunction::Len, input: None, filter: None, ignore_nulls: false })
}

pub(crate) fn named(name: &str, expr: Expr) -> NamedExpr {
    NamedExpr { name: name.to_owned(), expr }
}

pub(crate) fn read() -> Read {
    Read {
        id: 0,
        topic: "payments.captured.v1".into(),
        schema: schema(&[
            ("status", DataType::String),
            ("amount", DataType::Int64),
            ("merchant_id", DataType::String),
            ("event_time", MS),
            ("note", DataType::String),
        ]),
        event_time: "event_time".into(),
        max_out_of_orderness_ms: 30_000,
        late: LatePolicy::Keep,
        on_bad_record: BadRecordPolicy::Fail,
        max_future_ms: 86_400_000,
        metadata: Vec::new(),
    }
}

pub(crate) fn source() -> Node {
    Node::Read(Box::new(read()))
}

pub(crate) fn filter(input: Node, predicate: Expr) -> Node {
    Node::Filter { input: Box::new(input), predicate }
}

pub(crate) fn select(input: Node, columns: impl Into<Vec<NamedExpr>>) -> Node {
    Node::Select { input: Box::new(input), columns: columns.into() }
}

pub(crate) fn with_columns(input: Node, columns: impl Into<Vec<NamedExpr>>) -> Node {
    Node::WithColumns { input: Box::new(input), columns: columns.into() }
}

pub(crate) fn group(input: Node, keys: impl Into<Vec<NamedExpr>>, aggregates: impl Into<Vec<NamedExpr>>) -> Node {
    Node::Aggregate { input: Box::new(input), keys: keys.into(), aggregates: aggregates.into(), expire_after_ms: None }
}

/// The same grouping, whose groups expire.
pub(crate) fn expiring(grouping: Node, after_ms: i64) -> Node {
    match grouping {
        Node::Aggregate { input, keys, aggregates, .. } => {
            Node::Aggregate { input, keys, aggregates, expire_after_ms: Some(after_ms) }
        }
        other => other,
    }
}

/// `(status == "captured") & (amount > 0)`
pub(crate) fn captured() -> Expr {
    let status = call(Function::Eq, [col("status"), text("captured")]);
    call(Function::And, [status, call(Function::Gt, [col("amount"), int(0)])])
}

/// The job of the README.
pub(crate) fn merchants() -> Node {
    group(
        filter(source(), captured()),
        [named("day", dt_date(col("event_time"), "Asia/Kolkata"))],
        [named("merchants", agg(AggregateFunction::CountDistinct, col("merchant_id")))],
    )
}

/// Of users by day, how many rows they have, and of those how many users have so many: two groupings.
pub(crate) fn nested() -> Node {
    let users = group(
        filter(source(), captured()),
        [named("day", dt_date(col("event_time"), "UTC")), named("user", col("merchant_id"))],
        [named("rows", len()), named("total", agg(AggregateFunction::Sum, col("amount")))],
    );
    let kept = filter(users, call(Function::Gt, [col("rows"), int(1)]));
    let mean = call(Function::Div, [agg(AggregateFunction::Sum, col("total")), len()]);
    group(kept, [named("day", col("day")), named("size", col("rows"))], [named("users", len()), named("mean", mean)])
}

pub(crate) fn job(outputs: impl IntoIterator<Item = Node>) -> JobPlan {
    let outputs: Vec<Node> = outputs.into_iter().collect();
    let several = outputs.len() > 1;
    let output = |(i, plan)| Output { name: several.then(|| format!("o{i}")), plan, to: None };
    JobPlan { format: 1, job: "distinct-merchants".into(), outputs: outputs.into_iter().enumerate().map(output).collect() }
}
