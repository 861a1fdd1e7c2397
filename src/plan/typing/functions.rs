//! Types of functions.

use super::numeric::{resolve_arithmetic, resolve_comparison, resolve_unary};
use super::unify::{coerce, unify};
use super::{Typed, TypedKind};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::names::nearest;
use crate::plan::schema::DataType;
use crate::plan::time_zones;
use crate::plan::truncate::Every;

/// A call whose result is null where an argument is.
pub(super) fn call(function: &Function, args: Vec<Typed>, data_type: DataType, text: &str) -> Typed {
    let nullable = args.iter().any(|arg| arg.nullable);
    let kind = TypedKind::Call { function: function.clone(), args, text: text.to_owned() };
    Typed { kind, data_type: Some(data_type), nullable }
}

fn call_with(function: &Function, args: Vec<Typed>, data_type: Option<DataType>, nullable: bool, text: &str) -> Typed {
    Typed { kind: TypedKind::Call { function: function.clone(), args, text: text.to_owned() }, data_type, nullable }
}

pub(super) fn wrong_argument(function: &Function, arg: &Typed, wanted: &str, text: &str) -> Error {
    let name = function.method();
    Error::plan("type_mismatch", format!("{text}: {name} takes {wanted}, not {}", arg.type_name()))
        .hint(format!("cast it first, or declare the column in the schema as {wanted}"))
}

pub(super) fn resolve_call(function: &Function, args: Vec<Typed>, text: &str) -> Result<Typed> {
    use Function as F;
    match function {
        F::Add | F::Sub | F::Mul | F::Div | F::FloorDiv | F::Mod | F::Pow => {
            let [left, right] = exactly(function, args, text)?;
            resolve_arithmetic(function, left, right, text)
        }
        F::Eq | F::Ne | F::Lt | F::Le | F::Gt | F::Ge => {
            let [left, right] = exactly(function, args, text)?;
            resolve_comparison(function, left, right, text)
        }
        F::Neg | F::Abs | F::Round { .. } => {
            let [arg] = exactly(function, args, text)?;
            resolve_unary(function, arg, text)
        }
        F::And | F::Or => resolve_logic(function, at_least(2, function, args, text)?, text),
        F::Not => {
            let [arg] = exactly(function, args, text)?;
            resolve_logic(function, vec![arg], text)
        }
        F::IsNull | F::IsNotNull => {
            let [arg] = exactly(function, args, text)?;
            Ok(call_with(function, vec![arg], Some(DataType::Boolean), false, text))
        }
        F::Coalesce => {
            let nullable = args.iter().all(|arg| arg.nullable);
            let (args, data_type) = unify(at_least(1, function, args, text)?, text)?;
            Ok(call_with(function, args, data_type, nullable, text))
        }
        F::IsIn => resolve_is_in(function, at_least(1, function, args, text)?, text),
        F::When => resolve_when(function, args, text),
        F::DtDate { .. }
        | F::DtTruncate { .. }
        | F::DtYear { .. }
        | F::DtMonth { .. }
        | F::DtDay { .. }
        | F::DtHour { .. }
        | F::DtMinute { .. }
        | F::DtSecond { .. }
        | F::DtWeekday { .. }
        | F::DtEpoch { .. } => {
            let [arg] = exactly(function, args, text)?;
            resolve_time(function, arg, text)
        }
        F::StrToLowercase | F::StrToUppercase | F::StrStripChars | F::StrLenChars => {
            resolve_text(function, args, &[DataType::String], 1, text)
        }
        F::StrStartsWith | F::StrEndsWith | F::StrContains => {
            resolve_text(function, args, &[DataType::String, DataType::String], 2, text)
        }
        F::StrReplace => resolve_text(function, args, &[DataType::String, DataType::String, DataType::String], 3, text),
        F::StrSlice => resolve_text(function, args, &[DataType::String, DataType::Int64, DataType::Int64], 2, text),
        F::ListLen | F::ListGet | F::ListContains => resolve_list(function, args, text),
        F::StructField { name } => {
            let [arg] = exactly(function, args, text)?;
            resolve_field(function, name, arg, text)
        }
    }
}

fn exactly<const N: usize>(function: &Function, args: Vec<Typed>, text: &str) -> Result<[Typed; N]> {
    let given = args.len();
    <[Typed; N]>::try_from(args).map_err(|_| wrong_count(function, &N.to_string(), given, text))
}

fn at_least(least: usize, function: &Function, args: Vec<Typed>, text: &str) -> Result<Vec<Typed>> {
    if args.len() >= least { Ok(args) } else { Err(wrong_count(function, &format!("at least {least}"), args.len(), text)) }
}

fn wrong_count(function: &Function, wanted: &str, given: usize, text: &str) -> Error {
    let name = function.method();
    Error::plan(
        "wrong_arguments",
        format!("{text}: {name} takes {wanted} arguments, counting what it is called on, not {given}"),
    )
}

fn boolean(function: &Function, arg: Typed, text: &str) -> Result<Typed> {
    match &arg.data_type {
        Some(DataType::Boolean) | None => Ok(coerce(arg, &DataType::Boolean)),
        Some(other) => {
            Err(Error::plan("type_mismatch", format!("{text}: {} takes conditions, not {other}", function.method()))
                .hint("compare first, in parentheses: (col(\"a\") > 0) & (col(\"b\") > 0)"))
        }
    }
}

fn resolve_logic(function: &Function, args: Vec<Typed>, text: &str) -> Result<Typed> {
    let args = args.into_iter().map(|arg| boolean(function, arg, text)).collect::<Result<Vec<_>>>()?;
    Ok(call(function, args, DataType::Boolean, text))
}

/// Nulls among the items match nothing; the result is null where the value is.
fn resolve_is_in(function: &Function, args: Vec<Typed>, text: &str) -> Result<Typed> {
    let nullable = args.first().is_some_and(|value| value.nullable);
    let floats = args.iter().filter(|arg| arg.data_type == Some(DataType::Float64)).count();
    let (args, data_type) = unify(args, text)?;
    let widened = args.iter().any(|arg| matches!(&arg.kind, TypedKind::Cast { text, .. } if text.starts_with("conversion to")));
    if data_type == Some(DataType::Float64) && floats > 0 && widened {
        return Err(Error::plan("type_mismatch", format!("{text}: integers and floats are mixed"))
            .hint("a float cannot hold every Int64: cast explicitly, so that all are of one type"));
    }
    if let Some(nested @ (DataType::List(_) | DataType::Struct(_))) = &data_type {
        return Err(Error::plan("type_mismatch", format!("{text}: is_in does not take {nested}")));
    }
    Ok(call_with(function, args, Some(DataType::Boolean), nullable, text))
}

fn resolve_when(function: &Function, args: Vec<Typed>, text: &str) -> Result<Typed> {
    if args.len() < 3 || args.len().is_multiple_of(2) {
        return Err(wrong_count(function, "condition and value pairs and one more", args.len(), text)
            .hint("write kappa.when(p).then(x).otherwise(y)"));
    }
    let last = args.len() - 1;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for (i, arg) in args.into_iter().enumerate() {
        if i % 2 == 0 && i != last { conditions.push(boolean(function, arg, text)?) } else { values.push(arg) }
    }
    let nullable = values.iter().any(|value| value.nullable);
    let (values, data_type) = unify(values, text)?;
    let mut values = values.into_iter();
    let mut args = Vec::with_capacity(last + 1);
    for condition in conditions {
        args.push(condition);
        args.extend(values.next());
    }
    args.extend(values);
    Ok(call_with(function, args, data_type, nullable, text))
}

fn resolve_time(function: &Function, arg: Typed, text: &str) -> Result<Typed> {
    use Function as F;
    if let Some(zone) = function.time_zone() {
        time_zones::check_name(zone)?;
    }
    let every = match function {
        F::DtTruncate { every, .. } => Some(Every::parse(every)?),
        _ => None,
    };
    let own = match &arg.data_type {
        Some(own @ (DataType::Timestamp(_) | DataType::Date)) => own.clone(),
        other => {
            let found = other.as_ref().map_or("null".to_owned(), ToString::to_string);
            let hint = match other {
                Some(DataType::Int32 | DataType::Int64) => {
                    "declare the column as kappa.Timestamp(\"ms\") in the schema, or write .cast(kappa.Timestamp(\"ms\")) with the unit that it counts"
                }
                Some(DataType::String) => {
                    "declare the column as kappa.Timestamp(\"ms\") in the schema (RFC 3339 text is read too), or write .cast(kappa.Timestamp(\"ms\"))"
                }
                _ => "declare the column as kappa.Timestamp(\"ms\") in the schema, or cast it to one",
            };
            let message = format!("{text}: {} takes a Timestamp or a Date, not {found}", function.method());
            return Err(Error::plan("type_mismatch", message).hint(hint));
        }
    };
    let sub_day = matches!(function, F::DtHour { .. } | F::DtMinute { .. } | F::DtSecond { .. } | F::DtEpoch { .. })
        || every.is_some_and(|every| !every.is_calendar());
    if own == DataType::Date && sub_day {
        return Err(Error::plan("type_mismatch", format!("{text}: a Date has no time of day"))
            .hint("use a Timestamp column, or cast the date to Timestamp (midnight UTC)"));
    }
    let data_type = match function {
        F::DtDate { .. } => DataType::Date,
        F::DtTruncate { .. } => own,
        F::DtEpoch { .. } => DataType::Int64,
        _ => DataType::Int32,
    };
    Ok(call(function, vec![arg], data_type, text))
}

fn resolve_text(function: &Function, args: Vec<Typed>, wanted: &[DataType], least: usize, text: &str) -> Result<Typed> {
    if args.len() < least || args.len() > wanted.len() {
        return Err(wrong_count(function, &least.to_string(), args.len(), text));
    }
    let mut converted = Vec::with_capacity(args.len());
    for (arg, wanted) in args.into_iter().zip(wanted) {
        let fits = match &arg.data_type {
            None => true,
            Some(DataType::Int32) => *wanted == DataType::Int64,
            Some(own) => own == wanted,
        };
        if !fits {
            return Err(wrong_argument(function, &arg, &wanted.to_string(), text));
        }
        converted.push(coerce(arg, wanted));
    }
    let data_type = match function {
        Function::StrLenChars => DataType::Int64,
        Function::StrStartsWith | Function::StrEndsWith | Function::StrContains => DataType::Boolean,
        _ => DataType::String,
    };
    Ok(call(function, converted, data_type, text))
}

fn resolve_list(function: &Function, args: Vec<Typed>, text: &str) -> Result<Typed> {
    let mut args = args.into_iter();
    let (list, second, more) = (args.next(), args.next(), args.next());
    let wanted = if *function == Function::ListLen { 1 } else { 2 };
    let Some(list) = list else { return Err(wrong_count(function, &wanted.to_string(), 0, text)) };
    let Some(DataType::List(inner)) = list.data_type.clone() else {
        return Err(wrong_argument(function, &list, "a List", text));
    };
    match (function, second, more) {
        (Function::ListLen, None, None) => Ok(call(function, vec![list], DataType::Int64, text)),
        (Function::ListGet, Some(index), None) => {
            if !matches!(index.data_type, Some(DataType::Int32 | DataType::Int64) | None) {
                return Err(wrong_argument(function, &index, "an integer position", text));
            }
            let index = coerce(index, &DataType::Int64);
            Ok(call_with(function, vec![list, index], Some(*inner), true, text))
        }
        (Function::ListContains, Some(item), None) => {
            if matches!(*inner, DataType::List(_) | DataType::Struct(_)) {
                return Err(wrong_argument(function, &list, "a List of plain values", text));
            }
            let fits = match (&item.kind, &item.data_type) {
                (_, None) => true,
                (_, Some(own)) if *own == *inner => true,
                (TypedKind::Constant(constant), Some(own)) => constant.adapt(own, &inner).is_some(),
                _ => false,
            };
            if !fits {
                return Err(wrong_argument(function, &item, &inner.to_string(), text));
            }
            let nullable = list.nullable || item.nullable;
            let item = coerce(item, &inner);
            Ok(call_with(function, vec![list, item], Some(DataType::Boolean), nullable, text))
        }
        (_, None, _) => Err(wrong_count(function, &wanted.to_string(), 1, text)),
        _ => Err(wrong_count(function, &wanted.to_string(), wanted + 1, text)),
    }
}

fn resolve_field(function: &Function, name: &str, arg: Typed, text: &str) -> Result<Typed> {
    let Some(DataType::Struct(fields)) = &arg.data_type else {
        return Err(wrong_argument(function, &arg, "a Struct", text));
    };
    let Some(field) = fields.iter().find(|field| field.name == name) else {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean {near:?}? "));
        return Err(Error::plan("unknown_column", format!("{text}: there is no member {name:?}"))
            .hint(format!("{near}The members are {}", names.join(", "))));
    };
    let (data_type, nullable) = (field.data_type.clone(), field.nullable || arg.nullable);
    Ok(call_with(function, vec![arg], Some(data_type), nullable, text))
}
