//! What librdkafka calls back for: errors of the connection, and tokens.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::config::kafka::{Token, TokenProvider};

/// What the callbacks of one client share.
pub(super) struct Context {
    tokens: Option<TokenProvider>,
    last_error: Mutex<Option<String>>,
    /// Connections that broke and requests that got no answer in time.
    disturbances: AtomicU64,
}

impl Context {
    pub fn new(tokens: Option<TokenProvider>) -> Self {
        Self { tokens, last_error: Mutex::new(None), disturbances: AtomicU64::new(0) }
    }

    /// The last thing that went wrong with the connection: why a request timed out.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// How often a connection broke, or a request got no answer in time.
    pub fn disturbances(&self) -> u64 {
        self.disturbances.load(Relaxed)
    }

    fn note(&self, text: String) {
        *self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if matches!(facility, "FAIL" | "REQTMOUT") {
            self.disturbances.fetch_add(1, Relaxed);
        }
        // What matters of it comes as an error too; but for the reason that a login failed.
        if facility == "FAIL" && (level as i32) <= RDKafkaLogLevel::Error as i32 {
            self.note(message.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.disturbances.fetch_add(1, Relaxed);
        if reason.is_empty() { self.note(error.to_string()) } else { self.note(reason.to_owned()) }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens =
            self.tokens.as_ref().ok_or("OAUTHBEARER needs tokens: give kafka.oauth_token, a function that makes them, or set kafka.sasl.oauthbearer.method=oidc")?;
        let Token { token, principal, lifetime_ms } = tokens()?;
        Ok(OAuthToken { token, principal_name: principal, lifetime_ms })
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    /// A record that cannot be delivered ends its transaction, which tells.
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
