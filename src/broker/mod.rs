//! Kafka's client: the only place that knows librdkafka. Clients are set up here ([`ClientOptions`]), topics are asked about
//! ([`TopicClient`]), read ([`Consumer`], [`Feed`]) and written ([`TransactionalProducer`]).

mod client;
mod consumer;
mod context;
mod failure;
mod ffi;
mod options;
mod producer;
mod topic;

pub use consumer::{Consumer, Feed};
pub use options::ClientOptions;
pub use producer::TransactionalProducer;
pub use topic::{Extent, TopicClient};
