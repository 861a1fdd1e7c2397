//! The only place that reads a clock or makes randomness. Everything else gets them from here, so that a result can
//! never depend on them by accident (clippy.toml forbids the alternatives).
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// Milliseconds since 1970 UTC: for log timestamps, snapshot times and messages; never for results.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A monotonic reading, for rates and intervals.
pub fn instant() -> Instant {
    Instant::now()
}

/// A new random identifier.
pub fn new_uuid() -> Uuid {
    Uuid::new_v4()
}

/// A new identifier that sorts by creation.
pub fn new_ordered_uuid() -> Uuid {
    Uuid::now_v7()
}

/// A positive random number: snapshot ids.
pub fn random_positive_i64() -> i64 {
    fastrand::i64(1..i64::MAX)
}

/// A pause of between half and the whole of `longest`: retries that collided once should not do so again.
pub fn jitter(longest: Duration) -> Duration {
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// `2026-04-25T11:35:00.123Z` for milliseconds since 1970 UTC.
pub fn format_utc(ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(ms) {
        Some(time) if ms % 1000 == 0 => time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => format!("{ms} ms"),
    }
}
