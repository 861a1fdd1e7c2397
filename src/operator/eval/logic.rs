//! Conditions, and what depends on them. A part that can fail is evaluated only on the rows that ask for it.

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, RecordBatch, UInt32Builder, new_null_array};
use arrow::compute::kernels::boolean as kernels;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::DataType as ArrowType;

use super::map::booleans;
use super::value::{Value, row_count};
use super::{Kernel, Node};
use crate::error::{Error, Result};

/// True where it is true; false where it is false or null.
pub(super) fn nulls_as_false(mask: &BooleanArray) -> BooleanArray {
    match mask.nulls() {
        Some(nulls) => BooleanArray::new(mask.values() & nulls.inner(), None),
        None => mask.clone(),
    }
}

fn not_false(mask: &BooleanArray) -> Result<BooleanArray> {
    Ok(kernels::not(&nulls_as_false(&kernels::not(mask)?))?)
}

fn expanded(value: Value, rows: usize) -> Result<BooleanArray> {
    booleans(&Value::rows(value.expand(rows)?)).cloned()
}

/// Kleene's and, from left to right.
pub(super) fn and(args: &[Node], batch: &RecordBatch) -> Result<Value> {
    fold(args, batch, not_false, |left, right| Ok(kernels::and_kleene(left, right)?))
}

/// Kleene's or, from left to right.
pub(super) fn or(args: &[Node], batch: &RecordBatch) -> Result<Value> {
    let open = |left: &BooleanArray| Ok(kernels::not(&nulls_as_false(left))?);
    fold(args, batch, open, |left, right| Ok(kernels::or_kleene(left, right)?))
}

/// `open`: the rows whose result the next argument can still change.
fn fold(
    args: &[Node],
    batch: &RecordBatch,
    open: impl Fn(&BooleanArray) -> Result<BooleanArray>,
    join: impl Fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray>,
) -> Result<Value> {
    let rows = batch.num_rows();
    let Some((first, rest)) = args.split_first() else { return Err(Error::internal("a condition of nothing")) };
    let mut result = expanded(first.evaluate(batch)?, rows)?;
    for arg in rest {
        let next = if arg.fallible { evaluate_where(arg, batch, &open(&result)?)? } else { arg.evaluate(batch)? };
        result = join(&result, &expanded(next, rows)?)?;
    }
    Ok(Value::rows(std::sync::Arc::new(result)))
}

/// Evaluates on the rows of the mask; the others are null.
fn evaluate_where(node: &Node, batch: &RecordBatch, mask: &BooleanArray) -> Result<Value> {
    let wanted = mask.true_count();
    if !node.fallible || wanted == mask.len() {
        return node.evaluate(batch);
    }
    if wanted == 0 {
        return Ok(Value::rows(new_null_array(&node.arrow_type, mask.len())));
    }
    let part = node.evaluate(&filter_record_batch(batch, mask)?)?;
    if part.is_constant() {
        return Ok(part);
    }
    let mut positions = UInt32Builder::with_capacity(mask.len());
    let mut next = 0;
    for row in mask.values() {
        positions.append_option(row.then_some(next));
        next += u32::from(row);
    }
    Ok(Value::rows(take(part.array(), &positions.finish(), None)?))
}

/// The first value that is not null.
pub(super) fn coalesce(args: &[Node], batch: &RecordBatch, arrow_type: &ArrowType) -> Result<Value> {
    let rows = batch.num_rows();
    let mut result = new_null_array(arrow_type, rows);
    for (i, arg) in args.iter().enumerate() {
        if i == 0 {
            result = arg.evaluate(batch)?.expand(rows)?;
        } else if result.null_count() > 0 {
            let missing = kernels::is_null(&result)?;
            result = zip(&missing, &evaluate_where(arg, batch, &missing)?, &result)?;
        }
    }
    Ok(Value::rows(result))
}

/// The value of the first condition that is true, else the last value.
pub(super) fn when(args: &[Node], batch: &RecordBatch, arrow_type: &ArrowType) -> Result<Value> {
    let rows = batch.num_rows();
    let (pairs, [otherwise]) = args.as_chunks::<2>() else { return Err(Error::internal("a when without otherwise")) };
    let mut open = BooleanArray::new(arrow::buffer::BooleanBuffer::new_set(rows), None);
    let mut hits = Vec::with_capacity(pairs.len());
    for [condition, value] in pairs {
        let holds = nulls_as_false(&expanded(evaluate_where(condition, batch, &open)?, rows)?);
        let hit = kernels::and(&holds, &open)?;
        open = kernels::and_not(&open, &holds)?;
        let value = evaluate_where(value, batch, &hit)?;
        hits.push((hit, value));
    }
    let mut result = evaluate_where(otherwise, batch, &open)?;
    for (hit, value) in hits.iter().rev() {
        result = Value::rows(zip(hit, value, &result)?);
    }
    let result = result.expand(rows)?;
    debug_assert_eq!(result.data_type(), arrow_type);
    Ok(Value::rows(result))
}

/// Functions of one value that look at truth and nulls only.
#[derive(Clone, Copy, Debug)]
pub(super) enum Truth {
    Not,
    IsNull,
    IsNotNull,
}

impl Kernel for Truth {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let [arg] = args else { return Err(Error::internal("one argument")) };
        let result = match self {
            Self::Not => kernels::not(booleans(arg)?)?,
            Self::IsNull => kernels::is_null(arg.array())?,
            Self::IsNotNull => kernels::is_not_null(arg.array())?,
        };
        Ok(Value::like(std::sync::Arc::new(result), args))
    }
}

/// Whether a value is among others of the same type. Nulls among them match nothing.
#[derive(Debug)]
pub(super) struct IsIn {
    pub(super) equal: super::compare::Compare,
}

impl Kernel for IsIn {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let Some((value, items)) = args.split_first() else { return Err(Error::internal("is_in of nothing")) };
        let rows = row_count(args);
        let value = Value::rows(value.clone().expand(rows)?);
        let mut found = BooleanBufferBuilder::new(rows);
        found.append_n(rows, false);
        let mut found = found.finish();
        for item in items {
            let equal = self.equal.apply(&[value.clone(), item.clone()])?;
            found = &found | nulls_as_false(booleans(&equal)?).values();
        }
        let nulls = value.array().logical_nulls();
        let result = BooleanArray::new(found, nulls);
        Ok(Value::like(std::sync::Arc::new(result), args))
    }
}
