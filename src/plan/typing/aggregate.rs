//! Types of aggregates.

use super::{Position, Scope, Typed, TypedKind, resolve_in};
use crate::error::{Error, Result};
use crate::plan::expr::{AggregateExpr, AggregateFunction};
use crate::plan::schema::DataType;

pub(super) fn resolve_aggregate(aggregate: &AggregateExpr, scope: Scope<'_>) -> Result<Typed> {
    match scope.position {
        Position::Row => {
            return Err(Error::plan("invalid_aggregate", format!("{aggregate} is an aggregate outside of agg"))
                .hint("use it in group_by(...).agg(...)"));
        }
        Position::InAggregate => {
            return Err(Error::plan("invalid_aggregate", format!("{aggregate} is an aggregate inside another"))
                .hint("aggregate once in agg; compute on its results with with_columns"));
        }
        Position::Group | Position::Anywhere => {}
    }
    let inner = Scope { position: Position::InAggregate, ..scope };
    if let Some(filter) = &aggregate.filter {
        let typed = resolve_in(filter, inner)?;
        if !matches!(typed.data_type, Some(DataType::Boolean) | None) {
            return Err(Error::plan(
                "type_mismatch",
                format!("the filter of {aggregate} is {}, not Boolean", typed.type_name()),
            )
            .hint("a filter is a condition, for example col(\"status\") == \"captured\""));
        }
    }
    let function = aggregate.function;
    if aggregate.ignore_nulls && !matches!(function, AggregateFunction::First | AggregateFunction::Last) {
        return Err(Error::plan("invalid_aggregate", format!("{} takes no ignore_nulls", function.name()))
            .hint("only first and last do"));
    }
    let input = match &aggregate.input {
        Some(input) => Some(resolve_in(input, inner)?),
        None => None,
    };
    let input_type = match &input {
        Some(typed) => Some(typed.data_type.clone().ok_or_else(|| {
            Error::plan("untyped_null", format!("{aggregate} aggregates a null without a type"))
                .hint("give the null a type: kappa.lit(None, kappa.Int64)")
        })?),
        None => None,
    };
    let data_type = aggregate_type(function, input_type.as_ref()).map_err(|error| error.with("expression", aggregate))?;
    Ok(Typed { kind: TypedKind::Aggregate, data_type: Some(data_type), nullable: nullable(function) })
}

/// Whether a group can have a null there. Counts never; everything else does where the filter or the nulls leave nothing.
fn nullable(function: AggregateFunction) -> bool {
    use AggregateFunction as A;
    !matches!(function, A::Len | A::Count | A::NUnique | A::CountDistinct)
}

/// The type of an aggregate of values of a type.
///
/// # Errors
/// A `PlanError` if it has no meaning for that type.
pub fn aggregate_type(function: AggregateFunction, input: Option<&DataType>) -> Result<DataType> {
    use AggregateFunction as A;
    let name = function.name();
    let Some(input) = input else {
        return match function {
            A::Len => Ok(DataType::Int64),
            _ => {
                Err(Error::plan("invalid_aggregate", format!("{name} needs an input"))
                    .hint(format!("write col(\"x\").{name}()")))
            }
        };
    };
    let refuse = |hint: String| Err(Error::plan("type_mismatch", format!("{name}() does not take {input}")).hint(hint));
    let nested = matches!(input, DataType::List(_) | DataType::Struct(_));
    match function {
        A::Len => Err(Error::plan("invalid_aggregate", "len() takes no input")
            .hint("kappa.len() counts rows, col(\"x\").count() values that are not null")),
        A::Count => Ok(DataType::Int64),
        A::First | A::Last => Ok(input.clone()),
        A::Sum => match input {
            DataType::Int32 | DataType::Int64 => Ok(DataType::Int64),
            DataType::Float64 => Ok(DataType::Float64),
            DataType::Decimal { scale, .. } => Ok(DataType::Decimal { precision: 38, scale: *scale }),
            DataType::Boolean => refuse("to count what is true use kappa.len().filter(...), or cast to Int64".into()),
            _ => refuse("sums are of numbers: cast to one".into()),
        },
        A::Mean if input.is_numeric() => Ok(DataType::Float64),
        A::Mean => refuse("means are of numbers: cast to one".into()),
        A::Min | A::Max if !nested => Ok(input.clone()),
        A::NUnique | A::CountDistinct if !nested => Ok(DataType::Int64),
        A::Min | A::Max | A::NUnique | A::CountDistinct => {
            refuse("take a member of it, with .struct.field or .list.get".into())
        }
    }
}
