//! What librdkafka calls back for: errors of the connection, and tokens.

use std::sync::Mutex;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::config::kafka::{Token, TokenProvider};

/// What the callbacks of one client share.
pub(super) struct Context {
    tokens: Option<TokenProvider>,
    last_error: Mutex<Option<String>>,
}

impl Context {
    pub fn new(tokens: Option<TokenProvider>) -> Self {
        Self { tokens, last_error: Mutex::new(None) }
    }

    /// The last thing that went wrong with the connection: why a request timed out.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, text: String) {
        *self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(text);
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters of it comes as an error too; but for the reason that a login failed.
        if facility == "FAIL" && (level as i32) <= RDKafkaLogLevel::Error as i32 {
            self.note(message.to_owned());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
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
