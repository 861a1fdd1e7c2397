//! Which data files cannot hold any of a commit's keys, judged by bounds alone.

use std::fs::File;

use iceberg::spec::{DataFile, Schema as IcebergSchema};
use parquet::file::metadata::ParquetMetaDataReader;

use super::datafile::{Metrics, parquet_error};
use super::files::path_of;
use crate::error::{Error, Result};

/// What the keys of one staged file span, column by column.
pub(super) struct KeyRange {
    metrics: Metrics,
    columns: Vec<i32>,
}

impl KeyRange {
    /// Reads the bounds of a file of keys from its footer. `columns` are the field ids of the key.
    pub(super) fn read(url: &str, columns: &[i32], schema: &IcebergSchema) -> Result<Self> {
        let path = path_of(url)?;
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let footer = ParquetMetaDataReader::new().parse_and_finish(&file);
        let footer = footer.map_err(|error| parquet_error("read", &path, error))?;
        Ok(Self { metrics: Metrics::collect(&footer, schema), columns: columns.to_vec() })
    }

    /// Whether a row of `file` may have one of the keys: only a certain no is a no.
    pub(super) fn may_meet(&self, file: &DataFile) -> bool {
        self.columns.iter().all(|column| self.values_may_meet(file, *column) || self.nulls_may_meet(file, *column))
    }

    fn values_may_meet(&self, file: &DataFile, column: i32) -> bool {
        let ours = self.metrics.lower.get(&column).zip(self.metrics.upper.get(&column));
        let theirs = file.lower_bounds().get(&column).zip(file.upper_bounds().get(&column));
        // Values that cannot be compared are neither less nor greater.
        ours.zip(theirs).is_none_or(|((low, high), (file_low, file_high))| !(high < file_low || low > file_high))
    }

    fn nulls_may_meet(&self, file: &DataFile, column: i32) -> bool {
        let some = |count: Option<&u64>| count.is_none_or(|count| *count > 0);
        some(self.metrics.nulls.get(&column)) && some(file.null_value_counts().get(&column))
    }
}
