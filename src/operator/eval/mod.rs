//! Evaluation of expressions over batches, with arrow's kernels where they follow the rules of the plan and with loops
//! over slices where they do not.
//!
//! The rules. **Exact or refused**: an integer or decimal that overflows, an integer or decimal division by zero and a
//! strict cast that does not fit stop the job with the expression and the values; float arithmetic is IEEE's. **Nulls**:
//! a function of null is null, except for `is_null`, `coalesce`, `when` and Kleene's `&` and `|`. **Guards hold**: what
//! can fail is evaluated only where it is asked for: `when(y != 0).then(x // y)`, `(y != 0) & (x // y > 2)` and
//! `coalesce` never fail on the rows that they leave out. **Floats**: −0.0 equals 0.0, all NaNs are one value, greater
//! than all others.

mod arithmetic;
mod cast;
mod cast_text;
mod compare;
mod compile;
mod decimal;
pub mod interval;
mod logic;
mod map;
mod nested;
mod text;
mod time;
mod value;

use std::fmt;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::DataType as ArrowType;

use crate::error::{Error, Result};
use crate::plan::expr::Expr;
use crate::plan::schema::{DataType, Schema};
use crate::plan::time_zones::ZoneTables;
use crate::plan::typing;
use value::Value;

/// An expression, ready to be evaluated over batches of one schema. Cheap to use from several threads.
#[derive(Debug)]
pub struct Evaluator {
    root: Node,
    text: String,
    data_type: DataType,
    nullable: bool,
}

impl Evaluator {
    /// Prepares an expression over batches whose columns are those of `schema`, in that order.
    ///
    /// # Errors
    /// A `PlanError` if the types do not fit, or if the expression is a null without a type.
    pub fn compile(expr: &Expr, schema: &Schema, zones: &ZoneTables) -> Result<Self> {
        let typed = typing::resolve(expr, schema)?;
        let text = expr.to_string();
        let field = typing::field_of(&text, &typed)?;
        let root = compile::node(&typed, zones)?;
        Ok(Self { root, text, data_type: field.data_type, nullable: field.nullable })
    }

    /// Prepares a condition. As [`Self::compile`], and a bare null is allowed: it is never true.
    ///
    /// # Errors
    /// A `PlanError` if it is not Boolean.
    pub fn compile_condition(expr: &Expr, schema: &Schema, zones: &ZoneTables) -> Result<Self> {
        let typed = typing::resolve(expr, schema)?;
        if !matches!(typed.data_type, Some(DataType::Boolean) | None) {
            return Err(Error::plan("type_mismatch", format!("{expr} is {}, not a condition", typed.type_name())));
        }
        let root = compile::node(&typed, zones)?;
        Ok(Self { root, text: expr.to_string(), data_type: DataType::Boolean, nullable: typed.nullable })
    }

    /// The type of the result.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether the result can be null.
    pub fn nullable(&self) -> bool {
        self.nullable
    }

    /// One value for each row of the batch, of exactly [`Self::data_type`].
    ///
    /// # Errors
    /// A `DataError` that names the expression and the values, with the row in the batch as context `row`; where rows
    /// were left out by a guard, the row counts those that are left.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let rows = batch.num_rows();
        let array = self.root.evaluate_rows(batch)?.expand(rows)?;
        if array.len() != rows || array.data_type() != &self.data_type.to_arrow() {
            return Err(Error::internal(format!(
                "{} gave {} values of {} for {rows} rows of {}",
                self.text,
                array.len(),
                array.data_type(),
                self.data_type
            )));
        }
        Ok(array)
    }

    /// Which rows satisfy the condition: true or false for each, null counts as false.
    ///
    /// # Errors
    /// As [`Self::evaluate`]; an internal error if the expression is not a condition.
    pub fn filter_mask(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let array = self.evaluate(batch)?;
        let mask = array.as_boolean_opt().ok_or_else(|| Error::internal(format!("{} is not a condition", self.text)))?;
        Ok(logic::nulls_as_false(mask))
    }
}

impl fmt::Display for Evaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A part of an expression.
#[derive(Debug)]
struct Node {
    kind: Kind,
    arrow_type: ArrowType,
    /// Whether some value of its inputs makes it fail: then it is not evaluated where it is not asked for.
    fallible: bool,
}

#[derive(Debug)]
enum Kind {
    Column(usize),
    Constant(Value),
    /// Arguments first, then the function over whole columns.
    Apply(Box<dyn Kernel>, Vec<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Coalesce(Vec<Node>),
    /// Condition, value, condition, value, …, value.
    When(Vec<Node>),
}

/// A function over columns: called once a batch.
trait Kernel: fmt::Debug + Send + Sync {
    /// The result for all rows; a constant if all arguments are.
    fn apply(&self, args: &[Value]) -> Result<Value>;

    /// Whether it fails for some values.
    fn fallible(&self) -> bool {
        false
    }
}

impl Node {
    /// The values for a batch; none are computed if there are no rows.
    fn evaluate_rows(&self, batch: &RecordBatch) -> Result<Value> {
        if batch.num_rows() == 0 {
            return Ok(Value::rows(arrow::array::new_empty_array(&self.arrow_type)));
        }
        self.evaluate(batch)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<Value> {
        match &self.kind {
            Kind::Column(position) => match batch.columns().get(*position) {
                Some(column) => Ok(Value::rows(column.clone())),
                None => Err(Error::internal(format!("a batch without column {position}"))),
            },
            Kind::Constant(value) => Ok(value.clone()),
            Kind::Apply(kernel, args) => match args.as_slice() {
                [arg] => kernel.apply(&[arg.evaluate(batch)?]),
                [left, right] => kernel.apply(&[left.evaluate(batch)?, right.evaluate(batch)?]),
                args => kernel.apply(&args.iter().map(|arg| arg.evaluate(batch)).collect::<Result<Vec<_>>>()?),
            },
            Kind::And(args) => logic::and(args, batch),
            Kind::Or(args) => logic::or(args, batch),
            Kind::Coalesce(args) => logic::coalesce(args, batch, &self.arrow_type),
            Kind::When(args) => logic::when(args, batch, &self.arrow_type),
        }
    }
}

#[cfg(test)]
mod tests;
