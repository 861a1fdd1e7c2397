//! Metadata files as they are read: of tables and of views, packed or not.

use std::io::Read;

use iceberg::spec::{TableMetadata, ViewMetadata};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{GZIP_HEADER, Refs};
use crate::error::{Error, Result};
use crate::table::files;

/// Reads a metadata file, packed or not.
pub(in crate::table) fn read(location: &str, table: &dyn std::fmt::Display) -> Result<(TableMetadata, Refs)> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        refs: Refs,
    }
    let bytes = document(location, table)?;
    let Names { refs } = parsed(&bytes, location, table)?;
    Ok((parsed(&bytes, location, table)?, refs))
}

/// Reads the metadata file of a view, packed or not.
pub(in crate::table) fn read_view(location: &str, view: &dyn std::fmt::Display) -> Result<ViewMetadata> {
    parsed(&document(location, view)?, location, view)
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], location: &str, table: &dyn std::fmt::Display) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| damaged(location, table, &error).source(error))
}

/// The text of a metadata file.
fn document(location: &str, table: &dyn std::fmt::Display) -> Result<Vec<u8>> {
    let path = files::path_of(location)?;
    let bytes = std::fs::read(&path).map_err(|error| Error::io("read table metadata", &path, error).with("table", table))?;
    if !bytes.starts_with(&GZIP_HEADER[..2]) {
        return Ok(bytes);
    }
    let mut text = Vec::new();
    let unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut text);
    unpacked.map_err(|error| damaged(location, table, &error).source(error))?;
    Ok(text)
}

fn damaged(location: &str, table: &dyn std::fmt::Display, why: &dyn std::fmt::Display) -> Error {
    let place = files::spelling(location);
    Error::corruption("table_metadata", format!("read the metadata of table {table} at {place}: {why}"))
}
