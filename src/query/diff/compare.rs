//! The comparison itself: rows of both tables go into partitions by the hash of their key, then each partition is compared
//! for itself. Memory is bounded by the budget, the examples and the days.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type};
use hashbrown::HashTable;

use super::columns::Columns;
use super::encode::Encoder;
use super::findings::Findings;
use super::partitions::{Partitions, Row, Which, hash, row_at, rows};
use crate::error::{Error, Result};

/// How often it is asked whether to go on.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes of a column whose values have no fixed length, as far as anybody knows.
const TEXT_BYTES: u64 = 24;

/// Batches of the compared columns, those of the key first.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

/// The rows of a table, in parts that are read by different threads.
pub struct Input<'a> {
    /// What it is called in messages.
    pub name: String,
    /// How many parts.
    pub parts: usize,
    /// About how many rows.
    pub rows: u64,
    /// Reads a part.
    pub open: Box<dyn Fn(usize) -> Result<Batches> + Sync + 'a>,
}

/// Which rows are compared, by a day or time of theirs. Both bounds are within.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Where it is among the compared columns.
    pub place: usize,
    /// The first, in days or in microseconds.
    pub low: Option<i64>,
    /// The last.
    pub high: Option<i64>,
}

/// What the comparison may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for rows.
    pub memory: usize,
    /// Threads.
    pub threads: usize,
    /// Rows of each kind that are kept as examples.
    pub examples: usize,
}

/// Compares two tables. `go_on` is asked now and then on the calling thread.
///
/// # Errors
/// `Data` if a key is not the key of one row in either table; what `go_on` says; what reading says.
pub fn compare(
    columns: &Columns,
    inputs: &[Input<'_>; 2],
    window: Option<&Window>,
    limits: Limits,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<(Findings, u64)> {
    let width: u64 = columns.all().map(|column| width(&column.data_type)).sum::<u64>() + 8;
    let rows: u64 = inputs.iter().map(|input| input.rows).max().unwrap_or_default();
    let threads = limits.threads.max(1);
    let partitions = Partitions::new(rows * width, limits.memory, threads);
    let stop = AtomicBool::new(false);

    let next = AtomicUsize::new(0);
    let scatter = || scatter(columns, inputs, window, &partitions, limits.examples, &|| !stop.load(SeqCst), &next);
    let begun = in_threads(threads, &stop, go_on, &scatter)?;

    let (begun, next) = (Mutex::new(begun), AtomicUsize::new(0));
    let join = || {
        let findings = begun.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut findings = findings.ok_or_else(|| Error::internal("more threads than before"))?;
        while !stop.load(SeqCst) {
            let partition = next.fetch_add(1, SeqCst);
            if partition >= partitions.count() {
                break;
            }
            let part = Partition { partitions: &partitions, number: partition, inputs };
            if columns.multiset { part.count(&mut findings)? } else { part.join(&mut findings)? }
        }
        findings.finish()?;
        Ok(findings)
    };
    let mut all = in_threads(threads, &stop, go_on, &join)?.into_iter();
    let mut findings = all.next().ok_or_else(|| Error::internal("no thread"))?;
    all.for_each(|other| findings.merge(other));
    let counts = &mut findings.counts;
    let unlike = counts.changed + counts.within_tolerance;
    counts.same = counts.rows_a.saturating_sub(counts.only_in_a).saturating_sub(unlike);
    Ok((findings, partitions.spilled()))
}

fn width(data_type: &DataType) -> u64 {
    data_type.primitive_width().map_or(TEXT_BYTES, |width| width as u64 + 1)
}

/// Runs `work` in threads, and asks on this one whether to go on. The first error ends all.
pub fn in_threads<T: Send>(
    threads: usize,
    stop: &AtomicBool,
    go_on: &dyn Fn() -> Result<()>,
    work: &(impl Fn() -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let (sender, results) = crossbeam_channel::unbounded();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let sender = sender.clone();
            scope.spawn(move || drop(sender.send(work())));
        }
        drop(sender);
        let mut all = Vec::new();
        let mut failed = None;
        loop {
            let failure = match results.recv_timeout(PATIENCE) {
                Ok(Ok(result)) => {
                    all.push(result);
                    None
                }
                Ok(Err(error)) => Some(error),
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => go_on().err(),
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
            };
            if failure.is_some() {
                stop.store(true, SeqCst);
                failed = failed.or(failure);
            }
        }
        failed.map_or(Ok(all), Err)
    })
}

/// Reads parts of the tables until none is left, and puts their rows in partitions.
fn scatter(
    columns: &Columns,
    inputs: &[Input<'_>; 2],
    window: Option<&Window>,
    partitions: &Partitions,
    examples: usize,
    goes_on: &dyn Fn() -> bool,
    next: &AtomicUsize,
) -> Result<Findings> {
    let encoder = Encoder::new(columns)?;
    let mut findings = Findings::new(columns, examples)?;
    let mut writer = partitions.writer();
    let [a, b] = inputs;
    loop {
        let part = next.fetch_add(1, SeqCst);
        let (which, batches) = match part.checked_sub(a.parts) {
            None => (Which::A, (a.open)(part)?),
            Some(part) if part < b.parts => (Which::B, (b.open)(part)?),
            Some(_) => break,
        };
        for batch in batches {
            if !goes_on() {
                return Ok(findings);
            }
            let batch = within(batch?, window, which, &mut findings)?;
            let rows = batch.num_rows();
            match which {
                Which::A => findings.counts.rows_a += rows as u64,
                Which::B => findings.counts.rows_b += rows as u64,
            }
            if rows == 0 {
                continue;
            }
            let normal = encoder.normal(batch.columns())?;
            if let Some(days) = &mut findings.days {
                days.add_rows(which, &normal)?;
            }
            let encoded = encoder.encode(&normal)?;
            for row in 0..rows {
                let (key, values) = encoded.row(row);
                writer.push(which, key.as_ref(), values.as_ref())?;
            }
        }
    }
    writer.finish()?;
    Ok(findings)
}

/// The rows of a batch that are compared. A row without a time has none to be outside by.
fn within(batch: RecordBatch, window: Option<&Window>, which: Which, findings: &mut Findings) -> Result<RecordBatch> {
    let Some((window, column)) = window.and_then(|window| Some((window, batch.columns().get(window.place)?))) else {
        return Ok(batch);
    };
    let units = units(column)?;
    let units = units.as_primitive::<Int64Type>();
    let (low, high) = (window.low.unwrap_or(i64::MIN), window.high.unwrap_or(i64::MAX));
    let keep: BooleanArray = units.iter().map(|unit| Some(unit.is_none_or(|unit| (low..=high).contains(&unit)))).collect();
    let outside = keep.false_count() as u64;
    match which {
        Which::A => findings.counts.outside_a += outside,
        Which::B => findings.counts.outside_b += outside,
    }
    if outside == 0 { Ok(batch) } else { Ok(filter_record_batch(&batch, &keep)?) }
}

/// Days, or microseconds.
fn units(column: &ArrayRef) -> Result<ArrayRef> {
    let plain = match column.data_type() {
        DataType::Date32 => cast(column, &DataType::Int32)?,
        _ => cast(column, &DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))?,
    };
    Ok(cast(&plain, &DataType::Int64)?)
}

/// A partition that is compared.
struct Partition<'a> {
    partitions: &'a Partitions,
    number: usize,
    inputs: &'a [Input<'a>; 2],
}

/// A key of a partition, and what is known of it.
struct Known {
    hash: u64,
    /// Where its row is: in a block of the first table, or in what was kept of the second.
    block: usize,
    at: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    OnlyA,
    OnlyB,
    Both,
}

/// Rows of a partition that are equal.
struct Equal {
    hash: u64,
    at: usize,
    /// How many more the first table has than the second.
    more: i64,
}

impl Partition<'_> {
    fn blocks(&self, which: Which) -> impl Iterator<Item = Result<Vec<u8>>> {
        self.partitions.take(which, self.number)
    }

    /// Matches rows by key.
    fn join(&self, findings: &mut Findings) -> Result<()> {
        let blocks = self.blocks(Which::A).collect::<Result<Vec<_>>>()?;
        let mut table: HashTable<Known> = HashTable::with_capacity(blocks.iter().map(|block| rows(block).count()).sum());
        for (index, block) in blocks.iter().enumerate() {
            for row in rows(block) {
                let hash = hash(row.key);
                let same = |known: &Known| known.hash == hash && key_at(blocks.get(known.block), known.at) == row.key;
                if table.find(hash, same).is_some() {
                    return Err(self.twice(Which::A, row, findings));
                }
                table.insert_unique(hash, Known { hash, block: index, at: row.at, state: State::OnlyA }, |it| it.hash);
            }
        }
        // The keys that only the second table has: to see those that come twice.
        let mut new: Vec<u8> = Vec::new();
        for block in self.blocks(Which::B) {
            let block = block?;
            for row in rows(&block) {
                let hash = hash(row.key);
                let same = |known: &Known| {
                    known.hash == hash
                        && match known.state {
                            State::OnlyB => key_at(Some(&new), known.at) == row.key,
                            _ => key_at(blocks.get(known.block), known.at) == row.key,
                        }
                };
                match table.find_mut(hash, same) {
                    Some(known) if known.state == State::OnlyA => {
                        known.state = State::Both;
                        let ours = blocks.get(known.block).and_then(|block| row_at(block, known.at));
                        let ours = ours.map(|ours| ours.values).unwrap_or_default();
                        if ours != row.values {
                            findings.differs(row.key, ours, row.values)?;
                        }
                    }
                    Some(_) => return Err(self.twice(Which::B, row, findings)),
                    None => {
                        let known = Known { hash, block: 0, at: keep(&mut new, row.key), state: State::OnlyB };
                        table.insert_unique(hash, known, |it| it.hash);
                        findings.only(Which::B, row.key, row.values, 1)?;
                    }
                }
            }
        }
        for known in table.iter().filter(|known| known.state == State::OnlyA) {
            if let Some(row) = blocks.get(known.block).and_then(|block| row_at(block, known.at)) {
                findings.only(Which::A, row.key, row.values, 1)?;
            }
        }
        Ok(())
    }

    /// Counts equal rows. Memory holds each of them once, however often it comes.
    fn count(&self, findings: &mut Findings) -> Result<()> {
        let mut distinct: Vec<u8> = Vec::new();
        let mut table: HashTable<Equal> = HashTable::new();
        for (which, one) in [(Which::A, 1), (Which::B, -1)] {
            for block in self.blocks(which) {
                for row in rows(&block?) {
                    let hash = hash(row.key);
                    let same = |equal: &Equal| equal.hash == hash && key_at(Some(&distinct), equal.at) == row.key;
                    if let Some(equal) = table.find_mut(hash, same) {
                        equal.more += one;
                    } else {
                        let equal = Equal { hash, at: keep(&mut distinct, row.key), more: one };
                        table.insert_unique(hash, equal, |it| it.hash);
                    }
                }
            }
        }
        for equal in table.iter().filter(|equal| equal.more != 0) {
            let which = if equal.more > 0 { Which::A } else { Which::B };
            findings.only(which, key_at(Some(&distinct), equal.at), &[], equal.more.unsigned_abs())?;
        }
        Ok(())
    }

    fn twice(&self, which: Which, row: Row<'_>, findings: &Findings) -> Error {
        let name = self.inputs.get(which as usize).map_or("", |input| &input.name);
        let key = findings.encoder.describe(row.key).unwrap_or_default();
        Error::data("duplicate_key", format!("table {name} has more than one row of the key {key}"))
            .hint("name columns that tell its rows apart: --key COLUMN, once for each; or compare whole rows: --no-key")
    }
}

fn key_at(block: Option<&Vec<u8>>, at: usize) -> &[u8] {
    block.and_then(|block| row_at(block, at)).map(|row| row.key).unwrap_or_default()
}

/// Keeps a key as a row without values; where it is.
fn keep(kept: &mut Vec<u8>, key: &[u8]) -> usize {
    let at = kept.len();
    super::partitions::put_row(kept, key, &[]);
    at
}
