//! Rows that take the place of others: a small table is rewritten, a larger one gets position deletes. Both are made at
//! commit against the actual base, never ahead of it.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;
use iceberg::spec::{DataContentType, DataFile, Operation};
use roaring::RoaringTreemap;

use super::catalog::{Settings, Table};
use super::datafile::ParquetFile;
use super::key_index::{KeyIndexes, Step};
use super::live::{Live, LiveFile, Positions, delete_schema};
use super::prune::KeyRange;
use super::scan::RowReader;
use super::snapshot::Change;
use super::{files, schema};
use crate::durable;
use crate::error::{Error, Result};
use crate::time;

/// Rows of a position delete file that are made at a time.
const DELETE_BATCH: usize = 64 << 10;

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

/// The positions that are deleted, read once they are needed.
struct Deleted<'a> {
    live: &'a Live,
    read: Option<Positions>,
}

impl Deleted<'_> {
    fn positions(&mut self) -> Result<&Positions> {
        if self.read.is_none() {
            self.read = Some(self.live.positions()?);
        }
        self.read.as_ref().ok_or_else(|| Error::internal("positions that were read are gone"))
    }

    fn into_positions(mut self) -> Result<Positions> {
        self.positions()?;
        Ok(self.read.unwrap_or_default())
    }
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
        let change = Change { added: staged.data, added_deletes: vec![], removed: vec![], operation: Operation::Append };
        return Ok(Planned { change, copied: false, step });
    }
    let settings = with.settings;
    let schema = schema::to_arrow(table.metadata().current_schema())?;
    let mut keys = Keys::read(&staged.keys, key_schema(&schema, primary_key)?)?;
    let mut deleted = Deleted { live, read: None };
    let new_bytes: u64 = staged.data.iter().map(DataFile::file_size_in_bytes).sum();
    if live.least_bytes() + new_bytes < settings.rewrite_below {
        let positions = deleted.positions()?;
        if live.bytes(positions) + new_bytes < settings.rewrite_below {
            let rewritten = rewrite(table, live, positions, &staged, &schema, &mut keys, created)?;
            let removed = live.data.iter().chain(&live.deletes).cloned().collect();
            let change = Change { added: rewritten, added_deletes: vec![], removed, operation: Operation::Overwrite };
            return Ok(Planned { change, copied: true, step: Step::Rewritten });
        }
    }
    let few = settings.key_index.suits(live.rows(), keys.len() as u64);
    let known = if few { with.indexes.locate(table, &keys) } else { None };
    let found = match known.filter(|found| live.has_all(found)) {
        Some(found) => found,
        None => {
            let iceberg_schema = table.metadata().current_schema();
            let ids: Vec<_> = primary_key.iter().filter_map(|name| iceberg_schema.field_id_by_name(name)).collect();
            let range = |url: &String| KeyRange::read(url, &ids, iceberg_schema);
            let ranges = staged.keys.iter().map(range).collect::<Result<Vec<_>>>()?;
            locate(live, deleted.positions()?, &mut keys, &ranges)?
        }
    };
    let (added_deletes, removed) = delete(table, live, deleted, found, settings, created)?;
    let data = staged.data.iter().map(|file| file.file_path().to_owned()).collect();
    let gone = removed.iter().filter(|entry| entry.file.content_type() == DataContentType::Data);
    let gone = gone.map(|entry| entry.file.file_path().to_owned()).collect();
    let step = if few { Step::Changed { keys, data, gone } } else { Step::Rewritten };
    let change = Change { added: staged.data, added_deletes, removed, operation: Operation::Overwrite };
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
        keys.sort_unstable();
        keys
    }

    /// Their columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Gives back the memory of those that were left out.
    pub(super) fn shrink(&mut self) {
        self.keys.shrink_to_fit();
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

/// Writes position deletes for what was found. Once there are many delete files, one that holds all positions takes their
/// place, and data files without live rows go.
fn delete(
    table: &Table,
    live: &Live,
    deleted: Deleted<'_>,
    found: Positions,
    settings: &Settings,
    created: &mut Vec<String>,
) -> Result<(Vec<DataFile>, Vec<LiveFile>)> {
    if found.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if live.deletes.len() < settings.merge_deletes_at {
        return Ok((vec![write_deletes(table, found, created)?], Vec::new()));
    }
    let mut positions = deleted.into_positions()?;
    for (path, hits) in found {
        *positions.entry(path).or_default() |= hits;
    }
    let mut removed = live.deletes.clone();
    for entry in &live.data {
        let path = entry.file.file_path();
        if positions.get(path).is_some_and(|deleted| deleted.len() >= entry.file.record_count()) {
            positions.remove(path);
            removed.push(entry.clone());
        }
    }
    let added = if positions.is_empty() { Vec::new() } else { vec![write_deletes(table, positions, created)?] };
    Ok((added, removed))
}

pub(super) fn write_deletes(table: &Table, positions: Positions, created: &mut Vec<String>) -> Result<DataFile> {
    let url = new_data_url(table, "-deletes");
    created.push(url.clone());
    let schema = delete_schema()?;
    let mut output = ParquetFile::create(&url, &schema)?;
    let mut sorted: Vec<(String, RoaringTreemap)> = positions.into_iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (path, rows) in &sorted {
        let mut rows = rows.iter().map(|row| row as i64).peekable();
        while rows.peek().is_some() {
            let chunk: Int64Array = rows.by_ref().take(DELETE_BATCH).map(Some).collect();
            let paths = StringArray::from_iter_values(std::iter::repeat_n(path, chunk.len()));
            output.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(paths), Arc::new(chunk)])?)?;
        }
    }
    let finished = output.finish()?;
    sync_data(table)?;
    finished.data_file(table.metadata().current_schema(), DataContentType::PositionDeletes)
}

/// The URL of a new file of the table.
pub(crate) fn new_data_url(table: &Table, suffix: &str) -> String {
    format!("{}/data/{}{suffix}.parquet", table.location(), time::new_ordered_uuid())
}

pub(super) fn sync_data(table: &Table) -> Result<()> {
    durable::sync_directory(&files::path_of(&format!("{}/data", table.location()))?)
}
