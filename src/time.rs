//! The only place that reads a clock or makes randomness. Everything else gets them from here, so that a result can
//! never depend on them by accident (clippy.toml forbids the alternatives).
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::{ContextV7, Timestamp, Uuid};

/// Names a file that holds by how many milliseconds the wall clock is off: so a test lets it jump under a job that runs.
/// Compiled in always, as failpoints are.
const CLOCK: &str = "KAPPA_CLOCK_OFFSET";

/// The wall clock, since 1970 UTC.
fn wall() -> Duration {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let Some(file) = FILE.get_or_init(|| std::env::var_os(CLOCK).map(PathBuf::from)) else { return now };
    let offset: i64 = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let moved = Duration::from_millis(offset.unsigned_abs());
    if offset < 0 { now.saturating_sub(moved) } else { now + moved }
}

/// Milliseconds since 1970 UTC: for log timestamps, snapshot times and messages; never for results.
pub fn now_ms() -> i64 {
    wall().as_millis() as i64
}

/// A monotonic reading, for rates and intervals.
pub fn instant() -> Instant {
    Instant::now()
}

/// A new random identifier.
pub fn new_uuid() -> Uuid {
    Uuid::new_v4()
}

/// A new identifier that sorts by creation: those of one process only rise, also where its clock is set back.
pub fn new_ordered_uuid() -> Uuid {
    static CONTEXT: Mutex<ContextV7> = Mutex::new(ContextV7::new());
    let context = CONTEXT.lock().unwrap_or_else(PoisonError::into_inner);
    let now = wall();
    Uuid::new_v7(Timestamp::from_unix(&*context, now.as_secs(), now.subsec_nanos()))
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
