//! What there is, and how it is.

use pyo3::prelude::*;

use super::call::{detached, to_json};
use super::settings::Settings;
use crate::lifecycle::status::status as looking;

/// The versions there are, or that of one table, as JSON.
#[pyfunction]
pub fn status(py: Python<'_>, settings: &Settings, name: Option<&str>) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || to_json(&looking(&settings, name)?))
}
