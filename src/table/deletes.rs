//! Position delete files: which rows of which data files are gone.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, Schema, SchemaRef};
use iceberg::metadata_columns::{delete_file_path_field, delete_file_pos_field};
use iceberg::spec::{DataContentType, DataFile};
use roaring::RoaringTreemap;

use super::catalog::Table;
use super::datafile::ParquetFile;
use super::kept::Kept;
use super::scan::RowReader;
use super::tiers::Tiers;
use super::{schema, upsert};
use crate::error::Result;

/// Deleted row positions of data files, by the file's URL.
pub type Positions = HashMap<String, RoaringTreemap>;

/// Bytes of positions that are kept.
const KEPT_BYTES: u64 = 16 << 20;
/// Rows of a delete file that are made at a time.
const BATCH: usize = 64 << 10;
/// Delete files below this many rows are of the lowest tier.
const SMALLEST: u64 = 16 << 10;

/// Reads and writes position delete files, and keeps what is in them: a file never changes, and each commit asks for most of
/// those that the commit before has asked for.
#[derive(Clone, Debug)]
pub struct DeleteFiles {
    kept: Arc<Kept<Positions>>,
}

impl Default for DeleteFiles {
    fn default() -> Self {
        Self { kept: Arc::new(Kept::new(KEPT_BYTES, KEPT_BYTES)) }
    }
}

impl DeleteFiles {
    /// The positions in a file.
    pub(super) fn read(&self, url: &str) -> Result<Arc<Positions>> {
        if let Some(positions) = self.kept.get(url) {
            return Ok(positions);
        }
        let positions = Arc::new(read(url)?);
        self.keep(url, &positions);
        Ok(positions)
    }

    /// Writes a file of positions, durable with its directory. It is noted in `created`, also when this fails.
    pub(super) fn write(&self, table: &Table, positions: Positions, created: &mut Vec<String>) -> Result<DataFile> {
        let url = upsert::new_data_url(table, "-deletes");
        created.push(url.clone());
        let schema = delete_schema()?;
        let mut output = ParquetFile::create(&url, &schema)?;
        let mut sorted: Vec<(&String, &RoaringTreemap)> = positions.iter().collect();
        sorted.sort_unstable_by_key(|(path, _)| *path);
        for (path, rows) in sorted {
            let mut rows = rows.iter().map(|row| row as i64).peekable();
            while rows.peek().is_some() {
                let chunk: Int64Array = rows.by_ref().take(BATCH).map(Some).collect();
                let paths = StringArray::from_iter_values(std::iter::repeat_n(path, chunk.len()));
                output.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(paths), Arc::new(chunk)])?)?;
            }
        }
        let finished = output.finish()?;
        upsert::sync_data(table)?;
        self.keep(&url, &Arc::new(positions));
        finished.data_file(table.metadata().current_schema(), DataContentType::PositionDeletes)
    }

    fn keep(&self, url: &str, positions: &Arc<Positions>) {
        let bytes = positions.iter().map(|(path, rows)| path.len() + rows.serialized_size()).sum::<usize>();
        self.kept.put(url, positions, bytes as u64);
    }
}

/// The columns of a position delete file.
pub(crate) fn delete_schema() -> Result<SchemaRef> {
    let fields = [delete_file_path_field(), delete_file_pos_field()];
    let fields = fields.into_iter().map(|field| schema::to_arrow_field(field)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(Schema::new(fields)))
}

fn read(url: &str) -> Result<Positions> {
    let mut positions = Positions::new();
    for batch in RowReader::open(url, &delete_schema()?, None)? {
        let batch = batch?;
        let paths = batch.column(0).as_string::<i32>();
        let rows = batch.column(1).as_primitive::<Int64Type>().values();
        // The file is sorted by path: look a path up once per run of it.
        let mut at = 0;
        while at < batch.num_rows() {
            let path = paths.value(at);
            let run = (at..batch.num_rows()).take_while(|row| paths.value(*row) == path).count();
            let deleted = match positions.get_mut(path) {
                Some(deleted) => deleted,
                None => positions.entry(path.to_owned()).or_default(),
            };
            deleted.extend(rows.iter().skip(at).take(run).map(|row| row.unsigned_abs()));
            at += run;
        }
    }
    Ok(positions)
}

/// Which delete files, of so many rows each, one is to take the place of: those of the lowest tier that is full, and of the
/// tiers below it.
pub(super) fn worth_merging(rows: &[u64], fan_in: usize) -> Vec<usize> {
    let tiers = Tiers::new(SMALLEST, fan_in);
    let full = tiers.full(rows.iter().copied());
    full.map_or_else(Vec::new, |full| (0..rows.len()).filter(|at| tiers.of(rows[*at]) <= full).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_tier_takes_those_below_along() {
        assert!(worth_merging(&[], 4).is_empty());
        assert!(worth_merging(&[1, 20_000, 1, 20_000, 1], 4).is_empty());
        assert_eq!(worth_merging(&[1, 20_000, 1, 20_000, 1, 1], 4), [0, 2, 4, 5]);
        assert_eq!(worth_merging(&[1, 20_000, 70_000, 20_000, 20_000, 20_000], 4), [0, 1, 3, 4, 5]);
    }

    /// Commits of 10,000 positions each: few files, and each position is written once for each tier.
    #[test]
    fn a_long_run_has_few_files_and_writes_little() {
        let (mut files, mut written) = (Vec::new(), 0);
        for _ in 0..4096 {
            let merged = worth_merging(&files, 16);
            let mut rows = 10_000;
            for at in merged.iter().rev() {
                rows += files.remove(*at);
            }
            files.push(rows);
            written += rows;
            assert!(files.len() <= 3 * 16 + 1, "{} files", files.len());
        }
        assert!(written <= 4096 * 10_000 * 4, "{written} rows written");
    }
}
