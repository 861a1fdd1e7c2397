//! Comparisons of tables.

use pyo3::prelude::*;

use super::call::{detached, from_json, interruptible, to_json};
use super::rows::Rows;
use super::settings::Settings;
use crate::config;
use crate::lifecycle::compare;
use crate::query::diff::{Options, report};
use crate::table::{Catalog, TableName};

/// What a comparison found.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Diff(report::Diff);

#[pymethods]
impl Diff {
    /// The numbers as JSON.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || to_json(&self.0.report))
    }

    /// Rows that changed.
    fn changed(&self) -> Rows {
        Rows::of(self.0.changed.clone())
    }

    /// Rows of the first table only.
    fn only_in_a(&self) -> Rows {
        Rows::of(self.0.only_in_a.clone())
    }

    /// Rows of the second table only.
    fn only_in_b(&self) -> Rows {
        Rows::of(self.0.only_in_b.clone())
    }

    /// Totals by day.
    fn by_day(&self) -> Rows {
        Rows::of(self.0.by_day.clone())
    }
}

/// Compares two tables; `options` are JSON. A signal ends it.
#[pyfunction]
pub fn diff(py: Python<'_>, settings: &Settings, a: &str, b: &str, options: &str) -> PyResult<Diff> {
    let settings = settings.0.clone();
    let result = interruptible(py, |go_on| {
        let options: Options = from_json("the options", options)?;
        let catalog = Catalog::of(&settings)?;
        let checkpoints = config::Settings::directory("checkpoints", &settings.checkpoints)?;
        let name = |text: &str| TableName::parse(text, &settings.catalog_namespace);
        compare::diff(&catalog, &checkpoints, [&name(a)?, &name(b)?], &options, go_on)
    });
    result.map(Diff)
}
