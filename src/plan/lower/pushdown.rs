//! Which columns are used: from the table back to the source.

use std::collections::BTreeSet;

use super::{AggregateSpec, Step, Steps};
use crate::plan::expr::{Expr, NamedExpr};
use crate::plan::schema::Schema;

/// Leaves out of the steps what no later step uses, and gives the columns of the source that remain in use.
pub(super) fn prune(steps: &mut Steps, result: &Schema) -> BTreeSet<String> {
    let mut used: BTreeSet<String> = result.fields.iter().map(|field| field.name.clone()).collect();
    prune_steps(&mut steps.after, &mut used);
    if let Some(regroup) = &mut steps.regroup {
        // What counts the rows of a group is always used.
        used.extend(regroup.aggregate.calls.last().map(|call| call.name.clone()));
        prune_grouping(&mut regroup.aggregate, &mut used);
        prune_steps(&mut regroup.between, &mut used);
    }
    if let Some(aggregate) = &mut steps.aggregate {
        prune_grouping(aggregate, &mut used);
    }
    prune_steps(&mut steps.before, &mut used);
    used
}

fn prune_grouping(aggregate: &mut AggregateSpec, used: &mut BTreeSet<String>) {
    retain_some(&mut aggregate.calls, |call| used.contains(&call.name));
    used.clear();
    aggregate.expressions().for_each(|expr| columns_of(expr, used));
}

fn prune_steps(steps: &mut [Step], used: &mut BTreeSet<String>) {
    for step in steps.iter_mut().rev() {
        match step {
            Step::Filter(predicate) => columns_of(predicate, used),
            Step::Project(columns) => {
                retain_some(columns, |column: &NamedExpr| used.contains(&column.name));
                used.clear();
                columns.iter().for_each(|column| columns_of(&column.expr, used));
            }
        }
    }
}

/// Keeps what is wanted, and the first if nothing is: a batch without columns has no rows to count.
fn retain_some<T>(items: &mut Vec<T>, wanted: impl Fn(&T) -> bool) {
    if items.iter().any(&wanted) { items.retain(wanted) } else { items.truncate(1) }
}

/// Adds the columns that an expression refers to.
pub(super) fn columns_of(expr: &Expr, used: &mut BTreeSet<String>) {
    match expr {
        Expr::Column(name) => {
            used.insert(name.clone());
        }
        Expr::Literal(_) => {}
        Expr::Call { args, .. } => args.iter().for_each(|arg| columns_of(arg, used)),
        Expr::Cast { input, .. } => columns_of(input, used),
        Expr::Aggregate(aggregate) => {
            aggregate.input.iter().chain(&aggregate.filter).for_each(|part| columns_of(part, used));
        }
    }
}
