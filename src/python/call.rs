//! Calling the engine: without the interpreter's lock, in the process that loaded it, with errors as `kappa.exceptions`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

static PROCESS: OnceLock<u32> = OnceLock::new();

/// Notes which process loaded the engine: its threads are in no other.
pub fn remember_process() {
    let _ = PROCESS.set(std::process::id());
}

/// Whether this process is another than the one that loaded the engine.
pub fn is_forked() -> bool {
    PROCESS.get().is_some_and(|process| *process != std::process::id())
}

/// Runs `work` detached from the interpreter. A panic is an `InternalError`, a forked child is refused.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    if is_forked() {
        let error =
            Error::refused("forked", "this process was forked from one that had loaded kappa, whose threads it does not have")
                .hint("start processes with multiprocessing.get_context(\"spawn\"), or import kappa in the child only");
        return Err(to_python(&error));
    }
    let caught = || catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Error::internal(text_of(panic.as_ref()))));
    py.detach(caught).map_err(|error| to_python(&error))
}

/// The same for work that asks now and then whether to go on: a signal ends it, as what its handler raises.
pub fn interruptible<T: Send>(py: Python<'_>, work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<T> + Send) -> PyResult<T> {
    let raised = Mutex::new(None);
    let go_on = || match Python::attach(|py| py.check_signals()) {
        Ok(()) => Ok(()),
        Err(error) => {
            *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Err(Error::refused("interrupted", "interrupted"))
        }
    };
    let result = detached(py, || work(&go_on));
    match raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(signal) => Err(signal),
        None => result,
    }
}

/// Reads JSON that the package's Python half wrote.
pub fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal(format!("{what} is not understood: {error}")))
}

/// Writes JSON for the package's Python half.
pub fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("a value cannot be written as JSON: {error}")))
}

fn to_python(error: &Error) -> PyErr {
    Python::attach(|py| exception(py, error).unwrap_or_else(|failed| failed))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = py.import("kappa.exceptions")?.getattr(error.kind().name())?;
    let context = PyDict::new(py);
    for (name, value) in error.context() {
        context.set_item(name, value)?;
    }
    let arguments = PyDict::new(py);
    arguments.set_item("code", error.code())?;
    arguments.set_item("context", context)?;
    arguments.set_item("hint", error.hint_text())?;
    arguments.set_item("retryable", error.is_retryable())?;
    Ok(PyErr::from_value(class.call((error.message(),), Some(&arguments))?))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}
