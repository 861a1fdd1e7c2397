//! Functions of lists and structs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, ListArray, UInt32Array, UInt32Builder};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{is_null, nullif, take};

use super::Kernel;
use super::compare::{Compare, Operator};
use super::logic::nulls_as_false;
use super::map::{booleans, i64s};
use super::value::{Value, row_count};
use crate::error::{Error, Result};
use crate::plan::expr::Function;
use crate::plan::schema::DataType;

/// A function of a list or a struct.
#[derive(Debug)]
pub(super) enum Nested {
    /// How many elements, nulls included.
    Len,
    /// The element at a position, from the end if negative; null where there is none.
    Get,
    /// Whether an element equals a value; nulls among the elements match nothing.
    Contains(Compare),
    /// A member.
    Field(usize),
}

impl Nested {
    pub(super) fn new(function: &Function, from: Option<&DataType>) -> Result<Self> {
        match (function, from) {
            (Function::ListLen, _) => Ok(Self::Len),
            (Function::ListGet, _) => Ok(Self::Get),
            (Function::ListContains, Some(DataType::List(inner))) => {
                Ok(Self::Contains(Compare::new(Operator::Eq, Some(inner), Some(inner))))
            }
            (Function::StructField { name }, Some(DataType::Struct(fields))) => fields
                .iter()
                .position(|field| field.name == *name)
                .map(Self::Field)
                .ok_or_else(|| Error::internal(format!("no member {name:?}"))),
            (other, _) => Err(Error::internal(format!("{} is not a function of lists or structs", other.method()))),
        }
    }
}

fn list_of(value: &Value) -> Result<&ListArray> {
    value.array().as_list_opt::<i32>().ok_or_else(|| Error::internal("a list was promised"))
}

/// Where the elements of a row start and end.
fn range(list: &ListArray, row: usize) -> (usize, usize) {
    let offset = |i: usize| list.value_offsets().get(i).and_then(|o| usize::try_from(*o).ok()).unwrap_or(0);
    (offset(row), offset(row + 1))
}

fn get(list: &ListArray, index: &Value) -> Result<ArrayRef> {
    let index = i64s(index)?;
    let mut positions = UInt32Builder::with_capacity(list.len());
    for row in 0..list.len() {
        let at = if index.constant { 0 } else { row };
        let (start, end) = range(list, row);
        let length = (end - start) as i64;
        let position = index.values.get(at).copied().filter(|_| index.is_valid(at) && list.is_valid(row));
        let position = position.map(|i| if i < 0 { i.saturating_add(length) } else { i }).filter(|i| (0..length).contains(i));
        positions.append_option(position.and_then(|i| u32::try_from(start as i64 + i).ok()));
    }
    Ok(take(list.values(), &positions.finish(), None)?)
}

fn contains(list: &ListArray, item: &Value, equal: &Compare) -> Result<ArrayRef> {
    // The item once for each element, where it differs from row to row.
    let items = if item.is_constant() {
        item.clone()
    } else {
        let mut rows = vec![0_u32; list.values().len()];
        for row in 0..list.len() {
            let (start, end) = range(list, row);
            rows.iter_mut().take(end).skip(start).for_each(|element| *element = row as u32);
        }
        Value::rows(take(item.array(), &UInt32Array::from(rows), None)?)
    };
    let matches = equal.apply(&[Value::rows(list.values().clone()), items])?;
    let matches = nulls_as_false(booleans(&matches)?);
    let found: BooleanBuffer = (0..list.len())
        .map(|row| {
            let (start, end) = range(list, row);
            matches.values().slice(start, end - start).count_set_bits() > 0
        })
        .collect();
    let item_nulls = if item.is_constant() {
        item.array().is_null(0).then(|| NullBuffer::new_null(list.len()))
    } else {
        item.array().logical_nulls()
    };
    Ok(Arc::new(BooleanArray::new(found, NullBuffer::union(list.nulls(), item_nulls.as_ref()))))
}

impl Kernel for Nested {
    fn apply(&self, args: &[Value]) -> Result<Value> {
        let rows = row_count(args);
        let Some((first, rest)) = args.split_first() else { return Err(Error::internal("a function of nothing")) };
        let first = Value::rows(first.clone().expand(rows)?);
        let array: ArrayRef = match (self, rest) {
            (Self::Len, []) => {
                let list = list_of(&first)?;
                let lengths: Vec<i64> = (0..list.len())
                    .map(|row| {
                        let (start, end) = range(list, row);
                        (end - start) as i64
                    })
                    .collect();
                Arc::new(Int64Array::new(lengths.into(), list.nulls().cloned()))
            }
            (Self::Get, [index]) => get(list_of(&first)?, index)?,
            (Self::Contains(equal), [item]) => contains(list_of(&first)?, item, equal)?,
            (Self::Field(position), []) => {
                let parent = first.array().as_struct_opt().ok_or_else(|| Error::internal("a struct was promised"))?;
                let member = parent.columns().get(*position).ok_or_else(|| Error::internal("a member was promised"))?;
                // A member of a null is null.
                if parent.null_count() > 0 { nullif(member, &is_null(parent)?)? } else { member.clone() }
            }
            _ => return Err(Error::internal("arguments of a list or struct function")),
        };
        Ok(Value::like(array, args))
    }
}
