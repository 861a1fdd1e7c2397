//! Names that show versions, and what becomes of versions that none shows.

use std::path::PathBuf;

use pyo3::prelude::*;

use super::call::{detached, from_json, to_json};
use super::settings::Settings;
use crate::broker::ClientOptions;
use crate::config;
use crate::error::Result;
use crate::lifecycle::gc::{Collector, Options};
use crate::lifecycle::{promote as promoting, rollback as rolling_back, serving as names};
use crate::protocol::cutover::Request;
use crate::table::{Catalog, TableName};

/// The catalog, and where the checkpoints are.
fn opened(settings: &config::Settings) -> Result<(Catalog, PathBuf)> {
    let catalog = Catalog::of(settings)?;
    Ok((catalog, config::Settings::directory("checkpoints", &settings.checkpoints)?))
}

/// Turns names to tables of versions; what became of them, as JSON. `request` is JSON.
#[pyfunction]
pub fn promote(py: Python<'_>, settings: &Settings, moves: Vec<(String, String)>, request: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || {
        let request: Request = from_json("the request", request)?;
        let name = |text: &str| TableName::parse(text, &settings.catalog_namespace);
        let moves = moves.iter().map(|(from, to)| Ok((name(from)?, name(to)?))).collect::<Result<Vec<_>>>()?;
        let (catalog, checkpoints) = opened(&settings)?;
        to_json(&promoting::promote(&catalog, &checkpoints, &moves, &request, settings.views(request.view))?)
    })
}

/// Turns a name back; what became of it, as JSON.
#[pyfunction]
pub fn rollback(py: Python<'_>, settings: &Settings, name: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || {
        let name = TableName::parse(name, &settings.catalog_namespace)?;
        let (catalog, checkpoints) = opened(&settings)?;
        to_json(&rolling_back::rollback(&catalog, &checkpoints, &name)?)
    })
}

/// Collects what nothing needs, or says what would be; `options` and what was found are JSON.
#[pyfunction]
pub fn gc(py: Python<'_>, settings: &Settings, options: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || {
        let options: Options = from_json("the options", options)?;
        let (catalog, checkpoints) = opened(&settings)?;
        let reads_kafka = settings.log_url.starts_with(config::Settings::KAFKA_SCHEME);
        let cluster = reads_kafka.then(|| ClientOptions::new(&settings.log_url, &settings.kafka)).transpose()?;
        to_json(&Collector::new(&catalog, &checkpoints, cluster.as_ref()).collect(options)?)
    })
}

/// Takes the condemnation of a table's version back; what was found, as JSON.
#[pyfunction]
pub fn spare(py: Python<'_>, settings: &Settings, table: &str) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || {
        let table = TableName::parse(table, &settings.catalog_namespace)?;
        let (catalog, checkpoints) = opened(&settings)?;
        to_json(&Collector::new(&catalog, &checkpoints, None).spare(&table)?)
    })
}

/// The names, or one of them, as a JSON list.
#[pyfunction]
#[pyo3(signature = (settings, name))]
pub fn serving(py: Python<'_>, settings: &Settings, name: Option<&str>) -> PyResult<String> {
    let settings = settings.0.clone();
    detached(py, || {
        let name = name.map(|name| TableName::parse(name, &settings.catalog_namespace)).transpose()?;
        let (catalog, _) = opened(&settings)?;
        match name {
            Some(name) => to_json(&[names::show(&catalog, &name)?]),
            None => to_json(&names::list(&catalog)?),
        }
    })
}
