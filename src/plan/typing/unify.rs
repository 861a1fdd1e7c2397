//! Conversions: which happen by themselves, and which an author may ask for.

use super::{Typed, TypedKind};
use crate::error::{Error, Result};
use crate::plan::decimal::MAX_PRECISION;
use crate::plan::literal::Constant;
use crate::plan::schema::DataType;

/// The type that holds the values of both, if there is one: numbers widen, decimals grow to hold all digits of both (up
/// to 38), timestamps take the finer unit. A decimal and a float have none.
pub fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (T::Int32, T::Int64) | (T::Int64, T::Int32) => Some(T::Int64),
        (T::Int32 | T::Int64, T::Float64) | (T::Float64, T::Int32 | T::Int64) => Some(T::Float64),
        (T::Decimal { .. }, T::Int32 | T::Int64)
        | (T::Int32 | T::Int64, T::Decimal { .. })
        | (T::Decimal { .. }, T::Decimal { .. }) => {
            let ((p, s), (q, t)) = (decimal_shape(a)?, decimal_shape(b)?);
            let scale = s.max(t);
            let precision = (p - s).max(q - t) + scale;
            decimal_type(precision, scale).filter(|_| precision <= i32::from(MAX_PRECISION))
        }
        (T::Timestamp(x), T::Timestamp(y)) => Some(T::Timestamp(if x.per_second() >= y.per_second() { *x } else { *y })),
        _ => None,
    }
}

/// Precision and scale of a decimal, or of the decimal that holds every integer of an integer type.
pub(super) fn decimal_shape(data_type: &DataType) -> Option<(i32, i32)> {
    match data_type {
        DataType::Decimal { precision, scale } => Some((i32::from(*precision), i32::from(*scale))),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        _ => None,
    }
}

/// The decimal type of that shape, its precision capped at 38; none if the scale is more than that.
pub(super) fn decimal_type(precision: i32, scale: i32) -> Option<DataType> {
    let capped = precision.clamp(scale.max(1), i32::from(MAX_PRECISION).max(scale));
    let (precision, scale) = (u8::try_from(capped).ok()?, i8::try_from(scale).ok()?);
    (precision <= MAX_PRECISION).then_some(DataType::Decimal { precision, scale })
}

/// Converts to a type that holds every value of the expression's own (or, for a constant, this value).
pub(super) fn coerce(typed: Typed, to: &DataType) -> Typed {
    if typed.data_type.as_ref() == Some(to) {
        return typed;
    }
    if let TypedKind::Constant(constant) = &typed.kind {
        let adapted = match &typed.data_type {
            None => Some(Constant::Null),
            Some(from) => constant.adapt(from, to),
        };
        if let Some(constant) = adapted {
            return Typed { kind: TypedKind::Constant(constant), data_type: Some(to.clone()), nullable: typed.nullable };
        }
    }
    let nullable = typed.nullable;
    let text = format!("conversion to {to}");
    Typed { kind: TypedKind::Cast { input: Box::new(typed), strict: true, text }, data_type: Some(to.clone()), nullable }
}

/// The type that all can be converted to: constants follow the others where they lose nothing. None if all are bare
/// nulls.
pub(super) fn unified_type(args: &[Typed], text: &str) -> Result<Option<DataType>> {
    let mut target: Option<DataType> = None;
    for arg in args.iter().filter(|arg| !arg.is_constant()) {
        target = merge(target, arg.data_type.as_ref(), text)?;
    }
    for arg in args {
        let (TypedKind::Constant(constant), Some(own)) = (&arg.kind, &arg.data_type) else { continue };
        match &target {
            Some(known) if constant.adapt(own, known).is_some() => {}
            Some(DataType::Decimal { .. }) => {
                target = merge(target, constant.natural_decimal(own).as_ref().or(Some(own)), text)?
            }
            _ => target = merge(target, Some(own), text)?,
        }
    }
    Ok(target)
}

fn merge(target: Option<DataType>, next: Option<&DataType>, text: &str) -> Result<Option<DataType>> {
    match (target, next) {
        (None, next) => Ok(next.cloned()),
        (target, None) => Ok(target),
        (Some(a), Some(b)) => common_type(&a, b).map(Some).ok_or_else(|| mismatch(&a, b, text)),
    }
}

/// Converts all to their common type.
pub(super) fn unify(args: Vec<Typed>, text: &str) -> Result<(Vec<Typed>, Option<DataType>)> {
    match unified_type(&args, text)? {
        Some(target) => Ok((args.into_iter().map(|arg| coerce(arg, &target)).collect(), Some(target))),
        None => Ok((args, None)),
    }
}

/// The error for two types that do not go together, with the way to mend it.
pub(super) fn mismatch(a: &DataType, b: &DataType, text: &str) -> Error {
    use DataType as T;
    let hint = match (a, b) {
        (T::String, T::Date | T::Timestamp(_)) | (T::Date | T::Timestamp(_), T::String) => {
            "text is not a date: give a datetime.date or datetime.datetime, or cast the text with .cast(kappa.Date)".to_owned()
        }
        (T::Date, T::Timestamp(_)) | (T::Timestamp(_), T::Date) => {
            "take the day of the timestamp with .dt.date(time_zone=...), or cast the date".to_owned()
        }
        (T::Decimal { .. }, T::Float64) | (T::Float64, T::Decimal { .. }) => {
            "a float is not exact: cast one side, to Decimal or to Float64".to_owned()
        }
        (T::Decimal { .. }, _) if b.is_numeric() => "together they need more than 38 digits: cast one side to fewer".to_owned(),
        (_, T::Decimal { .. }) if a.is_numeric() => "together they need more than 38 digits: cast one side to fewer".to_owned(),
        (T::Boolean, _) | (_, T::Boolean) if a.is_numeric() || b.is_numeric() => {
            "use & and | between conditions, each in parentheses: (col(\"a\") > 0) & (col(\"b\") > 0)".to_owned()
        }
        _ => format!("cast one side, for example .cast(kappa.{a})"),
    };
    Error::plan("type_mismatch", format!("{text}: {a} and {b} do not go together")).hint(hint)
}

/// A conversion that the author asked for.
pub(super) fn resolve_cast(input: Typed, to: &DataType, strict: bool, text: &str) -> Result<Typed> {
    let Some(from) = &input.data_type else { return Ok(coerce(input, to)) };
    if from == to {
        return Ok(input);
    }
    if !castable(from, to) {
        return Err(
            Error::plan("type_mismatch", format!("{text}: there is no cast from {from} to {to}")).hint(cast_hint(from, to))
        );
    }
    let nullable = input.nullable || !strict;
    Ok(Typed {
        kind: TypedKind::Cast { input: Box::new(input), strict, text: text.to_owned() },
        data_type: Some(to.clone()),
        nullable,
    })
}

fn castable(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (T::List(_) | T::Struct(_), _) | (_, T::List(_) | T::Struct(_)) => false,
        (T::String, _) | (_, T::String) => true,
        (T::Boolean, T::Int32 | T::Int64 | T::Float64) => true,
        (T::Int32 | T::Int64, T::Timestamp(_)) => true,
        (T::Timestamp(_) | T::Date, T::Timestamp(_) | T::Date) => true,
        _ => from.is_numeric() && to.is_numeric(),
    }
}

fn cast_hint(from: &DataType, to: &DataType) -> String {
    use DataType as T;
    match (from, to) {
        (T::Timestamp(_), _) if to.is_numeric() => "use .dt.epoch(\"ms\") for a count since 1970".to_owned(),
        (_, T::Boolean) => "write the condition, for example != 0".to_owned(),
        (T::List(_) | T::Struct(_), _) => "take a member of it first, with .struct.field or .list.get".to_owned(),
        _ => "casts are among numbers, among dates and timestamps, and to and from text".to_owned(),
    }
}
