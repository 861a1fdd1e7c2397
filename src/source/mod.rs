//! Where records come from: partitions that can be read again from any offset.

pub mod embedded;
pub mod halted;
pub mod kafka;
pub mod peek;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::{ClientOptions, TopicClient};
use crate::config::Settings;
use crate::error::Result;
use crate::log::LogDir;
use crate::message::{Offset, Partition, RecordBlock};

/// How a topic is going to be read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// By so many threads; at least one.
    pub threads: usize,
    /// With the records' headers.
    pub headers: bool,
}

/// Opens a topic of the log of the settings.
///
/// # Errors
/// A `ConfigError` for a topic that is not there, naming those that are.
pub fn open(topic: &str, settings: &Settings, reading: Reading) -> Result<Arc<dyn LogSource>> {
    if settings.log_url.starts_with(Settings::KAFKA_SCHEME) {
        let options = ClientOptions::new(&settings.log_url, &settings.kafka)?;
        return Ok(Arc::new(kafka::KafkaSource::open(options, topic, reading)?));
    }
    let root = Settings::directory("log.url", &settings.log_url)?;
    Ok(Arc::new(embedded::EmbeddedSource::open(root, topic)?))
}

/// The topics of the log of the settings.
pub fn topics(settings: &Settings) -> Result<Vec<String>> {
    if settings.log_url.starts_with(Settings::KAFKA_SCHEME) {
        let options = ClientOptions::new(&settings.log_url, &settings.kafka)?;
        return TopicClient::new(&options, "")?.topics();
    }
    LogDir::open(Settings::directory("log.url", &settings.log_url)?).topics()
}

/// A topic in a replayable log. An implementor guarantees that the records at given offsets never change, and that an
/// offset it hands out is durable: a reader never sees what a crash of the log could take back.
pub trait LogSource: Send + Sync {
    /// Identity of the topic: another one under the same name is another topic.
    fn topic_id(&self) -> &str;

    /// Its partitions, with the offsets at which they start and end now.
    fn partitions(&self) -> Result<Vec<PartitionExtent>>;

    /// In each partition the first offset whose record has this timestamp (milliseconds since 1970 UTC) or a later one; the
    /// end if none.
    fn offsets_at(&self, timestamp: i64) -> Result<BTreeMap<Partition, Offset>>;

    /// Whether this is still the topic that was opened. Asked before every checkpoint becomes durable: what was read from
    /// another topic of the same name must not get into one.
    ///
    /// # Errors
    /// It is another topic, or it cannot be said.
    fn verify(&self) -> Result<()>;

    /// What a consumer group has committed, for the partitions for which it has.
    ///
    /// # Errors
    /// Refused by a log that has no groups.
    fn committed(&self, group: &str) -> Result<BTreeMap<Partition, Offset>>;

    /// Tells those who watch the lag of consumer groups where a job is, without waiting: nothing depends on it. A log that has
    /// no groups does nothing.
    fn publish(&self, group: &str, positions: &BTreeMap<Partition, Offset>);

    /// Why this topic cannot be read from its beginning and give the same again; none if it can.
    fn not_replayable(&self) -> Result<Option<String>>;

    /// The bytes on disk of the records between two offsets; none where the log does not say.
    fn bytes_between(&self, _: Partition, _: Offset, _: Offset) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Opens a partition for reading at an offset. An offset before the start of the log is refused, never moved.
    /// `leader_epoch` is that of the record before, if it is known: a log that was cut since is refused where it can tell.
    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>>;
}

/// How far a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionExtent {
    /// Which.
    pub partition: Partition,
    /// The first offset that is still there.
    pub start: Offset,
    /// The offset after the last readable record.
    pub end: Offset,
    /// Bytes on disk.
    pub bytes: u64,
}

/// One partition, read in order.
pub trait PartitionReader: Send {
    /// Replaces the content of `block` by the next records, about `max_bytes` of them, none at or past `until`.
    ///
    /// Never waits: no records means that there are none yet (or that `until` is reached). `block.next_offset` is the
    /// position after the call, also when no record was returned (control records and holes are passed over).
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()>;
}
