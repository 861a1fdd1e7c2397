//! Watches a run and tells how far it is: rate, event time, time left. Reads counters; decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chrono::Datelike;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::events::{Event, Teller};
use super::launch::Watched;
use crate::protocol::event_time::{PartitionFrontier, TimeBounds, visible};
use crate::source::LogSource;
use crate::time::{instant, now_ms};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// The rate is that of the last so many looks.
const WINDOW: usize = 10;

/// What is watched.
pub struct Monitor {
    /// The partitions.
    pub watched: Arc<Vec<Watched>>,
    /// By source, the bounds of its event time.
    pub bounds: Vec<TimeBounds>,
    /// By source.
    pub sources: Vec<Arc<dyn LogSource>>,
    /// Where events go.
    pub events: Teller,
}

impl Monitor {
    /// Tells about once a second, until the other end of `stop` is dropped.
    pub fn run(&self, stop: &Receiver<()>) {
        let began_ms = now_ms();
        // The coordinator tells when a bounded run is at its end; here it is told of a run without one.
        let mut caught_up = self.watched.iter().any(|watched| watched.end.is_some());
        let mut samples: VecDeque<(Instant, u64)> = VecDeque::from([(instant(), 0)]);
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(PERIOD) {
            let events = self.events_read();
            samples.push_back((instant(), events));
            if samples.len() > WINDOW {
                samples.pop_front();
            }
            self.events.tell(self.look(&samples, events));
            if !caught_up && self.watched.iter().all(|w| w.progress.next.load(Relaxed) >= w.head) {
                caught_up = true;
                self.events.tell(Event::CaughtUp { time_ms: now_ms(), head_time_ms: began_ms, at_head: true });
            }
        }
    }

    /// Records read in this run.
    pub fn events_read(&self) -> u64 {
        events_read(&self.watched)
    }

    fn look(&self, samples: &VecDeque<(Instant, u64)>, events: u64) -> Event {
        let rate = match (samples.front(), samples.back()) {
            (Some((began, first)), Some((now, last))) if now > began => (last - first) as f64 / (*now - *began).as_secs_f64(),
            _ => 0.0,
        };
        let ends = self.log_ends();
        let mut frontiers = Vec::new();
        let (mut done, mut whole, mut lag, mut reached) = (0, 0, 0, None);
        for (watched, log_end) in self.watched.iter().zip(ends) {
            let next = watched.progress.next.load(Relaxed);
            let end = watched.end.unwrap_or(log_end).max(watched.began.0);
            done += (next.min(end) - watched.began.0).max(0);
            whole += end - watched.began.0;
            lag += (log_end - next).max(0);
            let max = Some(watched.progress.accepted_max.load(Relaxed)).filter(|max| *max != i64::MIN);
            let bounds = self.bounds.get(watched.source);
            let time = max.zip(bounds).map(|(max, bounds)| bounds.to_ms(max));
            if next < end {
                reached = match reached {
                    None => Some(time),
                    Some(least) => Some(std::cmp::min(least, time)),
                };
            }
            let watermark_ms = max.zip(bounds).map(|(max, b)| b.to_ms(max.saturating_sub(b.out_of_orderness)));
            frontiers.push(PartitionFrontier { watermark_ms, at_end: next >= end });
        }
        let watermark_ms = visible(&frontiers);
        let event_time_ms = reached.flatten().or(watermark_ms);
        let bounded = self.watched.iter().all(|watched| watched.end.is_some()) && whole > 0;
        let left = if bounded { (whole - done) as f64 } else { lag as f64 };
        Event::Progress {
            events,
            rate,
            event_time_ms,
            week_of: event_time_ms.and_then(week_of),
            watermark_ms,
            fraction: bounded.then(|| done as f64 / whole as f64),
            seconds_left: ((bounded || lag > 0) && rate > 0.0).then(|| left / rate),
            lag: lag as u64,
            time_ms: now_ms(),
        }
    }

    /// By watched partition, the end of the log; its own position where that cannot be told now.
    fn log_ends(&self) -> Vec<i64> {
        let extents: Vec<_> = self.sources.iter().map(|source| source.partitions().unwrap_or_default()).collect();
        let end = |watched: &Watched| {
            let extent = extents.get(watched.source)?.iter().find(|extent| extent.partition == watched.partition)?;
            Some(extent.end.0)
        };
        self.watched.iter().map(|watched| end(watched).unwrap_or_else(|| watched.progress.next.load(Relaxed))).collect()
    }
}

/// Records read since the run began.
pub fn events_read(watched: &[Watched]) -> u64 {
    watched.iter().map(|watched| watched.progress.read.load(Relaxed).saturating_sub(watched.began.1)).sum()
}

/// The Monday of the week of a moment.
fn week_of(ms: i64) -> Option<String> {
    let date = chrono::DateTime::from_timestamp_millis(ms)?.date_naive();
    let monday = date - chrono::Days::new(u64::from(date.weekday().num_days_from_monday()));
    Some(monday.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday() {
        assert_eq!(week_of(0).as_deref(), Some("1969-12-29"));
        assert_eq!(week_of(1_777_000_000_000).as_deref(), Some("2026-04-20"));
    }
}
