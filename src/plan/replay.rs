//! `job.check()`: what makes a plan unsafe or surprising to replay.

use serde::Serialize;

use super::expr::{AggregateFunction, Expr, Function};
use super::logical::{BadRecordPolicy, JobPlan, LatePolicy, MetadataKind, Node, Read};
use super::schema::DataType;
use super::validate::{check_plan, shape_of};

/// Beyond this one wrong clock moves the watermark further than a group is usually waited for.
const LONG_FUTURE_MS: i64 = 30 * 86_400_000;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// The result may surprise.
    Warning,
    /// The plan does not run.
    Error,
}

/// Something worth knowing before a plan is run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// A short stable word for machines.
    pub code: &'static str,
    /// What was found, and what follows from it.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What makes a plan unsafe or surprising to replay, the worst first. A plan that is not valid gives one error.
pub fn check(plan: &JobPlan) -> Vec<Finding> {
    if let Err(error) = check_plan(plan) {
        let hint = error.hint_text().unwrap_or_default().to_owned();
        let context: String = error.context().iter().map(|(name, value)| format!(" ({name}={value})")).collect();
        return vec![Finding {
            level: Level::Error,
            code: error.code(),
            message: format!("{}{context}", error.message()),
            hint,
        }];
    }
    let mut findings = Findings(Vec::new());
    let mut reads: Vec<u32> = Vec::new();
    for output in &plan.outputs {
        let read = output.plan.read();
        if !reads.contains(&read.id) {
            reads.push(read.id);
            check_read(read, &mut findings);
        }
        check_node(&output.plan, read, &mut findings);
    }
    let mut findings = findings.0;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, code: &'static str, message: String, hint: &str) {
        let finding = Finding { level, code, message, hint: hint.to_owned() };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }
}

fn check_read(read: &Read, findings: &mut Findings) {
    let topic = &read.topic;
    match read.late {
        LatePolicy::Keep => {}
        LatePolicy::Drop => findings.add(
            Level::Warning,
            "late_rows_lost",
            format!("late=\"drop\" leaves late records of {topic} out of the result: a batch recomputation has them"),
            "late=\"keep\" (the default) updates the rows that they belong to",
        ),
        LatePolicy::DeadLetter => findings.add(
            Level::Info,
            "late_rows_aside",
            format!("late records of {topic} go to the dead-letter table and are not in the result"),
            "late=\"keep\" (the default) updates the rows that they belong to",
        ),
    }
    if read.late != LatePolicy::Keep && read.max_out_of_orderness_ms == 0 {
        findings.add(
            Level::Warning,
            "no_out_of_orderness",
            format!(
                "max_out_of_orderness of {topic} is 0: every record behind the newest of its partition is late, and left out"
            ),
            "set it to what the producers' clocks and retries can bring out of order, for example \"30s\"",
        );
    }
    if read.max_future_ms > LONG_FUTURE_MS {
        findings.add(
            Level::Warning,
            "long_future",
            format!(
                "max_future of {topic} is {} days: one record with a wrong clock makes all that follow late",
                read.max_future_ms / 86_400_000
            ),
            "leave it at 1 day unless the topic has gaps that are longer",
        );
    }
    match read.on_bad_record {
        BadRecordPolicy::Fail => {}
        BadRecordPolicy::Skip => findings.add(
            Level::Warning,
            "bad_records_lost",
            format!("on_bad_record=\"skip\" leaves out records of {topic} that cannot be decoded: they are counted, not kept"),
            "on_bad_record=\"dead_letter\" keeps them in a table beside the result",
        ),
        BadRecordPolicy::DeadLetter => findings.add(
            Level::Info,
            "bad_records_aside",
            format!("records of {topic} that cannot be decoded go to the dead-letter table and are not in the result"),
            "look at the counts in the report",
        ),
    }
}

fn check_node(node: &Node, read: &Read, findings: &mut Findings) {
    if let Some(input) = node.input() {
        check_node(input, read, findings);
    }
    match node {
        Node::Read(_) => {}
        Node::Filter { predicate, .. } => check_expr(predicate, read, findings),
        Node::Select { columns, .. } | Node::WithColumns { columns, .. } => {
            columns.iter().for_each(|column| check_expr(&column.expr, read, findings));
        }
        Node::Aggregate { input, keys, aggregates, expire_after_ms } => {
            keys.iter().chain(aggregates).for_each(|column| check_expr(&column.expr, read, findings));
            if expire_after_ms.is_some() && read.late == LatePolicy::Keep {
                findings.add(
                    Level::Info,
                    "expired_rows_lost",
                    "records that come after their group has expired are left out, and counted: a batch recomputation has them"
                        .to_owned(),
                    "make expire_after longer than anything comes late",
                );
            }
            let schema = shape_of(input).map(|shape| shape.schema).unwrap_or_default();
            let is_time = |expr: &Expr| {
                matches!(super::typing::type_of(expr, &schema), Ok((Some(DataType::Date | DataType::Timestamp(_)), _)))
            };
            if !keys.iter().any(|key| is_time(&key.expr)) {
                check_timeless(&aggregates.iter().map(|column| &column.expr).collect::<Vec<_>>(), findings);
            }
        }
    }
}

fn check_timeless(aggregates: &[&Expr], findings: &mut Findings) {
    if aggregates.iter().any(|expr| has_distinct(expr)) {
        findings.add(
            Level::Warning,
            "state_grows",
            "distinct values are counted under a group key without time: every value is remembered for ever".to_owned(),
            "add a period to the key, for example day=col(\"event_time\").dt.date(time_zone=...), and give agg an expire_after",
        );
    } else {
        findings.add(
            Level::Info,
            "key_without_time",
            "the group key has no time in it: its groups are never complete, and each stays in state for ever".to_owned(),
            "add a period to the key unless the number of groups is bounded",
        );
    }
}

fn has_distinct(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(_) => false,
        Expr::Call { args, .. } => args.iter().any(has_distinct),
        Expr::Cast { input, .. } => has_distinct(input),
        Expr::Aggregate(aggregate) => {
            matches!(aggregate.function, AggregateFunction::NUnique | AggregateFunction::CountDistinct)
        }
    }
}

fn check_expr(expr: &Expr, read: &Read, findings: &mut Findings) {
    match expr {
        Expr::Column(name) => {
            let position = |kind| matches!(kind, MetadataKind::Partition | MetadataKind::Offset);
            if read.metadata.iter().any(|column| column.name == *name && position(column.kind)) {
                findings.add(
                    Level::Warning,
                    "log_position_in_result",
                    format!("column {name:?} is a position in the log: a copy of the log gives another result"),
                    "keep it out of keys and conditions; as a column of an append table it is harmless",
                );
            }
        }
        Expr::Literal(_) => {}
        Expr::Call { function, args } => {
            if *function == Function::Pow {
                findings.add(
                    Level::Info,
                    "float_power",
                    format!(
                        "{expr}: a power of floats (not of integers) may differ in its last digit from one platform to another"
                    ),
                    "run the versions that are compared on one platform, or compare with a tolerance",
                );
            }
            args.iter().for_each(|arg| check_expr(arg, read, findings));
        }
        Expr::Cast { input, strict, .. } => {
            if !strict {
                findings.add(
                    Level::Warning,
                    "lenient_cast",
                    format!("{expr}: values that do not fit become null, without a count"),
                    "leave strict=False out, so that such a value stops the job",
                );
            }
            check_expr(input, read, findings);
        }
        Expr::Aggregate(aggregate) => {
            aggregate.input.iter().chain(&aggregate.filter).for_each(|part| check_expr(part, read, findings));
        }
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
