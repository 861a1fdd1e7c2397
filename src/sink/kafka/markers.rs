//! The topic of markers, `__kappa_commits`: what is delivered to each topic of the cluster, under the topic's name.

use std::time::Duration;

use super::wait_until_known;
use crate::broker::{ClientOptions, Consumer, TopicClient, TransactionalProducer};
use crate::error::{Error, ErrorKind, Result};
use crate::log::partition_of;
use crate::message::RecordBlock;
use crate::plan::topics::MARKER_TOPIC;
use crate::protocol::delivery::Marker;
use crate::time::{instant, now_ms};

const PARTITIONS: i32 = 16;
const REPLICAS: usize = 3;
/// How long an open transaction of somebody else may stand in the way: longer than the cluster leaves one open.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a commit that was just answered may not be seen yet.
const GLANCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);
const BLOCK: usize = 1 << 20;

/// A topic's last marker: its offset, and itself unless the record has no value.
type Last = Option<(i64, Option<Marker>)>;

/// Reads and writes markers.
pub(super) struct Markers {
    options: ClientOptions,
    /// Asks about the topic of markers: one client for all that is asked, at every checkpoint too.
    client: TopicClient,
}

impl Markers {
    pub fn new(options: &ClientOptions) -> Result<Self> {
        Ok(Self { options: options.clone(), client: TopicClient::of_uncommitted(options, MARKER_TOPIC)? })
    }

    /// The newest committed marker of a topic. What was begun before this call and is decided counts: a commit is answered
    /// before readers of committed records see it, so this waits until they are past the topic's last record. Transactions
    /// that others have open since then do not matter.
    pub fn newest(&self, topic: &str) -> Result<Option<Marker>> {
        match self.read(topic, PATIENCE)? {
            (newest, None) => Ok(newest),
            (_, Some(offset)) => {
                let message = format!("a transaction on topic {MARKER_TOPIC} stays open");
                Err(Error::new(ErrorKind::Unavailable, "open_transaction", message)
                    .with("offset", offset)
                    .hint("kafka-transactions.sh --find-hanging finds it, and --abort ends it"))
            }
        }
    }

    /// The newest marker of a topic that can be seen. A process that died may have left a transaction open, which its
    /// successor ends: that is not waited for.
    pub fn newest_visible(&self, topic: &str) -> Result<Option<Marker>> {
        Ok(self.read(topic, GLANCE)?.0)
    }

    /// The newest marker that is committed, and where committed records end if that is not past the topic's last record.
    fn read(&self, topic: &str, patience: Duration) -> Result<(Option<Marker>, Option<i64>)> {
        let Some(partition) = self.partition(topic)? else { return Ok((None, None)) };
        let all = self.client.extents(&[partition])?;
        let Some(extent) = all.get(&partition).filter(|extent| extent.end > extent.start) else { return Ok((None, None)) };
        let scan = |committed: bool, end: i64| -> Result<Last> {
            let consumer = Consumer::isolated(&self.options, 1, committed)?;
            let mut feed = consumer.feed(MARKER_TOPIC, partition, extent.start, None, false)?;
            let (mut block, mut last, started) = (RecordBlock::default(), None, instant());
            while block.next_offset.0 < end {
                if started.elapsed() > PATIENCE {
                    return Err(Error::new(ErrorKind::Unavailable, "kafka", format!("read topic {MARKER_TOPIC}: no answer")));
                }
                feed.poll(&mut block, BLOCK, None)?;
                for index in (0..block.len()).filter(|index| block.key(*index) == Some(topic.as_bytes())) {
                    let marker = block.value(index).map(|value| Marker::decode(topic, value)).transpose()?;
                    last = block.records.get(index).map(|record| (record.offset, marker));
                }
                if block.is_empty() {
                    std::thread::sleep(PAUSE);
                }
            }
            Ok(last)
        };
        let Some((last, _)) = scan(false, extent.end)? else { return Ok((None, None)) };
        let stable = self.stable_end(partition, last, patience)?;
        let newest = scan(true, stable.min(last + 1))?;
        Ok((newest.and_then(|(_, marker)| marker), (stable <= last).then_some(stable)))
    }

    /// Where committed records end, once that is past `last` or patience is over.
    fn stable_end(&self, partition: i32, last: i64, patience: Duration) -> Result<i64> {
        let (client, started) = (TopicClient::of_committed(&self.options, MARKER_TOPIC)?, instant());
        loop {
            let stable = client.extents(&[partition])?.get(&partition).map_or(0, |extent| extent.end);
            if stable > last || started.elapsed() > patience {
                return Ok(stable);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The partition in which a topic's markers lie; `None` if there is no topic of markers.
    fn partition(&self, topic: &str) -> Result<Option<i32>> {
        match self.client.describe() {
            Err(error) if error.code() == "unknown_topic" => Ok(None),
            found => {
                let partitions = i32::try_from(found?.1.len()).unwrap_or(i32::MAX);
                Ok(Some(partition_of(topic.as_bytes(), partitions)))
            }
        }
    }

    /// Makes the topic of markers if it is not there, and checks that it keeps the newest of each.
    pub fn ensure(&self) -> Result<()> {
        match self.client.describe() {
            Err(error) if error.code() == "unknown_topic" => self.create()?,
            found => drop(found?),
        }
        // Who may not look at the configuration is believed to have made it well.
        let policy = self.client.configuration().ok().and_then(|mut all| all.remove("cleanup.policy")).unwrap_or_default();
        if policy.contains("delete") {
            let message = format!("topic {MARKER_TOPIC} forgets (cleanup.policy={policy}): it must keep what is delivered");
            return Err(Error::refused("marker_topic", message)
                .hint(format!("kafka-configs.sh --alter --topic {MARKER_TOPIC} --add-config cleanup.policy=compact")));
        }
        Ok(())
    }

    fn create(&self) -> Result<()> {
        let replicas = self.client.brokers()?.clamp(1, REPLICAS);
        let mut configs = vec![("cleanup.policy", "compact"), ("unclean.leader.election.enable", "false")];
        if replicas == REPLICAS {
            configs.push(("min.insync.replicas", "2"));
        }
        let words: Vec<String> = configs.iter().map(|(name, value)| format!("--config {name}={value}")).collect();
        let by_hand = format!(
            "make it by hand: kafka-topics.sh --create --topic {MARKER_TOPIC} --partitions {PARTITIONS} \
             --replication-factor {replicas} {}",
            words.join(" ")
        );
        let replicas = i32::try_from(replicas).unwrap_or(1);
        self.client.create(PARTITIONS, replicas, &configs).map_err(|error| error.hint(by_hand))?;
        wait_until_known(&self.options, MARKER_TOPIC)
    }

    /// Adds a marker to a transaction.
    pub fn send(&self, producer: &TransactionalProducer, topic: &str, marker: &Marker) -> Result<()> {
        let partition = self.partition(topic)?.ok_or_else(|| {
            Error::refused("marker_topic", format!("topic {MARKER_TOPIC} was deleted"))
                .hint("nobody can tell what is delivered: write to a new topic")
        })?;
        let value = marker.encode()?;
        producer.send(MARKER_TOPIC, Some(partition), (Some(topic.as_bytes()), Some(&value)), now_ms())
    }
}
