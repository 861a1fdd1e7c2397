//! The identity of a plan: two plans with one fingerprint make the same rows of the same log.
//!
//! It is the SHA-256 of the canonical logical plan: JSON with sorted keys, without spaces, under a semantics version.
//! Not in it: the job's name, names of tables, `on_bad_record` (under `fail` no bad record ever passed, so a change
//! differs nowhere before), parallelism, intervals, and which time-zone database was used (a version stores its tables).
//!
//! Plans that agree although they are written differently: `with_columns` and the `select` that it stands for; reads that
//! are not used; literals whose JSON differs in form only (`1` and `1.0` as Float64). Plans that differ although they
//! mean the same: `filter(a & b)` and `filter(a).filter(b)`, `a > 0` and `0 < a`, an unused declared column. The order of
//! columns and of outputs is part of a plan, and so are the names of outputs where there are several.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::decimal;
use super::expr::{AggregateExpr, Expr, Literal, NamedExpr};
use super::literal::Constant;
use super::logical::{JobPlan, Node, Read};
use super::schema::DataType;
use super::validate::{check_plan, shape_of, with_columns_as_select};
use crate::error::{Error, Result};

/// What the words of a plan mean. Raised when the same plan would give other rows; then no old version goes on.
pub const SEMANTICS_VERSION: u32 = 1;

/// The fingerprint: 64 hexadecimal digits.
///
/// # Errors
/// A `PlanError` if the plan is not valid.
pub fn fingerprint(plan: &JobPlan) -> Result<String> {
    let text = canonical_text(plan)?;
    Ok(Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The canonical plan as the text that the fingerprint is taken of. Stored beside it.
///
/// # Errors
/// A `PlanError` if the plan is not valid.
pub fn canonical_text(plan: &JobPlan) -> Result<String> {
    let mut text = String::new();
    write_sorted(&canonical(plan)?, &mut text);
    Ok(text)
}

/// The canonical plan.
///
/// # Errors
/// A `PlanError` if the plan is not valid.
pub fn canonical(plan: &JobPlan) -> Result<Value> {
    check_plan(plan)?;
    let mut reads = Vec::new();
    let mut outputs = Vec::with_capacity(plan.outputs.len());
    for output in &plan.outputs {
        let mut canonical = Map::new();
        canonical.insert("plan".into(), node(&output.plan, &mut reads)?);
        if plan.outputs.len() > 1 {
            canonical.insert("name".into(), json!(output.name));
        }
        outputs.push(Value::Object(canonical));
    }
    Ok(json!({ "semantics_version": SEMANTICS_VERSION, "outputs": outputs }))
}

/// A step. `reads` numbers the reads in the order in which they are met.
fn node(step: &Node, reads: &mut Vec<u32>) -> Result<Value> {
    Ok(match step {
        Node::Read(source) => json!({ "read": read_value(source, reads)? }),
        Node::Filter { input, predicate } => {
            json!({ "filter": { "input": node(input, reads)?, "predicate": expression(predicate)? } })
        }
        Node::Select { input, columns } => {
            json!({ "select": { "input": node(input, reads)?, "columns": named_list(columns)? } })
        }
        Node::WithColumns { input, columns } => {
            let columns = with_columns_as_select(&shape_of(input)?.schema, columns);
            json!({ "select": { "input": node(input, reads)?, "columns": named_list(&columns)? } })
        }
        Node::Aggregate { input, keys, aggregates, expire_after_ms } => {
            let mut body = Map::new();
            body.insert("input".into(), node(input, reads)?);
            body.insert("keys".into(), named_list(keys)?);
            body.insert("aggregates".into(), named_list(aggregates)?);
            if let Some(expire_after_ms) = expire_after_ms {
                body.insert("expire_after_ms".into(), json!(expire_after_ms));
            }
            json!({ "aggregate": body })
        }
    })
}

fn read_value(source: &Read, reads: &mut Vec<u32>) -> Result<Value> {
    let number = reads.iter().position(|id| *id == source.id).unwrap_or_else(|| {
        reads.push(source.id);
        reads.len() - 1
    });
    let mut value = serde_json::to_value(source).map_err(not_json)?;
    if let Value::Object(members) = &mut value {
        members.remove("on_bad_record");
        members.insert("id".into(), json!(number));
    }
    Ok(value)
}

fn named_list(columns: &[NamedExpr]) -> Result<Value> {
    columns.iter().map(|column| Ok(json!({ "name": column.name, "expr": expression(&column.expr)? }))).collect()
}

fn expression(expr: &Expr) -> Result<Value> {
    serde_json::to_value(with_canonical_literals(expr)?).map_err(not_json)
}

fn with_canonical_literals(expr: &Expr) -> Result<Expr> {
    let boxed = |expr: &Expr| with_canonical_literals(expr).map(Box::new);
    Ok(match expr {
        Expr::Column(_) => expr.clone(),
        Expr::Literal(literal) => Expr::Literal(canonical_literal(literal)?),
        Expr::Call { function, args } => {
            Expr::Call { function: function.clone(), args: args.iter().map(with_canonical_literals).collect::<Result<_>>()? }
        }
        Expr::Cast { input, to, strict } => Expr::Cast { input: boxed(input)?, to: to.clone(), strict: *strict },
        Expr::Aggregate(aggregate) => Expr::Aggregate(AggregateExpr {
            input: aggregate.input.as_deref().map(boxed).transpose()?,
            filter: aggregate.filter.as_deref().map(boxed).transpose()?,
            ..aggregate.clone()
        }),
    })
}

/// Floats as their bits and decimals with all their digits, so that no library's way to print numbers is in the hash.
fn canonical_literal(literal: &Literal) -> Result<Literal> {
    let value = match (literal.constant()?, &literal.data_type) {
        (Constant::Float(value), _) => {
            let value = if value.is_nan() { f64::NAN } else { value };
            json!(format!("{:016x}", value.to_bits()))
        }
        (Constant::Decimal(value), Some(DataType::Decimal { scale, .. })) => json!(decimal::format(value, *scale)),
        _ => literal.value.clone(),
    };
    Ok(Literal { data_type: literal.data_type.clone(), value })
}

fn not_json(error: serde_json::Error) -> Error {
    Error::internal(format!("a plan that is not JSON: {error}"))
}

/// JSON with sorted keys and without spaces.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_sorted(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (i, (name, member)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_sorted(member, out);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
}

#[cfg(test)]
#[path = "fingerprint_tests.rs"]
mod tests;
