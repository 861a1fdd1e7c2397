//! Comparisons. Two columns of one type go to arrow's kernels; floats are normalised before, so that arrow's total order
//! is ours. Timestamps of two units and integers with floats are compared exactly, value by value.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, Float64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;
use arrow::datatypes::DataType as ArrowType;

use super::Kernel;
use super::map::{Slice, both_nulls, f64s, i64s};
use super::value::{Value, row_count};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::schema::{DataType, TimeUnit};

/// A comparison of two columns.
#[derive(Debug)]
pub(super) struct Compare {
    operator: Operator,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Operator {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Same,
    Float,
    Units(TimeUnit, TimeUnit),
    IntFloat,
    FloatInt,
}

impl Operator {
    pub(super) fn of(function: &Function) -> Option<Self> {
        Some(match function {
            Function::Eq => Self::Eq,
            Function::Ne => Self::Ne,
            Function::Lt => Self::Lt,
            Function::Le => Self::Le,
            Function::Gt => Self::Gt,
            Function::Ge => Self::Ge,
            _ => return None,
        })
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Le => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Ge => ordering.is_ge(),
        }
    }
}

impl Compare {
    pub(super) fn new(operator: Operator, left: Option<&DataType>, right: Option<&DataType>) -> Self {
        let kind = match (left, right) {
            (Some(DataType::Float64), Some(DataType::Float64)) => Kind::Float,
            (Some(DataType::Timestamp(a)), Some(DataType::Timestamp(b))) if a != b => Kind::Units(*a, *b),
            (Some(DataType::Int64), Some(DataType::Float64)) => Kind::IntFloat,
            (Some(DataType::Float64), Some(DataType::Int64)) => Kind::FloatInt,
            _ => Kind::Same,
        };
        Self { operator, kind }
    }

    fn same(&self, left: &Value, right: &Value) -> Result<BooleanArray> {
        let compare = match self.operator {
            Operator::Eq => cmp::eq,
            Operator::Ne => cmp::neq,
            Operator::Lt => cmp::lt,
            Operator::Le => cmp::lt_eq,
            Operator::Gt => cmp::gt,
            Operator::Ge => cmp::gt_eq,
        };
        Ok(compare(left, right)?)
    }

    fn each<L: Copy, R: Copy>(
        &self,
        left: Slice<'_, L>,
        right: Slice<'_, R>,
        rows: usize,
        order: impl Fn(L, R) -> Ordering,
    ) -> BooleanArray {
        let Some(nulls) = both_nulls(&left, &right) else { return BooleanArray::new_null(rows) };
        let holds = |l: L, r: R| self.operator.holds(order(l, r));
        let values: BooleanBuffer = match (left.constant, right.constant, left.values, right.values) {
            (false, true, left, [right]) => left.iter().map(|l| holds(*l, *right)).collect(),
            (true, false, [left], right) => right.iter().map(|r| holds(*left, *r)).collect(),
            (_, _, left, right) => left.iter().zip(right).map(|(l, r)| holds(*l, *r)).collect(),
        };
        BooleanArray::new(values, nulls)
    }
}

impl Kernel for Compare {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let [left, right] = args else { return Err(Error::internal("two arguments")) };
        let rows = row_count(args);
        let result = match self.kind {
            Kind::Same => self.same(left, right)?,
            Kind::Float => self.same(&normalised(left)?, &normalised(right)?)?,
            Kind::Units(a, b) => {
                let (a, b) = (i128::from(b.per_second()), i128::from(a.per_second()));
                self.each(i64s(left)?, i64s(right)?, rows, |l, r| (i128::from(l) * a).cmp(&(i128::from(r) * b)))
            }
            Kind::IntFloat => self.each(i64s(left)?, f64s(right)?, rows, compare_int_float),
            Kind::FloatInt => self.each(f64s(left)?, i64s(right)?, rows, |l, r| compare_int_float(r, l).reverse()),
        };
        Ok(Value::like(Arc::new(result), args))
    }
}

/// One zero and one NaN, which arrow then orders last.
fn normalised(value: &Value) -> Result<Value> {
    let floats = f64s(value)?;
    let values: Vec<f64> = floats.values.iter().map(|v| normal(*v)).collect();
    debug_assert_eq!(value.array().data_type(), &ArrowType::Float64);
    let array = Arc::new(Float64Array::new(values.into(), floats.nulls.cloned()));
    Ok(if value.is_constant() { Value::constant(array) } else { Value::rows(array) })
}

/// −0.0 as 0.0, every NaN as the one.
#[inline]
pub(super) fn normal(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

/// Exactly: the integer is not rounded to a float. NaN is greater than every number.
fn compare_int_float(int: i64, float: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() || float >= TWO_TO_63 {
        return Ordering::Less;
    }
    if float < -TWO_TO_63 {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    int.cmp(&(whole as i64)).then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_floats_are_compared_exactly() {
        let big = (1_i64 << 53) + 1;
        assert_eq!(compare_int_float(big, big as f64), Ordering::Greater);
        assert_eq!(compare_int_float(i64::MAX, i64::MAX as f64), Ordering::Less);
        assert_eq!(compare_int_float(i64::MIN, i64::MIN as f64), Ordering::Equal);
        assert_eq!(compare_int_float(-1, -1.5), Ordering::Greater);
        assert_eq!(compare_int_float(1, 1.5), Ordering::Less);
        assert_eq!(compare_int_float(0, -0.0), Ordering::Equal);
        assert_eq!(compare_int_float(i64::MAX, f64::NAN), Ordering::Less);
        assert_eq!(compare_int_float(0, f64::NEG_INFINITY), Ordering::Greater);
    }
}
