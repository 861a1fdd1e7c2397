//! How clients are set up: the cluster's address, the options that were given, and those that kappa must decide itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::config::kafka::{REDACTED, TokenProvider};
use crate::config::{KafkaOptions, Settings};
use crate::error::{Error, Result};

/// Options that decide whether a result is right; nobody else may set them.
const OWNED: [&str; 13] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "group.id",
    "group.instance.id",
    "enable.idempotence",
    "transactional.id",
    "acks",
    "request.required.acks",
    "log.queue",
];

/// What clients of one cluster have in common.
#[derive(Clone)]
pub struct ClientOptions {
    bootstrap: String,
    given: BTreeMap<String, String>,
    secrets: Arc<[String]>,
    tokens: Option<TokenProvider>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// The cluster of `log.url` (`kafka://HOST:PORT,HOST:PORT`), with the options `kafka.*`.
    ///
    /// # Errors
    /// A `ConfigError`: an address that is none, an option that kappa decides itself, a secret that is not where it should be.
    pub fn new(url: &str, given: &KafkaOptions) -> Result<Self> {
        let bootstrap = url.strip_prefix(Settings::KAFKA_SCHEME).unwrap_or_default().trim_end_matches('/');
        let is_address = |address: &str| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if bootstrap.contains('@') || !bootstrap.split(',').all(is_address) {
            return Err(Error::config("invalid_url", format!("{:?} is not the address of a cluster", redact_user(url))).hint(
                "write kafka://HOST:PORT,HOST:PORT; users and passwords go into kafka.sasl.username and kafka.sasl.password",
            ));
        }
        let tokens = given.tokens();
        let (given, secrets) = given.resolve()?;
        if let Some(owned) = given.keys().find(|name| OWNED.contains(&name.as_str())) {
            return Err(Error::config("owned_option", format!("kafka.{owned} is decided by kappa"))
                .hint("leave it out: the result would not be exactly once with another value"));
        }
        Ok(Self { bootstrap: bootstrap.to_owned(), given, secrets: secrets.into(), tokens })
    }

    /// The addresses to begin with.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// An option as it was given.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    pub(super) fn tokens(&self) -> Option<TokenProvider> {
        self.tokens.clone()
    }

    /// A client's configuration: `defaults` that the given options may replace, and `decided` ones that they may not.
    pub(super) fn client(&self, defaults: &[(&str, &str)], decided: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "kappa").set("socket.keepalive.enable", "true").set("reconnect.backoff.max.ms", "2000");
        defaults.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        self.given.iter().for_each(|(name, value)| {
            config.set(name, value);
        });
        config.set("bootstrap.servers", &self.bootstrap).set("allow.auto.create.topics", "false");
        decided.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config
    }

    /// A text without the secrets that may have got into it.
    pub fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
    }

    /// The error of a client that could not be made.
    pub(super) fn rejected(&self, error: &KafkaError) -> Error {
        let message = match error {
            KafkaError::ClientConfig(_, reason, name, _) => format!("kafka.{name}: {reason}"),
            other => format!("set up a Kafka client: {other}"),
        };
        Error::config("kafka_option", self.scrub(&message)).hint("options are those of librdkafka (CONFIGURATION.md there)")
    }
}

fn redact_user(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{REDACTED}@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str, given: &[(&str, &str)]) -> Result<ClientOptions> {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ClientOptions::new(url, &KafkaOptions::new(given))
    }

    #[test]
    fn addresses_are_checked_and_users_in_them_are_not_shown() {
        assert_eq!(options("kafka://a:9092,b.example:9093/", &[]).unwrap().bootstrap(), "a:9092,b.example:9093");
        for bad in ["kafka://", "kafka://host", "kafka://host:x", "kafka://a:1,", "kafka://anna:canary@host:9092"] {
            let error = options(bad, &[]).unwrap_err();
            assert_eq!(error.code(), "invalid_url", "{bad}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_decides_the_result_cannot_be_set_and_secrets_do_not_get_into_texts() {
        assert_eq!(options("kafka://a:1", &[("enable.auto.commit", "true")]).unwrap_err().code(), "owned_option");
        let options = options("kafka://a:1", &[("sasl.password", "canary"), ("client.id", "mine")]).unwrap();
        assert_eq!(options.scrub("login with canary failed"), format!("login with {REDACTED} failed"));
        let config = options.client(&[("client.id", "default")], &[("acks", "all")]);
        assert_eq!((config.get("client.id"), config.get("acks")), (Some("mine"), Some("all")));
        assert!(!format!("{options:?}").contains("canary"));
    }

    #[test]
    fn an_option_that_is_none_is_named() {
        let options = options("kafka://a:1", &[("no.such.option", "canary-value"), ("sasl.password", "canary")]).unwrap();
        let error = options.client(&[], &[]).create::<rdkafka::consumer::BaseConsumer>().map(drop).unwrap_err();
        let error = options.rejected(&error);
        assert!(error.to_string().contains("kafka.no.such.option"), "{error}");
    }
}
