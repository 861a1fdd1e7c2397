//! Previews: what is run, what it would cost in full, and whether two runs gave the same.

use pyo3::prelude::*;
use serde::Serialize;

use super::call::{detached, from_json, interruptible, to_json};
use super::settings::Settings;
use crate::config;
use crate::error::Result;
use crate::job::certificates;
use crate::lifecycle::preview::{price as pricing, scope as scoping};
use crate::plan::fingerprint::fingerprint;
use crate::protocol::certificate::Certificate;
use crate::query::content::content as hashing;
use crate::table::marker::VERSION;
use crate::table::{Catalog, TableName};
use crate::time::now_ms;

/// What a preview runs, as JSON; `options` are JSON.
#[pyfunction]
pub fn preview(py: Python<'_>, settings: &Settings, job: &str, options: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || to_json(&scoping(from_json("the plan", job)?, &from_json("the options", options)?, &settings)?))
}

/// What the full run of a previewed job would read, cost and change, as JSON; `options` and `measured` are JSON. A signal ends it.
#[pyfunction]
pub fn price(py: Python<'_>, settings: &Settings, job: &str, options: &str, measured: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    interruptible(py, |go_on| {
        let (options, measured) = (from_json("the options", options)?, from_json("the measure", measured)?);
        to_json(&pricing::price(from_json("the plan", job)?, &options, &measured, &settings, go_on)?)
    })
}

/// The rows of a table and the hash of their multiset, as JSON. A signal ends it.
#[pyfunction]
pub fn content(py: Python<'_>, settings: &Settings, table: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    interruptible(py, |go_on| {
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        to_json(&hashing(&Catalog::of(&settings)?, &name, threads, go_on)?)
    })
}

/// The version that a table holds, if it is there and holds one.
#[pyfunction]
pub fn version_in(py: Python<'_>, settings: &Settings, table: &str) -> PyResult<Option<String>> {
    let settings = settings.0.clone();
    detached(py, || {
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        Ok(Catalog::of(&settings)?.load(&name)?.and_then(|table| table.property(VERSION).map(str::to_owned)))
    })
}

/// Keeps the certificate of a plan, and gives it; both are JSON.
#[pyfunction]
pub fn certify(py: Python<'_>, settings: &Settings, job: &str, certificate: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || keep(&settings, job, certificate))
}

/// A certificate, and whether it is one.
#[derive(Serialize)]
struct Kept {
    passed: bool,
    #[serde(flatten)]
    certificate: Certificate,
}

fn keep(settings: &config::Settings, job: &str, certificate: &str) -> Result<String> {
    let certificate = Certificate {
        format: certificates::FORMAT,
        fingerprint: fingerprint(&from_json("the plan", job)?)?,
        made_ms: now_ms(),
        ..from_json("the certificate", certificate)?
    };
    certificates::keep(&config::Settings::directory("checkpoints", &settings.checkpoints)?, &certificate)?;
    to_json(&Kept { passed: certificate.is_passed(), certificate })
}
