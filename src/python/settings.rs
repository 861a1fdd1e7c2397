//! Where things live.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pyo3::prelude::*;

use super::call::detached;
use crate::config;

/// The settings in force.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Settings(pub config::Settings);

#[pymethods]
impl Settings {
    #[new]
    #[pyo3(signature = (overrides, config_file = None))]
    fn new(py: Python<'_>, overrides: BTreeMap<String, String>, config_file: Option<PathBuf>) -> PyResult<Self> {
        detached(py, || config::Settings::resolve(&overrides, config_file.as_deref())).map(Self)
    }

    /// The settings in force, by name.
    fn to_dict(&self) -> BTreeMap<&str, &str> {
        let settings = &self.0;
        BTreeMap::from([
            ("log.url", settings.log_url.as_str()),
            ("catalog.url", &settings.catalog_url),
            ("catalog.name", &settings.catalog_name),
            ("catalog.namespace", &settings.catalog_namespace),
            ("warehouse", &settings.warehouse),
            ("checkpoints", &settings.checkpoints),
            ("sink.url", &settings.sink_url),
        ])
    }
}
