//! Rows of a table: Parquet files read column by field id, deleted positions left out.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
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
        let file = File::open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::corruption("file_missing", format!("table file {} is gone", path.display())),
            _ => Error::io("open", &path, error),
        })?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)
            .map_err(|error| parquet_error("read", &path, error))?;
        let (mask, places) = project(builder.parquet_schema(), schema, &path)?;
        let rows = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let builder = builder.with_projection(mask).with_batch_size(BATCH_ROWS);
        let builder = match deleted.filter(|deleted| !deleted.is_empty()) {
            Some(deleted) => builder.with_row_selection(RowSelection::from_consecutive_ranges(kept(deleted, rows), rows)),
            None => builder,
        };
        let reader = builder.build().map_err(|error| parquet_error("read", &path, error))?;
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

/// The ranges of positions that are not deleted.
fn kept(deleted: &RoaringTreemap, rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut start = 0;
    let ends = deleted.iter().map(|row| row as usize).filter(move |row| *row < rows).chain([rows]);
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

impl Scan {
    /// Plans the scan of a snapshot; the newest one if none is named. A table without snapshots has no rows.
    pub fn plan(reader: &ManifestReader, table: &Table, snapshot: Option<i64>) -> Result<Self> {
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
        let schema = schema::to_arrow(&schema)?;
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
        let plain = |batch: RecordBatch| {
            let columns = self.plain.fields().iter().zip(batch.columns());
            let columns = columns.map(|(field, column)| schema::convert(column, field)).collect::<Result<Vec<_>>>()?;
            schema::assemble(&self.plain, columns, batch.num_rows())
        };
        Some(batch.and_then(plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)] // ranges are what is compared
    fn kept_ranges_are_what_is_not_deleted() {
        let ranges = |deleted: &[u64], rows| kept(&deleted.iter().copied().collect(), rows).collect::<Vec<_>>();
        assert_eq!(ranges(&[], 3), [0..3]);
        assert_eq!(ranges(&[0, 2], 3), [1..2]);
        assert!(ranges(&[0, 1, 2], 3).is_empty());
        assert_eq!(ranges(&[1, 9], 4), [0..1, 2..4]);
        assert_eq!(ranges(&[2], 3), [0..2]);
    }
}
