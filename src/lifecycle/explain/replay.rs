//! The log, read once more for both versions: what becomes of each record of the key in either.
//!
//! Partitions are read in several threads, each from its first record to its last: which records are late depends on those before
//! them. All of what the versions have read is read: a record of the key may lie anywhere, since late ones count and event time is
//! no order of the log. Counts are of all records; of each pair of fates the first are kept.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use crossbeam_channel::{RecvTimeoutError, bounded};

use super::cause::{Cause, Fate, parting};
use super::lane::{Judged, Lane, bring_the_same};
use super::path::Path;
use super::trace::Beside;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Partition, RecordBlock};
use crate::protocol::event_time::PartitionTime;
use crate::source::LogSource;
use crate::time::instant;

const BLOCK_BYTES: usize = 512 << 10;
const BATCH_RECORDS: usize = 8192;
/// A log that gives nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);
const TICK: Duration = Duration::from_millis(100);

/// What is replayed.
pub struct Question<'a> {
    /// The ways of the two versions; of a table that is not kappa's there is none.
    pub paths: [Option<&'a Path>; 2],
    /// The steps of the two beside each other.
    pub beside: &'a Beside,
    /// Records of each pair of fates that are kept.
    pub keep: usize,
    /// Threads.
    pub threads: usize,
}

/// A partition, as far as it is read.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which.
    pub partition: Partition,
    /// The first record.
    pub from: Offset,
    /// The record behind the last.
    pub until: Offset,
    /// What each version has read of it, and where its time begins.
    pub sides: [Option<(Range<i64>, PartitionTime)>; 2],
}

/// The fates of a record in the two versions, and whether both use it with the same values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fates {
    /// In the first; none: it is not known.
    pub a: Option<Fate>,
    /// In the second.
    pub b: Option<Fate>,
    /// See [`parting`].
    pub same_values: bool,
}

impl Fates {
    /// Why the record counts otherwise in one than in the other.
    pub fn parting(&self) -> Cause {
        self.a.zip(self.b).map_or(Cause::None, |(a, b)| parting(a, b, self.same_values))
    }
}

/// Records of one pair of fates.
#[derive(Default)]
pub struct Tally {
    /// How many.
    pub records: u64,
    /// The first of them.
    pub kept: Vec<Kept>,
}

/// A record.
#[derive(Clone)]
pub struct Kept {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its event time, milliseconds since 1970 UTC; none if neither version could decode it.
    pub time_ms: Option<i64>,
    /// Why it is bad, by version.
    pub reasons: [Option<String>; 2],
    /// As it was decoded, by version.
    pub rows: [Option<RecordBatch>; 2],
    /// What the steps made of it, by version and column.
    pub made: [Vec<Option<ArrayRef>>; 2],
    /// At which pair of steps the two part.
    pub parts_at: Option<usize>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// Records of the key, by their fates.
    pub fates: BTreeMap<Fates, Tally>,
    /// Records that neither version could decode: whose they are is not known.
    pub bad_in_all: u64,
    /// Records that were read.
    pub read: u64,
}

impl Found {
    fn add(&mut self, other: Self, keep: usize) {
        self.bad_in_all += other.bad_in_all;
        self.read += other.read;
        for (fates, tally) in other.fates {
            let all = self.fates.entry(fates).or_default();
            all.records += tally.records;
            all.kept.extend(tally.kept);
            all.kept.sort_by_key(|kept| (kept.partition, kept.offset));
            all.kept.truncate(keep);
        }
    }
}

/// Replays the records. `tell` is asked now and then whether to go on: so many are done, of so many.
///
/// # Errors
/// The log does not answer, or a record would have stopped a version.
pub fn replay(
    source: &dyn LogSource,
    spans: &[Span],
    question: &Question<'_>,
    tell: &dyn Fn(u64, u64) -> Result<()>,
) -> Result<Found> {
    let total = spans.iter().map(|span| (span.until.0 - span.from.0).max(0).unsigned_abs()).sum();
    let shared = Shared { next: AtomicUsize::new(0), done: AtomicU64::new(0), over: AtomicBool::new(false) };
    let threads = question.threads.clamp(1, spans.len().max(1));
    let (ended, ends) = bounded::<Result<Found>>(threads);
    std::thread::scope(|scope| {
        let mut outcome = Ok(Found::default());
        for _ in 0..threads {
            let (ended, shared) = (ended.clone(), &shared);
            let work = move || {
                let work = || Worker::new(question)?.work(source, spans, shared);
                let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
                // Whoever waits is there until all have ended.
                let _ = ended.send(found.unwrap_or_else(|_| Err(Error::internal("a replay panicked"))));
            };
            let spawned = std::thread::Builder::new().name("kappa-explain".into()).spawn_scoped(scope, work);
            if let Err(error) = spawned {
                outcome = Err(Error::internal(format!("start a thread: {error}")));
            }
        }
        drop(ended);
        loop {
            match ends.recv_timeout(TICK) {
                Ok(part) => outcome = merged(outcome, part, question.keep),
                Err(RecvTimeoutError::Disconnected) => return outcome,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Err(error) = tell(shared.done.load(Relaxed), total) {
                outcome = outcome.and(Err(error));
            }
            shared.over.store(outcome.is_err(), Relaxed);
        }
    })
}

/// The first error counts: what comes after it may be of it.
fn merged(all: Result<Found>, part: Result<Found>, keep: usize) -> Result<Found> {
    let mut all = all?;
    all.add(part?, keep);
    Ok(all)
}

/// What the threads share.
struct Shared {
    next: AtomicUsize,
    done: AtomicU64,
    over: AtomicBool,
}

/// One thread.
struct Worker<'a> {
    question: &'a Question<'a>,
    lanes: [Option<Lane>; 2],
    found: Found,
}

/// What a version did with a part of a block.
struct Part {
    /// Where it begins in the block.
    start: usize,
    judged: Judged,
}

impl Part {
    /// The place of a record of the block.
    fn place(&self, record: usize) -> Option<usize> {
        record.checked_sub(self.start).filter(|place| *place < self.judged.fates.len())
    }

    fn fate(&self, record: usize) -> Fate {
        self.place(record).and_then(|place| self.judged.fates.get(place)).copied().unwrap_or(Fate::NotRead)
    }

    fn is_of_key(&self, record: usize) -> bool {
        self.place(record).is_some_and(|place| self.judged.is_of_key[place])
    }
}

impl<'a> Worker<'a> {
    fn new(question: &'a Question<'a>) -> Result<Self> {
        let lane = |path: Option<&Path>| path.map(Lane::new).transpose();
        let [a, b] = question.paths;
        Ok(Self { question, lanes: [lane(a)?, lane(b)?], found: Found::default() })
    }

    /// Takes one partition after the other, in their order: so what it keeps is the first of what it meets.
    fn work(mut self, source: &dyn LogSource, spans: &[Span], shared: &Shared) -> Result<Found> {
        while let Some(span) = spans.get(shared.next.fetch_add(1, Relaxed)) {
            self.partition(source, span, shared)?;
        }
        Ok(self.found)
    }

    fn partition(&mut self, source: &dyn LogSource, span: &Span, shared: &Shared) -> Result<()> {
        let mut times = [0, 1].map(|side: usize| span.sides[side].as_ref().map_or(PartitionTime::default(), |(_, time)| *time));
        let mut reader = source.open(span.partition, span.from, None)?;
        let (mut block, mut at, mut came) = (RecordBlock::default(), span.from, instant());
        while at < span.until && !shared.over.load(Relaxed) {
            reader.poll(&mut block, BLOCK_BYTES, Some(span.until))?;
            for start in (0..block.len()).step_by(BATCH_RECORDS) {
                let range = start..(start + BATCH_RECORDS).min(block.len());
                self.batch(span, &block, range, &mut times).map_err(|error| error.with("partition", span.partition))?;
            }
            shared.done.fetch_add((block.next_offset.0 - at.0).max(0).unsigned_abs(), Relaxed);
            if block.next_offset > at {
                (at, came) = (block.next_offset, instant());
            } else {
                wait(came, span.partition)?;
            }
        }
        Ok(())
    }

    fn batch(&mut self, span: &Span, block: &RecordBlock, range: Range<usize>, times: &mut [PartitionTime; 2]) -> Result<()> {
        self.found.read += range.len() as u64;
        let mut parts = [None, None];
        for (side, part) in parts.iter_mut().enumerate() {
            let Some(lane) = &mut self.lanes[side] else { continue };
            let offsets = span.sides[side].as_ref().map_or(0..0, |(offsets, _)| offsets.clone());
            let records = &block.records[range.clone()];
            let behind = |offset: i64| range.start + records.partition_point(|record| record.offset < offset);
            let own = behind(offsets.start)..behind(offsets.end);
            *part = Some(Part { start: own.start, judged: lane.judge(block, own, &mut times[side])? });
        }
        let same = self.same_values(&parts, range.clone())?;
        for record in range {
            let of_all = |is: &dyn Fn(&Part) -> bool| parts.iter().flatten().all(is);
            if parts.iter().flatten().any(|part| part.is_of_key(record)) {
                let fate = |part: &Option<Part>| part.as_ref().map(|part| part.fate(record));
                let same_values = same.get(&record).copied().unwrap_or(true);
                let fates = Fates { a: fate(&parts[0]), b: fate(&parts[1]), same_values };
                self.take(fates, block, record, &parts)?;
            } else if of_all(&|part| matches!(part.fate(record), Fate::Bad | Fate::NotRead)) {
                self.found.bad_in_all += u64::from(!of_all(&|part| part.fate(record) == Fate::NotRead));
            }
        }
        Ok(())
    }

    /// Of the records that both use, whether they bring the same.
    fn same_values(&self, parts: &[Option<Part>; 2], range: Range<usize>) -> Result<BTreeMap<usize, bool>> {
        let [Some(a), Some(b)] = parts else { return Ok(BTreeMap::new()) };
        let both: Vec<usize> = range.filter(|at| a.fate(*at) == Fate::Used && b.fate(*at) == Fate::Used).collect();
        let places: Vec<_> = both.iter().filter_map(|at| Some((a.place(*at)?, b.place(*at)?))).collect();
        let same = bring_the_same((&a.judged, &b.judged), &places, &self.question.beside.parts)?;
        Ok(both.into_iter().zip(same.values().iter()).collect())
    }

    fn take(&mut self, fates: Fates, block: &RecordBlock, record: usize, parts: &[Option<Part>; 2]) -> Result<()> {
        let tally = self.found.fates.entry(fates).or_default();
        tally.records += 1;
        if tally.kept.len() >= self.question.keep {
            return Ok(());
        }
        let Some(of) = block.records.get(record) else { return Ok(()) };
        let mut kept = Kept {
            partition: block.partition.0,
            offset: of.offset,
            time_ms: None,
            reasons: [None, None],
            rows: [None, None],
            made: [Vec::new(), Vec::new()],
            parts_at: None,
        };
        let mut states = [None, None];
        for (side, part) in parts.iter().enumerate() {
            let (Some(part), Some(lane)) = (part, &self.lanes[side]) else { continue };
            let Some(place) = part.place(record) else { continue };
            kept.reasons[side] = part.judged.reasons.get(&place).cloned();
            let Some((row, time_ms)) = part.judged.row_of(place)? else { continue };
            kept.time_ms = Some(time_ms);
            let alive = !matches!(part.fate(record), Fate::Late | Fate::BelowFloor);
            let trace = lane.trace(row.clone(), alive)?;
            kept.made[side] = self.question.beside.made(side, lane, trace.last());
            kept.rows[side] = Some(row);
            states[side] = Some(trace);
        }
        kept.parts_at = self.question.beside.parts_at(&fates, [states[0].as_deref(), states[1].as_deref()])?;
        tally.kept.push(kept);
        Ok(())
    }
}

/// Waits for records, for a while.
fn wait(since: Instant, partition: Partition) -> Result<()> {
    if since.elapsed() > PATIENCE {
        let message = format!("the log gives no records of partition {partition}");
        return Err(Error::new(ErrorKind::Unavailable, "log", message).hint("try again when it answers"));
    }
    std::thread::sleep(PAUSE);
    Ok(())
}
