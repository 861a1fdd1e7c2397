//! Jobs that run.

use std::time::Duration;

use pyo3::prelude::*;

use super::call::{detached, from_json, is_forked, to_json};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::{job, process};

/// A job that runs in threads of the engine.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Run(Option<job::Run>);

impl Drop for Run {
    /// The end of a job is waited for, and its threads may need the interpreter: a maker of tokens is Python. In a child that was
    /// forked there are no threads to wait for, and what the job works with is its parent's.
    fn drop(&mut self) {
        let run = self.0.take();
        if is_forked() {
            return std::mem::forget(run);
        }
        Python::attach(|py| py.detach(|| drop(run)));
    }
}

impl Run {
    fn run(&self) -> Result<&job::Run> {
        self.0.as_ref().ok_or_else(|| Error::internal("a run that was dropped"))
    }
}

/// To be called in a child that was forked: what its parent has locked ends with the parent.
#[pyfunction]
pub fn after_fork() {
    process::forget_locks();
}

/// Starts a job.
#[pyfunction]
pub fn start(py: Python<'_>, plan: &str, options: &str, settings: &Settings) -> PyResult<Run> {
    let settings = settings.0.clone();
    detached(py, || job::start(from_json("the plan", plan)?, from_json("the options", options)?, settings))
        .map(|run| Run(Some(run)))
}

#[pymethods]
impl Run {
    /// The next event as JSON, or none in time.
    fn next_event(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<String>> {
        detached(py, || self.run()?.next_event(Duration::from_millis(timeout_ms)).map(|event| to_json(&event)).transpose())
    }

    /// Asks for a last checkpoint and the end.
    fn request_stop(&self) {
        self.0.iter().for_each(job::Run::request_stop);
    }

    /// Ends the job without a checkpoint.
    fn abort(&self) {
        self.0.iter().for_each(job::Run::abort);
    }

    /// Whether the job has ended, well or not.
    fn is_finished(&self) -> bool {
        self.0.as_ref().is_none_or(job::Run::is_finished)
    }

    /// Waits for the end and gives the report as JSON.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || to_json(&self.run()?.report()?))
    }
}
