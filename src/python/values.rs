//! Arrow values as Python's own.

use arrow::array::{Array, AsArray};
use arrow::datatypes as types;
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::array_value_to_string;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use serde_json::{Value, json};

/// Python's classes, looked up once.
pub struct Converter<'py> {
    py: Python<'py>,
    date: Bound<'py, PyAny>,
    timedelta: Bound<'py, PyAny>,
    epoch: Bound<'py, PyAny>,
    epoch_utc: Bound<'py, PyAny>,
    decimal: Bound<'py, PyAny>,
}

impl<'py> Converter<'py> {
    /// Looks the classes up.
    pub fn new(py: Python<'py>) -> PyResult<Self> {
        let datetime = py.import("datetime")?;
        let epoch = datetime.getattr("datetime")?.call1((1970, 1, 1))?;
        let zone = PyDict::new(py);
        zone.set_item("tzinfo", datetime.getattr("timezone")?.getattr("utc")?)?;
        Ok(Self {
            py,
            date: datetime.getattr("date")?,
            timedelta: datetime.getattr("timedelta")?,
            epoch_utc: epoch.call_method("replace", (), Some(&zone))?,
            epoch,
            decimal: py.import("decimal")?.getattr("Decimal")?,
        })
    }

    /// One value.
    pub fn value(&self, array: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        if array.is_null(row) {
            return Ok(py.None().into_bound(py));
        }
        Ok(match array.data_type() {
            DataType::Utf8 => array.as_string::<i32>().value(row).into_pyobject(py)?.into_any(),
            DataType::Boolean => array.as_boolean().value(row).into_pyobject(py)?.to_owned().into_any(),
            DataType::Int32 => array.as_primitive::<types::Int32Type>().value(row).into_pyobject(py)?.into_any(),
            DataType::Int64 => array.as_primitive::<types::Int64Type>().value(row).into_pyobject(py)?.into_any(),
            DataType::Float64 => array.as_primitive::<types::Float64Type>().value(row).into_pyobject(py)?.into_any(),
            DataType::Binary => PyBytes::new(py, array.as_binary::<i32>().value(row)).into_any(),
            DataType::Date32 => {
                let days = i64::from(array.as_primitive::<types::Date32Type>().value(row));
                self.or_text(self.date.call_method1("fromordinal", (days + 719_163,)), array, row, || format!("{days} days"))?
            }
            DataType::Timestamp(unit, zone) => {
                let epoch = if zone.is_some() { &self.epoch_utc } else { &self.epoch };
                let micros = micros(array, *unit, row);
                self.or_text(epoch.add(self.timedelta.call1((0, 0, micros))?), array, row, || format!("{micros} us"))?
            }
            DataType::Decimal128(..) => self.decimal.call1((shown(array, row)?,))?,
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                let items = (0..items.len()).map(|i| self.value(&items, i)).collect::<PyResult<Vec<_>>>()?;
                PyList::new(py, items)?.into_any()
            }
            DataType::Struct(fields) => {
                let dict = PyDict::new(py);
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    dict.set_item(field.name(), self.value(column, row)?)?;
                }
                dict.into_any()
            }
            _ => shown(array, row)?.into_pyobject(py)?.into_any(),
        })
    }

    /// Python's own value, or text where its calendar ends: before the year 1 and after 9999. One record whose unit is
    /// declared wrongly must not make a table unreadable.
    fn or_text(
        &self,
        made: PyResult<Bound<'py, PyAny>>,
        array: &dyn Array,
        row: usize,
        count: impl Fn() -> String,
    ) -> PyResult<Bound<'py, PyAny>> {
        match made {
            Err(error) if error.is_instance_of::<PyOverflowError>(self.py) || error.is_instance_of::<PyValueError>(self.py) => {
                let text = array_value_to_string(array, row).unwrap_or_else(|_| count());
                Ok(text.into_pyobject(self.py)?.into_any())
            }
            other => other,
        }
    }
}

fn shown(array: &dyn Array, row: usize) -> PyResult<String> {
    array_value_to_string(array, row).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Microseconds: what Python's datetime can hold.
fn micros(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<types::TimestampSecondType>().value(row).saturating_mul(1_000_000),
        TimeUnit::Millisecond => array.as_primitive::<types::TimestampMillisecondType>().value(row).saturating_mul(1_000),
        TimeUnit::Microsecond => array.as_primitive::<types::TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<types::TimestampNanosecondType>().value(row).div_euclid(1_000),
    }
}

/// A field as plans hold it.
pub fn field_json(field: &Field) -> Value {
    json!({"name": field.name(), "type": type_json(field.data_type())})
}

fn type_json(data_type: &DataType) -> Value {
    match data_type {
        DataType::Utf8 => json!("string"),
        DataType::Boolean => json!("boolean"),
        DataType::Date32 => json!("date"),
        DataType::Int32 => json!("int32"),
        DataType::Int64 => json!("int64"),
        DataType::Float64 => json!("float64"),
        DataType::Binary => json!("binary"),
        DataType::Decimal128(precision, scale) => json!({"decimal": {"precision": precision, "scale": scale}}),
        DataType::Timestamp(unit, _) => json!({"timestamp": unit_name(*unit)}),
        DataType::List(inner) => json!({"list": type_json(inner.data_type())}),
        DataType::Struct(fields) => json!({"struct": fields.iter().map(|field| field_json(field)).collect::<Vec<_>>()}),
        other => json!(other.to_string()),
    }
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}
