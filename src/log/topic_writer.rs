//! Appending to a topic: which partition a record goes to.

use super::encode::NewRecord;
use super::murmur2;
use super::recover::Truncation;
use super::retention::Retention;
use super::topic::Topic;
use super::writer::{Flush, PartitionWriter, WriterOptions};
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};

/// Appends to all partitions of a topic, or to one. Records with a key go where Kafka's default partitioner would put them;
/// records without go round robin over the partitions.
#[derive(Debug)]
pub struct TopicWriter {
    writers: Vec<PartitionWriter>,
    flush: Flush,
    turn: usize,
    retention: Retention,
}

impl TopicWriter {
    /// Takes the locks of the partitions, and makes each ready.
    pub fn open(topic: &Topic, only: Option<Partition>, options: WriterOptions) -> Result<Self> {
        let writers: Vec<PartitionWriter> = match only {
            Some(partition) => vec![topic.writer(partition, options)?],
            None => topic.partitions().map(|partition| topic.writer(partition, options)).collect::<Result<_>>()?,
        };
        // Many short appends share the partitions too: each goes on where the one before stopped.
        let records: i64 = writers.iter().map(|writer| writer.end().0).sum();
        let turn = records as usize % writers.len().max(1);
        Ok(Self { writers, flush: options.flush, turn, retention: topic.retention() })
    }

    /// The torn tails that opening has cut off.
    pub fn truncations(&self) -> impl Iterator<Item = (Partition, &Truncation)> {
        self.writers.iter().filter_map(|writer| Some((writer.partition(), writer.truncation()?)))
    }

    /// Appends records under the flush policy.
    pub fn append(&mut self, records: &[NewRecord<'_>]) -> Result<()> {
        for record in records {
            self.push(record)?;
        }
        if self.flush == Flush::EachAppend {
            self.flush()?;
        }
        Ok(())
    }

    /// Appends a record to the partition of its key, or to the next one. It becomes durable later.
    #[inline]
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(Partition, Offset)> {
        let index = match record.key {
            Some(key) if self.writers.len() > 1 => murmur2::partition_of(key, self.writers.len() as i32) as usize,
            Some(_) => 0,
            None => {
                let turn = self.turn;
                self.turn = if turn + 1 < self.writers.len() { turn + 1 } else { 0 };
                turn
            }
        };
        match self.writers.get_mut(index) {
            Some(writer) => push(writer, record),
            None => Err(Error::internal(format!("there is no writer {index}"))),
        }
    }

    /// Appends a record to a partition of the caller's choice.
    pub fn push_to(&mut self, partition: Partition, record: &NewRecord<'_>) -> Result<(Partition, Offset)> {
        match self.writers.iter_mut().find(|writer| writer.partition() == partition) {
            Some(writer) => push(writer, record),
            None => Err(Error::config("log.unknown_partition", format!("partition {partition} is not open for appending"))
                .with("partition", partition)),
        }
    }

    /// Makes everything durable and visible.
    pub fn flush(&mut self) -> Result<()> {
        self.writers.iter_mut().try_for_each(|writer| writer.flush().map(drop))
    }

    /// Deletes what the topic's retention no longer keeps. A writer that stays open for long does so now and then, because
    /// nobody else can. Returns how many bytes were deleted.
    pub fn enforce_retention(&mut self, now_ms: i64) -> Result<u64> {
        let retention = self.retention;
        self.writers.iter_mut().map(|writer| writer.enforce_retention(&retention, now_ms)).sum()
    }

    /// The durable end of each partition that is open.
    pub fn durable_ends(&self) -> Vec<(Partition, Offset)> {
        self.writers.iter().map(|writer| (writer.partition(), writer.durable_end())).collect()
    }
}

#[inline]
fn push(writer: &mut PartitionWriter, record: &NewRecord<'_>) -> Result<(Partition, Offset)> {
    let offset = writer.end();
    writer.push(record)?;
    Ok((writer.partition(), offset))
}
