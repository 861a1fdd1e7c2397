use super::*;
use crate::plan::expr::AggregateFunction as A;
use crate::plan::expr::Function as F;
use crate::plan::schema::TimeUnit;
use crate::plan::testing::*;

fn typed(expr: &Expr) -> String {
    match type_of(expr, &wide()) {
        Ok((Some(data_type), _)) => data_type.to_string(),
        Ok((None, _)) => "null".into(),
        Err(error) => error.to_string(),
    }
}

fn binary(function: F, left: Expr, right: Expr) -> String {
    typed(&call(function, [left, right]))
}

#[test]
fn numbers_widen() {
    assert_eq!(binary(F::Add, col("i"), col("i")), "Int32");
    assert_eq!(binary(F::Add, col("i"), int(5)), "Int32");
    assert_eq!(binary(F::Add, col("i"), int(5_000_000_000)), "Int64");
    assert_eq!(binary(F::Mul, col("i"), col("n")), "Int64");
    assert_eq!(binary(F::Sub, col("n"), col("f")), "Float64");
    assert_eq!(binary(F::Add, col("n"), float(0.5)), "Float64");
    assert_eq!(binary(F::Div, col("n"), col("n")), "Float64");
    assert_eq!(binary(F::FloorDiv, col("n"), int(2)), "Int64");
    assert_eq!(binary(F::Pow, col("i"), int(2)), "Int64");
    assert_eq!(binary(F::Add, col("n"), null()), "Int64");
    assert_eq!(binary(F::Add, col("s"), text("x")), "String");
    assert_eq!(typed(&call(F::Neg, [col("i")])), "Int32");
}

#[test]
fn decimal_results_hold_every_digit() {
    // d: Decimal(10, 2), e: Decimal(12, 4)
    assert_eq!(binary(F::Add, col("d"), col("e")), "Decimal(13, 4)");
    assert_eq!(binary(F::Add, col("d"), int(5)), "Decimal(11, 2)");
    assert_eq!(binary(F::Add, col("d"), col("i")), "Decimal(13, 2)");
    assert_eq!(binary(F::Mul, col("d"), col("e")), "Decimal(22, 6)");
    assert_eq!(binary(F::Mul, col("d"), float(0.125)), "Decimal(13, 5)");
    assert_eq!(binary(F::Div, col("d"), col("e")), "Decimal(38, 6)");
    assert_eq!(binary(F::Div, col("d"), int(3)), "Decimal(38, 6)");
    assert_eq!(binary(F::FloorDiv, col("d"), col("e")), "Decimal(13, 0)");
    assert_eq!(binary(F::Mod, col("d"), col("e")), "Decimal(12, 4)");
    assert_eq!(typed(&call(F::Round { decimals: 1 }, [col("d")])), "Decimal(11, 2)");
    let wide = cast(col("d"), decimal(38, 20), true);
    assert_eq!(binary(F::Add, wide.clone(), col("d")), "Decimal(38, 20)");
    assert_eq!(
        binary(F::Mul, wide.clone(), wide),
        "d.cast(Decimal(38, 20)) * d.cast(Decimal(38, 20)): the result would need 40 digits after the point; \
         decimals have at most 38 digits: cast one side to a smaller scale"
    );
    assert_eq!(
        binary(F::Add, col("d"), col("f")),
        "d + f: Decimal(10, 2) and Float64 do not go together; a float is not exact: cast one side, to Decimal or to Float64"
    );
}

#[test]
fn comparisons_need_one_kind() {
    for (left, right) in [
        (col("s"), text("x")),
        (col("i"), int(3)),
        (col("n"), float(0.5)),
        (col("d"), float(9.99)),
        (col("d"), col("n")),
        (col("ms"), col("us")),
        (col("day"), lit(DataType::Date, 5)),
        (col("b"), null()),
        (col("bin"), col("bin")),
        (col("ms"), lit(US, 1_000_001)),
    ] {
        assert_eq!(binary(F::Lt, left.clone(), right.clone()), "Boolean", "{left} {right}");
    }
    assert_eq!(
        binary(F::Eq, col("day"), text("2026-03-01")),
        "day == \"2026-03-01\": Date and String do not go together; \
         text is not a date: give a datetime.date or datetime.datetime, or cast the text with .cast(kappa.Date)"
    );
    assert_eq!(
        binary(F::Eq, col("s"), int(5)),
        "s == 5: String and Int64 do not go together; cast one side, for example .cast(kappa.String)"
    );
    assert!(binary(F::Eq, col("day"), col("ms")).contains(".dt.date("));
    assert!(binary(F::Eq, col("list"), col("list")).contains("cannot be compared"));
    assert!(binary(F::Eq, cast(col("d"), decimal(38, 38), true), col("n")).contains("more than 38 digits"));
}

#[test]
fn constants_take_the_type_of_the_other_side() {
    let constant = |expr: Expr, other: &str| {
        let Typed { kind: TypedKind::Call { args, .. }, .. } = resolve(&call(F::Eq, [col(other), expr]), &wide()).unwrap()
        else {
            panic!("not a call");
        };
        (args[0].type_name(), args[1].type_name(), args[1].kind.clone())
    };
    let is = |left: &str, right: &str, value| (left.to_owned(), right.to_owned(), TypedKind::Constant(value));
    assert_eq!(constant(int(5), "i"), is("Int32", "Int32", Constant::Integer(5)));
    assert_eq!(constant(int(1 << 40), "i"), is("Int64", "Int64", Constant::Integer(1 << 40)));
    assert_eq!(constant(int(5), "f"), is("Float64", "Float64", Constant::Float(5.0)));
    assert_eq!(constant(float(9.5), "d"), is("Decimal(10, 2)", "Decimal(10, 2)", Constant::Decimal(950)));
    assert_eq!(constant(float(0.125), "d"), is("Decimal(11, 3)", "Decimal(11, 3)", Constant::Decimal(125)));
    assert_eq!(constant(lit(US, 7_000), "ms"), is("Timestamp(\"ms\")", "Timestamp(\"ms\")", Constant::Integer(7)));
    assert_eq!(constant(lit(US, 7_001), "ms"), is("Timestamp(\"ms\")", "Timestamp(\"us\")", Constant::Integer(7_001)));
    // Compared exactly as they are: neither fits the other's type.
    assert_eq!(constant(float(0.5), "n"), is("Int64", "Float64", Constant::Float(0.5)));
    assert_eq!(constant(int(i64::MAX), "f"), is("Float64", "Int64", Constant::Integer(i64::MAX)));
}

#[test]
fn branches_find_a_common_type() {
    assert_eq!(typed(&call(F::When, [col("b"), col("i"), int(7)])), "Int32");
    assert_eq!(typed(&call(F::When, [col("b"), null(), col("b"), col("d"), int(7)])), "Decimal(10, 2)");
    assert_eq!(typed(&call(F::Coalesce, [col("n"), int(0)])), "Int64");
    assert_eq!(typed(&call(F::Coalesce, [null(), null()])), "null");
    assert_eq!(typed(&call(F::IsIn, [col("i"), int(1), null()])), "Boolean");
    let nullable = |expr: &Expr| type_of(expr, &wide()).unwrap().1;
    assert!(nullable(&call(F::Coalesce, [col("n"), col("m")])));
    assert!(!nullable(&call(F::Coalesce, [col("n"), int(0)])));
    assert!(!nullable(&call(F::IsNull, [col("n")])));
    assert!(nullable(&cast(int(5), DataType::Int32, false)));
    assert!(typed(&call(F::When, [col("b"), col("s"), col("n")])).contains("String and Int64 do not go together"));
    assert!(typed(&call(F::When, [col("n"), col("s"), col("s")])).contains("takes conditions, not Int64"));
    assert!(typed(&call(F::When, [col("b"), col("s")])).contains("otherwise"));
    assert!(typed(&call(F::IsIn, [col("n"), float(0.5)])).contains("integers and floats are mixed"));
}

#[test]
fn functions_name_what_they_take() {
    assert_eq!(typed(&dt_date(col("ms"), "Asia/Kolkata")), "Date");
    assert_eq!(typed(&call(F::DtHour { time_zone: "UTC".into() }, [col("us")])), "Int32");
    assert_eq!(typed(&call(F::DtEpoch { unit: TimeUnit::Second }, [col("us")])), "Int64");
    let hourly = F::DtTruncate { every: "1h".into(), time_zone: "UTC".into() };
    assert_eq!(typed(&call(hourly.clone(), [col("us")])), "Timestamp(\"us\")");
    assert!(typed(&call(hourly, [col("day")])).contains("a Date has no time of day"));
    assert_eq!(
        typed(&dt_date(col("n"), "UTC")),
        "n.dt.date(): dt.date takes a Timestamp or a Date, not Int64; declare the column as kappa.Timestamp(\"ms\") in the \
         schema, or write .cast(kappa.Timestamp(\"ms\")) with the unit that it counts"
    );
    assert!(typed(&dt_date(col("ms"), "Asia/Kolkatta")).contains("did you mean \"Asia/Kolkata\"?"));
    assert_eq!(typed(&call(F::StrSlice, [col("s"), int(0), int(3)])), "String");
    assert_eq!(typed(&call(F::StrLenChars, [col("s")])), "Int64");
    assert_eq!(typed(&call(F::StrContains, [col("s"), col("t")])), "Boolean");
    assert!(typed(&call(F::StrContains, [col("n"), col("t")])).contains("str.contains takes String, not Int64"));
    assert!(typed(&call(F::StrContains, [col("s")])).contains("takes 2 arguments"));
    assert_eq!(typed(&call(F::ListGet, [col("list"), int(-1)])), "Int64");
    assert_eq!(typed(&call(F::ListContains, [col("list"), int(1)])), "Boolean");
    assert!(typed(&call(F::ListContains, [col("list"), text("1")])).contains("takes Int64, not String"));
    assert_eq!(typed(&call(F::StructField { name: "x".into() }, [col("struct")])), "Int64");
    assert!(typed(&call(F::StructField { name: "z".into() }, [col("struct")])).contains("The members are x, y"));
    assert!(typed(&call(F::Sub, [col("ms"), col("ms")])).contains("there are no durations"));
    assert!(typed(&call(F::And, [col("n"), col("b")])).contains("in parentheses"));
    assert!(typed(&cast(col("ms"), DataType::Int64, true)).contains("dt.epoch"));
    assert!(typed(&cast(col("list"), DataType::String, true)).contains("there is no cast"));
}

#[test]
fn an_unknown_column_lists_the_columns() {
    let payments = read().schema;
    let error = type_of(&call(F::Gt, [col("amuont"), int(0)]), &payments).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no column \"amuont\"; did you mean \"amount\"? The columns are status, amount, merchant_id, event_time, note"
    );
}

#[test]
fn aggregates_have_types() {
    let aggregate = |function, input: &str| typed(&agg(function, col(input)));
    assert_eq!(typed(&len()), "Int64");
    assert_eq!(aggregate(A::Count, "s"), "Int64");
    assert_eq!(aggregate(A::Sum, "i"), "Int64");
    assert_eq!(aggregate(A::Sum, "d"), "Decimal(38, 2)");
    assert_eq!(aggregate(A::Sum, "f"), "Float64");
    assert_eq!(aggregate(A::Mean, "d"), "Float64");
    assert_eq!(aggregate(A::Max, "ms"), "Timestamp(\"ms\")");
    assert_eq!(aggregate(A::First, "struct"), wide().find("struct").unwrap().1.data_type.to_string());
    assert_eq!(aggregate(A::NUnique, "f"), "Int64");
    assert_eq!(aggregate(A::Sum, "s"), "sum() does not take String (expression=s.sum()); sums are of numbers: cast to one");
    assert!(aggregate(A::CountDistinct, "list").contains("does not take List(Int64)"));
    assert!(typed(&agg(A::Len, col("s"))).contains("kappa.len() counts rows"));
}
