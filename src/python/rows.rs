//! Rows, as Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{Field, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};

use super::call::{detached, to_json};
use super::settings::Settings;
use super::values::{Converter, field_json};
use crate::error::Error;
use crate::query;
use crate::table::{Catalog, TableName};

/// Arrow record batches.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

/// The rows of a table now, of a snapshot, or at a time.
#[pyfunction]
#[pyo3(signature = (settings, table, snapshot, as_of_ms))]
pub fn read(py: Python<'_>, settings: &Settings, table: &str, snapshot: Option<i64>, as_of_ms: Option<i64>) -> PyResult<Rows> {
    let settings = settings.0.clone();
    detached(py, || {
        let catalog = Catalog::open(&settings.catalog_url, &settings.catalog_name, &settings.warehouse)?;
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        let snapshot = match as_of_ms {
            Some(time) => Some(snapshot_at(&catalog, &name, time)?),
            None => snapshot,
        };
        let (schema, scan) = query::read::scan(&catalog, &name, snapshot)?;
        Ok(Rows { schema, batches: scan.collect::<Result<_, _>>()? })
    })
}

fn snapshot_at(catalog: &Catalog, name: &TableName, time: i64) -> Result<i64, Error> {
    let table = catalog.require(name)?;
    let history = table.metadata().history();
    let found = history.iter().rev().find(|entry| entry.timestamp_ms() <= time).map(|entry| entry.snapshot_id);
    found.ok_or_else(|| {
        let message = format!("table {name} has no snapshot as old as {}", crate::time::format_utc(time));
        Error::refused("unknown_snapshot", message).hint("it may have expired, or the table is younger")
    })
}

impl Rows {
    /// One batch.
    pub fn of(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), batches: vec![batch] }
    }
}

#[pymethods]
impl Rows {
    /// How many rows.
    fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The columns as a JSON list of fields.
    fn schema(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || to_json(&self.schema.fields().iter().map(|field| field_json(field)).collect::<Vec<_>>()))
    }

    /// Some of the rows, without a copy.
    fn slice(&self, offset: usize, length: usize) -> Self {
        let (mut skip, mut left, mut batches) = (offset, length, Vec::new());
        for batch in &self.batches {
            let from = skip.min(batch.num_rows());
            let count = left.min(batch.num_rows() - from);
            if count > 0 {
                batches.push(batch.slice(from, count));
            }
            (skip, left) = (skip - from, left - count);
        }
        Self { schema: self.schema.clone(), batches }
    }

    /// Some of the rows as dictionaries.
    fn to_dicts<'py>(&self, py: Python<'py>, offset: usize, length: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let convert = Converter::new(py)?;
        let mut rows = Vec::new();
        for batch in self.slice(offset, length).batches {
            for row in 0..batch.num_rows() {
                let dict = PyDict::new(py);
                for (field, column) in self.schema.fields().iter().zip(batch.columns()) {
                    dict.set_item(field.name(), convert.value(column, row)?)?;
                }
                rows.push(dict);
            }
        }
        Ok(rows)
    }

    /// The Arrow C stream interface.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let field = Arc::new(Field::new_struct("", self.schema.fields().clone(), false));
        let arrays = self.batches.clone().into_iter().map(|batch| Ok(Arc::new(StructArray::from(batch)) as ArrayRef));
        Ok(to_stream_pycapsule(py, Box::new(ArrayIterator::new(arrays, field)), requested_schema)?)
    }
}
