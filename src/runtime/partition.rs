//! A partition as one worker reads it: where it is, how far it may go, and what is shared with those who watch.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::error::Result;
use crate::message::{Offset, Partition, RecordBlock};
use crate::protocol::checkpoint::PartitionAck;
use crate::protocol::event_time::{PartitionTime, SourceCounts};
use crate::protocol::progress::PartitionProgress;
use crate::source::PartitionReader;

/// Bytes asked for at a time: enough to make a read worth it, little enough to stay in the cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Records decoded at a time.
pub const BATCH_RECORDS: usize = 8192;

/// A partition in the hands of a worker.
pub struct PartitionTask {
    /// Which source of the job.
    pub source: usize,
    /// Which partition.
    pub partition: Partition,
    /// How far event time has come.
    pub time: PartitionTime,
    /// The account.
    pub counts: SourceCounts,
    reader: Box<dyn PartitionReader>,
    block: RecordBlock,
    /// The next record of the block.
    cursor: usize,
    /// The next record to process.
    next: Offset,
    /// Where to stop.
    end: Option<Offset>,
    /// Where to stop for a while.
    pause: Option<Offset>,
    /// Records handed out at a time.
    batch: usize,
    leader_epoch: Option<i32>,
    progress: Arc<PartitionProgress>,
}

impl PartitionTask {
    /// A partition to read from `start.next` to `end`.
    pub fn new(
        source: usize,
        partition: Partition,
        start: PartitionAck,
        end: Option<Offset>,
        reader: Box<dyn PartitionReader>,
        progress: Arc<PartitionProgress>,
    ) -> Self {
        let task = Self {
            source,
            partition,
            time: start.time,
            counts: start.counts,
            reader,
            block: RecordBlock::default(),
            cursor: 0,
            next: start.next,
            end,
            pause: None,
            batch: BATCH_RECORDS,
            leader_epoch: start.leader_epoch,
            progress,
        };
        task.publish();
        task
    }

    /// Hands out at most so many records at a time.
    pub fn with_batch(mut self, records: usize) -> Self {
        self.batch = records.max(1);
        self
    }

    /// Whether it is at its end.
    pub fn at_end(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Stops for a while where it is, or at an offset that it has not passed.
    pub fn pause(&mut self, at: Option<Offset>) {
        self.pause = Some(at.unwrap_or(self.next).max(self.next));
    }

    /// Goes on from there.
    pub fn resume(&mut self) {
        self.pause = None;
    }

    /// Whether it is where it stops for a while.
    pub fn at_pause(&self) -> bool {
        self.pause.is_some_and(|pause| self.next >= pause)
    }

    /// Reads on past the end.
    pub fn unbound(&mut self) {
        self.end = None;
    }

    /// Fetches if nothing is left, and gives the next records to work on: the block and a range of it.
    pub fn fetch(&mut self) -> Result<Option<(RecordBlock, std::ops::Range<usize>)>> {
        if self.at_end() || self.at_pause() {
            return Ok(None);
        }
        if self.cursor >= self.block.len() {
            self.block.clear();
            self.cursor = 0;
            self.reader.poll(&mut self.block, BLOCK_BYTES, self.end.into_iter().chain(self.pause).min())?;
            if self.block.is_empty() {
                self.pass_to(self.block.next_offset);
                return Ok(None);
            }
        }
        // What was fetched before it was to stop may go on behind that.
        let before = self.pause.map(|pause| self.block.records.partition_point(|record| record.offset < pause.0));
        let range = self.cursor..(self.cursor + self.batch).min(before.unwrap_or(self.block.len()));
        if range.is_empty() {
            self.pass_to(self.block.next_offset);
            return Ok(None);
        }
        Ok(Some((std::mem::take(&mut self.block), range)))
    }

    /// There are no records up to an offset: it is there, or where it stops for a while.
    fn pass_to(&mut self, offset: Offset) {
        let offset = self.pause.map_or(offset, |pause| pause.min(offset));
        if offset > self.next {
            self.next = offset;
            self.leader_epoch = None;
        }
        self.publish();
    }

    /// The offset of a record of the block at hand.
    pub fn offset_of(&self, record: usize) -> Option<i64> {
        self.block.records.get(record).map(|record| record.offset)
    }

    /// Gives the block back after the records up to `done` were worked on.
    pub fn advance(&mut self, block: RecordBlock, done: usize) {
        let next = match block.records.get(done) {
            Some(record) => Offset(record.offset),
            None => block.next_offset,
        };
        // There is no record between the two.
        self.next = self.pause.map_or(next, |pause| pause.min(next));
        // What lies between the last record and the next may be of another leader.
        let follows = done.checked_sub(1).and_then(|last| block.records.get(last)).is_some_and(|r| r.offset + 1 == self.next.0);
        self.leader_epoch = block.leader_epoch.filter(|_| follows);
        self.block = block;
        self.cursor = done;
        self.publish();
    }

    fn publish(&self) {
        self.progress.next.store(self.next.0, Relaxed);
        self.progress.read.store(self.counts.read, Relaxed);
        self.progress.accepted_max.store(self.time.accepted_max.unwrap_or(i64::MIN), Relaxed);
    }

    /// Where it is: what a barrier records.
    pub fn ack(&self) -> PartitionAck {
        PartitionAck { next: self.next, time: self.time, counts: self.counts, leader_epoch: self.leader_epoch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{RecordRef, Span};

    /// Records at these offsets, of a log that ends at `end`; all of them at once, whatever was asked for.
    struct Log {
        offsets: Vec<i64>,
        end: i64,
    }

    impl PartitionReader for Log {
        fn poll(&mut self, block: &mut RecordBlock, _: usize, until: Option<Offset>) -> Result<()> {
            block.clear();
            let end = until.map_or(self.end, |until| until.0.min(self.end));
            let rest = self.offsets.partition_point(|offset| *offset < end);
            let record = |offset| RecordRef { offset, timestamp: 0, key: Span::NULL, value: Span::NULL, headers: Span::NULL };
            block.records = self.offsets.drain(..rest).map(record).collect();
            block.next_offset = Offset(end);
            Ok(())
        }
    }

    fn task(offsets: &[i64], end: i64) -> PartitionTask {
        let reader = Box::new(Log { offsets: offsets.to_vec(), end });
        let start = PartitionAck::at(Offset(0), PartitionTime::default());
        PartitionTask::new(0, Partition(0), start, None, reader, Arc::default()).with_batch(2)
    }

    /// Works on what comes until nothing does: the offsets.
    fn read(task: &mut PartitionTask) -> Vec<i64> {
        let mut found = Vec::new();
        while let Some((block, range)) = task.fetch().unwrap() {
            found.extend(block.records[range.clone()].iter().map(|record| record.offset));
            task.advance(block, range.end);
        }
        found
    }

    #[test]
    fn a_partition_stops_where_it_is_told_to_and_goes_on_from_there() {
        let mut task = task(&[0, 1, 2, 3, 4, 5], 6);
        let (block, range) = task.fetch().unwrap().unwrap();
        task.advance(block, range.end);
        task.pause(None);
        assert!(task.at_pause() && read(&mut task).is_empty());
        // What was fetched before goes on behind the place.
        task.pause(Some(Offset(5)));
        assert!(!task.at_pause());
        assert_eq!((read(&mut task), task.ack().next, task.at_pause()), (vec![2, 3, 4], Offset(5), true));
        task.resume();
        assert_eq!((read(&mut task), task.ack().next), (vec![5], Offset(6)));
    }

    #[test]
    fn a_place_in_a_hole_is_reached_exactly() {
        // Markers of transactions are no records: another version's position may lie between them.
        for (place, before, after) in [(3, vec![0, 1], vec![6]), (5, vec![0, 1], vec![6]), (8, vec![0, 1, 6], vec![])] {
            let mut task = task(&[0, 1, 6], 9);
            task.pause(Some(Offset(place)));
            assert_eq!((read(&mut task), task.ack().next, task.at_pause()), (before, Offset(place), true), "{place}");
            task.resume();
            assert_eq!((read(&mut task), task.ack().next), (after, Offset(9)), "{place}");
        }
        // A hole that is behind it already is its position.
        let mut task = task(&[0, 1, 6], 9);
        let (block, range) = task.fetch().unwrap().unwrap();
        task.advance(block, range.end);
        task.pause(None);
        assert_eq!((read(&mut task), task.ack().next), (vec![], Offset(6)));
        task.resume();
        assert_eq!(read(&mut task), [6]);
    }
}
