//! Topics of a real Kafka cluster, as tests need them. `KAPPA_KAFKA` is its address; `tests/kafka/with_broker.sh` starts one.

use std::time::Duration;

use kappa::message::Partition;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use super::data::Log;

/// The cluster's address. Without one a test cannot run: it says so, or fails where that is wanted.
pub fn address() -> Option<String> {
    let address = std::env::var("KAPPA_KAFKA").ok().filter(|address| !address.is_empty());
    if address.is_none() {
        assert!(
            std::env::var("KAPPA_REQUIRE_KAFKA").as_deref() != Ok("1"),
            "KAPPA_REQUIRE_KAFKA=1, but KAPPA_KAFKA is not set"
        );
        eprintln!("SKIPPED: NOT CHECKED against Apache Kafka: KAPPA_KAFKA is not set (tests/kafka/with_broker.sh sets it)");
    }
    address
}

/// Makes a topic.
pub fn create(address: &str, topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let new = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    runtime.block_on(admin.create_topics([&new], &options)).unwrap().remove(0).unwrap();
}

/// Appends a log's records to a topic, further and further.
pub struct Producing {
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    written: Vec<i64>,
}

impl Producing {
    pub fn new(address: &str, topic: &str, partitions: usize) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", address).set("enable.idempotence", "true").set("linger.ms", "2");
        Self { producer: config.create().unwrap(), topic: topic.to_owned(), written: vec![0; partitions] }
    }

    /// Appends what is not there yet, up to these offsets, and waits until it can be read.
    pub fn append(&mut self, log: &Log, upto: &[i64]) {
        for (number, written) in self.written.iter_mut().enumerate() {
            for record in &log.partitions[number][*written as usize..upto[number].max(*written) as usize] {
                let mut new: BaseRecord<'_, [u8], [u8]> =
                    BaseRecord::to(&self.topic).partition(Partition(number as i32).0).timestamp(record.timestamp);
                if let Some(payload) = &record.payload {
                    new = new.payload(payload.as_slice());
                }
                self.producer.send(new).map_err(|(error, _)| error).unwrap();
            }
            *written = upto[number].max(*written);
        }
        self.producer.flush(Duration::from_secs(30)).unwrap();
    }
}
