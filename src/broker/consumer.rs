//! Reads partitions: a client with a thread that serves its events, and for each partition a queue that is drained by
//! whoever works on the partition. Which partitions are read from where is decided here and by nobody else: there is no
//! group, and nothing is rebalanced.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::client::Client;
use super::ffi::{self, Batch, Failure, Message, Queue};
use super::options::ClientOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{self, RecordBlock, RecordRef, Span, varint};
use crate::time::instant;

/// Bytes of records that wait in the queues of all partitions of a client.
const QUEUED_BYTES: usize = 8 << 20;
/// Bytes that make a block worth the work that each one costs.
const ENOUGH: usize = 256 << 10;
/// How long fewer are kept back.
const LINGER: Duration = Duration::from_millis(10);

/// A client that reads partitions.
pub struct Consumer {
    client: Client,
}

/// One partition of a topic, read in order.
pub struct Feed {
    // Before the queue and the client, which messages must not outlive.
    batch: Batch,
    queue: Queue,
    consumer: Arc<Consumer>,
    topic: String,
    partition: i32,
    headers: bool,
    /// The position after what has come.
    next: i64,
    /// The position after what was handed out.
    given: i64,
    /// What has come and was not handed out.
    gathered: RecordBlock,
    gathering_since: Option<Instant>,
    /// Whether nothing is left in the log for now.
    at_end: bool,
    /// A record that came already and is for a later block: it is past `until`, or of another leader.
    held: Option<Held>,
}

struct Held {
    record: RecordBlock,
    offset: i64,
}

impl Consumer {
    /// A client that will read about `partitions` partitions.
    ///
    /// # Errors
    /// A `ConfigError` that names the option that librdkafka rejects.
    pub fn new(options: &ClientOptions, partitions: usize) -> Result<Arc<Self>> {
        // How long a broker may say nothing before another is looked for: as Kafka's own consumer.
        Self::with(options, partitions, "30000", &[])
    }

    /// A client that sees records of committed transactions only, or of all, whatever the options say.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn isolated(options: &ClientOptions, partitions: usize, committed: bool) -> Result<Arc<Self>> {
        let level = if committed { "read_committed" } else { "read_uncommitted" };
        // Who reads to an end and no further hears of it so much later, and of a broker that says nothing so much earlier.
        Self::with(options, partitions, "5000", &[("isolation.level", level), ("fetch.wait.max.ms", "10")])
    }

    fn with(options: &ClientOptions, partitions: usize, silence_ms: &str, more: &[(&str, &str)]) -> Result<Arc<Self>> {
        let queued = (QUEUED_BYTES / partitions.max(1)).max(1 << 20) >> 10;
        let defaults = [
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            // Read ahead by bytes, not by number, and look again soon after a queue was full.
            ("queued.min.messages", "1000000"),
            ("queued.max.messages.kbytes", &queued.to_string()),
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            ("socket.timeout.ms", silence_ms),
            ("topic.metadata.refresh.interval.ms", "30000"),
        ];
        let mut decided = vec![
            ("group.id", "kappa"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
        ];
        decided.extend_from_slice(more);
        Ok(Arc::new(Self { client: Client::new(options, &options.client(&defaults, &decided))? }))
    }

    /// Begins to read a partition at an offset.
    /// `leader_epoch` is that of the record before `at`: if the log was cut there since, reading fails. Headers are left out
    /// where they are not asked for: librdkafka takes as long for those of a record as for all the rest of it.
    pub fn feed(
        self: &Arc<Self>,
        topic: &str,
        partition: i32,
        at: i64,
        leader_epoch: Option<i32>,
        headers: bool,
    ) -> Result<Feed> {
        let failed = |what: String| Error::new(ErrorKind::Unavailable, "kafka", format!("begin to read topic {topic}: {what}"));
        let queue = Queue::of_partition(self.client.native(), topic, partition)
            .ok_or_else(|| failed("the partition has no queue".to_owned()))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(at)).map_err(|e| failed(e.to_string()))?;
        leader_epoch.into_iter().for_each(|epoch| ffi::set_leader_epoch(&mut list, epoch));
        self.client.consumer().incremental_assign(&list).map_err(|e| failed(e.to_string()))?;
        Ok(Feed {
            batch: Batch::new(),
            queue,
            consumer: self.clone(),
            topic: topic.to_owned(),
            partition,
            headers,
            next: at,
            given: at,
            gathered: RecordBlock::default(),
            gathering_since: None,
            at_end: false,
            held: None,
        })
    }
}

impl Feed {
    /// Replaces the content of `block` by the next records, about `max_bytes` of them, none at or past `until`. Never waits:
    /// what has come is kept back for a moment while it is little and there is more to come.
    ///
    /// # Errors
    /// The topic is gone, its records from here on are gone, or it cannot be read any more. What passes is waited out.
    pub fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<i64>) -> Result<()> {
        block.clear();
        block.partition = message::Partition(self.partition);
        self.gather(max_bytes, until)?;
        if self.is_worth_it(max_bytes) {
            std::mem::swap(block, &mut self.gathered);
            self.gathered.clear();
            self.gathering_since = None;
            self.given = self.next;
        }
        block.next_offset = message::Offset(self.given);
        Ok(())
    }

    /// Whether to hand out what was gathered: it is enough, it is all there is, or it has waited.
    fn is_worth_it(&mut self, max_bytes: usize) -> bool {
        let gathered = &self.gathered;
        if gathered.is_empty() || self.at_end || self.held.is_some() || gathered.data.len() >= max_bytes.min(ENOUGH) {
            return true;
        }
        self.gathering_since.get_or_insert_with(instant).elapsed() >= LINGER
    }

    fn gather(&mut self, max_bytes: usize, until: Option<i64>) -> Result<()> {
        self.gathered.partition = message::Partition(self.partition);
        if let Some(held) = self.held.take_if(|held| until.is_none_or(|until| held.offset < until)) {
            self.next = held.offset + 1;
            self.gathered = held.record;
        }
        let mut failure = None;
        if self.held.is_none() && self.gathered.data.len() < max_bytes {
            let with_headers = self.headers;
            let (next, held, block, at_end) = (&mut self.next, &mut self.held, &mut self.gathered, &mut self.at_end);
            let mut take = |message: &Message<'_>| {
                if let Some(found) = message.failure() {
                    *at_end = message.is_end();
                    if *at_end {
                        *next = (*next).max(message.offset());
                        return true;
                    }
                    failure = Some((found, message.offset()));
                    return false;
                }
                *at_end = false;
                let (offset, epoch) = (message.offset(), message.leader_epoch());
                let of_another = !block.is_empty() && block.leader_epoch != epoch;
                if of_another || until.is_some_and(|until| offset >= until) {
                    let mut record = RecordBlock { partition: block.partition, ..RecordBlock::default() };
                    append(&mut record, message, with_headers);
                    record.leader_epoch = epoch;
                    *held = Some(Held { record, offset });
                    return false;
                }
                append(block, message, with_headers);
                block.leader_epoch = epoch;
                *next = offset + 1;
                block.data.len() < max_bytes
            };
            self.queue.drain(&mut self.batch, &mut take);
        }
        if let (Some(held), Some(until)) = (&self.held, until)
            && held.offset >= until
        {
            // Up to there nothing is left.
            self.next = self.next.max(until);
        }
        match failure {
            Some((failure, offset)) => self.failed(&failure, offset),
            None => Ok(()),
        }
    }

    fn failed(&self, failure: &Failure, offset: i64) -> Result<()> {
        let text = self.consumer.client.options().scrub(&failure.text);
        let error = match failure.code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                let message = format!("the records of topic {} from offset {} on are gone: {text}", self.topic, self.next);
                Error::refused("retention_gap", message)
                    .hint("they were deleted before they were read: reprocess what is left into a new table, and give the topic a longer retention")
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
                Error::refused("topic_gone", format!("topic {} cannot be read any more: {text}", self.topic))
                    .hint("it was deleted; a topic that is made again under its name is another one")
            }
            Code::TopicAuthorizationFailed => Error::config("not_authorized", format!("read topic {}: {text}", self.topic))
                .hint("the cluster must allow this user to read the topic"),
            Code::BadMessage | Code::InvalidMessage | Code::BadCompression => {
                Error::corruption("record", format!("a batch of topic {} is damaged: {text}", self.topic))
                    .hint("the cluster sent bytes that are not what was written: look at the broker's disks")
            }
            // Connections come back; the client tries until they do.
            _ => return Ok(()),
        };
        Err(error.with("partition", self.partition).with("offset", if offset >= 0 { offset } else { self.next }))
    }
}

/// Copies a record into a block.
fn append(block: &mut RecordBlock, message: &Message<'_>, with_headers: bool) {
    let key = put(&mut block.data, message.key());
    let value = put(&mut block.data, message.payload());
    let headers = if with_headers { put_headers(&mut block.data, message) } else { Span::NULL };
    block.records.push(RecordRef { offset: message.offset(), timestamp: message.timestamp(), key, value, headers });
}

fn put(data: &mut Vec<u8>, bytes: Option<&[u8]>) -> Span {
    match bytes {
        None => Span::NULL,
        Some(bytes) => {
            let start = data.len();
            data.extend_from_slice(bytes);
            Span::new(start, bytes.len())
        }
    }
}

/// Headers in Kafka's wire form: the count, then the names and values. The count is known last: one byte is left for it,
/// which is enough for 63 headers.
fn put_headers(data: &mut Vec<u8>, message: &Message<'_>) -> Span {
    let start = data.len();
    data.push(0);
    let count = message.headers(|name, value| {
        varint::put(data, name.len() as i64);
        data.extend_from_slice(name);
        varint::put(data, value.map_or(-1, |value| value.len() as i64));
        data.extend_from_slice(value.unwrap_or_default());
    });
    match count {
        Some(count @ 0..64) => data[start] = (count << 1) as u8,
        Some(count) => {
            let mut longer = Vec::new();
            varint::put(&mut longer, count as i64);
            data.splice(start..=start, longer);
        }
        None => {}
    }
    Span::new(start, data.len() - start)
}
