//! From librdkafka's errors to kappa's: what kind it is, and what to do next.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::ffi::Failure;
use super::options::ClientOptions;
use crate::error::{Error, ErrorKind};

impl From<&KafkaError> for Failure {
    fn from(error: &KafkaError) -> Self {
        let text = match error {
            KafkaError::Transaction(error) => error.string(),
            other => other.to_string(),
        };
        Self { code: error.rdkafka_error_code().unwrap_or(Code::Unknown), text }
    }
}

/// The error of a request. `doing` says what was tried (`read the offsets of topic payments`), `last` is the last thing
/// that went wrong with the connection.
pub(super) fn request_failed(doing: &str, failure: &Failure, last: Option<String>, options: &ClientOptions) -> Error {
    let reason = match last {
        Some(last) if is_about_the_connection(failure.code) => last,
        _ => failure.text.clone(),
    };
    let reason = options.scrub(&reason);
    let message = format!("{doing}: {reason}");
    let error = match failure.code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition => {
            Error::config("unknown_topic", message).hint("check the name, and that this cluster is the one that has it")
        }
        Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            Error::config("not_authorized", message)
                .hint("the cluster must allow this user to describe the topic, and to read or write it")
        }
        Code::TransactionalIdAuthorizationFailed => Error::config("not_authorized", message)
            .hint("the cluster must allow this user to write with transactional ids that begin with kappa-"),
        Code::InvalidTransactionTimeout => Error::config("kafka_option", message)
            .hint("set kafka.transaction.timeout.ms to at most the cluster's transaction.max.timeout.ms"),
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            // Whether another owner is there is asked before the next try.
            Error::conflict("producer_fenced", message).retryable(true)
        }
        _ if is_about_the_login(failure.code, &reason) => {
            Error::config("not_authenticated", message).hint("check kafka.security.protocol, kafka.sasl.* and kafka.ssl.*")
        }
        _ => Error::new(ErrorKind::Unavailable, "kafka", message).hint("is the cluster up, and reachable from here?"),
    };
    error.with("bootstrap", options.bootstrap())
}

fn is_about_the_connection(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::RequestTimedOut | Code::Resolve
    )
}

fn is_about_the_login(code: Code, reason: &str) -> bool {
    matches!(code, Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)
        || ["SASL authentication error", "SSL handshake failed", "certificate verify failed", "Authentication failed"]
            .iter()
            .any(|sign| reason.contains(sign))
}
