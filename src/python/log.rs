//! The embedded log.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::call::detached;
use super::rows::Rows;
use super::settings::Settings;
use crate::config;
use crate::error::{Error, Result};
use crate::log::{self, LogDir, NewRecord, OwnedRecord, PartitionDescription, Retention, TopicWriter, WriterOptions};
use crate::message::{Offset, Partition, RecordBlock};
use crate::source;
use crate::time::now_ms;

/// Partition, offset, timestamp in milliseconds, key, value, headers.
type Record<'py> =
    (i32, i64, i64, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Vec<(String, Option<Bound<'py, PyBytes>>)>);

/// By partition of a topic of the settings' log, where it begins and ends now.
#[pyfunction]
pub fn extents(py: Python<'_>, settings: &Settings, topic: &str) -> PyResult<Vec<(i32, i64, i64)>> {
    let settings = settings.0.clone();
    let partitions = detached(py, || source::open(topic, &settings, source::Reading::default())?.partitions())?;
    Ok(partitions.iter().map(|extent| (extent.partition.0, extent.start.0, extent.end.0)).collect())
}

/// The topics of the settings' log.
#[pyfunction]
pub fn topics(py: Python<'_>, settings: &Settings) -> PyResult<Vec<String>> {
    let settings = settings.0.clone();
    detached(py, || source::topics(&settings))
}

/// The log of the settings.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Log(LogDir);

#[pymethods]
impl Log {
    #[new]
    fn new(py: Python<'_>, settings: &Settings) -> PyResult<Self> {
        detached(py, || Ok(LogDir::open(config::Settings::directory("log.url", &settings.0.log_url)?))).map(Self)
    }

    /// Makes a topic.
    fn create(&self, py: Python<'_>, topic: &str, partitions: i32, retention_ms: Option<i64>) -> PyResult<()> {
        detached(py, || self.0.create_topic(topic, partitions, Retention { ms: retention_ms, bytes: None }).map(drop))
    }

    /// Takes the locks of all partitions, or of one, to append to them.
    fn writer(&self, py: Python<'_>, topic: &str, partition: Option<i32>) -> PyResult<LogWriter> {
        let open = || self.0.topic(topic)?.topic_writer(partition.map(Partition), WriterOptions::default());
        detached(py, open).map(|writer| LogWriter(Mutex::new(Some(writer))))
    }

    /// The first offset of a partition at a time or later.
    fn offset_at(&self, py: Python<'_>, topic: &str, partition: i32, timestamp_ms: i64) -> PyResult<i64> {
        detached(py, || Ok(self.0.topic(topic)?.offset_at(Partition(partition), timestamp_ms)?.0))
    }

    /// The records between two offsets of each partition.
    fn scan(&self, py: Python<'_>, topic: &str, ranges: Vec<(i32, i64, i64)>) -> PyResult<RecordBatches> {
        let ranges = ranges.into_iter().map(|(partition, from, until)| (Partition(partition), Offset(from), Offset(until)));
        detached(py, || Ok(self.0.topic(topic)?.scan(ranges.collect()))).map(|scan| RecordBatches(Mutex::new(scan)))
    }

    /// The last records of a topic.
    fn tail<'py>(&self, py: Python<'py>, topic: &str, count: usize) -> PyResult<Vec<Record<'py>>> {
        let records = detached(py, || self.0.topic(topic)?.tail(count))?;
        Ok(records.iter().map(|record| to_python(py, record)).collect())
    }

    /// The partitions of a topic, or of all topics.
    fn describe(&self, py: Python<'_>, topic: Option<&str>) -> PyResult<Rows> {
        detached(py, || describe(&self.0.describe(topic)?)).map(Rows::of)
    }
}

/// Appends to a topic; holds its locks until it is closed.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct LogWriter(Mutex<Option<TopicWriter>>);

impl LogWriter {
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut TopicWriter) -> Result<T> + Send) -> PyResult<T> {
        detached(py, || match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(writer) => work(writer),
            None => Err(Error::config("log.closed", "this writer is closed")),
        })
    }
}

#[pymethods]
impl LogWriter {
    /// Appends records; they are durable after `flush`.
    fn append(&self, py: Python<'_>, values: Vec<Vec<u8>>, keys: Option<Vec<Option<Vec<u8>>>>) -> PyResult<()> {
        self.with(py, |writer| {
            let timestamp = now_ms();
            for (index, value) in values.iter().enumerate() {
                let key = keys.as_ref().and_then(|keys| keys.get(index)).and_then(|key| key.as_deref());
                writer.push(&NewRecord { key, value: Some(value), timestamp, ..NewRecord::default() })?;
            }
            Ok(())
        })
    }

    /// Appends the lines of a file, or of standard input if none is named, and makes them durable.
    fn append_file(&self, py: Python<'_>, path: Option<PathBuf>, key: Option<&str>) -> PyResult<(u64, u64)> {
        self.with(py, |writer| {
            let report = match path {
                Some(path) => writer.append_lines(File::open(&path).map_err(|e| Error::io("open", &path, e))?, key, &now_ms),
                None => writer.append_lines(std::io::stdin(), key, &now_ms),
            };
            let report = report?;
            Ok((report.records, report.without_key))
        })
    }

    /// Makes everything durable.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, TopicWriter::flush)
    }

    /// Gives the locks back. What was not flushed is gone.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Records of the log, a batch at a time.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct RecordBatches(Mutex<log::Scan>);

#[pymethods]
impl RecordBatches {
    /// The next records; none at the end.
    fn next_batch<'py>(&self, py: Python<'py>) -> PyResult<Vec<Record<'py>>> {
        let records = detached(py, || {
            let mut block = RecordBlock::default();
            self.0.lock().unwrap_or_else(PoisonError::into_inner).next_block(&mut block)?;
            Ok((0..block.len()).filter_map(|index| OwnedRecord::of(&block, index)).collect::<Vec<_>>())
        })?;
        Ok(records.iter().map(|record| to_python(py, record)).collect())
    }
}

fn to_python<'py>(py: Python<'py>, record: &OwnedRecord) -> Record<'py> {
    let bytes = |value: &Option<Vec<u8>>| value.as_ref().map(|value| PyBytes::new(py, value));
    let headers = record.headers.iter().map(|(name, value)| (name.clone(), bytes(value))).collect();
    (record.partition.0, record.offset.0, record.timestamp, bytes(&record.key), bytes(&record.value), headers)
}

fn describe(partitions: &[PartitionDescription]) -> Result<RecordBatch> {
    let ints = |of: fn(&PartitionDescription) -> i64| Arc::new(partitions.iter().map(of).collect::<Int64Array>()) as ArrayRef;
    let times = |of: fn(&PartitionDescription) -> Option<i64>| {
        Arc::new(partitions.iter().map(of).collect::<TimestampMillisecondArray>().with_timezone("UTC")) as ArrayRef
    };
    Ok(RecordBatch::try_from_iter([
        ("topic", Arc::new(partitions.iter().map(|p| Some(p.topic.as_str())).collect::<StringArray>()) as ArrayRef),
        ("partition", Arc::new(partitions.iter().map(|p| p.partition.0).collect::<Int32Array>())),
        ("earliest", ints(|p| p.start.0)),
        ("head", ints(|p| p.end.0)),
        ("records", ints(|p| p.records)),
        ("bytes", ints(|p| i64::try_from(p.bytes).unwrap_or(i64::MAX))),
        ("first", times(|p| p.first_timestamp)),
        ("last", times(|p| p.last_timestamp)),
    ])?)
}
