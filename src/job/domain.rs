//! What a new version reads: fixed once, stored in its manifests, the same for every later run.

use std::collections::BTreeMap;

use super::options::Position;
use crate::checkpoint::manifest::{PartitionState, SourceState, UNKNOWN_EPOCH};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Partition};
use crate::plan::lower::SourceSpec;
use crate::protocol::event_time::PartitionTime;
use crate::source::{LogSource, PartitionExtent};
use crate::time::format_utc;

/// How much earlier than a start time reading begins, so that records whose event time lies after it are not missed:
/// event time may lead the record's timestamp by this much.
pub const MARGIN_MS: i64 = 3_600_000;

/// The domain of a new version over one topic: from `from` to `until` (none: without end).
///
/// # Errors
/// Refused where records that were asked for are gone, unless `allow_gaps`.
pub fn new_domain(
    spec: &SourceSpec,
    source: &dyn LogSource,
    from: &Position,
    until: Option<&Position>,
    allow_gaps: bool,
) -> Result<SourceState> {
    let topic = &spec.read.topic;
    if matches!(until, Some(Position::Earliest | Position::Group(_))) {
        return Err(Error::config("invalid_position", "--until takes no such position")
            .hint("use --until head, a time such as 2026-04-25T00:00:00Z, or PARTITION:OFFSET,…"));
    }
    let extents = source.partitions()?;
    let begins = offsets_of(topic, source, from, MARGIN_MS)?;
    let ends = until.map(|until| offsets_of(topic, source, until, 0)).transpose()?.unwrap_or_default();
    let mut partitions = BTreeMap::new();
    for extent in &extents {
        let begin = begins.get(&extent.partition).copied().unwrap_or(extent.start);
        let asked = match from {
            Position::Earliest | Position::Offsets(_) | Position::Group(_) => begin,
            Position::Head => extent.end,
            Position::Time(time) => begin_at(topic, extent, begin, *time, allow_gaps)?,
        };
        let (start, lost) = within(topic, extent, asked, allow_gaps)?;
        let end = until.map(|_| ends.get(&extent.partition).map_or(extent.end, |end| (*end).min(extent.end)).max(start));
        let state = PartitionState { end, lost, ..PartitionState::beginning(start, PartitionTime::default()) };
        partitions.insert(extent.partition.0, state);
    }
    if let Position::Offsets(offsets) = from
        && let Some(unknown) = offsets.keys().find(|partition| !partitions.contains_key(&partition.0))
    {
        return Err(Error::config("unknown_partition", format!("topic {topic} has no partition {unknown}"))
            .hint(format!("it has partitions 0 to {}", extents.len().saturating_sub(1))));
    }
    let floor_ms = if let Position::Time(time) = from { Some(*time) } else { None };
    let topic_id = source.topic_id().to_owned();
    Ok(SourceState { topic: topic.clone(), topic_id, floor_ms, complete_from_ms: floor_ms, partitions })
}

/// The offsets that a position names or that have to be asked for: of all partitions at once. A time less the margin.
fn offsets_of(topic: &str, source: &dyn LogSource, position: &Position, margin_ms: i64) -> Result<BTreeMap<Partition, Offset>> {
    match position {
        Position::Earliest | Position::Head => Ok(BTreeMap::new()),
        Position::Time(time) => source.offsets_at(time.saturating_sub(margin_ms)),
        Position::Offsets(offsets) => Ok(offsets.clone()),
        Position::Group(group) => committed(topic, source, group),
    }
}

/// Where a consumer group is.
fn committed(topic: &str, source: &dyn LogSource, group: &str) -> Result<BTreeMap<Partition, Offset>> {
    let committed = source.committed(group)?;
    if committed.is_empty() {
        return Err(Error::config("unknown_group", format!("group {group:?} has committed nothing for topic {topic}"))
            .hint("check its name; a group that was idle for a week may have lost its offsets: use --from TIME"));
    }
    Ok(committed)
}

/// The offset for a start time, less the margin. Records with later timestamps that were deleted would be missing.
fn begin_at(topic: &str, extent: &PartitionExtent, at: Offset, time: i64, allow_gaps: bool) -> Result<Offset> {
    if at > extent.start || extent.start == Offset(0) || allow_gaps {
        return Ok(at.max(extent.start));
    }
    let message = format!("topic {topic} may have lost records from {} on", format_utc(time - MARGIN_MS));
    Err(Error::refused("retention_gap", message)
        .with("partition", extent.partition)
        .with("log_start", extent.start)
        .hint("its first record is later than that: start later, or give --allow-gaps"))
}

/// An offset to start at that is in the log, and how many records of those asked for are not.
fn within(topic: &str, extent: &PartitionExtent, asked: Offset, allow_gaps: bool) -> Result<(Offset, u64)> {
    if asked >= extent.start && asked <= extent.end {
        return Ok((asked, 0));
    }
    if asked < extent.start && allow_gaps {
        return Ok((extent.start, (extent.start.0 - asked.0).unsigned_abs()));
    }
    let message = format!("partition {} holds offsets {} to {}, not {asked}", extent.partition, extent.start, extent.end);
    let hint = if asked < extent.start {
        "what lies before was deleted: name an offset that is there, --from earliest, or give --allow-gaps"
    } else {
        "name an offset that is there, or --from earliest"
    };
    Err(Error::refused("offset_out_of_range", message).with("topic", topic).hint(hint))
}

/// Goes on with a stored domain over the topic as it is now. It must be the same topic; with `allow_gaps` positions whose
/// records are gone move to where the log begins now, and what is lost is counted.
///
/// # Errors
/// Refused, with what is different.
pub fn resume_domain(stored: &mut SourceState, source: &dyn LogSource, allow_gaps: bool) -> Result<()> {
    let topic = stored.topic.clone();
    if stored.topic_id != source.topic_id() {
        return Err(Error::refused("topic_recreated", format!("topic {topic} is another one than this version has read"))
            .with("before", &stored.topic_id)
            .with("now", source.topic_id())
            .hint("its offsets mean other records now: reprocess it into a new table"));
    }
    let extents = source.partitions()?;
    for (partition, state) in &mut stored.partitions {
        let Some(extent) = extents.iter().find(|extent| extent.partition.0 == *partition) else {
            return Err(Error::refused("partition_gone", format!("topic {topic} has lost partition {partition}"))
                .hint("restore it, or reprocess into a new table"));
        };
        if state.next < extent.start {
            let lost = (extent.start.0 - state.next.0).unsigned_abs();
            if !allow_gaps {
                let message = format!("{lost} records of topic {topic} are gone before they were read");
                return Err(Error::refused("retention_gap", message)
                    .with("partition", partition)
                    .with("position", state.next)
                    .with("log_start", extent.start)
                    .hint(
                        "reprocess what is left into a new table, and give the topic a longer retention; \
                         or go on without them: --allow-gaps",
                    ));
            }
            state.lost += lost;
            state.next = extent.start;
            state.leader_epoch = UNKNOWN_EPOCH;
        }
        let reach = state.end.map_or(state.next, |end| end.max(state.next));
        // After a power cut the log may have more than it says. Opened there, it looks.
        let found = if reach > extent.end { source.open(Partition(*partition), reach, None).map(drop) } else { Ok(()) };
        if let Err(error) = found {
            if error.kind() != ErrorKind::Refused {
                return Err(error);
            }
            return Err(Error::refused("log_truncated", format!("topic {topic} ends before the position of this version"))
                .with("partition", partition)
                .with("position", reach)
                .with("log_end", extent.end)
                .hint("the log lost records that were read: restore it, or reprocess into a new table"));
        }
    }
    Ok(())
}

/// Partitions that the topic has and the domain has not: they are read from their beginning. What was final at `closed_ms` stays
/// so.
pub fn add_partitions(stored: &mut SourceState, source: &dyn LogSource, closed_ms: Option<i64>) -> Result<()> {
    for extent in source.partitions()? {
        let beginning = || PartitionState::beginning(extent.start, PartitionTime::found_at(closed_ms));
        stored.partitions.entry(extent.partition.0).or_insert_with(beginning);
    }
    Ok(())
}
