//! The types of expressions: checked when the plan is built, so that a mistake is named before a record is read.
//!
//! [`resolve`] turns an expression into one in which nothing is left to guess: columns by position, constants in the type
//! of what they meet, conversions spelled out. The evaluator compiles that form, so that a column has exactly the type
//! that was promised.
//!
//! **Numbers** widen Int32 → Int64 → Float64, and integers with a decimal become decimals; a decimal and a float do not
//! mix. A constant takes the type of the other side if it has exactly that value there: `col("small") > 5` compares Int32,
//! `col("price") > 9.99` compares decimals. **Comparisons** need two sides of one kind: text is not silently a date.

mod aggregate;
mod functions;
mod numeric;
mod unify;

pub use aggregate::aggregate_type;
pub use unify::common_type;

use super::expr::{Expr, Function};
use super::literal::Constant;
use super::names::nearest;
use super::schema::{DataType, Field, Schema};
use crate::error::{Error, Result};

/// An expression whose types are known.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    /// What it is.
    pub kind: TypedKind,
    /// Its type; none for a bare null.
    pub data_type: Option<DataType>,
    /// Whether it can be null.
    pub nullable: bool,
}

/// The forms of a typed expression.
#[derive(Clone, Debug, PartialEq)]
pub enum TypedKind {
    /// A column by position.
    Column(usize),
    /// A constant of the expression's type.
    Constant(Constant),
    /// A function; its arguments have the types that the evaluator expects.
    Call {
        /// Which.
        function: Function,
        /// Its arguments, converted where the rules say so.
        args: Vec<Typed>,
        /// As the author wrote it.
        text: String,
    },
    /// A conversion to the expression's type.
    Cast {
        /// Of what.
        input: Box<Typed>,
        /// Whether a value that does not fit stops the job.
        strict: bool,
        /// As the author wrote it, or what is converted.
        text: String,
    },
    /// A function of all rows of a group, which is computed elsewhere.
    Aggregate,
}

impl Typed {
    /// The type, or `null` for a bare null: for messages.
    pub fn type_name(&self) -> String {
        self.data_type.as_ref().map_or_else(|| "null".to_owned(), ToString::to_string)
    }

    pub(super) fn is_constant(&self) -> bool {
        matches!(self.kind, TypedKind::Constant(_))
    }
}

/// What an expression may refer to.
#[derive(Clone, Copy)]
struct Scope<'a> {
    schema: &'a Schema,
    position: Position,
}

#[derive(Clone, Copy, PartialEq)]
enum Position {
    /// Aggregates are not allowed.
    Row,
    /// Beside aggregates, inside `agg`: columns only within aggregates.
    Group,
    /// Within an aggregate.
    InAggregate,
    /// Only the type is asked for.
    Anywhere,
}

/// The type of an expression (none for a bare null) and whether it can be null. Aggregates are allowed.
///
/// # Errors
/// A `PlanError` that names the column or function and the types found.
pub fn type_of(expr: &Expr, schema: &Schema) -> Result<(Option<DataType>, bool)> {
    let typed = resolve_in(expr, Scope { schema, position: Position::Anywhere })?;
    Ok((typed.data_type, typed.nullable))
}

/// Types an expression over rows: no aggregates.
///
/// # Errors
/// A `PlanError` that names the column or function and the types found.
pub fn resolve(expr: &Expr, schema: &Schema) -> Result<Typed> {
    resolve_in(expr, Scope { schema, position: Position::Row })
}

/// Types an expression of `agg`: columns only within aggregates, and at least one aggregate.
///
/// # Errors
/// A `PlanError`, as above.
pub fn resolve_group(expr: &Expr, schema: &Schema) -> Result<Typed> {
    let typed = resolve_in(expr, Scope { schema, position: Position::Group })?;
    if contains_aggregate(expr) {
        return Ok(typed);
    }
    Err(Error::plan("invalid_aggregate", format!("{expr} in agg has no aggregate")).hint(
        "agg takes aggregates such as kappa.len() or col(\"x\").sum(); put constants and row expressions in with_columns",
    ))
}

/// Whether an aggregate occurs in it.
pub fn contains_aggregate(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(_) => false,
        Expr::Call { args, .. } => args.iter().any(contains_aggregate),
        Expr::Cast { input, .. } => contains_aggregate(input),
        Expr::Aggregate(_) => true,
    }
}

/// A column made by an expression.
///
/// # Errors
/// A `PlanError` if the expression is a bare null, which has no type.
pub fn field_of(name: &str, typed: &Typed) -> Result<Field> {
    match &typed.data_type {
        Some(data_type) => Ok(Field { name: name.to_owned(), data_type: data_type.clone(), nullable: typed.nullable }),
        None => Err(Error::plan("untyped_null", format!("column {name:?} is always null and has no type"))
            .hint("give the null a type: kappa.lit(None, kappa.String)")),
    }
}

fn resolve_in(expr: &Expr, scope: Scope<'_>) -> Result<Typed> {
    match expr {
        Expr::Column(name) => resolve_column(name, scope),
        Expr::Literal(literal) => {
            let constant = literal.constant()?;
            let nullable = constant == Constant::Null;
            if let Some(data_type) = &literal.data_type {
                data_type.validate()?;
            }
            Ok(Typed { kind: TypedKind::Constant(constant), data_type: literal.data_type.clone(), nullable })
        }
        Expr::Call { function, args } => {
            let typed = args.iter().map(|arg| resolve_in(arg, scope)).collect::<Result<Vec<_>>>()?;
            functions::resolve_call(function, typed, &expr.to_string())
        }
        Expr::Cast { input, to, strict } => {
            to.validate()?;
            unify::resolve_cast(resolve_in(input, scope)?, to, *strict, &expr.to_string())
        }
        Expr::Aggregate(aggregate) => aggregate::resolve_aggregate(aggregate, scope),
    }
}

fn resolve_column(name: &str, scope: Scope<'_>) -> Result<Typed> {
    let (position, field) = scope.schema.find(name).ok_or_else(|| unknown_column(name, scope.schema))?;
    if scope.position == Position::Group {
        return Err(Error::plan("invalid_aggregate", format!("column {name:?} stands outside an aggregate in agg"))
            .hint(format!(
                "a group has many rows: aggregate it, for example col({name:?}).sum() or col({name:?}).last(), or use the group key in with_columns after agg"
            )));
    }
    Ok(Typed { kind: TypedKind::Column(position), data_type: Some(field.data_type.clone()), nullable: field.nullable })
}

/// The error for a column that is not there.
pub(super) fn unknown_column(name: &str, schema: &Schema) -> Error {
    let columns: Vec<&str> = schema.fields.iter().map(|field| field.name.as_str()).collect();
    let hint = match nearest(name, columns.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? The columns are {}", columns.join(", ")),
        None => format!("the columns are {}", columns.join(", ")),
    };
    Error::plan("unknown_column", format!("there is no column {name:?}")).hint(hint)
}

#[cfg(test)]
mod tests;
