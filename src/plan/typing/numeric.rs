//! Types of arithmetic.
//!
//! | | integers | with a float | decimals (p, s) and (q, t), integers counted as (10, 0) and (19, 0) |
//! |---|---|---|---|
//! | `+ -` | the wider, checked | Float64 | scale max(s, t), one digit more than the longer whole part |
//! | `*` | the wider, checked | Float64 | (p + q, s + t) |
//! | `/` | Float64 | Float64 | (38, max(6, s, t)), half to even |
//! | `//` | the wider, towards −∞ | Float64 | (p − s + t + 1, 0) |
//! | `%` | the wider, sign of the divisor | Float64 | scale max(s, t), the divisor's whole part |
//! | `**` | Int64, checked | Float64 | – |
//!
//! Precisions are capped at 38: a result that then does not fit stops the job, as an integer overflow does. A scale
//! above 38 is refused when the plan is built.

use super::functions::{call, wrong_argument};
use super::unify::{coerce, common_type, decimal_shape, decimal_type, mismatch, unified_type};
use super::{Typed, TypedKind};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::schema::DataType;

pub(super) fn resolve_arithmetic(function: &Function, left: Typed, right: Typed, text: &str) -> Result<Typed> {
    let (left, right) = fill_nulls(left, right);
    let (Some(a), Some(b)) = (left.data_type.clone(), right.data_type.clone()) else {
        return Err(Error::plan("untyped_null", format!("{text} is always null and has no type")));
    };
    if *function == Function::Add && a == DataType::String && b == DataType::String {
        return Ok(call(function, vec![left, right], DataType::String, text));
    }
    if !a.is_numeric() || !b.is_numeric() {
        return Err(not_numeric(function, &a, &b, text));
    }
    let has = |wanted: fn(&DataType) -> bool| wanted(&a) || wanted(&b);
    if has(|t| matches!(t, DataType::Decimal { .. })) {
        return resolve_decimal(function, left, right, text);
    }
    let float = has(|t| *t == DataType::Float64) || *function == Function::Div;
    let data_type = match function {
        _ if float => DataType::Float64,
        Function::Pow => DataType::Int64,
        _ => unified_type(&[left.clone(), right.clone()], text)?.ok_or_else(|| mismatch(&a, &b, text))?,
    };
    let args = vec![coerce(left, &data_type), coerce(right, &data_type)];
    Ok(call(function, args, data_type, text))
}

/// A bare null takes the type of the other side.
fn fill_nulls(left: Typed, right: Typed) -> (Typed, Typed) {
    match (left.data_type.clone(), right.data_type.clone()) {
        (None, Some(other)) => (coerce(left, &other), right),
        (Some(other), None) => (left, coerce(right, &other)),
        _ => (left, right),
    }
}

fn not_numeric(function: &Function, a: &DataType, b: &DataType, text: &str) -> Error {
    let time = |t: &DataType| matches!(t, DataType::Timestamp(_) | DataType::Date);
    let hint = if time(a) || time(b) {
        "there are no durations: use .dt.epoch(\"ms\") for a count since 1970, or .dt.truncate"
    } else if *a == DataType::String || *b == DataType::String {
        "cast the text to a number first, for example .cast(kappa.Int64)"
    } else {
        "cast both sides to numbers first"
    };
    Error::plan("type_mismatch", format!("{text}: {} does not take {a} and {b}", function.method())).hint(hint)
}

fn resolve_decimal(function: &Function, left: Typed, right: Typed, text: &str) -> Result<Typed> {
    let types = (left.data_type.clone().unwrap_or(DataType::Int64), right.data_type.clone().unwrap_or(DataType::Int64));
    let (Some(left), Some(right)) = (as_decimal(left), as_decimal(right)) else {
        return Err(mismatch(&types.0, &types.1, text));
    };
    let shape = |typed: &Typed| typed.data_type.as_ref().and_then(decimal_shape);
    let (Some((p, s)), Some((q, t))) = (shape(&left), shape(&right)) else {
        return Err(Error::internal(format!("decimal operands of {text}")));
    };
    let scale = s.max(t);
    let wanted = match function {
        Function::Add | Function::Sub => ((p - s).max(q - t) + scale + 1, scale),
        Function::Mul => (p + q, s + t),
        Function::Div => (38, scale.max(6)),
        Function::FloorDiv => ((p - s + t + 1).max(1), 0),
        Function::Mod => (q - t + scale, scale),
        _ => {
            return Err(
                Error::plan("type_mismatch", format!("{text}: ** does not take decimals")).hint("cast to Float64 first")
            );
        }
    };
    match decimal_type(wanted.0, wanted.1) {
        Some(data_type) => Ok(call(function, vec![left, right], data_type, text)),
        None => Err(Error::plan("type_mismatch", format!("{text}: the result would need {} digits after the point", wanted.1))
            .hint("decimals have at most 38 digits: cast one side to a smaller scale")),
    }
}

/// Integers become decimals of their size, a constant the narrowest decimal; a float column is refused.
fn as_decimal(typed: Typed) -> Option<Typed> {
    let own = typed.data_type.clone()?;
    if matches!(own, DataType::Decimal { .. }) {
        return Some(typed);
    }
    if let TypedKind::Constant(constant) = &typed.kind
        && let Some(natural) = constant.natural_decimal(&own)
    {
        return Some(coerce(typed, &natural));
    }
    let (precision, scale) = decimal_shape(&own)?;
    Some(coerce(typed, &decimal_type(precision, scale)?))
}

pub(super) fn resolve_unary(function: &Function, arg: Typed, text: &str) -> Result<Typed> {
    let Some(own) = arg.data_type.clone().filter(DataType::is_numeric) else {
        return Err(wrong_argument(function, &arg, "a number", text));
    };
    let data_type = match (function, &own) {
        // 9.95 rounded to one digit is 10.0: one digit more before the point.
        (Function::Round { decimals }, DataType::Decimal { precision, scale }) if *decimals < scale.unsigned_abs().into() => {
            decimal_type(i32::from(*precision) + 1, i32::from(*scale)).unwrap_or(own)
        }
        _ => own,
    };
    Ok(call(function, vec![arg], data_type, text))
}

/// Comparisons: two sides of one kind. Where a constant does not fit the other side's type, and for timestamps of two
/// units and integers with floats, both sides stay as they are and are compared exactly.
pub(super) fn resolve_comparison(function: &Function, left: Typed, right: Typed, text: &str) -> Result<Typed> {
    let (left, right) = comparable(left, right, text)?;
    Ok(call(function, vec![left, right], DataType::Boolean, text))
}

pub(super) fn comparable(left: Typed, right: Typed, text: &str) -> Result<(Typed, Typed)> {
    let (left, right) = fill_nulls(left, right);
    let (Some(a), Some(b)) = (left.data_type.clone(), right.data_type.clone()) else { return Ok((left, right)) };
    if matches!(a, DataType::List(_) | DataType::Struct(_)) || matches!(b, DataType::List(_) | DataType::Struct(_)) {
        return Err(Error::plan("type_mismatch", format!("{text}: {a} and {b} cannot be compared"))
            .hint("compare a member of it, with .struct.field or .list.get"));
    }
    let target = unified_type(&[left.clone(), right.clone()], text)?.or_else(|| common_type(&a, &b));
    let Some(target) = target else { return Err(mismatch(&a, &b, text)) };
    let exact_as_it_is = matches!(
        (&a, &b),
        (DataType::Timestamp(_), DataType::Timestamp(_))
            | (DataType::Int32 | DataType::Int64, DataType::Float64)
            | (DataType::Float64, DataType::Int32 | DataType::Int64)
    );
    if !exact_as_it_is {
        return Ok((coerce(left, &target), coerce(right, &target)));
    }
    // A constant that has a place in the other side's type makes the comparison a plain one.
    let adapt = |typed: Typed, other: &DataType| match (&typed.kind, &typed.data_type) {
        (TypedKind::Constant(constant), Some(own)) if constant.adapt(own, other).is_some() => coerce(typed, other),
        (_, Some(DataType::Int32)) if *other == DataType::Float64 => coerce(typed, &DataType::Int64),
        _ => typed,
    };
    Ok((adapt(left, &b), adapt(right, &a)))
}
