//! Rows of a table: Parquet files read column by field id, deleted positions left out.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::schema::types::SchemaDescriptor;
use roaring::RoaringTreemap;

use super::catalog::Table;
use super::datafile::parquet_error;
use super::deletes::Positions;
use super::files::path_of;
use super::live::{Live, manifests};
use super::manifests::ManifestReader;
use super::schema;
use crate::error::{Error, Result};

/// Rows of a batch when reading.
const BATCH_ROWS: usize = 16 << 10;

/// The rows of one Parquet file, in file order.
pub struct RowReader {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    /// For each wanted column, its place among those read; none if the file is older than the column.
    places: Vec<Option<usize>>,
    url: String,
}

impl RowReader {
    /// Opens a file for the columns of `schema`, whose fields carry ids; rows at `deleted` positions are left out.
    pub fn open(url: &str, schema: &SchemaRef, deleted: Option<&RoaringTreemap>) -> Result<Self> {
        let path = path_of(url)?;
        let file = open(&path)?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|error| parquet_error("read", &path, error))?;
        let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let selection = selection(deleted, 0, rows);
        Self::build(builder, url, &path, schema, selection)
    }

    /// Opens one row group of a file whose metadata was read before.
    fn open_group(part: &Part, schema: &SchemaRef, deleted: Option<&RoaringTreemap>) -> Result<Self> {
        let path = path_of(&part.url)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(open(&path)?, part.metadata.clone());
        let selection = selection(deleted, part.first, part.rows);
        Self::build(builder.with_row_groups(vec![part.group]), &part.url, &path, schema, selection)
    }

    fn build(
        builder: ParquetRecordBatchReaderBuilder<File>,
        url: &str,
        path: &Path,
        schema: &SchemaRef,
        selection: Option<RowSelection>,
    ) -> Result<Self> {
        let (mask, places) = project(builder.parquet_schema(), schema, path)?;
        let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        let builder = match selection {
            Some(selection) => builder.with_row_selection(selection),
            None => builder,
        };
        let reader = builder.build().map_err(|error| parquet_error("read", path, error))?;
        Ok(Self { reader, schema: schema.clone(), places, url: url.to_owned() })
    }

    fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let column = |(place, field): (&Option<usize>, &std::sync::Arc<arrow::datatypes::Field>)| match place {
            Some(place) => schema::convert(batch.column(*place), field),
            None => Ok(schema::nulls(field, batch.num_rows())),
        };
        let columns = self.places.iter().zip(self.schema.fields()).map(column).collect::<Result<Vec<_>>>()?;
        schema::assemble(&self.schema, columns, batch.num_rows())
    }
}

impl Iterator for RowReader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        let damaged = |error| Error::corruption("parquet", format!("read {}: {error}", self.url)).source(error);
        Some(batch.map_err(damaged).and_then(|batch| self.conform(&batch)))
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::corruption("file_missing", format!("table file {} is gone", path.display())),
        _ => Error::io("open", path, error),
    })
}

/// Of `rows` rows from the row `first` of a file on, those that are not deleted; none if that is all.
fn selection(deleted: Option<&RoaringTreemap>, first: u64, rows: usize) -> Option<RowSelection> {
    let mut deleted = deleted?.iter();
    deleted.advance_to(first);
    let mut deleted = deleted.map(|row| (row - first) as usize).peekable();
    deleted.peek().filter(|row| **row < rows)?;
    Some(RowSelection::from_consecutive_ranges(kept(deleted, rows), rows))
}

/// The ranges of positions that are not deleted, which rise.
fn kept(deleted: impl Iterator<Item = usize>, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    let ends = deleted.take_while(move |row| *row < rows).chain([rows]);
    ends.map(move |end| {
        let range = start..end;
        start = end + 1;
        range
    })
    .filter(|range| !range.is_empty())
}

/// Which columns of the file to read, and where each wanted one comes out.
fn project(file: &SchemaDescriptor, wanted: &ArrowSchema, path: &Path) -> Result<(ProjectionMask, Vec<Option<usize>>)> {
    let roots = file.root_schema().get_fields();
    let ids: Vec<Option<i32>> =
        roots.iter().map(|root| root.get_basic_info()).map(|info| info.has_id().then(|| info.id())).collect();
    if ids.iter().all(Option::is_none) {
        return Err(Error::refused("no_field_ids", format!("{} has no field ids", path.display()))
            .hint("it was not written as a file of this table: rewrite it with an Iceberg engine"));
    }
    let wanted: Vec<Option<usize>> = wanted
        .fields()
        .iter()
        .map(|field| field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse::<i32>().ok()))
        .map(|id| id.and_then(|id| ids.iter().position(|candidate| *candidate == Some(id))))
        .collect();
    let mut read: Vec<usize> = wanted.iter().flatten().copied().collect();
    read.sort_unstable();
    read.dedup();
    let places = wanted.iter().map(|root| root.and_then(|root| read.binary_search(&root).ok())).collect();
    Ok((ProjectionMask::roots(file, read), places))
}

/// The rows of a snapshot, file by file; memory is bounded by a batch and the deleted positions.
pub struct Scan {
    schema: SchemaRef,
    plain: SchemaRef,
    files: std::vec::IntoIter<String>,
    positions: Positions,
    current: Option<RowReader>,
}

/// A row group of a file of a table: what one thread reads at a time.
pub struct Part {
    url: String,
    metadata: ArrowReaderMetadata,
    group: usize,
    first: u64,
    rows: usize,
}

/// The rows of a snapshot in parts, for several threads.
pub struct Parts {
    schema: SchemaRef,
    positions: Positions,
    files: Vec<String>,
    rows: u64,
    bytes: u64,
}

impl Parts {
    /// Plans the scan of a snapshot. A table without snapshots has no rows.
    pub fn plan(reader: &ManifestReader, table: &Table, snapshot: Option<i64>) -> Result<Self> {
        let (schema, live) = snapshot_of(reader, table, snapshot)?;
        let positions = live.positions()?;
        let rows = live.live_rows(&positions);
        let bytes = live.data.iter().map(|entry| entry.file.file_size_in_bytes()).sum();
        let files = live.data.iter().map(|entry| entry.file.file_path().to_owned()).collect();
        Ok(Self { schema, positions, files, rows, bytes })
    }

    /// The columns of the rows, as callers outside the table layer see them.
    pub fn schema(&self) -> SchemaRef {
        schema::without_ids(&self.schema)
    }

    /// How many rows there are, by the manifests.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The size of the files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The row groups of all files. Their metadata is read for it.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for url in &self.files {
            let path = path_of(url)?;
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let metadata = ArrowReaderMetadata::load(&open(&path)?, options);
            let metadata = metadata.map_err(|error| parquet_error("read", &path, error))?;
            let mut first = 0;
            for (group, described) in metadata.metadata().row_groups().iter().enumerate() {
                let rows = usize::try_from(described.num_rows()).unwrap_or_default();
                parts.push(Part { url: url.clone(), metadata: metadata.clone(), group, first, rows });
                first += rows as u64;
            }
        }
        Ok(parts)
    }

    /// The rows of a part: the named columns, in that order.
    pub fn open(&self, part: &Part, columns: &[String]) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
        let field = |name: &String| {
            let found = self.schema.fields().iter().find(|field| field.name() == name);
            found.cloned().ok_or_else(|| Error::internal(format!("a table without the column {name} that is read of it")))
        };
        let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
        let schema = SchemaRef::new(ArrowSchema::new(fields));
        let plain = schema::without_ids(&schema);
        let reader = RowReader::open_group(part, &schema, self.positions.get(&part.url))?;
        Ok(reader.map(move |batch| batch.and_then(|batch| without_ids(&batch, &plain))))
    }
}

/// A snapshot's columns with their ids, and its files; the newest one if none is named.
fn snapshot_of(reader: &ManifestReader, table: &Table, snapshot: Option<i64>) -> Result<(SchemaRef, Live)> {
    let metadata = table.metadata();
    let snapshot = match snapshot {
        None => metadata.current_snapshot(),
        Some(id) => Some(metadata.snapshot_by_id(id).ok_or_else(|| {
            let message = format!("table {} has no snapshot {id}", table.name());
            Error::refused("unknown_snapshot", message).hint("it may have expired")
        })?),
    };
    let live = Live::load(reader, &manifests(snapshot.map(AsRef::as_ref))?)?;
    let schema = match snapshot {
        Some(snapshot) => snapshot.schema(metadata).map_err(|error| super::iceberg_error("table schema", error))?,
        None => metadata.current_schema().clone(),
    };
    Ok((schema::to_arrow(&schema)?, live))
}

fn without_ids(batch: &RecordBatch, plain: &SchemaRef) -> Result<RecordBatch> {
    let columns = plain.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| schema::convert(column, field)).collect::<Result<Vec<_>>>()?;
    schema::assemble(plain, columns, batch.num_rows())
}

impl Scan {
    /// Plans the scan of a snapshot; the newest one if none is named. A table without snapshots has no rows.
    pub fn plan(reader: &ManifestReader, table: &Table, snapshot: Option<i64>) -> Result<Self> {
        let (schema, live) = snapshot_of(reader, table, snapshot)?;
        let positions = live.positions()?;
        let files: Vec<_> = live.data.iter().map(|entry| entry.file.file_path().to_owned()).collect();
        Ok(Self { plain: schema::without_ids(&schema), schema, files: files.into_iter(), positions, current: None })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.plain.clone()
    }

    fn next_with_ids(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.current.as_mut().and_then(Iterator::next) {
                return batch.map(Some);
            }
            let Some(url) = self.files.next() else { return Ok(None) };
            self.current = Some(RowReader::open(&url, &self.schema, self.positions.get(&url))?);
        }
    }
}

impl Iterator for Scan {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_with_ids().transpose()?;
        Some(batch.and_then(|batch| without_ids(&batch, &self.plain)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // ranges are what is compared
    fn kept_ranges_are_what_is_not_deleted() {
        let ranges = |deleted: &[u64], rows| kept(deleted.iter().map(|row| *row as usize), rows).collect::<Vec<_>>();
        assert_eq!(ranges(&[], 3), [0..3]);
        assert_eq!(ranges(&[0, 2], 3), [1..2]);
        assert!(ranges(&[0, 1, 2], 3).is_empty());
        assert_eq!(ranges(&[1, 9], 4), [0..1, 2..4]);
        assert_eq!(ranges(&[2], 3), [0..2]);
    }
}
