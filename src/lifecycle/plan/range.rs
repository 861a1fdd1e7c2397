//! What a reprocess would read: offsets, records, bytes, times; and how fast the topic grows.

use std::sync::Arc;

use serde::Serialize;

use super::judge::{Finding, Level, Written, growth};
use crate::checkpoint::manifest::SourceState;
use crate::config::Settings;
use crate::error::Result;
use crate::job::domain::new_domain;
use crate::job::options::Position;
use crate::message::{Offset, Partition};
use crate::plan::logical::{BadRecordPolicy, LatePolicy};
use crate::plan::lower::SourceSpec;
use crate::protocol::event_time::{PartitionTime, SourceCounts};
use crate::runtime::decode::{Keep, SourceDecoder};
use crate::source::peek::peek;
use crate::source::{self, LogSource, PartitionExtent, Reading};
use crate::time::now_ms;

/// Partitions whose first and last records are looked at; of more, so many.
const LOOKED_AT: usize = 64;
/// Records that are looked at, at either end of a partition: event time is out of order.
const RECORDS: i64 = 200;
const HOUR_MS: i64 = 3_600_000;
const WINDOWS_MS: [i64; 2] = [HOUR_MS, 24 * HOUR_MS];

/// From when to when, milliseconds since 1970 UTC.
pub type Span = (i64, i64);

/// A topic, as far as it would be read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TopicRange {
    /// Its name.
    pub topic: String,
    /// Its identity.
    pub topic_id: String,
    /// By partition.
    pub partitions: Vec<PartitionRange>,
    /// How many.
    pub records: u64,
    /// On disk; of a cluster about, without its compression, by the sample.
    pub bytes: Option<u64>,
    /// The log says so itself.
    pub bytes_exact: bool,
    /// By the timestamps of records.
    pub written_ms: Option<Span>,
    /// By the event time of the first and last records of partitions.
    pub event_time_ms: Option<Span>,
    /// Records a second that are written to the topic; none: nothing is.
    pub growth_per_second: Option<f64>,
}

/// A partition, as far as it would be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionRange {
    /// Which.
    pub partition: i32,
    /// The first record that would be read.
    pub start: i64,
    /// The record that would not.
    pub end: i64,
    /// The first that is still there.
    pub log_start: i64,
    /// The offset after the last that is there.
    pub log_end: i64,
}

impl PartitionRange {
    /// How many would be read.
    pub fn records(&self) -> u64 {
        (self.end - self.start).max(0).unsigned_abs()
    }
}

/// What would be read of a topic between two positions. What speaks against it goes to `findings`.
///
/// # Errors
/// There is no such topic or position, or the log does not answer.
pub fn range_of(
    spec: &SourceSpec,
    settings: &Settings,
    (from, until): (&Position, &Position),
    findings: &mut Vec<Finding>,
) -> Result<TopicRange> {
    let topic = spec.read.topic.clone();
    let open = || source::open(&topic, settings, Reading::default());
    let log = open()?;
    if let Some(reason) = log.not_replayable()? {
        let message = format!("topic {topic} cannot be reprocessed: {reason}");
        findings.push(Finding::new(Level::Refused, "not_replayable", message, "use a topic that keeps all records"));
    }
    let domain = domain(spec, log.as_ref(), from, until, findings)?;
    let extents = log.partitions()?;
    let partitions: Vec<PartitionRange> = extents.iter().filter_map(|extent| partition_range(&domain, extent)).collect();
    let records = partitions.iter().map(PartitionRange::records).sum();
    let bytes = bytes(log.as_ref(), &partitions)?;
    let looked_at = spread(&partitions);
    let (first, last) = (first_of(spec, log.as_ref(), &looked_at)?, last_of(spec, open()?.as_ref(), &looked_at)?);
    let newest_ms = match until {
        Position::Head => last.written.map(|(_, newest)| newest),
        _ => last_of(spec, open()?.as_ref(), &spread_of_log(&partitions))?.written.map(|(_, newest)| newest),
    };
    let is_whole = looked_at.len() == partitions.iter().filter(|range| range.log_end > range.log_start).count()
        && partitions.iter().all(|range| range.start == range.log_start);
    let oldest_ms = first.written.filter(|_| is_whole).map(|(oldest, _)| oldest);
    Ok(TopicRange {
        topic: topic.clone(),
        topic_id: log.topic_id().to_owned(),
        records,
        bytes,
        bytes_exact: bytes.is_some(),
        written_ms: joined(first.written, last.written),
        event_time_ms: joined(first.event_time, last.event_time),
        growth_per_second: newest_ms.map(|newest| growth_of(&log, &partitions, oldest_ms, newest)).transpose()?.flatten(),
        partitions,
    })
}

/// The newest event time at the ends of a topic's partitions.
///
/// # Errors
/// The log does not answer.
pub fn newest_event_time(spec: &SourceSpec, settings: &Settings) -> Result<Option<i64>> {
    let log = source::open(&spec.read.topic, settings, Reading::default())?;
    let whole = |extent: &PartitionExtent| PartitionRange {
        partition: extent.partition.0,
        start: extent.start.0,
        end: extent.end.0,
        log_start: extent.start.0,
        log_end: extent.end.0,
    };
    let partitions: Vec<PartitionRange> = log.partitions()?.iter().map(whole).collect();
    Ok(last_of(spec, log.as_ref(), &spread(&partitions))?.event_time.map(|(_, newest)| newest))
}

/// What a new version would read. Where some of it is gone that is a finding, and the rest is gone on with.
fn domain(
    spec: &SourceSpec,
    log: &dyn LogSource,
    from: &Position,
    until: &Position,
    findings: &mut Vec<Finding>,
) -> Result<SourceState> {
    new_domain(spec, log, from, Some(until), false).or_else(|error| {
        let rest = new_domain(spec, log, from, Some(until), true).map_err(|_| error.clone())?;
        let hint = error.hint_text().unwrap_or_default();
        findings.push(Finding::new(Level::Refused, error.code(), error.message(), hint));
        Ok(rest)
    })
}

fn partition_range(domain: &SourceState, extent: &PartitionExtent) -> Option<PartitionRange> {
    let state = domain.partitions.get(&extent.partition.0)?;
    Some(PartitionRange {
        partition: extent.partition.0,
        start: state.start.0,
        end: state.end.unwrap_or(extent.end).0,
        log_start: extent.start.0,
        log_end: extent.end.0,
    })
}

fn bytes(log: &dyn LogSource, partitions: &[PartitionRange]) -> Result<Option<u64>> {
    let of = |range: &PartitionRange| log.bytes_between(Partition(range.partition), Offset(range.start), Offset(range.end));
    partitions.iter().map(of).sum()
}

/// Partitions to look at: those with records, or some of them.
fn spread(partitions: &[PartitionRange]) -> Vec<PartitionRange> {
    let filled: Vec<&PartitionRange> = partitions.iter().filter(|range| range.records() > 0).collect();
    filled.iter().step_by(filled.len().div_ceil(LOOKED_AT).max(1)).copied().cloned().collect()
}

/// The same of the whole log.
fn spread_of_log(partitions: &[PartitionRange]) -> Vec<PartitionRange> {
    let whole = |range: &PartitionRange| PartitionRange { start: range.log_start, end: range.log_end, ..range.clone() };
    spread(&partitions.iter().map(whole).collect::<Vec<_>>())
}

/// Times of some records.
#[derive(Default)]
struct Times {
    written: Option<Span>,
    event_time: Option<Span>,
}

fn joined(a: Option<Span>, b: Option<Span>) -> Option<Span> {
    match (a, b) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (one, other) => one.or(other),
    }
}

fn look(spec: &SourceSpec, log: &dyn LogSource, places: impl Iterator<Item = (i32, i64, i64)>) -> Result<Times> {
    let mut spec = spec.clone();
    spec.read.on_bad_record = BadRecordPolicy::Skip;
    spec.read.late = LatePolicy::Keep;
    let mut decoder = SourceDecoder::new(&spec, None, Keep { order: true, watermarks: false })?;
    let bounds = decoder.bounds();
    let mut times = Times::default();
    for (partition, from, until) in places {
        let (mut time, mut counts) = (PartitionTime::default(), SourceCounts::default());
        peek(log, Partition(partition), Offset(from), Offset(until), &mut |block| {
            times.written = joined(times.written, span(block.records.iter().map(|record| record.timestamp)));
            let rows = decoder.decode(block, 0..block.len(), &mut time, &mut counts)?.rows;
            let found = rows.order.iter().flat_map(|(times, _)| times.values().iter().map(|time| bounds.to_ms(*time)));
            times.event_time = joined(times.event_time, span(found));
            Ok(())
        })?;
    }
    Ok(times)
}

fn first_of(spec: &SourceSpec, log: &dyn LogSource, looked_at: &[PartitionRange]) -> Result<Times> {
    look(spec, log, looked_at.iter().map(|range| (range.partition, range.start, range.end.min(range.start + RECORDS))))
}

fn last_of(spec: &SourceSpec, log: &dyn LogSource, looked_at: &[PartitionRange]) -> Result<Times> {
    look(spec, log, looked_at.iter().map(|range| (range.partition, range.start.max(range.end - RECORDS), range.end)))
}

fn span(times: impl Iterator<Item = i64>) -> Option<Span> {
    times.fold(None, |span, time| joined(span, Some((time, time))))
}

fn growth_of(
    log: &Arc<dyn LogSource>,
    partitions: &[PartitionRange],
    oldest_ms: Option<i64>,
    newest_ms: i64,
) -> Result<Option<f64>> {
    let written = |window_ms: i64| {
        let since = log.offsets_at(newest_ms.saturating_sub(window_ms))?;
        let records = |range: &PartitionRange| {
            let first = since.get(&Partition(range.partition)).map_or(range.log_end, |offset| offset.0);
            (range.log_end - first).max(0)
        };
        Ok(Written { window_ms, records: partitions.iter().map(records).sum() })
    };
    let windows = WINDOWS_MS.into_iter().map(written).collect::<Result<Vec<_>>>()?;
    Ok(growth(&windows, oldest_ms.map(|oldest| newest_ms - oldest), now_ms() - newest_ms))
}
