//! `kafka.*`: the options of Kafka's client, by librdkafka's names, and the care that secrets among them need.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};

/// What is shown in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Parts of names whose values are secrets. `key` alone is not one: `ssl.key.location` is a path.
const SECRET_PARTS: [&str; 7] = ["password", "secret", "token", "credential", "key.pem", "private.key", "oauthbearer.config"];

/// A token for SASL OAUTHBEARER.
#[derive(Clone)]
pub struct Token {
    /// The token itself.
    pub token: String,
    /// The principal it stands for.
    pub principal: String,
    /// When it ends, milliseconds since 1970 UTC.
    pub lifetime_ms: i64,
}

/// Makes tokens. It is called from a thread of the client's whenever a token is needed; its errors are shown.
pub type TokenProvider = Arc<dyn Fn() -> std::result::Result<Token, String> + Send + Sync>;

/// Options of Kafka's client as they were given: values may refer to where a secret is (`env:NAME`, `file:PATH`).
#[derive(Clone, Default)]
pub struct KafkaOptions {
    options: BTreeMap<String, String>,
    tokens: Option<TokenProvider>,
}

impl PartialEq for KafkaOptions {
    fn eq(&self, other: &Self) -> bool {
        self.options == other.options
    }
}

impl Eq for KafkaOptions {}

impl KafkaOptions {
    /// Options by name, without the prefix `kafka.`.
    pub fn new(options: BTreeMap<String, String>) -> Self {
        Self { options, tokens: None }
    }

    /// With a maker of tokens.
    pub fn with_tokens(mut self, tokens: Option<TokenProvider>) -> Self {
        self.tokens = tokens;
        self
    }

    /// The maker of tokens, if there is one.
    pub fn tokens(&self) -> Option<TokenProvider> {
        self.tokens.clone()
    }

    /// Whether an option with this name holds a secret.
    pub fn is_secret(name: &str) -> bool {
        SECRET_PARTS.iter().any(|part| name.contains(part))
    }

    /// The value of an option as it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Names and values that may be shown: secrets are not in them, references to secrets are.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| {
            let literal = Self::is_secret(name) && reference(value).is_none();
            (name.as_str(), if literal { REDACTED } else { value.as_str() })
        })
    }

    /// The options with references followed, and the values that must never be shown.
    ///
    /// # Errors
    /// A `ConfigError` that names the option, and the variable or file that is not there.
    pub fn resolve(&self) -> Result<(BTreeMap<String, String>, Vec<String>)> {
        let (mut options, mut secrets) = (BTreeMap::new(), Vec::new());
        for (name, given) in &self.options {
            let value = match reference(given) {
                None => given.clone(),
                Some(Reference::Variable(variable)) => std::env::var(variable).map_err(|_| {
                    Error::config("secret_missing", format!("kafka.{name} refers to the variable {variable}, which is not set"))
                        .hint("set it for this process")
                })?,
                Some(Reference::File(path)) => read_secret(name, Path::new(path))?,
            };
            if !value.is_empty() && (Self::is_secret(name) || reference(given).is_some()) {
                secrets.push(value.clone());
            }
            options.insert(name.clone(), value);
        }
        Ok((options, secrets))
    }
}

impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

enum Reference<'a> {
    Variable(&'a str),
    File(&'a str),
}

fn reference(value: &str) -> Option<Reference<'_>> {
    match value.split_once(':') {
        Some(("env", variable)) => Some(Reference::Variable(variable)),
        Some(("file", path)) => Some(Reference::File(path)),
        _ => None,
    }
}

/// The content of a file without the line break at its end.
fn read_secret(name: &str, path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::config("secret_missing", format!("kafka.{name} refers to the file {}: {e}", path.display()))
            .hint("check the path and who may read it")
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> KafkaOptions {
        KafkaOptions::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn secrets_are_not_shown_and_references_to_them_are() {
        let shown = format!(
            "{:?}",
            options(&[
                ("sasl.username", "anna"),
                ("sasl.password", "canary-1"),
                ("ssl.key.password", "env:SECRET"),
                ("ssl.key.location", "/etc/key.pem"),
                ("ssl.key.pem", "canary-2"),
                ("sasl.oauthbearer.client.secret", "canary-3"),
                ("sasl.oauthbearer.config", "canary-4"),
                ("sasl.oauthbearer.assertion.private.key.passphrase", "canary-5"),
                ("sasl.oauthbearer.client.credentials.client.secret", "canary-6"),
            ])
        );
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("anna") && shown.contains("env:SECRET") && shown.contains("/etc/key.pem"), "{shown}");
    }

    #[test]
    fn references_are_followed_and_what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let reference = format!("file:{}", path.display());
        let (resolved, secrets) = options(&[("sasl.password", &reference), ("client.id", "x")]).resolve().unwrap();
        assert_eq!((resolved["sasl.password"].as_str(), resolved["client.id"].as_str()), ("s3cret", "x"));
        assert_eq!(secrets, ["s3cret"]);
        let error = options(&[("sasl.password", "env:KAPPA_TEST_NOT_SET")]).resolve().unwrap_err();
        assert_eq!(error.code(), "secret_missing");
        assert!(error.to_string().contains("KAPPA_TEST_NOT_SET"), "{error}");
        assert_eq!(options(&[("ssl.key.pem", "file:/not/there")]).resolve().unwrap_err().code(), "secret_missing");
    }
}
