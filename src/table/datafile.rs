//! Parquet files: written with bounded memory, described as Iceberg data files.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use iceberg::spec::{
    DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, FormatVersion, PrimitiveType, Schema as IcebergSchema,
    Struct, StructType, deserialize_data_file_from_json, serialize_data_file_to_json,
};
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::Statistics;

use super::files::{ChecksumFile, path_of};
use super::iceberg_error;
use crate::error::{Error, Result};

/// Bytes of a row group, encoded: what a writer holds in memory at most.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// A Parquet file being written.
pub struct ParquetFile {
    writer: ArrowWriter<ChecksumFile>,
    url: String,
    rows: u64,
    nans: HashMap<i32, u64>,
}

/// A Parquet file that is closed and durable; its directory entry is still to be synced.
pub struct FinishedFile {
    /// Where it is.
    pub url: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub checksum: u32,
    metadata: ParquetMetaData,
    nans: HashMap<i32, u64>,
}

impl ParquetFile {
    /// Where it is.
    pub fn url(&self) -> &String {
        &self.url
    }

    /// Creates a file of rows with `schema`, whose fields carry their ids ([`super::schema::to_arrow`]).
    pub fn create(url: &str, schema: &SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .set_created_by(concat!("kappa ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let path = path_of(url)?;
        let file = ChecksumFile::create(&path)?;
        let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options);
        let writer = writer.map_err(|error| parquet_error("create", &path, error))?;
        Ok(Self { writer, url: url.to_owned(), rows: 0, nans: HashMap::new() })
    }

    /// Writes rows of the file's schema.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if *field.data_type() == DataType::Float64 {
                let nans = column.as_primitive::<Float64Type>().iter().flatten().filter(|value| value.is_nan()).count();
                if let Some(id) = field.metadata().get(PARQUET_FIELD_ID_META_KEY).and_then(|id| id.parse().ok()) {
                    *self.nans.entry(id).or_default() += nans as u64;
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).map_err(|error| parquet_error("write", Path::new(&self.url), error))
    }

    /// Bytes so far, encoded, those still in memory included.
    pub fn size(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Hands the rows in memory to the operating system, without closing the file.
    pub fn flush(&mut self) -> Result<()> {
        let flush = |writer: &mut ArrowWriter<ChecksumFile>| {
            writer.flush()?;
            writer.sync()?;
            Ok(writer.inner_mut().flush()?)
        };
        flush(&mut self.writer).map_err(|error| parquet_error("write", Path::new(&self.url), error))
    }

    /// Closes the file and makes its content durable.
    pub fn finish(mut self) -> Result<FinishedFile> {
        let finish = |writer: &mut ArrowWriter<ChecksumFile>| {
            let metadata = writer.finish()?;
            writer.inner_mut().sync()?;
            Ok(metadata)
        };
        let metadata = finish(&mut self.writer).map_err(|error| parquet_error("close", Path::new(&self.url), error))?;
        let (bytes, checksum) = self.writer.inner().written();
        Ok(FinishedFile { url: self.url, rows: self.rows, bytes, checksum, metadata, nans: self.nans })
    }
}

/// An error of the Parquet library; a failed write passes, damaged bytes do not.
pub(crate) fn parquet_error(action: &'static str, path: &Path, error: parquet::errors::ParquetError) -> Error {
    if let parquet::errors::ParquetError::External(cause) = &error
        && let Some(io) = cause.downcast_ref::<std::io::Error>()
    {
        return Error::io(action, path, std::io::Error::new(io.kind(), io.to_string()));
    }
    Error::corruption("parquet", format!("{action} {}: {error}", path.display())).source(error)
}

impl FinishedFile {
    /// The file as Iceberg describes it: sizes, counts and bounds of each column.
    pub fn data_file(&self, schema: &IcebergSchema, content: DataContentType) -> Result<DataFile> {
        let metrics = Metrics::collect(&self.metadata, schema);
        let offsets = self.metadata.row_groups().iter().filter_map(RowGroupMetaData::file_offset).collect();
        DataFileBuilder::default()
            .content(content)
            .file_path(self.url.clone())
            .file_format(DataFileFormat::Parquet)
            .partition(Struct::empty())
            .record_count(self.rows)
            .file_size_in_bytes(self.bytes)
            .column_sizes(metrics.sizes)
            .value_counts(metrics.values)
            .null_value_counts(metrics.nulls)
            .nan_value_counts(self.nans.clone())
            .lower_bounds(metrics.lower)
            .upper_bounds(metrics.upper)
            .split_offsets(Some(offsets))
            .build()
            .map_err(|error| Error::internal(format!("describe {}: {error}", self.url)))
    }
}

/// What a Parquet footer says of each column, by field id.
#[derive(Default)]
pub(super) struct Metrics {
    sizes: HashMap<i32, u64>,
    values: HashMap<i32, u64>,
    pub(super) nulls: HashMap<i32, u64>,
    pub(super) lower: HashMap<i32, Datum>,
    pub(super) upper: HashMap<i32, Datum>,
}

impl Metrics {
    pub(super) fn collect(metadata: &ParquetMetaData, schema: &IcebergSchema) -> Self {
        let mut metrics = Self::default();
        // A chunk without statistics could hold anything: then the column has no bounds at all.
        let mut unbounded = HashSet::new();
        for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
            let info = column.column_descr().self_type().get_basic_info();
            if !info.has_id() {
                continue;
            }
            let id = info.id();
            *metrics.sizes.entry(id).or_default() += column.compressed_size().unsigned_abs();
            *metrics.values.entry(id).or_default() += column.num_values().unsigned_abs();
            if let Some(nulls) = column.statistics().and_then(Statistics::null_count_opt) {
                *metrics.nulls.entry(id).or_default() += nulls;
            }
            if !metrics.widen(id, column, schema) {
                unbounded.insert(id);
            }
        }
        metrics.lower.retain(|id, _| !unbounded.contains(id));
        metrics.upper.retain(|id, _| !unbounded.contains(id));
        metrics
    }

    /// Takes a chunk's bounds in; false if they are not known.
    fn widen(&mut self, id: i32, column: &ColumnChunkMetaData, schema: &IcebergSchema) -> bool {
        // Values inside lists have no bounds in Iceberg.
        let listed = column.column_descr().max_rep_level() > 0;
        let field = schema.field_by_id(id).cloned().or_else(|| iceberg::metadata_columns::get_metadata_field(id).ok().cloned());
        let Some(primitive) = field.and_then(|field| field.field_type.as_primitive_type().cloned()) else { return false };
        let Some(statistics) = column.statistics().filter(|_| !listed) else { return false };
        let (low, high) = (bound(statistics, &primitive, false), bound(statistics, &primitive, true));
        let (Some(low), Some(high)) = (low, high) else {
            // A chunk of nulls has no bounds and needs none; one of NaN, which Iceberg's bounds leave out, neither.
            let empty = statistics.null_count_opt() == Some(column.num_values().unsigned_abs());
            return empty || matches!(primitive, PrimitiveType::Float | PrimitiveType::Double);
        };
        let entry = self.lower.entry(id).or_insert_with(|| low.clone());
        if *entry > low {
            *entry = low;
        }
        let entry = self.upper.entry(id).or_insert_with(|| high.clone());
        if *entry < high {
            *entry = high;
        }
        true
    }
}

/// A bound in Iceberg's single-value form. Parquet shortens long text so that it stays a bound, which is all Iceberg asks.
fn bound(statistics: &Statistics, primitive: &PrimitiveType, upper: bool) -> Option<Datum> {
    let bytes = if upper { statistics.max_bytes_opt() } else { statistics.min_bytes_opt() }?;
    let wide: [u8; 16];
    let bytes = match (primitive, statistics) {
        // Small decimals are Parquet integers, little endian; Iceberg wants two's complement, big endian.
        (PrimitiveType::Decimal { .. }, Statistics::Int32(_)) => {
            wide = i128::from(i32::from_le_bytes(bytes.try_into().ok()?)).to_be_bytes();
            &wide
        }
        (PrimitiveType::Decimal { .. }, Statistics::Int64(_)) => {
            wide = i128::from(i64::from_le_bytes(bytes.try_into().ok()?)).to_be_bytes();
            &wide
        }
        _ => bytes,
    };
    Datum::try_from_bytes(bytes, primitive.clone()).ok()
}

/// The JSON form that a manifest carries for a data file of an unpartitioned v2 table: the same file, the same text.
pub fn to_json(file: DataFile) -> Result<serde_json::Value> {
    let text = serialize_data_file_to_json(file, &StructType::new(Vec::new()), FormatVersion::V2);
    let text = text.map_err(|error| iceberg_error("describe a data file", error))?;
    let broken = |error| Error::internal(format!("describe a data file: {error}"));
    let mut json: serde_json::Value = serde_json::from_str(&text).map_err(broken)?;
    // Metrics come out of hash maps, as lists of key and value in any order.
    for entries in json.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut) {
        if let Some(entries) = entries.as_array_mut() {
            entries.sort_by_key(|entry| entry.get("key").and_then(serde_json::Value::as_i64));
        }
    }
    Ok(json)
}

/// Reads [`to_json`]'s form back.
pub fn from_json(json: &serde_json::Value, schema: &IcebergSchema) -> Result<DataFile> {
    deserialize_data_file_from_json(&json.to_string(), 0, &StructType::new(Vec::new()), schema)
        .map_err(|error| iceberg_error("read the description of a staged data file", error))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, StringArray};

    use super::*;
    use crate::plan::schema as plan;
    use crate::table::schema;

    /// The bounds and counts of one column whose batches are row groups of their own.
    fn describe(data_type: plan::DataType, groups: Vec<ArrayRef>) -> (IcebergSchema, DataFile) {
        let directory = tempfile::tempdir().unwrap();
        let columns = plan::Schema { fields: vec![plan::Field::new("x", data_type)] };
        let iceberg_schema = schema::to_iceberg(&columns, &[]).unwrap();
        let arrow_schema = schema::to_arrow(&iceberg_schema).unwrap();
        let url = format!("file://{}/x.parquet", directory.path().display());
        let mut file = ParquetFile::create(&url, &arrow_schema).unwrap();
        for group in groups {
            file.write(&RecordBatch::try_new(arrow_schema.clone(), vec![group]).unwrap()).unwrap();
            file.flush().unwrap();
        }
        let finished = file.finish().unwrap();
        let path = path_of(&url).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), finished.bytes);
        assert_eq!(crate::table::files::checksum_of(&path).unwrap(), finished.checksum);
        let described = finished.data_file(&iceberg_schema, DataContentType::Data).unwrap();
        assert_eq!(from_json(&to_json(described.clone()).unwrap(), &iceberg_schema).unwrap(), described);
        (iceberg_schema, described)
    }

    #[test]
    fn bounds_span_all_row_groups_and_shortened_text_stays_a_bound() {
        let long = "\u{00ff}".repeat(100);
        let groups: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("m"), None])),
            Arc::new(StringArray::from(vec![None::<&str>])),
            Arc::new(StringArray::from(vec![Some(long.as_str()), Some("a")])),
        ];
        let (_, file) = describe(plan::DataType::String, groups);
        assert_eq!(file.lower_bounds()[&1], Datum::string("a"));
        assert!(file.upper_bounds()[&1] >= Datum::string(&long), "{:?}", file.upper_bounds());
        assert_eq!((file.value_counts()[&1], file.null_value_counts()[&1], file.record_count()), (5, 2, 5));
    }

    #[test]
    fn nan_is_counted_and_no_bound() {
        let groups: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![f64::NAN, f64::NAN])),
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-2.0), Some(f64::NAN)])),
        ];
        let (_, file) = describe(plan::DataType::Float64, groups);
        assert_eq!((&file.lower_bounds()[&1], &file.upper_bounds()[&1]), (&Datum::double(-2.0), &Datum::double(1.5)));
        assert_eq!(file.nan_value_counts()[&1], 3);
    }

    #[test]
    fn decimals_of_every_width_have_bounds() {
        for precision in [9, 18, 38] {
            let values = Decimal128Array::from(vec![-300_i128, 7]).with_precision_and_scale(precision, 2).unwrap();
            let (_, file) = describe(plan::DataType::Decimal { precision, scale: 2 }, vec![Arc::new(values)]);
            assert_eq!(file.lower_bounds()[&1].to_string(), "-3.00", "{precision}");
            assert_eq!(file.upper_bounds()[&1].to_string(), "0.07", "{precision}");
        }
    }
}
