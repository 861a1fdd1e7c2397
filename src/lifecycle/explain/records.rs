//! Records that were kept, and rows of a table, as Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, new_null_array};
use arrow::compute::{concat, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema};

use super::key::{Key, Wanted, rows_of};
use super::path::Path;
use super::replay::{Fates, Found, Kept};
use super::trace::Beside;
use crate::error::{Error, Result};
use crate::table::scan::Scan;
use crate::table::{Catalog, Table};

const SUFFIXES: [&str; 2] = ["a", "b"];

/// Columns in the making.
#[derive(Default)]
struct Columns {
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
}

impl Columns {
    fn push(&mut self, name: &str, array: ArrayRef) {
        let mut name = name.to_owned();
        while self.fields.iter().any(|field| *field.name() == name) {
            name.push('_');
        }
        self.fields.push(Field::new(name, array.data_type().clone(), true));
        self.arrays.push(array);
    }

    /// One value a record; null where there is none.
    fn values(&mut self, name: &str, data_type: &DataType, values: impl Iterator<Item = Option<ArrayRef>>) -> Result<()> {
        let null = new_null_array(data_type, 1);
        let values: Vec<ArrayRef> = values.map(|value| value.unwrap_or_else(|| null.clone())).collect();
        let values: Vec<&dyn arrow::array::Array> = values.iter().map(AsRef::as_ref).collect();
        let array = if values.is_empty() { new_null_array(data_type, 0) } else { concat(&values)? };
        self.push(name, array);
        Ok(())
    }
}

/// The records, in the order of the log: where each is, what became of it in either version and why, the columns of the topic that
/// the plans use, and what the steps of each made of them.
pub fn records(found: &Found, paths: [Option<&Path>; 2], beside: &Beside) -> Result<RecordBatch> {
    let mut all: Vec<(&Fates, &Kept)> =
        found.fates.iter().flat_map(|(fates, tally)| tally.kept.iter().map(move |kept| (fates, kept))).collect();
    all.sort_by_key(|(_, kept)| (kept.partition, kept.offset));
    let mut columns = Columns::default();
    columns.push("partition", Arc::new(all.iter().map(|(_, kept)| Some(kept.partition)).collect::<Int32Array>()));
    columns.push("offset", Arc::new(all.iter().map(|(_, kept)| Some(kept.offset)).collect::<Int64Array>()));
    let times: TimestampMillisecondArray = all.iter().map(|(_, kept)| kept.time_ms).collect();
    columns.push("event_time", Arc::new(times.with_timezone("UTC")));
    for side in [0, 1] {
        let Some(path) = paths[side] else { continue };
        let fate = |fates: &Fates| if side == 0 { fates.a } else { fates.b };
        let fates: StringArray = all.iter().map(|(fates, _)| fate(fates).map(super::cause::Fate::name)).collect();
        columns.push(&format!("fate_{}", SUFFIXES[side]), Arc::new(fates));
        let why = |(fates, kept): &(&Fates, &Kept)| {
            kept.reasons[side].clone().or_else(|| fate(fates).and_then(|fate| path.why(fate)))
        };
        columns.push(&format!("why_{}", SUFFIXES[side]), Arc::new(all.iter().map(why).collect::<StringArray>()));
    }
    source_columns(&mut columns, &all, paths)?;
    made_columns(&mut columns, &all, beside)?;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(columns.fields)), columns.arrays)?)
}

/// The columns of the topic: once where both versions read them alike, else one of each.
fn source_columns(columns: &mut Columns, all: &[(&Fates, &Kept)], paths: [Option<&Path>; 2]) -> Result<()> {
    let value = |kept: &Kept, side: usize, name: &str| kept.rows[side].as_ref()?.column_by_name(name).cloned();
    for side in [0, 1] {
        let (Some(path), other) = (paths[side], paths[1 - side]) else { continue };
        for field in path.source.schema.fields.iter().filter(|field| field.name != path.source.read.event_time) {
            let (name, data_type) = (&field.name, field.data_type.to_arrow());
            let theirs = other.and_then(|other| other.source.schema.find(name)).map(|(_, field)| field.data_type.to_arrow());
            if theirs.as_ref().is_none_or(|theirs| *theirs == data_type) {
                if side == 0 || theirs.is_none() {
                    let values = all.iter().map(|(_, kept)| value(kept, side, name).or_else(|| value(kept, 1 - side, name)));
                    columns.values(name, &data_type, values)?;
                }
            } else {
                let values = all.iter().map(|(_, kept)| value(kept, side, name));
                columns.values(&format!("{name}_{}", SUFFIXES[side]), &data_type, values)?;
            }
        }
    }
    Ok(())
}

/// What the steps made, of both beside each other.
fn made_columns(columns: &mut Columns, all: &[(&Fates, &Kept)], beside: &Beside) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for shown in beside.shown.iter().flatten() {
        if !names.contains(&shown.name.as_str()) {
            names.push(&shown.name);
        }
    }
    for name in names {
        for side in [0, 1] {
            let place = beside.shown[side].iter().position(|shown| shown.name == name);
            let Some((place, shown)) = place.and_then(|place| Some((place, beside.shown[side].get(place)?))) else { continue };
            let values = all.iter().map(|(_, kept)| kept.made[side].get(place).cloned().flatten());
            columns.values(&format!("{name}_{}", SUFFIXES[side]), &shown.data_type, values)?;
        }
    }
    Ok(())
}

/// The rows of a table that have a key, at most so many, and how many there are. A primary key has one at the most: more are not
/// looked for.
///
/// # Errors
/// `Refused` if the table has not the columns of the key, or if a value is not of their types.
pub fn rows_of_key(
    catalog: &Catalog,
    table: &Table,
    snapshot: Option<i64>,
    (key, is_primary): (&Key, bool),
    most: usize,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<(RecordBatch, u64)> {
    let scan = Scan::plan(catalog.manifests(), table, snapshot)?;
    let schema = scan.schema();
    let wanted = |(name, value): &(String, Option<String>)| {
        let (place, field) = schema.column_with_name(name).ok_or_else(|| {
            Error::refused("other_columns", format!("table {} has no column {name}", table.name()))
                .hint("explain a key whose columns both tables have")
        })?;
        Ok((place, Wanted::new(name, value.as_deref(), field.data_type())?))
    };
    let wanted = key.iter().map(wanted).collect::<Result<Vec<_>>>()?;
    let (mut found, mut count) = (Vec::new(), 0);
    for batch in scan {
        go_on()?;
        let batch = batch?;
        let rows = filter_record_batch(&batch, &rows_of(&batch, &wanted)?)?;
        let room = most.saturating_sub(count as usize);
        count += rows.num_rows() as u64;
        // A slice of no rows would keep all that it is of.
        if room > 0 && rows.num_rows() > 0 {
            found.push(rows.slice(0, rows.num_rows().min(room)));
        }
        if is_primary && count > 0 {
            break;
        }
    }
    Ok((concat_batches(&schema, &found)?, count))
}
