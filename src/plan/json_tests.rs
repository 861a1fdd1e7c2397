//! The JSON forms that Python writes. A change here is a change of the format.

use proptest::prelude::*;
use serde_json::json;

use super::expr::{AggregateExpr, AggregateFunction, Expr, Function};
use super::logical::JobPlan;
use super::schema::{DataType, Field, TimeUnit};
use super::testing::*;

fn pinned(expr: &Expr, expected: serde_json::Value) {
    assert_eq!(serde_json::to_value(expr).unwrap(), expected);
    assert_eq!(serde_json::from_value::<Expr>(expected).unwrap(), *expr);
}

#[test]
fn expressions() {
    pinned(&col("amount"), json!({"column": "amount"}));
    pinned(&int(0), json!({"literal": {"type": "int64", "value": 0}}));
    pinned(&null(), json!({"literal": {"value": null}}));
    pinned(
        &call(Function::Gt, [col("amount"), int(0)]),
        json!({"call": {"function": "gt", "args": [{"column": "amount"}, {"literal": {"type": "int64", "value": 0}}]}}),
    );
    pinned(
        &dt_date(col("t"), "UTC"),
        json!({"call": {"function": {"dt_date": {"time_zone": "UTC"}}, "args": [{"column": "t"}]}}),
    );
    pinned(&cast(col("a"), DataType::Int64, true), json!({"cast": {"input": {"column": "a"}, "to": "int64", "strict": true}}));
    pinned(&len(), json!({"aggregate": {"function": "len"}}));
    let last = AggregateExpr {
        function: AggregateFunction::Last,
        input: Some(Box::new(col("a"))),
        filter: Some(Box::new(col("p"))),
        ignore_nulls: true,
    };
    pinned(
        &Expr::Aggregate(last),
        json!({"aggregate": {"function": "last", "input": {"column": "a"}, "filter": {"column": "p"}, "ignore_nulls": true}}),
    );
}

#[test]
fn function_names() {
    let zone = || "UTC".to_owned();
    for (function, expected) in [
        (Function::FloorDiv, json!("floor_div")),
        (Function::IsNotNull, json!("is_not_null")),
        (Function::Round { decimals: 2 }, json!({"round": {"decimals": 2}})),
        (
            Function::DtTruncate { every: "1h".into(), time_zone: zone() },
            json!({"dt_truncate": {"every": "1h", "time_zone": "UTC"}}),
        ),
        (Function::DtWeekday { time_zone: zone() }, json!({"dt_weekday": {"time_zone": "UTC"}})),
        (Function::DtEpoch { unit: TimeUnit::Millisecond }, json!({"dt_epoch": {"unit": "ms"}})),
        (Function::StrLenChars, json!("str_len_chars")),
        (Function::StructField { name: "x".into() }, json!({"struct_field": {"name": "x"}})),
    ] {
        assert_eq!(serde_json::to_value(&function).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Function>(expected).unwrap(), function);
    }
}

#[test]
fn types() {
    let nested = DataType::Struct(vec![Field { name: "x".into(), data_type: decimal(10, 2), nullable: false }]);
    let expected =
        json!({"list": {"struct": [{"name": "x", "type": {"decimal": {"precision": 10, "scale": 2}}, "nullable": false}]}});
    assert_eq!(serde_json::to_value(DataType::List(Box::new(nested))).unwrap(), expected);
    assert_eq!(serde_json::to_value(MS).unwrap(), json!({"timestamp": "ms"}));
}

#[test]
fn plans_come_back_as_they_went() {
    let plan = job([merchants(), select(source(), [named("x", col("amount"))]), nested()]);
    assert_eq!(JobPlan::from_json(&plan.to_json().unwrap()).unwrap(), plan);
    let error = JobPlan::from_json("{\"format\": 1, \"jobs\": 3}").unwrap_err();
    assert!(error.message().starts_with("not a plan: unknown field `jobs`"), "{error}");
    let deep = (0..60).fold(col("b"), |expr, _| call(Function::Not, [expr]));
    let error = JobPlan::from_json(&job([filter(source(), deep)]).to_json().unwrap()).unwrap_err();
    assert!(error.hint_text().unwrap().contains("nested"), "{error}");
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        "[a-z]{1,3}".prop_map(|name| col(&name)),
        any::<i64>().prop_map(int),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| lit(DataType::Float64, format!("{v:?}"))),
        ".*".prop_map(|value| text(&value)),
        Just(null()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..3), any::<u32>())
                .prop_map(|(args, decimals)| call(Function::Round { decimals }, args)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| call(Function::Add, [a, b])),
            (inner.clone(), any::<bool>()).prop_map(|(a, strict)| cast(a, US, strict)),
            inner.prop_map(|a| agg(AggregateFunction::Sum, a)),
        ]
    })
}

proptest! {
    #[test]
    fn any_expression_comes_back(expr in any_expr()) {
        let json = serde_json::to_string(&expr).unwrap();
        prop_assert_eq!(serde_json::from_str::<Expr>(&json).unwrap(), expr.clone());
        // Printing and typing never panic, whatever the expression.
        let _ = expr.to_string();
        let _ = super::typing::type_of(&expr, &wide());
    }
}
