//! A topic of a Kafka cluster as a source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{LogSource, PartitionExtent, PartitionReader, Reading};
use crate::broker::{ClientOptions, Consumer, Extent, Feed, TopicClient};
use crate::error::{Error, Result};
use crate::message::{Offset, Partition, RecordBlock};

/// A topic, asked about by one client and read by several.
pub struct KafkaSource {
    options: ClientOptions,
    topic: TopicClient,
    id: String,
    reading: Reading,
    partitions: usize,
    /// Where the partitions began and ended when that was last asked.
    known: Mutex<BTreeMap<i32, Extent>>,
    /// Clients that read, made when they are needed. Each has a thread of its own for each broker: as many of them as
    /// there are workers keep the workers busy.
    consumers: Mutex<Vec<Option<Arc<Consumer>>>>,
    /// Commits to the group that others watch.
    publisher: Mutex<Option<TopicClient>>,
}

impl KafkaSource {
    /// The topic of this name. The error for an unknown one names those there are.
    pub fn open(options: ClientOptions, topic: &str, reading: Reading) -> Result<Self> {
        let topic = TopicClient::new(&options, topic)?;
        let (id, partitions) = topic.describe()?;
        let clients = reading.threads.clamp(1, partitions.len().max(1));
        let consumers = Mutex::new((0..clients).map(|_| None).collect());
        let known = Mutex::default();
        Ok(Self { options, topic, id, reading, partitions: partitions.len(), known, consumers, publisher: Mutex::default() })
    }

    fn consumer(&self, partition: Partition) -> Result<Arc<Consumer>> {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = consumers.len();
        let Some(slot) = consumers.get_mut(partition.0.unsigned_abs() as usize % clients) else {
            return Err(Error::internal("a source without clients"));
        };
        match slot {
            Some(consumer) => Ok(consumer.clone()),
            None => Ok(slot.insert(Consumer::new(&self.options, self.partitions.div_ceil(clients))?).clone()),
        }
    }

    /// The partitions there are now, if this is still the topic that was opened.
    fn current(&self) -> Result<Vec<i32>> {
        let (id, partitions) = self.topic.describe()?;
        if id == self.id {
            return Ok(partitions);
        }
        Err(Error::refused("topic_recreated", format!("topic {} was deleted and made again", self.topic.topic()))
            .with("before", &self.id)
            .with("now", id)
            .hint("its offsets mean other records now: reprocess it into a new table"))
    }

    fn extents(&self) -> Result<BTreeMap<i32, Extent>> {
        let extents = self.topic.extents(&self.current()?)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&extents);
        Ok(extents)
    }

    /// Whether an offset can be read. Where it could a moment ago the cluster is not asked: of a thousand partitions that
    /// would be as many requests, and reading tells when an offset is gone.
    fn check(&self, partition: Partition, at: i64) -> Result<()> {
        let holds = |extent: &Extent| extent.start <= at && at <= extent.end;
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&partition.0).is_some_and(holds) {
            return Ok(());
        }
        let topic = self.topic.topic();
        match self.extents()?.get(&partition.0) {
            None => Err(Error::refused("partition_gone", format!("topic {topic} has no partition {partition}"))),
            Some(extent) if holds(extent) => Ok(()),
            Some(Extent { start, end }) => {
                let message = format!("topic {topic} holds offsets {start} to {end}, not {at}");
                Err(Error::refused("offset_out_of_range", message).with("partition", partition))
            }
        }
    }
}

impl LogSource for KafkaSource {
    fn topic_id(&self) -> &str {
        &self.id
    }

    fn partitions(&self) -> Result<Vec<PartitionExtent>> {
        let extent = |(partition, extent): (i32, Extent)| PartitionExtent {
            partition: Partition(partition),
            start: Offset(extent.start),
            end: Offset(extent.end),
            bytes: 0,
        };
        Ok(self.extents()?.into_iter().map(extent).collect())
    }

    fn offsets_at(&self, timestamp: i64) -> Result<BTreeMap<Partition, Offset>> {
        // The ends first: what is written between the two questions lies behind them.
        let ends = self.extents()?;
        let partitions: Vec<i32> = ends.keys().copied().collect();
        let found = self.topic.offsets_at(&partitions, timestamp)?;
        let offset = |(partition, extent): (i32, Extent)| {
            (Partition(partition), Offset(found.get(&partition).copied().unwrap_or(extent.end)))
        };
        Ok(ends.into_iter().map(offset).collect())
    }

    fn verify(&self) -> Result<()> {
        self.current().map(drop)
    }

    fn committed(&self, group: &str) -> Result<BTreeMap<Partition, Offset>> {
        let committed = self.topic.committed(group, &self.current()?)?;
        Ok(committed.into_iter().map(|(partition, offset)| (Partition(partition), Offset(offset))).collect())
    }

    fn publish(&self, group: &str, positions: &BTreeMap<Partition, Offset>) {
        let mut publisher = self.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        if publisher.as_ref().is_none_or(|publisher| publisher.group() != group) {
            *publisher = TopicClient::in_group(&self.options, self.topic.topic(), group).ok();
        }
        if let Some(publisher) = publisher.as_ref() {
            publisher.commit(positions.iter().map(|(partition, offset)| (partition.0, offset.0)));
        }
    }

    fn not_replayable(&self) -> Result<Option<String>> {
        let policy = self.topic.configuration()?.remove("cleanup.policy").unwrap_or_default();
        let compacted = policy.split(',').any(|policy| policy.trim() == "compact");
        Ok(compacted
            .then(|| format!("it is compacted (cleanup.policy={policy}): the cluster removes records that newer ones replace")))
    }

    fn open(&self, partition: Partition, at: Offset, leader_epoch: Option<i32>) -> Result<Box<dyn PartitionReader>> {
        self.check(partition, at.0)?;
        let (topic, headers) = (self.topic.topic(), self.reading.headers);
        Ok(Box::new(self.consumer(partition)?.feed(topic, partition.0, at.0, leader_epoch, headers)?))
    }
}

impl PartitionReader for Feed {
    fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        Feed::poll(self, block, max_bytes, until.map(|until| until.0))
    }
}
