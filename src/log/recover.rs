//! What a writer does first: finds the end of the log again.
//!
//! Records below the published end were acknowledged: they must be there. Behind it lies what a crash left: whole batches
//! are kept, and the first one that is not whole is cut off with everything after it. Nobody can have read it.

use std::fs::File;

use super::batch::{AT_MAGIC, BatchHeader, HEADER};
use super::epochs;
use super::extent::{self, Extent, Publisher};
use super::files::{PartitionDir, read_full};
use super::retention;
use super::segment::ActiveSegment;
use crate::durable::sync_directory;
use crate::error::{Error, Result};

/// A torn tail that was cut off when the partition was opened for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// The offset of the first record that was not whole: the next record gets it.
    pub offset: i64,
    /// How many bytes were cut off.
    pub bytes: u64,
    /// The leader epoch that started there.
    pub leader_epoch: i32,
    /// What was wrong with the first batch that was cut off.
    pub reason: &'static str,
}

/// One look at a segment.
enum Step {
    Batch(BatchHeader),
    End,
    Broken(&'static str),
}

/// A segment, read batch by batch with everything checked.
struct Scan {
    file: File,
    size: u64,
    buffer: Vec<u8>,
}

impl Scan {
    fn open(dir: &PartitionDir, base: i64) -> Result<Self> {
        let path = dir.file(base, "log");
        let file = File::open(&path).map_err(|error| Error::io("open", &path, error))?;
        let size = file.metadata().map_err(|error| Error::io("read the size of", &path, error))?.len();
        Ok(Self { file, size, buffer: Vec::new() })
    }

    /// The batch at `position`, whose first record should be `expected`.
    fn step(&mut self, position: u64, expected: i64) -> std::io::Result<Step> {
        if position >= self.size {
            return Ok(Step::End);
        }
        let mut head = [0; HEADER];
        let got = read_full(&self.file, &mut head, position)?;
        let header = match BatchHeader::parse(head.get(..got).unwrap_or_default()) {
            Ok(header) => header,
            Err(why) => return Ok(Step::Broken(why)),
        };
        if header.base_offset != expected {
            return Ok(Step::Broken("the batch starts at another offset than the one before it ended"));
        }
        Ok(if self.is_whole(&header, position)? {
            Step::Batch(header)
        } else {
            Step::Broken("the batch is cut off or damaged")
        })
    }

    fn is_whole(&mut self, header: &BatchHeader, position: u64) -> std::io::Result<bool> {
        if position + header.size as u64 > self.size {
            return Ok(false);
        }
        self.buffer.resize(header.size, 0);
        let got = read_full(&self.file, &mut self.buffer, position)?;
        Ok(got == header.size && header.is_intact(&self.buffer))
    }

    /// Whether some whole batch with offsets past `expected` starts after `position`: then the damage is not a torn tail.
    fn goes_on_after(&mut self, position: u64, expected: i64) -> std::io::Result<bool> {
        const WINDOW: usize = 1 << 20;
        // Payloads may be full of what looks like headers of large batches. Who has read so much in vain takes it that the log
        // goes on: then nothing is cut off.
        let mut left = 64 * self.size.max(WINDOW as u64);
        let mut window = vec![0; WINDOW + HEADER];
        let mut from = position + 1;
        while from + (HEADER as u64) <= self.size {
            let got = read_full(&self.file, &mut window, from)?;
            let starts = got.saturating_sub(HEADER - 1).min(WINDOW);
            for at in 0..starts {
                let Some(head) = window.get(at..at + HEADER).filter(|head| head.get(AT_MAGIC) == Some(&2)) else { continue };
                let Ok(header) = BatchHeader::parse(head) else { continue };
                let follows = header.base_offset > expected && header.base_offset - expected < 1 << 32;
                let start = from + at as u64;
                if follows && start + header.size as u64 <= self.size {
                    left = left.saturating_sub(header.size as u64);
                    if left == 0 || self.is_whole(&header, start)? {
                        return Ok(true);
                    }
                }
            }
            from += starts.max(1) as u64;
        }
        Ok(false)
    }
}

/// A partition that is ready to be appended to.
pub(super) struct Recovered {
    pub active: ActiveSegment,
    pub publisher: Publisher,
    pub truncation: Option<Truncation>,
}

/// Opens a partition for writing. The caller holds its lock.
pub(super) fn recover(dir: &PartitionDir, index_interval: u64) -> Result<Recovered> {
    let bases = dir.segments()?;
    let found = extent::find(dir)?;
    let known = found.unwrap_or_else(|| Extent::empty(dir.topic_id, bases.first().copied().unwrap_or(0)));
    let mut active = open_end(dir, &known, &bases, index_interval)?;
    let mut end = known.end;
    let mut broken = None;
    let mut scan = Scan::open(dir, active.base)?;
    loop {
        let failed = |error| Error::io("read", dir.file(active.base, "log"), error);
        match scan.step(active.position, end).map_err(failed)? {
            Step::Batch(header) => {
                active.note(header.size, header.last_offset(), header.max_timestamp);
                end = header.last_offset() + 1;
            }
            Step::End if end > active.base && bases.contains(&end) => {
                active.seal()?;
                active.sync()?;
                let next = Extent { end, segment: end, ..Extent::empty(dir.topic_id, end) };
                active = ActiveSegment::reopen(dir, &next, index_interval)?;
                scan = Scan::open(dir, active.base)?;
            }
            Step::End => break,
            Step::Broken(why) => {
                let in_the_middle = found.is_none() && scan.goes_on_after(active.position, end).map_err(failed)?;
                if in_the_middle || bases.last() > Some(&active.base) {
                    return Err(dir.damage("log.damaged", why, active.base, active.position, end));
                }
                broken = Some((why, scan.size - active.position));
                break;
            }
        }
    }
    if let Some(later) = bases.iter().find(|base| **base > active.base) {
        let what = format!("the log has a gap: the next segment starts at {later}");
        return Err(dir.damage("log.gap", &what, active.base, active.position, end));
    }
    finish(dir, known, found.is_some(), active, end, broken)
}

/// Opens the segment in which the known extent ends, which must have all that was acknowledged.
fn open_end(dir: &PartitionDir, known: &Extent, bases: &[i64], index_interval: u64) -> Result<ActiveSegment> {
    if !bases.contains(&known.segment) {
        if known.position == 0 && bases.is_empty() && known.start == known.end {
            return ActiveSegment::create(dir, known.segment, index_interval);
        }
        let what = "the segment with the newest acknowledged records is missing";
        return Err(dir.damage("log.lost_tail", what, known.segment, known.position, known.end));
    }
    let size = Scan::open(dir, known.segment)?.size;
    if size < known.position {
        let what = format!("acknowledged records are missing: the segment has {size} bytes of {}", known.position);
        return Err(dir.damage("log.lost_tail", &what, known.segment, size, known.end));
    }
    ActiveSegment::reopen(dir, known, index_interval)
}

fn finish(
    dir: &PartitionDir,
    known: Extent,
    is_published: bool,
    mut active: ActiveSegment,
    end: i64,
    broken: Option<(&'static str, u64)>,
) -> Result<Recovered> {
    let epochs = epochs::read(dir)?;
    let mut leader_epoch = known.leader_epoch.max(epochs.last().map_or(0, |(epoch, _)| *epoch));
    let truncation = match broken {
        None => None,
        Some((reason, bytes)) => {
            leader_epoch += 1;
            // The epoch first: a crash in between only raises it once more.
            epochs::start(dir, leader_epoch, end)?;
            active.truncate()?;
            Some(Truncation { offset: end, bytes, leader_epoch, reason })
        }
    };
    if epochs.is_empty() && truncation.is_none() {
        epochs::start(dir, leader_epoch, known.start)?;
    }
    let mut publisher = Publisher::open(dir, known)?;
    if truncation.is_some() || end != known.end || !is_published {
        active.sync()?;
        publisher.publish(Extent {
            end,
            segment: active.base,
            position: active.position,
            leader_epoch,
            max_timestamp: active.newest.timestamp,
            max_timestamp_offset: active.newest.last_offset,
            ..known
        })?;
    }
    if !is_published {
        sync_directory(&dir.path)?;
    }
    retention::remove_before(dir, publisher.current().start)?;
    Ok(Recovered { active, publisher, truncation })
}
