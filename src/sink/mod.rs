//! Where rows go: staged while an epoch runs, listed in its manifest, committed once the manifest is durable.

pub mod dead_letter;
pub mod iceberg;
pub mod kafka;

use arrow::record_batch::RecordBatch;

use crate::error::Result;
use crate::message::Epoch;
pub use crate::protocol::checkpoint::{StagedContent, StagedFile};

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

/// A writer that keeps nothing: for what has its place elsewhere, or nowhere.
pub struct Nowhere;

impl StagingWriter for Nowhere {
    fn write(&mut self, _: Change) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _: Epoch) -> Result<Vec<StagedFile>> {
        Ok(Vec::new())
    }
}

/// The writer of one worker for one output. What it stages is an orphan until a manifest lists it.
pub trait StagingWriter: Send {
    /// Stages rows. Within an epoch a key comes at most once.
    fn write(&mut self, change: Change) -> Result<()>;

    /// Closes what is open and makes it durable (files and their directory). The next write begins the next epoch.
    fn prepare(&mut self, epoch: Epoch) -> Result<Vec<StagedFile>>;
}
