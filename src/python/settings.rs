//! Where things live.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;

use super::call::detached;
use crate::config;
use crate::config::kafka::{Token, TokenProvider};

/// A Python function `() -> (token, principal, lifetime_ms)` as a maker of tokens.
fn provider(function: Py<PyAny>) -> TokenProvider {
    Arc::new(move || {
        Python::attach(|py| {
            let made = function.call0(py).and_then(|made| made.extract::<(String, String, i64)>(py));
            let (token, principal, lifetime_ms) = made.map_err(|error| format!("kafka.oauth_token failed: {error}"))?;
            Ok(Token { token, principal, lifetime_ms })
        })
    })
}

/// The settings in force.
#[pyclass(frozen, module = "kappa._kappa")]
pub struct Settings(pub config::Settings);

#[pymethods]
impl Settings {
    #[new]
    #[pyo3(signature = (overrides, config_file = None, oauth_token = None))]
    fn new(
        py: Python<'_>,
        overrides: BTreeMap<String, String>,
        config_file: Option<PathBuf>,
        oauth_token: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let mut settings = detached(py, || config::Settings::resolve(&overrides, config_file.as_deref()))?;
        settings.kafka = settings.kafka.with_tokens(oauth_token.map(provider));
        Ok(Self(settings))
    }

    /// The settings in force, by name. Secrets are not in it.
    fn to_dict(&self) -> BTreeMap<String, String> {
        let settings = &self.0;
        let catalog_url = settings.catalog_url.to_string();
        let fixed = [
            ("log.url", settings.log_url.as_str()),
            ("catalog.url", &catalog_url),
            ("catalog.name", &settings.catalog_name),
            ("catalog.namespace", &settings.catalog_namespace),
            ("warehouse", &settings.warehouse),
            ("checkpoints", &settings.checkpoints),
            ("sink.url", &settings.sink_url),
            ("serving.view", &settings.serving_view),
        ];
        let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        fixed.chain(settings.kafka.shown().map(|(name, value)| (format!("kafka.{name}"), value.to_owned()))).collect()
    }
}
