//! Whole plans: the columns of each step, and what a plan must not do.

use std::collections::BTreeMap;

use super::expr::{AggregateFunction, Expr, NamedExpr};
use super::interval;
use super::logical::{JobPlan, Node, Output, Read};
use super::names::nearest;
use super::schema::{DataType, Field, Schema, TimeUnit};
use super::topics;
use super::typing::{self, Typed};
use crate::error::{Error, Result};

/// What is known of the rows that a step makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Their columns.
    pub schema: Schema,
    /// After `agg` the columns that hold the group key, in the key's order.
    pub keys: Option<Vec<String>>,
    /// The first key column that a step after `agg` has dropped or replaced: such rows can be grouped again, not written.
    pub dropped_key: Option<String>,
    /// How many times the rows were grouped.
    pub groupings: usize,
}

impl Shape {
    /// Whether the rows can go to a table.
    ///
    /// # Errors
    /// A `PlanError` if a part of the group key is gone.
    pub fn check_key(&self) -> Result<()> {
        let Some(key) = &self.dropped_key else { return Ok(()) };
        Err(Error::plan("group_key_dropped", format!("the group key column {key:?} is dropped or replaced"))
            .hint(format!("it is part of the table's primary key: keep col({key:?}), under another name if you like")))
    }
}

/// The columns that a step makes, everything below it checked.
///
/// # Errors
/// A `PlanError` that names the column or function, what was found and the way to mend it.
pub fn schema_of(node: &Node) -> Result<Schema> {
    shape_of(node).map(|shape| shape.schema)
}

/// Checks a whole job, and gives the columns and the group key of each output.
///
/// # Errors
/// A `PlanError` that names the output, the column or function, what was found and the way to mend it.
pub fn check_plan(plan: &JobPlan) -> Result<Vec<Shape>> {
    if plan.format != 1 {
        return Err(Error::plan("unknown_format", format!("a plan of format {}", plan.format))
            .hint("this release reads format 1: the package and its native part are of different releases"));
    }
    if plan.job.trim().is_empty() {
        return Err(Error::plan("invalid_name", "a job needs a name").hint("kappa.Job(\"distinct-merchants\")"));
    }
    if plan.outputs.is_empty() {
        return Err(Error::plan("no_output", format!("job {:?} writes nothing", plan.job)).hint("call job.write(stream)"));
    }
    check_output_names(plan)?;
    check_reads(plan)?;
    topics::check_topics(plan)?;
    let shapes = plan.outputs.iter().enumerate().map(|(i, output)| {
        let shape = shape_of(&output.plan).and_then(|shape| {
            shape.check_key()?;
            check_target(output, &shape)?;
            Ok(shape)
        });
        match (&output.name, plan.outputs.len()) {
            (_, 1) => shape,
            (Some(name), _) => shape.map_err(|error| error.with("output", name)),
            (None, _) => shape.map_err(|error| error.with("output", i)),
        }
    });
    shapes.collect()
}

fn check_output_names(plan: &JobPlan) -> Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for output in &plan.outputs {
        let name = match output.name.as_deref() {
            None if plan.outputs.len() == 1 => return Ok(()),
            None => {
                return Err(Error::plan("unnamed_output", "a job with several outputs needs a name for each")
                    .hint("job.write(stream, name=\"daily\"), then --output-table daily=TABLE"));
            }
            Some(name) => name,
        };
        if name.is_empty() || name.contains('=') || seen.contains(&name) {
            return Err(Error::plan("invalid_name", format!("output name {name:?} is empty, contains = or is used twice")));
        }
        seen.push(name);
    }
    Ok(())
}

fn check_reads(plan: &JobPlan) -> Result<()> {
    let mut by_id: BTreeMap<u32, &Read> = BTreeMap::new();
    for output in &plan.outputs {
        let read = output.plan.read();
        if by_id.insert(read.id, read).is_some_and(|other| other != read) {
            return Err(Error::plan("conflicting_reads", format!("two different reads have the id {}", read.id)));
        }
    }
    let mut topics: Vec<&str> = Vec::new();
    for read in by_id.values() {
        if topics.contains(&read.topic.as_str()) {
            return Err(Error::plan("topic_read_twice", format!("topic {:?} is read twice in one job", read.topic))
                .hint("call job.read once, with all columns that are needed, and derive both streams from the result"));
        }
        topics.push(&read.topic);
    }
    Ok(())
}

/// Whether the rows can go where they are to go.
fn check_target(output: &Output, shape: &Shape) -> Result<()> {
    match &output.to {
        Some(to) => topics::check_key(to, shape),
        None => shape.schema.fields.iter().try_for_each(|field| check_writable(&field.name, &field.data_type)),
    }
}

/// Iceberg v2 has no nanoseconds.
fn check_writable(name: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond) => {
            Err(Error::plan("nanoseconds", format!("column {name:?} is a Timestamp(\"ns\"), which a table cannot hold"))
                .hint(format!("with_columns({name}=col({name:?}).cast(kappa.Timestamp(\"us\")))")))
        }
        DataType::List(inner) => check_writable(name, inner),
        DataType::Struct(fields) => fields.iter().try_for_each(|field| check_writable(name, &field.data_type)),
        _ => Ok(()),
    }
}

impl Node {
    /// The topic at the bottom.
    pub fn read(&self) -> &Read {
        match self {
            Self::Read(read) => read,
            Self::Filter { input, .. }
            | Self::Select { input, .. }
            | Self::WithColumns { input, .. }
            | Self::Aggregate { input, .. } => input.read(),
        }
    }

    /// The step before this one.
    pub fn input(&self) -> Option<&Self> {
        match self {
            Self::Read(_) => None,
            Self::Filter { input, .. }
            | Self::Select { input, .. }
            | Self::WithColumns { input, .. }
            | Self::Aggregate { input, .. } => Some(input),
        }
    }
}

/// The columns and the group key of what a step makes.
///
/// # Errors
/// A `PlanError`, as for [`schema_of`].
pub fn shape_of(node: &Node) -> Result<Shape> {
    match node {
        Node::Read(read) => Ok(Shape { schema: read_schema(read)?, keys: None, dropped_key: None, groupings: 0 }),
        Node::Filter { input, predicate } => {
            let shape = shape_of(input)?;
            let typed = typing::resolve(predicate, &shape.schema)?;
            match typed.data_type {
                Some(DataType::Boolean) | None => Ok(shape),
                _ => {
                    Err(Error::plan("type_mismatch", format!("filter takes a condition; {predicate} is {}", typed.type_name()))
                        .hint("compare it, for example col(\"status\") == \"captured\""))
                }
            }
        }
        Node::Select { input, columns } => select_shape(&shape_of(input)?, columns),
        Node::WithColumns { input, columns } => {
            check_names(columns.iter().map(|column| column.name.as_str()))?;
            let shape = shape_of(input)?;
            select_shape(&shape, &with_columns_as_select(&shape.schema, columns))
        }
        Node::Aggregate { input, keys, aggregates, expire_after_ms } => {
            let shape = shape_of(input)?;
            match shape.groupings {
                0 => {}
                1 => aggregates.iter().try_for_each(check_retractable)?,
                _ => {
                    return Err(Error::plan(
                        "not_supported",
                        "a third group_by is not supported: rows are grouped twice at most",
                    )
                    .hint("leave one of the first two out, or write their result as an output of its own"));
                }
            }
            let grouped = aggregate(&shape, keys, aggregates)?;
            expire_after_ms.map(|after_ms| interval::expiry_of(input, keys, after_ms)).transpose()?;
            Ok(grouped)
        }
    }
}

fn read_schema(read: &Read) -> Result<Schema> {
    let of_topic = |error: Error| error.with("topic", &read.topic);
    if read.topic.is_empty() {
        return Err(Error::plan("invalid_name", "read needs a topic"));
    }
    topics::check_name(&read.topic)?;
    let mut schema = read.full_schema();
    check_names(schema.fields.iter().map(|field| field.name.as_str())).map_err(of_topic)?;
    for field in &read.schema.fields {
        check_payload_type(&field.name, &field.data_type).map_err(of_topic)?;
    }
    let name = &read.event_time;
    match read.schema.find(name) {
        Some((_, Field { data_type: DataType::Timestamp(_), .. })) => {}
        Some((_, field)) => {
            let message = format!("event_time {name:?} is {}, not a Timestamp", field.data_type);
            return Err(of_topic(Error::plan("invalid_event_time", message))
                .hint("declare it as kappa.Timestamp(\"ms\"), with the unit that it counts; RFC 3339 text is read too"));
        }
        None => {
            let names: Vec<&str> = read.schema.fields.iter().map(|field| field.name.as_str()).collect();
            let near = nearest(name, names.iter().copied()).map_or(String::new(), |near| format!("did you mean {near:?}? "));
            return Err(of_topic(Error::plan("invalid_event_time", format!("event_time {name:?} is not in the schema")))
                .hint(format!("{near}The columns are {}", names.join(", "))));
        }
    }
    if read.max_out_of_orderness_ms < 0 || read.max_future_ms < 0 {
        return Err(of_topic(Error::plan("invalid_duration", "max_out_of_orderness and max_future cannot be negative")));
    }
    // A record without an event time is a bad record, and every record has a place in the log.
    use super::logical::MetadataKind as M;
    for field in &mut schema.fields {
        let metadata = read.metadata.iter().find(|column| column.name == field.name).map(|column| column.kind);
        if field.name == *name || matches!(metadata, Some(M::Partition | M::Offset | M::Timestamp)) {
            field.nullable = false;
        }
    }
    Ok(schema)
}

fn check_payload_type(name: &str, data_type: &DataType) -> Result<()> {
    data_type.validate().map_err(|error| error.with("column", name))?;
    match data_type {
        DataType::Binary => Err(Error::plan("invalid_type", format!("column {name:?} is Binary, which JSON cannot hold"))
            .hint("declare it as kappa.String; a record's key comes with metadata={\"key\": \"key\"}")),
        DataType::List(inner) => check_payload_type(name, inner),
        DataType::Struct(fields) => {
            check_names(fields.iter().map(|field| field.name.as_str())).map_err(|error| error.with("column", name))?;
            fields.iter().try_for_each(|field| check_payload_type(name, &field.data_type))
        }
        _ => Ok(()),
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(Error::plan("invalid_name", "a column needs a name").hint("give it one: .alias(\"name\") or name=..."));
        }
        if !seen.insert(name) {
            return Err(Error::plan("duplicate_column", format!("there are two columns {name:?}"))
                .hint("rename one with .alias(...) or a keyword"));
        }
    }
    if seen.is_empty() { Err(Error::plan("no_columns", "no column is left").hint("keep at least one")) } else { Ok(()) }
}

/// `with_columns` as the `select` that it stands for.
pub fn with_columns_as_select(schema: &Schema, columns: &[NamedExpr]) -> Vec<NamedExpr> {
    let replaced = |name: &str| columns.iter().find(|column| column.name == name);
    let kept = schema.fields.iter().map(|field| {
        replaced(&field.name)
            .cloned()
            .unwrap_or_else(|| NamedExpr { name: field.name.clone(), expr: Expr::Column(field.name.clone()) })
    });
    let added = columns.iter().filter(|column| schema.find(&column.name).is_none()).cloned();
    kept.chain(added).collect()
}

fn select_shape(input: &Shape, columns: &[NamedExpr]) -> Result<Shape> {
    check_names(columns.iter().map(|column| column.name.as_str()))?;
    let schema = fields_of(columns, |expr| typing::resolve(expr, &input.schema))?;
    let (mut keys, mut dropped_key) = (None, input.dropped_key.clone());
    for key in input.keys.iter().flatten() {
        match renamed_key(key, columns) {
            Some(name) => keys.get_or_insert_with(Vec::new).push(name),
            None => dropped_key = dropped_key.or_else(|| Some(key.clone())),
        }
    }
    Ok(Shape { schema, keys, dropped_key, groupings: input.groupings })
}

/// What a key column is called after a `select`, if it is still there.
fn renamed_key(key: &str, columns: &[NamedExpr]) -> Option<String> {
    let is_key = |column: &&NamedExpr| matches!(&column.expr, Expr::Column(name) if name == key);
    // Kept under its own name if it is there more than once.
    let kept = columns.iter().filter(is_key).find(|column| column.name == key).or_else(|| columns.iter().find(is_key));
    kept.map(|column| column.name.clone())
}

fn fields_of(columns: &[NamedExpr], resolve: impl Fn(&Expr) -> Result<Typed>) -> Result<Schema> {
    let fields = columns.iter().map(|column| {
        let typed = resolve(&column.expr).map_err(|error| match &column.expr {
            Expr::Column(_) => error,
            _ => error.with("column", &column.name),
        })?;
        typing::field_of(&column.name, &typed)
    });
    Ok(Schema { fields: fields.collect::<Result<_>>()? })
}

fn aggregate(input: &Shape, keys: &[NamedExpr], aggregates: &[NamedExpr]) -> Result<Shape> {
    if keys.is_empty() {
        return Err(Error::plan("no_group_key", "group_by needs at least one key")
            .hint("for one total over everything group by a constant: group_by(all=kappa.lit(1))"));
    }
    if aggregates.is_empty() {
        return Err(Error::plan("invalid_aggregate", "agg needs at least one aggregate").hint("agg(rows=kappa.len())"));
    }
    check_names(keys.iter().chain(aggregates).map(|column| column.name.as_str()))?;
    let mut schema = fields_of(keys, |expr| typing::resolve(expr, &input.schema))?;
    schema.fields.iter().try_for_each(|field| check_key(&field.name, &field.data_type))?;
    schema.fields.extend(fields_of(aggregates, |expr| typing::resolve_group(expr, &input.schema))?.fields);
    let keys = Some(keys.iter().map(|key| key.name.clone()).collect());
    Ok(Shape { schema, keys, dropped_key: None, groupings: input.groupings + 1 })
}

/// A second grouping takes back what a row of the first was, whenever it changes: only counts, sums and means can.
fn check_retractable(column: &NamedExpr) -> Result<()> {
    let Some(function) = first_not_retractable(&column.expr) else { return Ok(()) };
    let (name, function) = (&column.name, function.name());
    Err(Error::plan("not_retractable", format!("column {name:?}: a second group_by cannot take {function}()")).hint(format!(
        "rows of the first group_by change, and from {function}() alone an old value cannot be taken back: take \
         {function}() in the first group_by, and len, count, sum or mean in the second"
    )))
}

fn first_not_retractable(expr: &Expr) -> Option<AggregateFunction> {
    use AggregateFunction as A;
    match expr {
        Expr::Column(_) | Expr::Literal(_) => None,
        Expr::Call { args, .. } => args.iter().find_map(first_not_retractable),
        Expr::Cast { input, .. } => first_not_retractable(input),
        Expr::Aggregate(aggregate) => match aggregate.function {
            A::Len | A::Count | A::Sum | A::Mean => None,
            other => Some(other),
        },
    }
}

fn check_key(name: &str, data_type: &DataType) -> Result<()> {
    let refuse = |hint: &str| {
        Err(Error::plan("invalid_group_key", format!("group key {name:?} is {data_type}, which cannot be a key")).hint(hint))
    };
    match data_type {
        DataType::Float64 => refuse("floats are not exact: round and cast to Int64 or Decimal"),
        DataType::List(_) | DataType::Struct(_) => refuse("group by its members, with .struct.field or .list.get"),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
