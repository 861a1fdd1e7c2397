//! Kafka's client: the only place that knows librdkafka. Clients are set up here ([`ClientOptions`]), topics are asked about
//! ([`TopicClient`]) and read ([`Consumer`], [`Feed`]).

mod client;
mod consumer;
mod context;
mod failure;
mod ffi;
mod options;
mod topic;

pub use consumer::{Consumer, Feed};
pub use options::ClientOptions;
pub use topic::{Extent, TopicClient};
