//! Plans: their columns, their text, their findings, their fingerprint.

use pyo3::prelude::*;

use super::call::{detached, from_json, to_json};
use crate::plan::{explain as explaining, fingerprint as fingerprinting, replay, validate};

/// The columns that a step of a plan gives, as a JSON list of fields.
#[pyfunction]
pub fn schema_of(py: Python<'_>, node: &str) -> PyResult<String> {
    detached(py, || to_json(&validate::schema_of(&from_json("the plan", node)?)?))
}

/// Whether the rows that a step of a plan gives can go to a table: an error if not.
#[pyfunction]
pub fn check_key(py: Python<'_>, node: &str) -> PyResult<()> {
    detached(py, || validate::shape_of(&from_json("the plan", node)?)?.check_key())
}

/// A plan as text.
#[pyfunction]
pub fn explain(py: Python<'_>, plan: &str) -> PyResult<String> {
    detached(py, || explaining::explain(&from_json("the plan", plan)?))
}

/// What makes a plan unsafe to replay, as a JSON list of findings.
#[pyfunction]
pub fn check(py: Python<'_>, plan: &str) -> PyResult<String> {
    detached(py, || to_json(&replay::check(&from_json("the plan", plan)?)))
}

/// The fingerprint of the canonical plan.
#[pyfunction]
pub fn fingerprint(py: Python<'_>, plan: &str) -> PyResult<String> {
    detached(py, || fingerprinting::fingerprint(&from_json("the plan", plan)?))
}
