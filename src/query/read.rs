//! The rows of a table.

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::table::scan::Scan;
use crate::table::{Catalog, TableName};

/// The rows of a snapshot of a table (the newest if none is named), batch by batch, with their columns.
///
/// Position deletes are honoured; columns are matched by field id, so that renamed ones are found. Rows come in no
/// particular order. Memory is bounded by a batch and the deleted positions.
///
/// # Errors
/// `Refused` if there is no such table or snapshot, or if another engine wrote what kappa does not read (equality deletes,
/// deletion vectors, files that are not Parquet).
pub fn scan(catalog: &Catalog, table: &TableName, snapshot: Option<i64>) -> Result<(SchemaRef, Scan)> {
    let table = catalog.require(table)?;
    let scan = Scan::plan(catalog.manifests(), &table, snapshot)?;
    Ok((scan.schema(), scan))
}
