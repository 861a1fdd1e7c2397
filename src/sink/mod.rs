//! Where rows go: staged while an epoch runs, listed in its manifest, committed once the manifest is durable.

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::message::Epoch;

/// Rows for a sink.
#[derive(Clone, Debug)]
pub enum Change {
    /// Rows that are new.
    Append(RecordBatch),
    /// Rows that take the place of those with the same key.
    Upsert(RecordBatch),
    /// Keys (the primary key's columns, in the order of the table's key) whose rows go away.
    Delete(RecordBatch),
}

/// The writer of one worker for one output. What it stages is an orphan until a manifest lists it.
pub trait StagingWriter: Send {
    /// Stages rows. Within an epoch a key comes at most once.
    fn write(&mut self, change: Change) -> Result<()>;

    /// Closes what is open and makes it durable (files and their directory). The next write begins the next epoch.
    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedFile>>;
}

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
