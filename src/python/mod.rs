//! The binding: convert, detach from the interpreter, call, convert. No logic.
//!
//! Plans, options, events and reports cross as JSON, rows as Arrow. `python/kappa/_kappa.pyi` is the other side of it.

mod call;
mod diff;
mod explanation;
mod lifecycle_plan;
mod lifecycle_status;
mod log;
mod plan;
mod preview;
mod rows;
mod run;
mod serving;
mod settings;
mod values;

#[pyo3::pymodule]
mod _kappa {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::diff::{Diff, diff};
    #[pymodule_export]
    use super::explanation::{Explanation, explain_key};
    #[pymodule_export]
    use super::lifecycle_plan::plan;
    #[pymodule_export]
    use super::lifecycle_status::status;
    #[pymodule_export]
    use super::log::{Log, LogWriter, RecordBatches, extents, topics};
    #[pymodule_export]
    use super::plan::{check, check_key, explain, fingerprint, schema_of};
    #[pymodule_export]
    use super::preview::{certify, content, preview, price, version_in};
    #[pymodule_export]
    use super::rows::{Rows, no_rows, read, tables};
    #[pymodule_export]
    use super::run::{Run, after_fork, start};
    #[pymodule_export]
    use super::serving::{gc, promote, rollback, serving, spare};
    #[pymodule_export]
    use super::settings::Settings;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::call::remember_process();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
