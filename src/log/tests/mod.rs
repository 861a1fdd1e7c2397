//! The log as a whole. Each file is one question.

mod crash;
mod damage;
mod follow;
mod lines;
mod recovery;
mod retention;
mod round_trip;
mod topics;

use std::path::Path;

use super::files::PartitionDir;
use super::*;
use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};

/// A small record that names itself.
fn record(number: i64) -> OwnedRecord {
    OwnedRecord {
        partition: Partition(0),
        offset: Offset(number),
        timestamp: 1_000 + number,
        key: (number % 3 != 0).then(|| format!("key {number}").into_bytes()),
        value: (number % 7 != 0)
            .then(|| format!("{{\"number\":{number},\"padding\":\"{}\"}}", "x".repeat(number as usize % 40)).into()),
        headers: Vec::new(),
    }
}

fn records(range: std::ops::Range<i64>) -> Vec<OwnedRecord> {
    range.map(record).collect()
}

fn append(writer: &mut PartitionWriter, records: &[OwnedRecord]) -> Result<()> {
    for record in records {
        let headers: Vec<Header<'_>> =
            record.headers.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
        writer.push(&NewRecord {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            timestamp: record.timestamp,
        })?;
    }
    Ok(())
}

fn read(reader: &mut LogReader, max_bytes: usize, until: Option<i64>) -> Result<Vec<OwnedRecord>> {
    let mut block = RecordBlock::default();
    let mut all = Vec::new();
    loop {
        reader.poll(&mut block, max_bytes, until.map(Offset))?;
        if block.is_empty() {
            return Ok(all);
        }
        all.extend((0..block.len()).filter_map(|index| OwnedRecord::of(&block, index)));
    }
}

fn read_from(topic: &Topic, at: i64) -> Result<Vec<OwnedRecord>> {
    read(&mut topic.reader(Partition(0), Offset(at))?, 1 << 16, None)
}

fn one_partition(root: &Path) -> Topic {
    LogDir::open(root).create_topic("t", 1, Retention::default()).unwrap()
}

fn dir(topic: &Topic) -> PartitionDir {
    topic.dir(Partition(0)).unwrap()
}

/// Small batches and segments, so that few records make many of both.
fn small() -> WriterOptions {
    WriterOptions {
        segment_bytes: 4096,
        batch_bytes: 512,
        index_interval: 600,
        flush: Flush::Explicit,
        ..WriterOptions::default()
    }
}
