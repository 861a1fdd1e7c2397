//! Compound aggregate expressions, such as `col("x").sum() / kappa.len()`, as plain aggregates and a projection of their
//! results.

use super::{AggregateCall, Step};
use crate::error::{Error, Result};
use crate::plan::expr::{AggregateExpr, AggregateFunction, Expr, NamedExpr};
use crate::plan::schema::{DataType, Schema};
use crate::plan::typing;

/// A grouping, taken apart.
pub(super) struct Split {
    /// The group key.
    pub(super) keys: Vec<NamedExpr>,
    /// Types of the keys, in order.
    pub(super) key_types: Vec<DataType>,
    /// The plain aggregates.
    pub(super) calls: Vec<AggregateCall>,
    /// What follows if an expression is more than an aggregate, or if two share one.
    pub(super) project: Option<Step>,
}

/// Takes a grouping apart. `retracts`: it also takes rows back, and counts them behind all other aggregates, under a name
/// of its own.
pub(super) fn split(input: &Schema, keys: &[NamedExpr], aggregates: &[NamedExpr], retracts: bool) -> Result<Split> {
    let mut calls = Calls { input, keys, outputs: aggregates, retracts, made: Vec::new() };
    // Plain ones first: they keep their own names, and compound ones use them.
    for output in aggregates {
        if let Expr::Aggregate(aggregate) = &output.expr {
            calls.column(aggregate, output.name.clone())?;
        }
    }
    let mut projected = Vec::with_capacity(aggregates.len());
    for output in aggregates {
        projected.push(NamedExpr { name: output.name.clone(), expr: calls.replace(&output.expr, &output.name)? });
    }
    let plain = projected.iter().all(|column| matches!(&column.expr, Expr::Column(name) if *name == column.name));
    let project = (!plain).then(|| {
        let key = |key: &NamedExpr| NamedExpr { name: key.name.clone(), expr: Expr::Column(key.name.clone()) };
        Step::Project(keys.iter().map(key).chain(projected).collect())
    });
    let key_types = keys.iter().map(|key| type_of(&key.expr, input)).collect::<Result<_>>()?;
    let rows = retracts.then(|| AggregateCall {
        name: calls.free_name("rows"),
        function: AggregateFunction::Len,
        input: None,
        input_type: None,
        filter: None,
        ignore_nulls: false,
        retracts,
        output_type: DataType::Int64,
    });
    let calls = calls.made.into_iter().map(|(_, call)| call).chain(rows).collect();
    Ok(Split { keys: keys.to_vec(), key_types, calls, project })
}

fn type_of(expr: &Expr, schema: &Schema) -> Result<DataType> {
    let (data_type, _) = typing::type_of(expr, schema)?;
    data_type.ok_or_else(|| Error::internal(format!("{expr} without a type passed the check")))
}

struct Calls<'a> {
    input: &'a Schema,
    keys: &'a [NamedExpr],
    outputs: &'a [NamedExpr],
    retracts: bool,
    made: Vec<(&'a AggregateExpr, AggregateCall)>,
}

impl<'a> Calls<'a> {
    /// The column that holds this aggregate; equal ones are computed once.
    fn column(&mut self, aggregate: &'a AggregateExpr, name: String) -> Result<String> {
        if let Some((_, call)) = self.made.iter().find(|(other, _)| *other == aggregate) {
            return Ok(call.name.clone());
        }
        let input_type = aggregate.input.as_deref().map(|input| type_of(input, self.input)).transpose()?;
        let call = AggregateCall {
            name: name.clone(),
            function: aggregate.function,
            input: aggregate.input.as_deref().cloned(),
            output_type: typing::aggregate_type(aggregate.function, input_type.as_ref())?,
            input_type,
            filter: aggregate.filter.as_deref().cloned(),
            ignore_nulls: aggregate.ignore_nulls,
            retracts: self.retracts,
        };
        self.made.push((aggregate, call));
        Ok(name)
    }

    /// The expression over the results: aggregates replaced by the columns that hold them.
    fn replace(&mut self, expr: &'a Expr, output: &str) -> Result<Expr> {
        Ok(match expr {
            Expr::Column(_) | Expr::Literal(_) => expr.clone(),
            Expr::Call { function, args } => Expr::Call {
                function: function.clone(),
                args: args.iter().map(|arg| self.replace(arg, output)).collect::<Result<_>>()?,
            },
            Expr::Cast { input, to, strict } => {
                Expr::Cast { input: Box::new(self.replace(input, output)?), to: to.clone(), strict: *strict }
            }
            Expr::Aggregate(aggregate) => {
                let free = self.free_name(output);
                Expr::Column(self.column(aggregate, free)?)
            }
        })
    }

    /// A name that no column of the result has: `total#0`.
    fn free_name(&self, output: &str) -> String {
        let taken = |name: &str| {
            self.keys.iter().chain(self.outputs).any(|column| column.name == name)
                || self.made.iter().any(|(_, call)| call.name == name)
        };
        (0..).map(|i| format!("{output}#{i}")).find(|name| !taken(name)).unwrap_or_default()
    }
}
