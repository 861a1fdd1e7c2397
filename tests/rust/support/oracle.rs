//! What a version must hold: an independent recomputation over the generated log, by the words of the semantics. It calls
//! nothing of the engine.

use std::collections::{BTreeMap, BTreeSet};

use super::data::{Fault, Log, MAX_FUTURE, OUT_OF_ORDERNESS, Record, Row};
use super::fsum::fsum;
use super::jobs::{DAILY_LIMIT, Job, Output};

/// Rows as text, and how often each occurs.
pub type Multiset = BTreeMap<String, usize>;

/// From where a version reads, and which event times it leaves out.
#[derive(Clone, Debug)]
pub struct Domain {
    pub start: Vec<i64>,
    pub floor: Option<i64>,
}

impl Domain {
    /// All of a log.
    pub fn whole(log: &Log) -> Self {
        Self { start: vec![0; log.partitions.len()], floor: None }
    }
}

/// What became of the records, in the order in which the first match wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub read: u64,
    pub bad: u64,
    pub below_floor: u64,
    pub late_dropped: u64,
    pub filtered: u64,
    pub expired: u64,
    pub used: u64,
    pub late_kept: u64,
}

/// An output, recomputed.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub rows: Multiset,
    pub account: Account,
}

/// A job, recomputed.
#[derive(Clone, Debug)]
pub struct Recomputed {
    pub outputs: Vec<Expected>,
    pub dead_letters: Multiset,
}

/// A record that is used, and where it lies.
pub struct Used<'a> {
    pub partition: i32,
    pub offset: i64,
    pub row: &'a Row,
    /// That of its partition when it was read; none before the first record.
    pub watermark: Option<i64>,
}

/// Everything that `job` must have written once it has read up to `upto`.
pub fn recompute(log: &Log, job: &Job, domain: &Domain, upto: &[i64]) -> Recomputed {
    let mut account = Account::default();
    let mut dead_letters = Multiset::new();
    let mut used: Vec<Used<'_>> = Vec::new();
    for (partition, records) in log.partitions.iter().enumerate() {
        let range = domain.start[partition] as usize..upto[partition] as usize;
        account.read += range.len() as u64;
        let is_good = |record: &Record| match record.fault {
            Fault::None => true,
            Fault::Always => false,
            Fault::Column(column) => !job.uses(column),
        };
        let mut good = Vec::new();
        for (offset, record) in range.clone().zip(&records[range]) {
            if is_good(record) {
                good.push((offset, record));
            } else {
                account.bad += 1;
                if job.bad == "dead_letter" {
                    count(&mut dead_letters, letter(partition, offset, record));
                }
            }
        }
        let times: Vec<i64> = good.iter().map(|(_, record)| record.row.t).collect();
        let maxima = maxima(&times);
        for ((offset, record), max) in good.iter().zip(maxima) {
            let watermark = max.map(|max| max - OUT_OF_ORDERNESS);
            let late = watermark.is_some_and(|watermark| record.row.t < watermark);
            if domain.floor.is_some_and(|floor| record.row.t < floor) {
                account.below_floor += 1;
            } else if late && job.late != "keep" {
                account.late_dropped += 1;
                if job.late == "dead_letter" {
                    count(&mut dead_letters, letter(partition, *offset, record));
                }
            } else {
                account.late_kept += u64::from(late);
                used.push(Used { partition: partition as i32, offset: *offset as i64, row: &record.row, watermark });
            }
        }
    }
    let outputs = job.outputs.iter().map(|output| {
        let accepted: Vec<&Used<'_>> = used.iter().filter(|used| accepts(*output, used.row)).collect();
        let kept: Vec<&Used<'_>> = accepted.iter().copied().filter(|used| !super::hourly::is_expired(*output, used)).collect();
        let filtered = (used.len() - accepted.len()) as u64;
        let expired = (accepted.len() - kept.len()) as u64;
        let rows = match output {
            Output::Wide => wide(&kept),
            Output::Daily => daily(&kept),
            Output::Nested => super::nested::nested(&kept),
            Output::Hourly => super::hourly::hourly(&kept),
            Output::HourlyNested => super::hourly::by_day(&kept),
            Output::Rows => kept.iter().map(|used| append_row(used)).fold(Multiset::new(), counted),
        };
        Expected { rows, account: Account { used: kept.len() as u64, filtered, expired, ..account } }
    });
    Recomputed { outputs: outputs.collect(), dead_letters }
}

fn count(set: &mut Multiset, row: String) {
    *set.entry(row).or_default() += 1;
}

pub fn counted(mut set: Multiset, row: String) -> Multiset {
    count(&mut set, row);
    set
}

fn letter(partition: usize, offset: usize, record: &Record) -> String {
    let value = record.payload.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    cells(&[partition.to_string(), offset.to_string(), micros(record.timestamp), text(value.as_ref())])
}

/// For each of the good records of a partition the accepted maximum of those before it: it is late if it is below that by more
/// than the bound.
///
/// A record too far ahead counts once the next three good records are each at or above it less the bound, for the third of them
/// already; until then, and if they are not, it moves nothing.
fn maxima(times: &[i64]) -> Vec<Option<i64>> {
    let mut before = vec![None; times.len()];
    let Some(mut max) = times.first().copied() else { return before };
    let mut i = 1;
    while i < times.len() {
        let time = times[i];
        before[i] = Some(max);
        if time <= max + MAX_FUTURE {
            max = max.max(time);
            i += 1;
            continue;
        }
        let agreeing = times[i + 1..].iter().take(3).take_while(|next| **next >= time - OUT_OF_ORDERNESS).count();
        before[i + 1..=i + agreeing].fill(Some(max));
        if agreeing == 3 {
            max = time;
            i += 3;
        } else {
            i += 1 + agreeing;
        }
    }
    before
}

fn accepts(output: Output, row: &Row) -> bool {
    match output {
        Output::Wide => row.n.is_none_or(|n| n > -40),
        Output::Daily => row.b == Some(true),
        Output::Nested => row.s.is_some(),
        Output::Hourly | Output::HourlyNested => row.n.is_some(),
        Output::Rows => row.b == Some(true) || row.n.is_some_and(|n| n > 10),
    }
}

fn append_row(used: &Used<'_>) -> String {
    let Used { partition, offset, row, .. } = used;
    let m = row.n.map(|n| n + 1);
    cells(&[partition.to_string(), offset.to_string(), text(row.k.as_ref()), number(m), micros(row.t)])
}

/// Days of Kolkata, which is five and a half hours ahead all year.
fn daily(used: &[&Used<'_>]) -> Multiset {
    let mut groups: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
    used.iter().for_each(|used| groups.entry((used.row.t + 19_800_000).div_euclid(86_400_000)).or_default().push(used.row));
    groups.retain(|_, rows| rows.len() as i64 <= DAILY_LIMIT);
    let row = |(day, rows): (i64, Vec<&Row>)| {
        let users = rows.iter().filter_map(|row| row.s.as_ref()).collect::<BTreeSet<_>>().len();
        let top = rows.iter().filter_map(|row| row.n).max();
        cells(&[day.to_string(), users.to_string(), rows.len().to_string(), number(top), (users + rows.len()).to_string()])
    };
    groups.into_iter().map(row).fold(Multiset::new(), counted)
}

type Key = (Option<String>, Option<i32>);

fn wide(used: &[&Used<'_>]) -> Multiset {
    let mut groups: BTreeMap<Key, Vec<&Used<'_>>> = BTreeMap::new();
    used.iter().for_each(|used| groups.entry((used.row.k.clone(), used.row.g)).or_default().push(used));
    groups.into_iter().map(|(key, rows)| wide_row(&key, rows)).fold(Multiset::new(), counted)
}

fn wide_row(key: &Key, mut used: Vec<&Used<'_>>) -> String {
    used.sort_by_key(|used| (used.row.t, used.partition, used.offset));
    let rows: Vec<&Row> = used.iter().map(|used| used.row).collect();
    let with_b = || rows.iter().filter(|row| row.b == Some(true));
    let n: Vec<i128> = rows.iter().filter_map(|row| row.n).map(i128::from).collect();
    let n_b: Vec<i128> = with_b().filter_map(|row| row.n).map(i128::from).collect();
    let d: Vec<i128> = rows.iter().filter_map(|row| row.d).collect();
    let f: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
    let s: Vec<&String> = rows.iter().filter_map(|row| row.s.as_ref()).collect();
    let sum = |values: &[i128]| number((!values.is_empty()).then(|| values.iter().sum::<i128>()));
    let f_sum = (!f.is_empty()).then(|| fsum(&f));
    let least = f.iter().copied().min_by(f64::total_cmp);
    let greatest = f.iter().copied().max_by(f64::total_cmp);
    let distinct = |values: &[&String]| values.iter().collect::<BTreeSet<_>>().len();
    let has_null = rows.iter().any(|row| row.s.is_none());
    cells(&[
        text(key.0.as_ref()),
        number(key.1),
        rows.len().to_string(),
        with_b().count().to_string(),
        n.len().to_string(),
        sum(&n),
        number(n.iter().min()),
        number(n.iter().max()),
        float((!n.is_empty()).then(|| n.iter().sum::<i128>() as f64 / n.len() as f64)),
        sum(&n_b),
        sum(&d),
        number(d.iter().min()),
        number(d.iter().max()),
        float(f_sum),
        float(f_sum.map(|sum| sum / f.len() as f64)),
        float(least),
        float(greatest),
        text(s.iter().min().copied()),
        text(s.iter().max().copied()),
        micros(rows.iter().map(|row| row.t).max().unwrap()),
        text(rows.first().and_then(|row| row.s.as_ref())),
        text(rows.last().and_then(|row| row.s.as_ref())),
        number(rows.iter().rev().find_map(|row| row.n)),
        number(with_b().next().and_then(|row| row.n)),
        (distinct(&s) + usize::from(has_null)).to_string(),
        distinct(&s).to_string(),
        n_b.iter().collect::<BTreeSet<_>>().len().to_string(),
    ])
}

/// A row as text.
pub fn cells(cells: &[String]) -> String {
    cells.join(" | ")
}

/// Text in quotes, to tell it from null.
pub fn text(value: Option<&String>) -> String {
    value.map_or("null".to_owned(), |value| format!("{value:?}"))
}

pub fn number<T: ToString>(value: Option<T>) -> String {
    value.map_or("null".to_owned(), |value| value.to_string())
}

/// All bits of a float; zero has one sign.
pub fn float(value: Option<f64>) -> String {
    value.map_or("null".to_owned(), |value| format!("{:?}", if value == 0.0 { 0.0 } else { value }))
}

/// Instants are microseconds in tables.
pub fn micros(ms: i64) -> String {
    format!("{} us", ms * 1000)
}
