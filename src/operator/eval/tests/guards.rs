//! What a guard leaves out cannot fail; everything else is refused.

use super::*;
use crate::plan::expr::Function as F;
use crate::plan::testing::*;

fn nonzero() -> Expr {
    call(F::Ne, [col("m"), int(0)])
}

/// Fails on the second row.
fn quotient() -> Expr {
    call(F::FloorDiv, [col("n"), col("m")])
}

#[test]
fn guards_hold() {
    assert!(rows(&quotient()).contains("divides by zero"));
    assert_eq!(rows(&call(F::When, [nonzero(), quotient(), int(-1)])), "3|-1|-1");
    assert_eq!(rows(&call(F::When, [call(F::Not, [nonzero()]), int(-1), quotient()])), "3|-1|-");
    assert!(rows(&call(F::When, [nonzero(), int(0), call(F::Gt, [quotient(), int(1)]), int(1), int(2)])).contains("zero"));
    let positive = || call(F::Gt, [quotient(), int(1)]);
    assert_eq!(rows(&call(F::And, [nonzero(), positive()])), "true|false|-");
    assert_eq!(rows(&call(F::Or, [call(F::Eq, [col("m"), int(0)]), positive()])), "true|true|-");
    assert!(rows(&call(F::And, [positive(), nonzero()])).contains("divides by zero"), "guards work from left to right");
    assert_eq!(rows(&call(F::Coalesce, [call(F::When, [nonzero(), null(), int(7)]), quotient()])), "3|7|7");
    // A guard inside a guard, and one around a cast.
    let nested = call(F::When, [col("b"), call(F::When, [nonzero(), quotient(), int(0)]), int(-5)]);
    assert_eq!(rows(&nested), "3|-5|-5");
    let small = call(F::Lt, [col("n"), int(100)]);
    assert_eq!(rows(&call(F::When, [small, cast(col("n"), DataType::Int32, true), int(0)])), "10|0|0");
}

#[test]
fn what_no_row_asks_for_is_not_computed() {
    let never = call(F::FloorDiv, [int(1), int(0)]);
    assert!(rows(&never).contains("1 // 0 divides by zero"));
    assert_eq!(rows(&call(F::When, [lit(DataType::Boolean, false), never, int(2)])), "2|2|2");
}

#[test]
fn masks_count_null_as_false() {
    let mask = |expr: &Expr| {
        let evaluator = Evaluator::compile_condition(expr, &wide(), zones())?;
        evaluator.filter_mask(&batch()).map(|mask| mask.iter().map(Option::unwrap).collect::<Vec<_>>())
    };
    assert_eq!(mask(&col("b")).unwrap(), [true, false, false]);
    assert_eq!(mask(&call(F::Not, [col("b")])).unwrap(), [false, true, false]);
    assert_eq!(mask(&null()).unwrap(), [false, false, false]);
    assert!(mask(&col("n")).unwrap_err().message().contains("not a condition"));
    let sliced = Evaluator::compile_condition(&col("b"), &wide(), zones()).unwrap();
    assert_eq!(sliced.filter_mask(&batch().slice(1, 2)).unwrap().true_count(), 0);
}

#[test]
fn the_result_is_as_promised() {
    let evaluator = Evaluator::compile(&quotient(), &wide(), zones()).unwrap();
    assert_eq!((evaluator.data_type(), evaluator.nullable()), (&DataType::Int64, true));
    assert_eq!(evaluator.to_string(), "n // m");
    let error = evaluator.evaluate(&batch()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (crate::error::ErrorKind::Data, "division_by_zero"));
    let other = ZoneTables::default();
    assert!(Evaluator::compile(&dt_date(col("ms"), "UTC"), &wide(), &other).is_err(), "zones come from the plan");
}
