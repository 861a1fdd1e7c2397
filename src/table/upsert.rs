//! Rows that take the place of others: a small table is rewritten, a larger one gets position deletes. Both are made at
//! commit against the actual base, never ahead of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;
use iceberg::spec::{DataContentType, DataFile, Operation};
use roaring::RoaringTreemap;

use super::catalog::{Settings, Table};
use super::datafile::ParquetFile;
use super::deletes::{Positions, worth_merging};
use super::key_index::{KeyIndexes, Step};
use super::live::{Live, LiveFile};
use super::prune::KeyRange;
use super::scan::RowReader;
use super::snapshot::{Change, rows_of};
use super::{files, schema};
use crate::durable;
use crate::error::{Error, Result};
use crate::message::order;
use crate::time;

/// The files that a checkpoint staged for an upsert.
pub(super) struct Staged {
    pub(super) data: Vec<DataFile>,
    /// URLs of files of keys whose earlier rows go away.
    pub(super) keys: Vec<String>,
}

/// What becomes of the table.
pub(super) struct Planned {
    pub(super) change: Change,
    /// Whether the staged rows were copied rather than taken over.
    pub(super) copied: bool,
    /// What becomes of its keys.
    pub(super) step: Step,
}

/// What rows are located with.
pub(super) struct Upserts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) indexes: &'a KeyIndexes,
}

/// Decides how the staged rows get into a table that holds `live`, and writes the files for it.
pub(super) fn plan(
    table: &Table,
    live: &Live,
    staged: Staged,
    primary_key: &[String],
    with: &Upserts<'_>,
    created: &mut Vec<String>,
) -> Result<Planned> {
    if live.data.is_empty() || staged.keys.is_empty() {
        let step = if staged.keys.is_empty() && staged.data.is_empty() { Step::Same } else { Step::Rewritten };
        return Ok(Planned { change: Change::append(staged.data), copied: false, step });
    }
    let settings = with.settings;
    let schema = schema::to_arrow(table.metadata().current_schema())?;
    let mut keys = Keys::read(&staged.keys, key_schema(&schema, primary_key)?)?;
    let new_bytes: u64 = staged.data.iter().map(DataFile::file_size_in_bytes).sum();
    if live.least_bytes() + new_bytes < settings.rewrite_below {
        let positions = live.positions()?;
        if live.bytes(&positions) + new_bytes < settings.rewrite_below {
            let added = rewrite(table, live, &positions, &staged, &schema, &mut keys, created)?;
            let rows = rows_of(&added) - live.live_rows(&positions) as i64;
            let removed = live.data.iter().chain(&live.deletes).cloned().collect();
            let change = Change { added, added_deletes: vec![], removed, operation: Operation::Overwrite, rows };
            return Ok(Planned { change, copied: true, step: Step::Rewritten });
        }
    }
    let few = settings.key_index.suits(live.rows(), keys.len() as u64);
    let known = if few { with.indexes.locate(table, live, &keys) } else { None };
    let found = match known {
        Some(found) => found,
        None => {
            let iceberg_schema = table.metadata().current_schema();
            let ids: Vec<_> = primary_key.iter().filter_map(|name| iceberg_schema.field_id_by_name(name)).collect();
            let range = |url: &String| KeyRange::read(url, &ids, iceberg_schema);
            let ranges = staged.keys.iter().map(range).collect::<Result<Vec<_>>>()?;
            locate(live, &live.positions()?, &mut keys, &ranges)?
        }
    };
    let rows = rows_of(&staged.data) - live.rows_at(&found) as i64;
    let (added_deletes, removed) = delete(table, live, found, settings, created)?;
    let data = staged.data.iter().map(|file| (file.file_path().to_owned(), file.record_count())).collect();
    let gone = removed.iter().filter(|entry| entry.file.content_type() == DataContentType::Data);
    let gone = gone.map(|entry| entry.file.file_path().to_owned()).collect();
    let step = Step::Changed { keys, data, gone };
    let change = Change { added: staged.data, added_deletes, removed, operation: Operation::Overwrite, rows };
    Ok(Planned { change, copied: false, step })
}

pub(super) fn key_schema(schema: &SchemaRef, primary_key: &[String]) -> Result<SchemaRef> {
    let field = |name: &String| {
        let field =
            schema.field_with_name(name).map_err(|_| Error::internal(format!("key column {name} is not in the table")))?;
        Ok(field.clone())
    };
    Ok(Arc::new(ArrowSchema::new(primary_key.iter().map(field).collect::<Result<Vec<_>>>()?)))
}

/// A set of keys; null is a key like any other.
pub(super) struct Keys {
    schema: SchemaRef,
    converter: RowConverter,
    keys: HashSet<Box<[u8]>>,
}

impl Keys {
    /// What makes byte strings of keys in the columns of a schema.
    pub(super) fn converter(schema: &SchemaRef) -> Result<RowConverter> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(RowConverter::new(fields)?)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// All of them, sorted.
    pub(super) fn sorted(&self) -> Vec<&[u8]> {
        let mut keys: Vec<&[u8]> = self.keys.iter().map(AsRef::as_ref).collect();
        order::sort_by_key(&mut keys, |key| *key);
        keys
    }

    /// Their columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Leaves one out.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.keys.remove(key);
    }

    fn read(urls: &[String], schema: SchemaRef) -> Result<Self> {
        let mut keys = Self { converter: Self::converter(&schema)?, schema, keys: HashSet::new() };
        for url in urls {
            for batch in RowReader::open(url, &keys.schema, None)? {
                let rows = keys.converter.convert_columns(batch?.columns())?;
                for row in &rows {
                    if !keys.keys.contains(row.as_ref()) {
                        keys.keys.insert(row.as_ref().into());
                    }
                }
            }
        }
        Ok(keys)
    }

    /// For each row whether its key, in these columns, is in the set.
    fn contains(&mut self, columns: &[ArrayRef]) -> Result<Vec<bool>> {
        let rows = self.converter.convert_columns(columns)?;
        Ok(rows.iter().map(|row| self.keys.contains(row.as_ref())).collect())
    }

    fn columns(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = |name: &String| batch.column_by_name(name).cloned();
        let columns = self.schema.fields().iter().map(|field| column(field.name())).collect::<Option<Vec<_>>>();
        columns.ok_or_else(|| Error::internal("rows of the table lack its key"))
    }
}

/// Writes the live rows whose keys stay and the staged rows into one file; none if no row is left.
fn rewrite(
    table: &Table,
    live: &Live,
    positions: &Positions,
    staged: &Staged,
    schema: &SchemaRef,
    keys: &mut Keys,
    created: &mut Vec<String>,
) -> Result<Vec<DataFile>> {
    let url = new_data_url(table, "");
    created.push(url.clone());
    let mut output = ParquetFile::create(&url, schema)?;
    let mut rows = 0;
    for entry in &live.data {
        let path = entry.file.file_path();
        for batch in RowReader::open(path, schema, positions.get(path))? {
            let batch = batch?;
            let stays: BooleanArray = keys.contains(&keys.columns(&batch)?)?.into_iter().map(|gone| Some(!gone)).collect();
            let batch = filter_record_batch(&batch, &stays)?;
            rows += batch.num_rows();
            output.write(&batch)?;
        }
    }
    for file in &staged.data {
        for batch in RowReader::open(file.file_path(), schema, None)? {
            let batch = batch?;
            rows += batch.num_rows();
            output.write(&batch)?;
        }
    }
    let finished = output.finish()?;
    if rows == 0 {
        files::remove_quietly([&url]);
        return Ok(Vec::new());
    }
    sync_data(table)?;
    Ok(vec![finished.data_file(table.metadata().current_schema(), DataContentType::Data)?])
}

/// Finds the live rows that have one of the keys, by reading the key columns of every data file that may hold one.
fn locate(live: &Live, positions: &Positions, keys: &mut Keys, ranges: &[KeyRange]) -> Result<Positions> {
    let mut found = Positions::new();
    for entry in live.data.iter().filter(|entry| ranges.iter().any(|range| range.may_meet(&entry.file))) {
        let path = entry.file.file_path();
        let deleted = positions.get(path);
        let mut hits = RoaringTreemap::new();
        let mut row = 0_u64;
        for batch in RowReader::open(path, &keys.schema.clone(), None)? {
            let batch = batch?;
            for hit in keys.contains(batch.columns())? {
                if hit && !deleted.is_some_and(|deleted| deleted.contains(row)) {
                    hits.insert(row);
                }
                row += 1;
            }
        }
        if !hits.is_empty() {
            found.insert(path.to_owned(), hits);
        }
    }
    Ok(found)
}

/// Writes position deletes for what was found. Once there are many delete files of a size, one takes their place, and data
/// files without live rows go.
fn delete(
    table: &Table,
    live: &Live,
    mut found: Positions,
    settings: &Settings,
    created: &mut Vec<String>,
) -> Result<(Vec<DataFile>, Vec<LiveFile>)> {
    if found.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let sizes: Vec<u64> = live.deletes.iter().map(|entry| entry.file.record_count()).collect();
    let merged = worth_merging(&sizes, settings.merge_deletes_at);
    if merged.is_empty() {
        return Ok((vec![live.kept.write(table, found, created)?], Vec::new()));
    }
    let mut removed: Vec<LiveFile> = merged.iter().filter_map(|at| live.deletes.get(*at)).cloned().collect();
    add(&mut found, live.positions_in(&removed)?);
    let mut all = live.positions()?;
    add(&mut all, found.clone());
    for entry in &live.data {
        let path = entry.file.file_path();
        if all.get(path).is_some_and(|deleted| deleted.len() >= entry.file.record_count()) {
            found.remove(path);
            removed.push(entry.clone());
        }
    }
    let added = if found.is_empty() { Vec::new() } else { vec![live.kept.write(table, found, created)?] };
    Ok((added, removed))
}

fn add(positions: &mut Positions, more: Positions) {
    for (path, rows) in more {
        *positions.entry(path).or_default() |= rows;
    }
}

/// The URL of a new file of the table.
pub(crate) fn new_data_url(table: &Table, suffix: &str) -> String {
    format!("{}/data/{}{suffix}.parquet", table.location(), time::new_ordered_uuid())
}

pub(super) fn sync_data(table: &Table) -> Result<()> {
    durable::sync_directory(&files::path_of(&format!("{}/data", table.location()))?)
}
