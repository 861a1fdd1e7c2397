//! What a new version reads: fixed once, stored in its manifests, the same for every later run.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::options::Position;
use crate::checkpoint::manifest::{PartitionState, SourceState};
use crate::error::{Error, Result};
use crate::message::Offset;
use crate::plan::lower::SourceSpec;
use crate::protocol::event_time::{PartitionTime, SourceCounts};
use crate::source::{LogSource, PartitionExtent};

/// How much earlier than a start time reading begins, so that records whose event time lies after it are not missed:
/// event time may lead the record's timestamp by this much.
pub const MARGIN_MS: i64 = 3_600_000;

/// The domain of a new version over one topic: from `from` to `until` (none: without end).
pub fn new_domain(spec: &SourceSpec, source: &dyn LogSource, from: &Position, until: Option<&Position>) -> Result<SourceState> {
    let extents = source.partitions()?;
    let mut partitions = BTreeMap::new();
    for extent in &extents {
        let start = start_of(spec, source, extent, from)?;
        let end = until.map(|until| end_of(source, extent, until)).transpose()?.map(|end| end.max(start));
        let state = PartitionState {
            start,
            next: start,
            end,
            leader_epoch: extent.leader_epoch,
            time: PartitionTime::default(),
            counts: SourceCounts::default(),
        };
        partitions.insert(extent.partition.0, state);
    }
    if let Position::Offsets(offsets) = from
        && let Some(unknown) = offsets.keys().find(|partition| !partitions.contains_key(&partition.0))
    {
        return Err(Error::config("unknown_partition", format!("topic {} has no partition {unknown}", spec.read.topic))
            .hint(format!("it has partitions 0 to {}", extents.len().saturating_sub(1))));
    }
    let floor_ms = if let Position::Time(time) = from { Some(*time) } else { None };
    let topic_id = source.topic_id().to_owned();
    Ok(SourceState { topic: spec.read.topic.clone(), topic_id, floor_ms, complete_from_ms: floor_ms, partitions })
}

fn start_of(spec: &SourceSpec, source: &dyn LogSource, extent: &PartitionExtent, from: &Position) -> Result<Offset> {
    Ok(match from {
        Position::Earliest => extent.start,
        Position::Head => extent.end,
        Position::Time(time) => source.offset_at(extent.partition, time.saturating_sub(MARGIN_MS))?.max(extent.start),
        Position::Offsets(offsets) => {
            let start = offsets.get(&extent.partition).copied().unwrap_or(extent.start);
            if start < extent.start || start > extent.end {
                let message =
                    format!("partition {} holds offsets {} to {}, not {start}", extent.partition, extent.start, extent.end);
                return Err(Error::refused("offset_out_of_range", message)
                    .with("topic", &spec.read.topic)
                    .hint("name an offset that is there, or --from earliest"));
            }
            start
        }
    })
}

fn end_of(source: &dyn LogSource, extent: &PartitionExtent, until: &Position) -> Result<Offset> {
    match until {
        Position::Head => Ok(extent.end),
        Position::Time(time) => Ok(source.offset_at(extent.partition, *time)?.min(extent.end)),
        Position::Offsets(offsets) => Ok(offsets.get(&extent.partition).map_or(extent.end, |end| (*end).min(extent.end))),
        Position::Earliest => Err(Error::config("invalid_position", "--until earliest reads nothing")
            .hint("use --until head, a time such as 2026-04-25T00:00:00Z, or PARTITION:OFFSET,…")),
    }
}

/// Whether a stored domain can go on over the topic as it is now: the same topic, and no gap.
pub fn check_resumable(stored: &SourceState, source: &Arc<dyn LogSource>) -> Result<()> {
    let topic = &stored.topic;
    if stored.topic_id != source.topic_id() {
        return Err(Error::refused("topic_recreated", format!("topic {topic} is another one than this version has read"))
            .with("before", &stored.topic_id)
            .with("now", source.topic_id())
            .hint("its offsets mean other records now: reprocess it into a new table"));
    }
    let extents = source.partitions()?;
    for (partition, state) in &stored.partitions {
        let Some(extent) = extents.iter().find(|extent| extent.partition.0 == *partition) else {
            return Err(Error::refused("partition_gone", format!("topic {topic} has lost partition {partition}"))
                .hint("restore it, or reprocess into a new table"));
        };
        if state.next < extent.start {
            let lost = extent.start.0 - state.next.0;
            return Err(Error::refused(
                "retention_gap",
                format!("{lost} records of topic {topic} are gone before they were read"),
            )
            .with("partition", partition)
            .with("position", state.next)
            .with("log_start", extent.start)
            .hint("reprocess what is left into a new table, and give the topic a longer retention"));
        }
        if state.next > extent.end {
            return Err(Error::refused("log_truncated", format!("topic {topic} ends before the position of this version"))
                .with("partition", partition)
                .with("position", state.next)
                .with("log_end", extent.end)
                .hint("the log lost records that were read: restore it, or reprocess into a new table"));
        }
    }
    Ok(())
}
