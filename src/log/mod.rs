//! The embedded log: durable, ordered, partitioned and replayable, in a directory, without a server.
//!
//! ```text
//! <root>/<topic>/topic.json                          identity, partitions, retention
//! <root>/<topic>/<partition>/extent                  how far readers may read: published after each fsync
//! <root>/<topic>/<partition>/00000000000000000000.log         a segment, named by its first offset
//! <root>/<topic>/<partition>/00000000000000000000.index       offset index
//! <root>/<topic>/<partition>/00000000000000000000.timeindex   time index
//! <root>/<topic>/<partition>/leader-epoch-checkpoint          rises when a torn tail is cut off
//! <root>/<topic>/<partition>/lock                    held by the partition's one writer
//! ```
//!
//! Segments, indexes and the list of epochs are in Kafka's formats: its own `DumpLogSegments` reads them. Checksums are
//! verified on every read. A reader sees only what is fsynced, so a crash takes back nothing that anyone has read.
//!
//! Points at which tests kill the writer (`protocol::failpoint`): `F4` with half a batch written, `L1` before the records
//! are fsynced, `L2` after that and before the end is published, `L3` published and not yet fsynced itself, `L4` with the
//! start moved by retention and its segments not yet deleted.
//!
//! Reading order: [`topic`] (where things are), [`writer`] and [`recover`], [`reader`] and [`seek`], [`batch`] (the format).
//!
//! ```
//! use kappa::log::{LogDir, NewRecord, OwnedRecord, Retention, WriterOptions};
//! # let root = tempfile::tempdir().unwrap();
//! let log = LogDir::open(root.path());
//! let topic = log.create_topic("payments", 4, Retention::default())?;
//! let mut writer = topic.topic_writer(None, WriterOptions::default())?;
//! writer.push(&NewRecord { value: Some(b"{\"amount\":1}"), timestamp: 1_777_000_000_000, ..NewRecord::default() })?;
//! writer.flush()?;
//! let last: Vec<OwnedRecord> = topic.tail(10)?;
//! assert_eq!(last[0].value.as_deref(), Some(&b"{\"amount\":1}"[..]));
//! # Ok::<(), kappa::error::Error>(())
//! ```

pub mod topic;

pub mod topic_writer;
pub mod writer;

pub mod recover;

pub mod reader;
pub mod seek;

pub mod look;
pub mod retention;
pub mod size;

pub mod lines;

pub mod batch;
pub mod encode;
pub mod stream;

mod decode;
mod epochs;
mod extent;
mod files;
mod index;
mod json_key;
mod murmur2;
mod names;
mod segment;

pub use batch::Compression;
pub use encode::{Header, NewRecord};
pub use lines::LinesReport;
pub use look::{OwnedRecord, PartitionDescription, Scan, headers};
pub use murmur2::{murmur2, partition_of};
pub use reader::LogReader;
pub use recover::Truncation;
pub use retention::Retention;
pub use topic::{LogDir, Retained, Topic, TopicExtent};
pub use topic_writer::TopicWriter;
pub use writer::{Flush, PartitionWriter, WriterOptions};

#[cfg(test)]
mod tests;
