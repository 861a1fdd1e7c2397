//! Random expressions over random rows against an interpreter that goes value by value, as lazily as the rules say.

use proptest::prelude::*;

use super::*;
use crate::plan::expr::Function as F;
use crate::plan::literal::Constant;
use crate::plan::testing::*;
use crate::plan::typing::{Typed, TypedKind};

#[derive(Clone, Copy, Debug, PartialEq)]
enum V {
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// A row: i, n, m, f, b.
type Row = [Option<V>; 5];
const NAMES: [&str; 5] = ["i", "n", "m", "f", "b"];

fn row_schema() -> Schema {
    let wide = wide();
    Schema { fields: NAMES.iter().map(|name| wide.find(name).unwrap().1.clone()).collect() }
}

/// The value, or that it fails.
fn interpret(typed: &Typed, row: &Row) -> Result<Option<V>, ()> {
    match &typed.kind {
        TypedKind::Column(position) => Ok(row[*position]),
        TypedKind::Constant(constant) => Ok(match constant {
            Constant::Null => None,
            Constant::Boolean(v) => Some(V::Bool(*v)),
            Constant::Integer(v) => Some(V::Int(*v)),
            Constant::Float(v) => Some(V::Float(*v)),
            other => panic!("{other:?}"),
        }),
        TypedKind::Cast { input, strict, .. } => {
            let Some(value) = interpret(input, row)? else { return Ok(None) };
            let converted = match (value, typed.data_type.as_ref().unwrap()) {
                (V::Int(v), DataType::Int64) => Some(V::Int(v)),
                (V::Int(v), DataType::Int32) => i32::try_from(v).ok().map(|v| V::Int(v.into())),
                (V::Int(v), DataType::Float64) => Some(V::Float(v as f64)),
                (V::Float(v), DataType::Int64) => {
                    // i64::MAX + 1 and i64::MIN are floats; i64::MAX is not.
                    let fits = (i64::MIN as f64..-(i64::MIN as f64)).contains(&v);
                    (v.fract() == 0.0 && fits).then_some(V::Int(v as i64))
                }
                (V::Bool(v), _) => Some(V::Int(v.into())),
                other => panic!("{other:?}"),
            };
            if converted.is_none() && *strict { Err(()) } else { Ok(converted) }
        }
        TypedKind::Call { function, args, .. } => interpret_call(function, args, typed, row),
        TypedKind::Aggregate => panic!("aggregate"),
    }
}

fn interpret_call(function: &F, args: &[Typed], typed: &Typed, row: &Row) -> Result<Option<V>, ()> {
    let truth = |typed: &Typed| interpret(typed, row).map(|v| v.map(|v| v == V::Bool(true)));
    match function {
        F::And | F::Or => {
            let decides = *function == F::Or;
            let mut unknown = false;
            for arg in args {
                match truth(arg)? {
                    Some(value) if value == decides => return Ok(Some(V::Bool(decides))),
                    Some(_) => {}
                    None => unknown = true,
                }
            }
            return Ok((!unknown).then_some(V::Bool(!decides)));
        }
        F::Coalesce => {
            for arg in args {
                if let Some(value) = interpret(arg, row)? {
                    return Ok(Some(value));
                }
            }
            return Ok(None);
        }
        F::When => {
            let mut rest = args;
            while let [condition, value, more @ ..] = rest {
                if truth(condition)? == Some(true) {
                    return interpret(value, row);
                }
                rest = more;
            }
            return interpret(&rest[0], row);
        }
        _ => {}
    }
    let values = args.iter().map(|arg| interpret(arg, row)).collect::<Result<Vec<_>, ()>>()?;
    match function {
        F::IsNull => return Ok(Some(V::Bool(values[0].is_none()))),
        F::IsIn => {
            let Some(value) = values[0] else { return Ok(None) };
            let found = values[1..].iter().flatten().any(|item| order(value, *item).is_eq());
            return Ok(Some(V::Bool(found)));
        }
        _ => {}
    }
    let Some(values) = values.into_iter().collect::<Option<Vec<V>>>() else { return Ok(None) };
    interpret_values(function, &values, typed.data_type == Some(DataType::Int32))
}

/// Functions of values of which none is null. `narrow`: integers are of 32 bits.
fn interpret_values(function: &F, values: &[V], narrow: bool) -> Result<Option<V>, ()> {
    let int =
        |v: Option<i128>| match v.map(|v| if narrow { i32::try_from(v).map(i64::from).ok() } else { i64::try_from(v).ok() }) {
            Some(Some(v)) => Ok(Some(V::Int(v))),
            _ => Err(()),
        };
    match (function, values) {
        (F::Not, [V::Bool(v)]) => Ok(Some(V::Bool(!v))),
        (F::Neg, [V::Int(v)]) => int(Some(-i128::from(*v))),
        (F::Abs, [V::Int(v)]) => int(Some(i128::from(*v).abs())),
        (F::Neg, [V::Float(v)]) => Ok(Some(V::Float(-v))),
        (F::Abs, [V::Float(v)]) => Ok(Some(V::Float(v.abs()))),
        (F::Add, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(l + r))),
        (F::Sub, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(l - r))),
        (F::Mul, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(l * r))),
        (F::Div, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(l / r))),
        // Tested against CPython beside its code.
        (F::FloorDiv, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(arithmetic::floor_div_mod(*l, *r).0))),
        (F::Mod, [V::Float(l), V::Float(r)]) => Ok(Some(V::Float(arithmetic::floor_div_mod(*l, *r).1))),
        (F::Add, [V::Int(l), V::Int(r)]) => int(Some(i128::from(*l) + i128::from(*r))),
        (F::Sub, [V::Int(l), V::Int(r)]) => int(Some(i128::from(*l) - i128::from(*r))),
        (F::Mul, [V::Int(l), V::Int(r)]) => int(Some(i128::from(*l) * i128::from(*r))),
        // The definition: the greatest integer q with q × r ≤ l (for r > 0), and what is left.
        (F::FloorDiv | F::Mod, [V::Int(_), V::Int(0)]) => Err(()),
        (F::FloorDiv | F::Mod, [V::Int(l), V::Int(r)]) => {
            let (l, r) = (i128::from(*l) * i128::from(r.signum()), i128::from(r.unsigned_abs()));
            let quotient = l.div_euclid(r);
            let sign = if let [_, V::Int(r)] = values { i128::from(r.signum()) } else { 1 };
            int(Some(if *function == F::FloorDiv { quotient } else { (l - quotient * r) * sign }))
        }
        (comparison, [l, r]) => {
            let order = order(*l, *r);
            Ok(Some(V::Bool(match comparison {
                F::Eq => order.is_eq(),
                F::Ne => order.is_ne(),
                F::Lt => order.is_lt(),
                F::Le => order.is_le(),
                F::Gt => order.is_gt(),
                F::Ge => order.is_ge(),
                other => panic!("{other:?}"),
            })))
        }
        other => panic!("{other:?}"),
    }
}

/// Exact, and NaN is greatest.
fn order(l: V, r: V) -> std::cmp::Ordering {
    use std::cmp::Ordering;
    let floats = |l: f64, r: f64| match (l.is_nan(), r.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ => l.partial_cmp(&r).unwrap(),
    };
    match (l, r) {
        (V::Int(l), V::Int(r)) => l.cmp(&r),
        (V::Bool(l), V::Bool(r)) => l.cmp(&r),
        (V::Float(l), V::Float(r)) => floats(l, r),
        // Beyond the integers of 64 bits the sign decides; below, the float's floor is a whole number of 128 bits, exactly.
        (V::Int(l), V::Float(r)) if r.is_nan() || r.abs() > 1e19 => floats(0.0, r).then(l.cmp(&l)),
        (V::Int(l), V::Float(r)) if r.fract() == 0.0 => i128::from(l).cmp(&(r as i128)),
        (V::Int(l), V::Float(r)) if i128::from(l) <= r.floor() as i128 => Ordering::Less,
        (V::Int(_), V::Float(_)) => Ordering::Greater,
        (V::Float(_), V::Int(_)) => order(r, l).reverse(),
        other => panic!("{other:?}"),
    }
}

fn any_int() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -3_i64..4, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => Just(1 << 53), 1 => Just((1 << 53) + 1)]
}

/// Quarters, and the special ones.
fn any_float() -> impl Strategy<Value = f64> {
    let quarter = (-12_i64..12).prop_map(|v| v as f64 / 4.0);
    prop_oneof![8 => quarter, 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(-0.0), 1 => Just(9_007_199_254_740_992.0)]
}

fn any_row() -> impl Strategy<Value = Row> {
    let int = || prop::option::weighted(0.8, any_int().prop_map(V::Int));
    let small = prop::option::weighted(0.8, prop_oneof![4 => -3_i32..4, 1 => Just(i32::MAX)].prop_map(|v| V::Int(v.into())));
    let float = prop::option::weighted(0.8, any_float().prop_map(V::Float));
    let boolean = prop::option::weighted(0.8, any::<bool>().prop_map(V::Bool));
    (small, int(), int(), float, boolean).prop_map(|(a, b, c, d, e)| [a, b, c, d, e])
}

fn any_expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        4 => prop::sample::select(&NAMES[..]).prop_map(col),
        2 => any_int().prop_map(int),
        1 => any_float().prop_map(|v| if v.is_nan() { lit(DataType::Float64, "NaN") } else if v.is_infinite() { lit(DataType::Float64, "Infinity") } else { float(v) }),
        1 => Just(null()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let two = [F::Add, F::Sub, F::Mul, F::FloorDiv, F::Mod, F::Eq, F::Ne, F::Lt, F::Le, F::Gt, F::Ge, F::And, F::Or];
        let one = [F::Neg, F::Abs, F::Not, F::IsNull];
        let args = |count| prop::collection::vec(inner.clone(), count);
        prop_oneof![
            6 => (prop::sample::select(two.to_vec()), args(2..=2)).prop_map(|(function, args)| call(function, args)),
            2 => (prop::sample::select(one.to_vec()), args(1..=1)).prop_map(|(function, args)| call(function, args)),
            2 => args(3..=3).prop_map(|args| call(F::When, args)),
            1 => args(5..=5).prop_map(|args| call(F::When, args)),
            2 => args(2..=3).prop_map(|args| call(F::Coalesce, args)),
            1 => args(2..=3).prop_map(|args| call(F::IsIn, args)),
            1 => args(2..=2).prop_map(|args| call(F::Div, args)),
            1 => (args(1..=1), any::<bool>()).prop_map(|(mut args, strict)| cast(args.remove(0), DataType::Int64, strict)),
        ]
    })
}

fn batch_of(rows: &[Row]) -> RecordBatch {
    let int = |c: usize| rows.iter().map(move |r| r[c].map(|v| if let V::Int(v) = v { v } else { unreachable!() }));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(int(0).map(|v| v.map(|v| v as i32)).collect::<Int32Array>()),
        Arc::new(int(1).collect::<Int64Array>()),
        Arc::new(int(2).collect::<Int64Array>()),
        Arc::new(
            rows.iter().map(|r| r[3].map(|v| if let V::Float(v) = v { v } else { unreachable!() })).collect::<Float64Array>(),
        ),
        Arc::new(rows.iter().map(|r| r[4].map(|v| v == V::Bool(true))).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(row_schema().to_arrow(), columns).unwrap()
}

fn value_at(array: &ArrayRef, row: usize) -> Option<V> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        ArrowType::Int32 => V::Int(array.as_primitive::<arrow::datatypes::Int32Type>().value(row).into()),
        ArrowType::Int64 => V::Int(array.as_primitive::<Int64Type>().value(row)),
        ArrowType::Float64 => V::Float(array.as_primitive::<arrow::datatypes::Float64Type>().value(row)),
        ArrowType::Boolean => V::Bool(array.as_boolean().value(row)),
        other => panic!("{other}"),
    })
}

fn same(a: Option<V>, b: Option<V>) -> bool {
    match (a, b) {
        (Some(V::Float(a)), Some(V::Float(b))) => a.is_nan() && b.is_nan() || a.to_bits() == b.to_bits(),
        _ => a == b,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, max_global_rejects: 400_000, ..ProptestConfig::default() })]
    #[test]
    fn batches_give_what_single_values_give(expr in any_expr(), rows in prop::collection::vec(any_row(), 1..9)) {
        // Most random expressions have no type: those that have are what is tested.
        let typed = typing::resolve(&expr, &row_schema());
        prop_assume!(typed.as_ref().is_ok_and(|typed| typed.data_type.is_some()));
        let typed = typed.unwrap();
        let evaluator = Evaluator::compile(&expr, &row_schema(), &ZoneTables::default()).unwrap();
        let found = evaluator.evaluate(&batch_of(&rows));
        let expected: Result<Vec<_>, ()> = rows.iter().map(|row| interpret(&typed, row)).collect();
        match (expected, found) {
            (Ok(expected), Ok(found)) => {
                for (row, expected) in expected.into_iter().enumerate() {
                    let found = value_at(&found, row);
                    prop_assert!(same(found, expected), "{expr} in row {row}: {found:?}, expected {expected:?}");
                    prop_assert!(evaluator.nullable() || found.is_some(), "{expr} is null and should not be");
                }
            }
            (Err(()), Err(error)) => prop_assert_eq!(error.kind(), crate::error::ErrorKind::Data),
            (Ok(_), Err(error)) => prop_assert!(false, "{} should not fail: {}", expr, error),
            (Err(()), Ok(found)) => {
                prop_assert!(false, "{} should fail, gave {}", expr, show(&found));
            }
        }
    }
}
