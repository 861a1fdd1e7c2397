//! One error type for the whole engine.
//!
//! The kind says what the USER does next; the message names the thing and what happened; the hint says how to go on.
//! Retry loops test `retryable` and nothing else.

use std::fmt;
use std::sync::Arc;

/// What the user does next. Stable: exit statuses and the Python exception classes map to it one to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Mend an argument, a variable or `kappa.toml`.
    Config,
    /// Mend the job script.
    Plan,
    /// The request was understood and is unsafe; the hint names the way forward.
    Refused,
    /// A record does not fit what the plan declares.
    Data,
    /// Something outside is away or full: try again.
    Unavailable,
    /// Another process holds or has taken what this one wanted.
    Conflict,
    /// Bytes on disk are not what was written: restore them, or start a new version.
    Corruption,
    /// A bug in kappa: report it.
    Internal,
}

impl ErrorKind {
    /// The exit status of the command line.
    pub fn exit_status(self) -> i32 {
        match self {
            Self::Config | Self::Plan => 2,
            Self::Refused => 3,
            Self::Data | Self::Corruption => 4,
            Self::Unavailable => 5,
            Self::Conflict => 6,
            Self::Internal => 70,
        }
    }

    /// The name of the Python exception class, without its module.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "ConfigError",
            Self::Plan => "PlanError",
            Self::Refused => "RefusedError",
            Self::Data => "DataError",
            Self::Unavailable => "UnavailableError",
            Self::Conflict => "ConflictError",
            Self::Corruption => "CorruptionError",
            Self::Internal => "InternalError",
        }
    }
}

/// An error: what kind, what happened to what, and what to do next.
///
/// Messages are lowercase and end without a period; context holds the names and numbers a search or an alert would want.
///
/// ```
/// use kappa::error::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Data, "bad_record", "column amount: expected Int64, found 1.9")
///     .with("topic", "payments")
///     .with("offset", 42)
///     .hint("declare the column as Decimal or Float64");
/// assert_eq!(
///     error.to_string(),
///     "column amount: expected Int64, found 1.9 (topic=payments, offset=42); declare the column as Decimal or Float64"
/// );
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    context: Vec<(&'static str, String)>,
    hint: Option<String>,
    retryable: bool,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of nearly everything.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error. `code` is a short stable word for machines, such as `bad_record`.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Self {
        let retryable = kind == ErrorKind::Unavailable;
        let message = message.into();
        Self(Box::new(Inner { kind, code, message, context: Vec::new(), hint: None, retryable, source: None }))
    }

    /// A mistake in arguments, variables or `kappa.toml`.
    pub fn config(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, code, message)
    }

    /// A mistake in the job script.
    pub fn plan(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Plan, code, message)
    }

    /// An unsafe request.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, code, message)
    }

    /// A record that does not fit.
    pub fn data(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, code, message)
    }

    /// Damaged bytes.
    pub fn corruption(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corruption, code, message)
    }

    /// Another process was here first.
    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, code, message)
    }

    /// A bug in kappa.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, "internal", message).hint("this is a bug in kappa: please report it with this message")
    }

    /// An I/O error on a named file.
    pub fn io(action: &'static str, path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        let error = Self::disk("io", format!("{action} {}: {source}", path.as_ref().display()));
        let error = match source.kind() {
            std::io::ErrorKind::PermissionDenied => error.hint("check who owns the file"),
            _ => error,
        };
        error.source(source)
    }

    /// An error of the local disk, also one that a library has put into words.
    ///
    /// No process tries again: after a write or a sync that failed nobody knows what the disk has, and a second sync may claim
    /// success for data that is gone. The process ends, and the next one goes on from what is durable.
    pub fn disk(code: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(ErrorKind::Unavailable, code, message).retryable(false);
        let says = |words: &[&str]| words.iter().any(|words| error.message().contains(words));
        if says(&["No space left", "uota exceeded", "database or disk is full"]) {
            error.hint("free space on this file system, then run the same command again: it goes on from what is durable")
        } else if says(&["Input/output error", "disk I/O error"]) {
            error.hint("the disk fails, or has no space: see the system's log, then run the same command again")
        } else {
            error
        }
    }

    /// Adds a name and a value that belong to the error.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Takes a name out again: where a better one is known.
    pub fn without(mut self, name: &str) -> Self {
        self.0.context.retain(|(known, _)| *known != name);
        self
    }

    /// Says what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    pub fn source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Overrides whether trying the same again may help.
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.0.retryable = retryable;
        self
    }

    /// Whether a file was to be used that is not there.
    pub fn is_of_absent_file(&self) -> bool {
        let source = self.0.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        source.is_some_and(|source| source.kind() == std::io::ErrorKind::NotFound)
    }

    /// What the user does next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// A short stable word for machines.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What happened, without context and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Names and values.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// The way forward.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether the same may succeed later, without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (i, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        match &self.0.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]: {self}", self.0.kind, self.0.code)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::internal(format!("arrow: {error}")).source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_disk_say_what_to_do_and_are_not_tried_again() {
        for error in [
            Error::io("write", "/a/b", std::io::Error::from_raw_os_error(28)),
            Error::disk("state", "flush: IO error: No space left on device: While appending to file: /a/b"),
            Error::disk("catalog", "commit in the catalog /a/b: (code: 13) database or disk is full"),
        ] {
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false), "{error}");
            assert!(error.hint_text().is_some_and(|hint| hint.starts_with("free space")), "{error}");
        }
        let bad = Error::io("sync", "/a/b", std::io::Error::from_raw_os_error(5));
        assert!(bad.hint_text().is_some_and(|hint| hint.contains("the disk fails")), "{bad}");
        assert_eq!(Error::disk("io", "open /a/b: No such file").hint_text(), None);
    }
}
