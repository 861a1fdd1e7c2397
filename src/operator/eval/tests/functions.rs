//! Each function on the three rows of the wide batch.

use super::rows;
use crate::plan::expr::{Expr, Function as F};
use crate::plan::schema::{DataType as T, TimeUnit};
use crate::plan::testing::*;

fn of(function: F, args: impl Into<Vec<Expr>>) -> String {
    rows(&call(function, args))
}

#[test]
fn integers() {
    assert_eq!(of(F::Add, [col("i"), int(1)]), "6|-6|-");
    assert_eq!(of(F::Sub, [int(1), col("i")]), "-4|8|-");
    assert_eq!(of(F::Mul, [col("i"), col("i")]), "25|49|-");
    assert_eq!(of(F::Div, [col("i"), int(2)]), "2.5|-3.5|-");
    assert_eq!(of(F::FloorDiv, [col("i"), int(2)]), "2|-4|-");
    assert_eq!(of(F::Mod, [col("i"), int(3)]), "2|2|-");
    assert_eq!(of(F::Pow, [col("i"), int(2)]), "25|49|-");
    assert_eq!(of(F::Neg, [col("i")]), "-5|7|-");
    assert_eq!(of(F::Abs, [col("i")]), "5|7|-");
    assert_eq!(of(F::Round { decimals: 2 }, [col("n")]), format!("10|{}|-", i64::MAX));
    assert_eq!(of(F::Add, [col("n"), null()]), "-|-|-");
    assert_eq!(of(F::Div, [col("n"), col("m")]), "3.3333333333333335|inf|-", "floats are IEEE's");
}

#[test]
fn what_does_not_fit_is_an_error() {
    assert_eq!(
        of(F::Add, [col("n"), int(1)]),
        "n + 1: 9223372036854775807 + 1 does not fit Int64 (row=1); cast an operand to a wider type first"
    );
    assert_eq!(
        of(F::FloorDiv, [col("i"), col("m")]),
        "i // m: -7 // 0 divides by zero (row=1); leave such rows out, or guard it: \
         kappa.when(divisor != 0).then(...).otherwise(None)"
    );
    assert!(of(F::Mod, [col("i"), int(0)]).contains("5 % 0 divides by zero (row=0)"));
    assert!(of(F::Pow, [col("n"), col("i")]).contains("is not an integer") || of(F::Pow, [col("n"), col("i")]).contains("fit"));
    assert!(of(F::Mul, [col("i"), int(2_000_000_000)]).contains("5 * 2000000000 does not fit Int32"));
    assert!(of(F::Neg, [call(F::Sub, [call(F::Neg, [col("n")]), int(1)])]).contains("does not fit Int64"));
    assert!(of(F::Div, [col("d"), call(F::Sub, [col("e"), col("e")])]).contains("12.50 / 0.0000 divides by zero"));
}

#[test]
fn floats() {
    assert_eq!(of(F::Add, [col("f"), col("g")]), "NaN|0.0|-");
    assert_eq!(of(F::Mod, [col("f"), float(-2.0)]), "-1.5|-0.0|-");
    assert_eq!(of(F::Round { decimals: 0 }, [col("f")]), "2.0|-0.0|-");
    assert_eq!(of(F::Pow, [col("f"), int(2)]), "6.25|0.0|-");
    assert_eq!(of(F::Neg, [col("f")]), "-2.5|0.0|-");
}

#[test]
fn decimals() {
    // d: 12.50, -0.10; e: 3.0000, 0.0025
    assert_eq!(of(F::Add, [col("d"), col("e")]), "15.5000|-0.0975|-");
    assert_eq!(of(F::Sub, [col("d"), int(1)]), "11.50|-1.10|-");
    assert_eq!(of(F::Mul, [col("d"), col("e")]), "37.500000|-0.000250|-");
    assert_eq!(of(F::Div, [col("d"), col("e")]), "4.166667|-40.000000|-");
    assert_eq!(of(F::FloorDiv, [col("d"), col("e")]), "4|-40|-");
    assert_eq!(of(F::FloorDiv, [col("d"), int(-3)]), "-5|0|-");
    assert_eq!(of(F::Mod, [col("d"), col("e")]), "0.5000|0.0000|-");
    assert_eq!(of(F::Mod, [col("d"), int(-3)]), "-2.50|-0.10|-");
    assert_eq!(of(F::Round { decimals: 1 }, [col("d")]), "12.50|-0.10|-");
    assert_eq!(of(F::Round { decimals: 0 }, [col("d")]), "12.00|0.00|-", "half to even");
    assert_eq!(of(F::Abs, [col("d")]), "12.50|0.10|-");
    assert_eq!(of(F::Gt, [col("d"), float(12.49)]), "true|false|-");
    assert_eq!(of(F::Lt, [col("d"), col("n")]), "false|true|-");
    let big = cast(col("d"), decimal(38, 30), true);
    assert!(of(F::Mul, [big, int(100_000_000)]).contains("does not fit Decimal(38, 30)"));
}

#[test]
fn comparisons() {
    assert_eq!(of(F::Eq, [col("s"), text("Añb")]), "true|false|-");
    assert_eq!(of(F::Lt, [text("B"), col("s")]), "false|false|-");
    assert_eq!(of(F::Ne, [col("i"), int(5)]), "false|true|-");
    assert_eq!(of(F::Eq, [col("f"), float(0.0)]), "false|true|-", "-0.0 is 0.0");
    assert_eq!(of(F::Eq, [col("g"), call(F::Neg, [col("g")])]), "true|true|-", "NaN is NaN");
    assert_eq!(of(F::Gt, [col("g"), float(f64::MAX)]), "true|false|-", "NaN is greatest");
    assert_eq!(of(F::Gt, [col("n"), lit(T::Float64, "Infinity")]), "false|false|-");
    assert_eq!(of(F::Lt, [col("n"), float(9_223_372_036_854_775_808.0)]), "true|true|-", "2^63 is beyond i64::MAX");
    assert_eq!(of(F::Ge, [col("f"), col("m")]), "false|true|-");
    assert_eq!(of(F::Eq, [col("ms"), col("us")]), "true|false|-");
    assert_eq!(of(F::Lt, [col("ms"), col("us")]), "false|true|-");
    assert_eq!(of(F::Gt, [col("us"), lit(T::Timestamp(TimeUnit::Second), 0)]), "true|false|-");
    assert_eq!(of(F::Lt, [col("ms"), lit(T::Timestamp(TimeUnit::Nanosecond), 1)]), "false|true|-");
    assert_eq!(of(F::Ge, [col("day"), lit(T::Date, 20_513)]), "true|false|-");
    assert_eq!(of(F::Eq, [col("bin"), col("bin")]), "true|true|-");
    assert_eq!(of(F::Eq, [col("b"), col("c")]), "true|false|-");
    assert_eq!(of(F::Eq, [null(), null()]), "-|-|-", "a null needs no type there");
}

#[test]
fn conditions_are_kleenes() {
    assert_eq!(of(F::And, [col("b"), null()]), "-|false|-");
    assert_eq!(of(F::Or, [col("b"), null()]), "true|-|-");
    assert_eq!(of(F::And, [null(), lit(T::Boolean, false)]), "false|false|false");
    assert_eq!(of(F::And, [col("b"), col("c"), lit(T::Boolean, true)]), "true|false|-");
    assert_eq!(of(F::Not, [col("b")]), "false|true|-");
    assert_eq!(of(F::IsNull, [col("b")]), "false|false|true");
    assert_eq!(of(F::IsNotNull, [null()]), "false|false|false");
    assert_eq!(of(F::IsIn, [col("i"), int(5), null()]), "true|false|-");
    assert_eq!(of(F::IsIn, [col("s"), col("t"), text("  x ")]), "false|true|-");
    assert_eq!(of(F::IsIn, [col("f"), int(0)]), "false|true|-");
    assert_eq!(of(F::IsIn, [int(3), col("m")]), "true|false|false");
    assert_eq!(of(F::IsIn, [col("s")]), "false|false|-");
}

#[test]
fn branches() {
    assert_eq!(of(F::When, [col("b"), col("i"), int(0)]), "5|0|0");
    assert_eq!(of(F::When, [col("b"), text("x"), col("c"), text("y"), null()]), "x|y|-");
    assert_eq!(of(F::When, [lit(T::Boolean, true), int(1), int(2)]), "1|1|1");
    assert_eq!(of(F::Coalesce, [col("i"), int(9)]), "5|-7|9");
    assert_eq!(of(F::Coalesce, [null(), col("s"), text("?")]), "Añb|  x |?");
    assert_eq!(of(F::Coalesce, [int(1), col("i")]), "1|1|1");
}

#[test]
fn casts_among_numbers() {
    let to = |input: &str, to: T, strict: bool| rows(&cast(col(input), to, strict));
    assert_eq!(to("i", T::Int64, true), "5|-7|-");
    assert_eq!(to("n", T::Int32, false), "10|-|-");
    assert_eq!(
        to("n", T::Int32, true),
        "n.cast(Int32): 9223372036854775807 is Int64, which does not fit Int32 (row=1); \
         write cast(..., strict=False) for null in its place"
    );
    assert!(
        to("f", T::Int64, true).contains("2.5 is Float64, which does not fit Int64 (row=0); digits would be lost: round first")
    );
    assert_eq!(to("f", T::Int64, false), "-|0|-");
    assert_eq!(to("g", T::Int64, false), "-|0|-");
    assert_eq!(to("f", decimal(5, 2), true), "2.50|0.00|-");
    assert_eq!(to("d", T::Int64, false), "-|-|-");
    assert_eq!(to("d", T::Float64, true), "12.5|-0.1|-");
    assert_eq!(to("e", decimal(12, 2), false), "3.00|-|-");
    assert_eq!(to("d", decimal(3, 1), true), "12.5|-0.1|-");
    assert_eq!(to("d", decimal(2, 1), false), "-|-0.1|-");
    assert_eq!(to("i", decimal(3, 2), true), "5.00|-7.00|-");
    assert_eq!(to("i", decimal(2, 2), false), "-|-|-");
    assert_eq!(to("b", T::Int32, true), "1|0|-");
    assert_eq!(to("b", T::Float64, true), "1.0|0.0|-");
}

#[test]
fn casts_of_times() {
    let to = |input: &str, to: T| rows(&cast(col(input), to, true));
    assert_eq!(to("us", MS), "2026-03-01T20:15:30.123Z|1969-12-31T23:59:59.999Z|-");
    assert_eq!(to("us", T::Timestamp(TimeUnit::Second)), "2026-03-01T20:15:30Z|1969-12-31T23:59:59Z|-", "rounded down");
    assert_eq!(to("ms", T::Date), "2026-03-01|1969-12-31|-");
    assert_eq!(to("day", MS), "2026-03-01T00:00:00Z|1969-12-31T00:00:00Z|-");
    assert_eq!(to("i", T::Timestamp(TimeUnit::Second)), "1970-01-01T00:00:05Z|1969-12-31T23:59:53Z|-");
    let far = cast(cast(col("n"), T::Timestamp(TimeUnit::Second), true), T::Timestamp(TimeUnit::Nanosecond), false);
    assert_eq!(rows(&far), "1970-01-01T00:00:10Z|-|-");
}

#[test]
fn casts_to_and_from_text() {
    let text_of = |input: &str| rows(&cast(col(input), T::String, true));
    assert_eq!(text_of("i"), "5|-7|-");
    assert_eq!(text_of("f"), "2.5|0.0|-");
    assert_eq!(text_of("g"), "NaN|0.0|-");
    assert_eq!(text_of("d"), "12.50|-0.10|-");
    assert_eq!(text_of("b"), "true|false|-");
    assert_eq!(text_of("day"), "2026-03-01|1969-12-31|-");
    assert_eq!(text_of("ms"), "2026-03-01T20:15:30.123Z|1969-12-31T23:59:59.999Z|-");
    assert_eq!(text_of("us"), "2026-03-01T20:15:30.123000Z|1969-12-31T23:59:59.999999Z|-");
    assert!(text_of("bin").contains("[255] is Binary, which does not fit String"));
    assert_eq!(rows(&cast(col("bin"), T::String, false)), "key|-|-");
    for (input, kind) in
        [("i", T::Int32), ("f", T::Float64), ("d", decimal(10, 2)), ("b", T::Boolean), ("day", T::Date), ("ms", MS), ("us", US)]
    {
        let back = cast(cast(col(input), T::String, true), kind.clone(), true);
        let same = call(F::Eq, [col(input), back]);
        assert_eq!(rows(&same), "true|true|-", "{kind}");
    }
    assert!(rows(&cast(col("s"), T::Int64, true)).contains("\"Añb\" is String, which does not fit Int64 (row=0)"));
    assert_eq!(rows(&cast(col("s"), T::Boolean, false)), "-|-|-");
    assert_eq!(rows(&cast(text("1.50"), decimal(3, 2), true)), "1.50|1.50|1.50");
}

#[test]
fn parts_of_times() {
    let kolkata = || "Asia/Kolkata".to_owned();
    assert_eq!(rows(&dt_date(col("ms"), "UTC")), "2026-03-01|1969-12-31|-");
    assert_eq!(rows(&dt_date(col("ms"), "Asia/Kolkata")), "2026-03-02|1970-01-01|-");
    assert_eq!(rows(&dt_date(col("day"), "Asia/Kolkata")), "2026-03-01|1969-12-31|-", "a date is a date");
    assert_eq!(of(F::DtYear { time_zone: kolkata() }, [col("us")]), "2026|1970|-");
    assert_eq!(of(F::DtMonth { time_zone: kolkata() }, [col("us")]), "3|1|-");
    assert_eq!(of(F::DtDay { time_zone: kolkata() }, [col("us")]), "2|1|-");
    assert_eq!(of(F::DtHour { time_zone: kolkata() }, [col("us")]), "1|5|-");
    assert_eq!(of(F::DtMinute { time_zone: kolkata() }, [col("us")]), "45|29|-");
    assert_eq!(of(F::DtSecond { time_zone: kolkata() }, [col("us")]), "30|59|-");
    assert_eq!(of(F::DtWeekday { time_zone: kolkata() }, [col("us")]), "1|4|-", "a Monday and a Thursday");
    assert_eq!(of(F::DtWeekday { time_zone: kolkata() }, [col("day")]), "7|3|-");
    assert_eq!(of(F::DtEpoch { unit: TimeUnit::Second }, [col("ms")]), "1772396130|-1|-", "rounded down");
    assert_eq!(of(F::DtEpoch { unit: TimeUnit::Microsecond }, [col("ms")]), "1772396130123000|-1000|-");
    let seconds = cast(col("n"), T::Timestamp(TimeUnit::Second), true);
    let error = rows(&dt_date(seconds, "UTC"));
    assert!(error.contains("9223372036854775807 s is out of range (row=1)"), "{error}");
}

#[test]
fn texts() {
    assert_eq!(of(F::StrToLowercase, [col("s")]), "añb|  x |-");
    assert_eq!(of(F::StrToUppercase, [col("s")]), "AÑB|  X |-");
    assert_eq!(of(F::StrStripChars, [col("s")]), "Añb|x|-");
    assert_eq!(of(F::StrStartsWith, [col("s"), text("A")]), "true|false|-");
    assert_eq!(of(F::StrEndsWith, [col("s"), text(" ")]), "false|true|-");
    assert_eq!(of(F::StrContains, [col("s"), col("t")]), "true|false|-");
    assert_eq!(of(F::StrContains, [text("a.c"), text(".")]), "true|true|true", "no pattern");
    assert_eq!(of(F::StrReplace, [col("s"), col("t"), text("n")]), "Anb|  x |-");
    assert_eq!(of(F::StrReplace, [text("aXbXc"), text("X"), null()]), "-|-|-");
    assert_eq!(of(F::StrReplace, [text("aXbXc"), text("X"), text("")]), "abc|abc|abc");
    assert_eq!(of(F::StrSlice, [col("s"), int(1), int(1)]), "ñ| |-");
    assert_eq!(of(F::StrSlice, [col("s"), int(-2)]), "ñb|x |-");
    assert_eq!(of(F::StrSlice, [col("s"), int(0), null()]), "Añb|  x |-");
    assert!(of(F::StrSlice, [col("s"), int(0), col("i")]).contains("a length of -7 (row=1)"));
    assert_eq!(of(F::StrLenChars, [col("s")]), "3|4|-");
    assert_eq!(of(F::Add, [col("s"), text("!")]), "Añb!|  x !|-");
}

#[test]
fn lists_and_structs() {
    assert_eq!(of(F::ListLen, [col("list")]), "3|0|-");
    assert_eq!(of(F::ListGet, [col("list"), int(0)]), "1|-|-");
    assert_eq!(of(F::ListGet, [col("list"), int(-1)]), "3|-|-");
    assert_eq!(of(F::ListGet, [col("list"), int(1)]), "-|-|-");
    assert_eq!(of(F::ListGet, [col("list"), lit(T::Int64, i64::MIN)]), "-|-|-");
    assert_eq!(of(F::ListContains, [col("list"), int(3)]), "true|false|-");
    assert_eq!(of(F::ListContains, [col("list"), col("m")]), "true|false|-");
    assert_eq!(of(F::ListContains, [col("list"), null()]), "-|-|-");
    assert_eq!(of(F::StructField { name: "x".into() }, [col("struct")]), "7|8|-");
    assert_eq!(of(F::StructField { name: "y".into() }, [col("struct")]), "p|q|-");
}

#[test]
fn constants_fill_the_column() {
    assert_eq!(rows(&int(5)), "5|5|5");
    assert_eq!(rows(&lit(T::Date, 0)), "1970-01-01|1970-01-01|1970-01-01");
    assert_eq!(rows(&cast(null(), T::Struct(vec![crate::plan::schema::Field::new("x", T::Int64)]), true)), "-|-|-");
    assert_eq!(of(F::Add, [int(1), int(2)]), "3|3|3");
    assert!(rows(&null()).contains("give the null a type"));
}
