//! What a checkpoint's manifest lists for a table: written and durable, not yet committed.

use serde::{Deserialize, Serialize};

/// A file that a manifest lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagedFile {
    /// What is in it.
    pub content: StagedContent,
    /// Where, as a URL under the table's location.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// CRC-32C of the whole file.
    pub checksum: u32,
    /// The table format's own description of a data file, as JSON.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data_file: serde_json::Value,
}

/// What is in a staged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagedContent {
    /// Rows of the table.
    Data,
    /// Keys whose earlier rows go away: those of the new rows, and those retracted.
    DeletedKeys,
}
