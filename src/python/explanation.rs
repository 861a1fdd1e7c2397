//! Explanations of a key.

use pyo3::prelude::*;

use super::call::{detached, from_json, interruptible, to_json};
use super::rows::Rows;
use super::settings::Settings;
use crate::lifecycle::explain::{self, explain};
use crate::table::TableName;

/// Why the row of a key is not the same in two tables.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Explanation(explain::Explanation);

#[pymethods]
impl Explanation {
    /// What was found, as JSON.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || to_json(&self.0.report))
    }

    /// Records of the key.
    fn records(&self) -> Rows {
        Rows::of(self.0.records.clone())
    }

    /// The key's rows in the first table.
    fn row_a(&self) -> Rows {
        Rows::of(self.0.rows[0].clone())
    }

    /// The key's rows in the second table.
    fn row_b(&self) -> Rows {
        Rows::of(self.0.rows[1].clone())
    }
}

/// Explains a key of two tables; `options` are JSON. `progress` is called now and then with how many records are read, of how many.
/// A signal ends it.
#[pyfunction]
#[pyo3(signature = (settings, a, b, options, progress))]
pub fn explain_key(
    py: Python<'_>,
    settings: &Settings,
    a: &str,
    b: &str,
    options: &str,
    progress: Option<Py<PyAny>>,
) -> PyResult<Explanation> {
    let settings = settings.0.clone();
    let result = interruptible(py, |go_on| {
        let options: explain::Options = from_json("the options", options)?;
        let name = |text: &str| TableName::parse(text, &settings.catalog_namespace);
        let tell = |done: u64, total: u64| {
            if let Some(progress) = progress.as_ref().filter(|_| total > 0) {
                // Whoever shows it does not decide whether to go on: signals do.
                let _ = Python::attach(|py| progress.call1(py, (done, total)));
            }
            go_on()
        };
        explain(&settings, [&name(a)?, &name(b)?], &options, &tell)
    });
    result.map(Explanation)
}
