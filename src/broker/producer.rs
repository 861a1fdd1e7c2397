//! Writes records in transactions. A producer is used for as long as every one of its transactions ends cleanly, and is
//! replaced by a new one after the first that does not: a late answer to an old one must never meet the next.

use std::time::Duration;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::context::Context;
use super::failure::request_failed;
use super::ffi::Failure;
use super::options::ClientOptions;
use crate::error::{Error, Result};
use crate::plan::topics::MARKER_TOPIC;
use crate::time::instant;

/// How long a new producer waits for a first answer.
const CONTACT: Duration = Duration::from_secs(5);
/// How long a new producer tries to get its id.
const INIT: Duration = Duration::from_secs(60);
/// How long one try of that takes at most.
const INIT_ONCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);
/// How long a commit may take, with what still has to be sent.
const COMMIT: Duration = Duration::from_secs(120);
const ABORT: Duration = Duration::from_secs(5);
/// How long the broker keeps a transaction open whose producer is gone; readers wait for it.
const TRANSACTION: &str = "120000";
/// How long a broker may take to answer.
const ANSWER_MS: u64 = 10_000;

/// A producer with a transactional id. Making a second one with the same id ends what the first has begun, and the first.
pub struct TransactionalProducer {
    client: ThreadedProducer<Context>,
    options: ClientOptions,
    id: String,
}

impl TransactionalProducer {
    /// A producer with this id, which ends a transaction that an earlier one left open. When this returns, the fate of that
    /// one is final. `max_message_bytes`: the greatest batch that the topics take.
    ///
    /// # Errors
    /// A `ConfigError` for an option that librdkafka rejects, or what the cluster does not allow; `Unavailable`; `Conflict`
    /// if yet another producer has the id.
    pub fn new(options: &ClientOptions, id: &str, max_message_bytes: usize) -> Result<Self> {
        let size = max_message_bytes.clamp(1_000, 1_000_000_000);
        let (queue, size) = ((size * 2 / 1_000).max(64 << 10).to_string(), size.to_string());
        let patience = request_timeout(options.given("transaction.timeout.ms")).to_string();
        let defaults = [
            ("transaction.timeout.ms", TRANSACTION),
            ("socket.timeout.ms", &patience),
            ("compression.type", "lz4"),
            ("linger.ms", "5"),
            ("queue.buffering.max.messages", "1000000"),
            ("queue.buffering.max.kbytes", &queue),
        ];
        let decided = [
            ("transactional.id", id),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("partitioner", "murmur2_random"),
            ("message.max.bytes", &size),
        ];
        let mut config = options.client(&defaults, &decided);
        // Connections that break are told at this level.
        config.set_log_level(RDKafkaLogLevel::Info);
        let context = Context::new(options.tokens());
        let client = config.create_with_context(context).map_err(|error| options.rejected(&error))?;
        let producer = Self { client, options: options.clone(), id: id.to_owned() };
        // librdkafka looks for the coordinator at once, or half a second later if no broker is there or known yet.
        let _ = producer.client.client().fetch_metadata(Some(MARKER_TOPIC), CONTACT);
        producer.init()?;
        Ok(producer)
    }

    fn init(&self) -> Result<()> {
        let started = instant();
        loop {
            match self.client.init_transactions(INIT_ONCE) {
                Ok(()) => return Ok(()),
                Err(error) if is_retriable(&error) && started.elapsed() < INIT => std::thread::sleep(PAUSE),
                Err(error) => return Err(self.failed("begin to write", &error)),
            }
        }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> Result<()> {
        self.client.begin_transaction().map_err(|error| self.failed("begin a transaction", &error))
    }

    /// Hands over a record; waits while too many are on their way. Without a partition the key decides, by Kafka's hash.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        timestamp: i64,
    ) -> Result<()> {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).timestamp(timestamp);
        (record.key, record.payload, record.partition) = (key, value, partition);
        loop {
            match self.client.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    std::thread::sleep(Duration::from_millis(1));
                    record = back;
                }
                Err((error, _)) => return Err(self.failed(&format!("write to topic {topic}"), &error)),
            }
        }
    }

    /// Waits until all that was handed over is with the cluster.
    pub fn flush(&self) -> Result<()> {
        // The client's own flush looks ten times a second: every checkpoint would be late by a tenth of a second.
        let started = instant();
        while self.client.in_flight_count() > 0 && started.elapsed() < COMMIT {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.client.flush(Duration::ZERO).map_err(|error| self.failed("write", &error))
    }

    /// Commits the transaction. After an error its fate is not known: make a new producer, then look.
    pub fn commit(&self) -> Result<()> {
        self.flush()?;
        self.client.commit_transaction(COMMIT).map_err(|error| self.failed("commit a transaction", &error))
    }

    /// Ends a transaction that was not yet to be committed, so that readers need not wait for the cluster to do so.
    pub fn abort(&self) {
        let _ = self.client.abort_transaction(ABORT);
    }

    /// How often a connection broke, or a request got no answer in time.
    pub fn disturbances(&self) -> u64 {
        self.client.context().disturbances()
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> Error {
        let failure = Failure::from(error);
        let last = self.client.context().last_error();
        request_failed(doing, &failure, last, &self.options).with("transactional_id", &self.id)
    }
}

/// Milliseconds after which a request to a broker that says nothing is given up, so that another broker is asked. By itself
/// librdkafka waits nearly as long as a transaction may take; it must be shorter than that.
fn request_timeout(transaction: Option<&str>) -> u64 {
    let transaction = transaction.unwrap_or(TRANSACTION).parse().unwrap_or(ANSWER_MS);
    ANSWER_MS.min(transaction.saturating_sub(100))
}

fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.is_retriable())
}
