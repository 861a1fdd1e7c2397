//! Watches a run and tells how far it is: rate, event time, time left. Reads counters; decides nothing.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use chrono::Datelike;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::events::{Event, Teller};
use super::watch::{Extents, RetentionClock, WatchList, Watched};
use crate::message::{Offset, Partition};
use crate::protocol::checkpoint::Report;
use crate::protocol::event_time::{PartitionFrontier, PartitionTime, TimeBounds, closed, holder, visible};
use crate::protocol::progress::Adoption;
use crate::source::LogSource;
use crate::time::{instant, now_ms};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// The rate is that of the last so many looks.
const WINDOW: usize = 10;

/// What is watched.
pub struct Monitor {
    /// The partitions.
    pub watched: Arc<WatchList>,
    /// By source, the bounds of its event time.
    pub bounds: Vec<TimeBounds>,
    /// By source.
    pub sources: Vec<Arc<dyn LogSource>>,
    /// By source, the topic's name.
    pub topics: Vec<String>,
    /// Where something waits for `closed`: how far others must be ahead of it for that to matter.
    pub waits_ms: Option<i64>,
    /// Is told of partitions that are found.
    pub reports: Sender<Report>,
    /// Where events go.
    pub events: Teller,
}

impl Monitor {
    /// Tells about once a second, until the other end of `stop` is dropped.
    pub fn run(&self, stop: &Receiver<()>) {
        let began_ms = now_ms();
        // The coordinator tells when a bounded run is at its end; here it is told of a run without one.
        let mut caught_up = self.watched.all().iter().any(|watched| watched.end.is_some());
        let (mut warned, mut away) = (BTreeSet::new(), BTreeSet::new());
        let mut samples: VecDeque<(Instant, u64)> = VecDeque::from([(instant(), 0)]);
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(PERIOD) {
            let extents = Extents::ask(&self.sources);
            self.tell_who_is_away(&extents, &mut away);
            self.grow(&extents);
            let watched = self.watched.all();
            self.warn(&watched, &extents, &mut warned);
            let events = self.watched.events_read();
            samples.push_back((instant(), events));
            if samples.len() > WINDOW {
                samples.pop_front();
            }
            self.events.tell(self.look(&watched, &extents, &samples, events));
            if !caught_up && watched.iter().all(|w| w.progress.next.load(Relaxed) >= w.head) {
                caught_up = true;
                self.events.tell(Event::CaughtUp { time_ms: now_ms(), head_time_ms: began_ms, at_head: true });
            }
        }
    }

    /// Tells once when a log gives no answer any more, and once when it does again: nothing is behind, and nothing comes.
    fn tell_who_is_away(&self, extents: &Extents, away: &mut BTreeSet<usize>) {
        for source in 0..self.sources.len() {
            let notice = match extents.away.get(&source) {
                Some(error) if away.insert(source) => Some((
                    "warning",
                    format!("the log of topic {} gives no answer, and is waited for: {error}", self.topic(source)),
                )),
                None if away.remove(&source) => {
                    Some(("info", format!("the log of topic {} answers again", self.topic(source))))
                }
                _ => None,
            };
            if let Some((level, message)) = notice {
                self.events.tell(Event::Notice { level, message, time_ms: now_ms() });
            }
        }
    }

    /// Has partitions read that are new.
    fn grow(&self, extents: &Extents) {
        for found in self.watched.grow(extents) {
            let (source, partition, start) = (found.source, found.partition, Offset(found.began.0));
            let message =
                format!("topic {} has a new partition, {partition}: it is read from its beginning", self.topic(source));
            self.events.tell(Event::Notice { level: "info", message, time_ms: now_ms() });
            // Without a coordinator there is nothing to read any more.
            let (time, progress) = (PartitionTime::default(), found.progress.clone());
            let _ = self.reports.send(Report::Grown(Adoption { source, partition, start, time, progress }));
        }
    }

    /// Warns once of each partition whose log is about to be deleted under the position.
    fn warn(&self, watched: &[Arc<Watched>], extents: &Extents, warned: &mut BTreeSet<(usize, Partition)>) {
        for watched in watched {
            let next = watched.progress.next.load(Relaxed);
            let clock = extents.of(watched).and_then(|extent| RetentionClock::of(extent, watched.log_start, next));
            let Some(clock) = clock.filter(RetentionClock::is_close) else { continue };
            if warned.insert((watched.source, watched.partition)) {
                let message = format!(
                    "retention is close: partition {} of topic {} is read {} records ({:.0} % of it) after the start of its log, \
                     which moves; give the topic a longer retention, or the job more threads",
                    watched.partition,
                    self.topic(watched.source),
                    clock.records,
                    clock.share * 100.0,
                );
                self.events.tell(Event::Notice { level: "warning", message, time_ms: now_ms() });
            }
        }
    }

    fn topic(&self, source: usize) -> &str {
        self.topics.get(source).map_or("", String::as_str)
    }

    fn look(&self, all: &[Arc<Watched>], extents: &Extents, samples: &VecDeque<(Instant, u64)>, events: u64) -> Event {
        let rate = match (samples.front(), samples.back()) {
            (Some((began, first)), Some((now, last))) if now > began => (last - first) as f64 / (*now - *began).as_secs_f64(),
            _ => 0.0,
        };
        let mut frontiers = Vec::new();
        let (mut done, mut whole, mut lag, mut reached) = (0, 0, 0, None);
        let mut retention: Option<f64> = None;
        for watched in all {
            let next = watched.progress.next.load(Relaxed);
            let extent = extents.of(watched);
            // Its own position where the end cannot be told now.
            let log_end = extent.map_or(next, |extent| extent.end.0);
            let end = watched.end.unwrap_or(log_end).max(watched.began.0);
            done += (next.min(end) - watched.began.0).max(0);
            whole += end - watched.began.0;
            lag += (log_end - next).max(0);
            if let Some(clock) = extent.and_then(|extent| RetentionClock::of(extent, watched.log_start, next)) {
                retention = Some(retention.map_or(clock.share, |least| least.min(clock.share)));
            }
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
        // Who is behind the others without having anything left to read: nothing but new records of it can help.
        let is_held = closed(&frontiers) < watermark_ms;
        let held_by = self.waits_ms.filter(|_| is_held).and_then(|lead_ms| all.get(holder(&frontiers, lead_ms)?));
        let event_time_ms = reached.flatten().or(watermark_ms);
        let bounded = all.iter().all(|watched| watched.end.is_some()) && whole > 0;
        let left = if bounded { (whole - done) as f64 } else { lag as f64 };
        Event::Progress {
            events,
            rate,
            event_time_ms,
            week_of: event_time_ms.and_then(week_of),
            watermark_ms,
            held_by: held_by.map(|watched| format!("{}/{}", self.topic(watched.source), watched.partition)),
            fraction: bounded.then(|| done as f64 / whole as f64),
            seconds_left: ((bounded || lag > 0) && rate > 0.0).then(|| left / rate),
            lag: lag as u64,
            retention,
            time_ms: now_ms(),
        }
    }
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
