//! Rows, as Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};
use pyo3_arrow::input::AnyRecordBatch;

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

/// The rows of a table now, of a snapshot, at a time, or, of a name, before its last turns.
#[pyfunction]
#[pyo3(signature = (settings, table, snapshot, as_of_ms, turns))]
pub fn read(
    py: Python<'_>,
    settings: &Settings,
    table: &str,
    snapshot: Option<i64>,
    as_of_ms: Option<i64>,
    turns: Option<usize>,
) -> PyResult<Rows> {
    let settings = settings.0.clone();
    detached(py, || {
        let catalog = Catalog::of(&settings)?;
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        let snapshot = match (as_of_ms, turns) {
            (Some(time), _) => Some(snapshot_at(&catalog, &name, time)?),
            (None, Some(turns)) => Some(shown_before(&catalog, &name, turns)?),
            (None, None) => snapshot,
        };
        let (schema, scan) = query::read::scan(&catalog, &name, snapshot)?;
        Ok(Rows { schema, batches: scan.collect::<Result<_, _>>()? })
    })
}

/// No rows, with the columns of a table.
#[pyfunction]
pub fn no_rows(py: Python<'_>, settings: &Settings, table: &str) -> PyResult<Rows> {
    let settings = settings.0.clone();
    detached(py, || {
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        let (schema, _) = query::read::scan(&Catalog::of(&settings)?, &name, None)?;
        Ok(Rows { schema, batches: Vec::new() })
    })
}

/// The tables of the catalog.
#[pyfunction]
pub fn tables(py: Python<'_>, settings: &Settings) -> PyResult<Vec<String>> {
    let settings = settings.0.clone();
    detached(py, || {
        let catalog = Catalog::of(&settings)?;
        Ok(catalog.list()?.iter().map(ToString::to_string).collect())
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

fn shown_before(catalog: &Catalog, name: &TableName, turns: usize) -> Result<i64, Error> {
    let table = catalog.require(name)?;
    if table.turns()?.is_none() {
        let message = format!("{name} is no name that kappa turns");
        return Err(Error::refused("not_a_name", message).hint("as_of takes a time for a table, a number of turns for a name"));
    }
    table.shown_before(turns).ok_or_else(|| {
        let message = format!("{name} has no snapshot from before its last {turns} turns");
        Error::refused("unknown_snapshot", message)
            .hint(format!("it has expired, or was not turned as often: kappa serving history {name}"))
    })
}

impl Rows {
    /// One batch.
    pub fn of(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), batches: vec![batch] }
    }
}

/// Types that kappa's tables have: others are brought to them where no value is lost.
fn known(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::UInt8 | DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

#[pymethods]
impl Rows {
    /// Rows of anything that has the Arrow C stream interface.
    #[staticmethod]
    fn from_arrow(py: Python<'_>, data: AnyRecordBatch) -> PyResult<Self> {
        let table = data.into_table()?;
        detached(py, || {
            let (batches, schema) = table.into_inner();
            let field = |field: &Arc<Field>| Field::new(field.name(), known(field.data_type()), field.is_nullable());
            let schema = Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()));
            let batch = |batch: RecordBatch| {
                let columns = batch.columns().iter().zip(schema.fields());
                let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
                Ok(RecordBatch::try_new(schema.clone(), columns)?)
            };
            let batches = batches.into_iter().map(batch).collect::<Result<_, Error>>()?;
            Ok(Self { schema: schema.clone(), batches })
        })
    }

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
