//! From typed expressions to nodes.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, new_null_array};
use arrow::datatypes::DataType as ArrowType;

use super::arithmetic::Arithmetic;
use super::cast::Cast;
use super::compare::{Compare, Operator};
use super::logic::{IsIn, Truth};
use super::map::build;
use super::nested::Nested;
use super::text::Text;
use super::time::Time;
use super::value::Value;
use super::{Kernel, Kind, Node};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::literal::Constant;
use crate::plan::schema::DataType;
use crate::plan::time_zones::ZoneTables;
use crate::plan::typing::{Typed, TypedKind};

pub(super) fn node(typed: &Typed, zones: &ZoneTables) -> Result<Node> {
    let arrow_type = arrow_type(typed);
    let (kind, own) = match &typed.kind {
        TypedKind::Column(position) => (Kind::Column(*position), false),
        TypedKind::Constant(constant) => (Kind::Constant(Value::constant(constant_array(constant, &arrow_type)?)), false),
        TypedKind::Cast { input, strict, text } => match (&input.data_type, &typed.data_type) {
            (Some(from), Some(to)) => {
                let cast = Cast::new(from, to, *strict, text);
                let fallible = cast.fallible();
                (Kind::Apply(Box::new(cast), vec![node(input, zones)?]), fallible)
            }
            // Nothing but null has no type.
            _ => (Kind::Constant(Value::constant(new_null_array(&arrow_type, 1))), false),
        },
        TypedKind::Call { function, args, text } => call(typed, function, args, text, zones)?,
        TypedKind::Aggregate => return Err(Error::internal("an aggregate is not evaluated row by row")),
    };
    let fallible = own || children(&kind).iter().any(|child| child.fallible);
    Ok(Node { kind, arrow_type, fallible })
}

fn children(kind: &Kind) -> &[Node] {
    match kind {
        Kind::Column(_) | Kind::Constant(_) => &[],
        Kind::Apply(_, args) | Kind::And(args) | Kind::Or(args) | Kind::Coalesce(args) | Kind::When(args) => args,
    }
}

/// A bare null is evaluated as a Boolean one.
fn arrow_type(typed: &Typed) -> ArrowType {
    typed.data_type.as_ref().map_or(ArrowType::Boolean, DataType::to_arrow)
}

fn call(typed: &Typed, function: &Function, args: &[Typed], text: &str, zones: &ZoneTables) -> Result<(Kind, bool)> {
    use Function as F;
    let nodes = args.iter().map(|arg| node(arg, zones)).collect::<Result<Vec<_>>>()?;
    let type_at = |i: usize| args.get(i).and_then(|arg| arg.data_type.as_ref());
    let to = typed.data_type.as_ref();
    let kernel: Box<dyn Kernel> = match function {
        F::And => return Ok((Kind::And(nodes), false)),
        F::Or => return Ok((Kind::Or(nodes), false)),
        F::Coalesce => return Ok((Kind::Coalesce(nodes), false)),
        F::When => return Ok((Kind::When(nodes), false)),
        F::Not => Box::new(Truth::Not),
        F::IsNull => Box::new(Truth::IsNull),
        F::IsNotNull => Box::new(Truth::IsNotNull),
        F::IsIn => Box::new(IsIn { equal: Compare::new(Operator::Eq, type_at(0), type_at(0)) }),
        F::Add | F::Sub | F::Mul | F::Div | F::FloorDiv | F::Mod | F::Pow | F::Neg | F::Abs | F::Round { .. } => {
            let types: Vec<DataType> = args.iter().filter_map(|arg| arg.data_type.clone()).collect();
            match to {
                Some(to) => Box::new(Arithmetic::new(function, &types, to, text)?),
                None => return Err(Error::internal(format!("{text} without a type"))),
            }
        }
        F::StrToLowercase
        | F::StrToUppercase
        | F::StrStripChars
        | F::StrStartsWith
        | F::StrEndsWith
        | F::StrContains
        | F::StrReplace
        | F::StrSlice
        | F::StrLenChars => Box::new(Text::new(function, text)?),
        F::ListLen | F::ListGet | F::ListContains | F::StructField { .. } => Box::new(Nested::new(function, type_at(0))?),
        _ => match (Operator::of(function), type_at(0)) {
            (Some(operator), _) => Box::new(Compare::new(operator, type_at(0), type_at(1))),
            (None, Some(from)) => Box::new(Time::new(function, from, zones, text)?),
            (None, None) => return Err(Error::internal(format!("{text} without a type"))),
        },
    };
    let fallible = kernel.fallible();
    Ok((Kind::Apply(kernel, nodes), fallible))
}

fn constant_array(constant: &Constant, arrow_type: &ArrowType) -> Result<ArrayRef> {
    Ok(match (constant, arrow_type) {
        (Constant::Null, _) => new_null_array(arrow_type, 1),
        (Constant::Boolean(value), _) => Arc::new(BooleanArray::from(vec![*value])),
        (Constant::Integer(value), ArrowType::Int32 | ArrowType::Date32) => {
            let value = i32::try_from(*value).map_err(|_| Error::internal(format!("{value} as 32 bits")))?;
            build(vec![value], None, arrow_type)?
        }
        (Constant::Integer(value), _) => build(vec![*value], None, arrow_type)?,
        (Constant::Float(value), _) => build(vec![*value], None, arrow_type)?,
        (Constant::Decimal(value), _) => build(vec![*value], None, arrow_type)?,
        (Constant::Text(text), _) => Arc::new(StringArray::from(vec![text.as_str()])),
    })
}
