//! A bound on how fast a run reads, so that a replay leaves the log's caches to the readers of the newest records.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::time::instant;

/// How much may be read at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Bytes a second, shared by all workers of a run.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: f64,
    /// When everything that was read would have been read at this rate.
    paid_until: Mutex<Instant>,
}

impl RateLimit {
    /// So many bytes of records (keys, payloads, headers; not compressed) a second; at least one.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) as f64, paid_until: Mutex::new(instant()) }
    }

    /// Whether more may be read now.
    pub fn is_open(&self) -> bool {
        self.is_open_at(instant())
    }

    /// Notes that so many bytes were read.
    pub fn take(&self, bytes: usize) {
        self.take_at(bytes, instant());
    }

    fn is_open_at(&self, now: Instant) -> bool {
        *self.paid_until.lock().unwrap_or_else(PoisonError::into_inner) <= now
    }

    fn take_at(&self, bytes: usize, now: Instant) {
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        // A pause is not saved up for longer than a burst.
        let from = now.checked_sub(BURST).map_or(*paid_until, |earliest| earliest.max(*paid_until));
        *paid_until = from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_paid_for_in_time() {
        let limit = RateLimit::new(1_000);
        let mut now = instant();
        let (start, mut read) = (now, 0);
        while now < start + Duration::from_secs(10) {
            if limit.is_open_at(now) {
                limit.take_at(300, now);
                read += 300;
            }
            now += Duration::from_millis(7);
        }
        assert!((9_700..10_600).contains(&read), "{read}");
        // An hour later there is a burst, and no more.
        now += Duration::from_secs(3600);
        let mut at_once = 0;
        while limit.is_open_at(now) {
            limit.take_at(10, now);
            at_once += 10;
        }
        assert!(at_once <= 120, "{at_once}");
    }
}
