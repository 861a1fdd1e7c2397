//! Plans of a reprocess.

use pyo3::prelude::*;

use super::call::{from_json, interruptible, to_json};
use super::settings::Settings;
use crate::lifecycle::plan::plan as planning;

/// What a reprocess of a job would do, as JSON; `options` are JSON. A signal ends it.
#[pyfunction]
pub fn plan(py: Python<'_>, settings: &Settings, job: &str, options: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    interruptible(py, |go_on| {
        to_json(&planning(from_json("the plan", job)?, &from_json("the options", options)?, &settings, go_on)?)
    })
}
