//! `explain`: why a key has another row in one version than in the other. The records of the key are replayed through both
//! versions' stored plans, up to where their snapshots are in the log.
//!
//! In reading order: [`key`] which rows are meant; [`path`] what a version does to a record, by its plan; [`lane`] does it; [`trace`]
//! where two versions part; [`replay`] reads the log once for both; [`cause`] says why; [`records`] hands it over. Nothing is
//! committed, and nothing is kept.

pub mod cause;
pub mod key;
mod lane;
pub mod path;
mod records;
pub mod replay;
mod trace;

use std::path::Path as FilePath;
use std::time::Duration;

use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};

use self::cause::{Cause, Facts, Parted};
use self::key::{Asked, Columns, Key};
use self::path::Path;
use self::replay::{Found, Question, Span, replay};
use self::trace::Beside;
use super::compare::not_met;
use super::leases;
use super::plan::changes::Change;
use super::rendezvous::{Outcome, meet};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};
use crate::plan::logical::MetadataKind;
use crate::protocol::position::Position;
use crate::query::diff::side::{Side, Subject, check_topics};
use crate::query::diff::snapshots;
use crate::source::{self, LogSource, Reading};
use crate::table::{Catalog, TableName};
use crate::time::instant;

/// Rows of a table that are shown.
const ROWS: usize = 20;

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The key.
    pub key: Asked,
    /// The snapshots that were compared; none: those that a comparison would take now.
    #[serde(default)]
    pub snapshots: Option<[Option<i64>; 2]>,
    /// Records of each pair of fates that are kept.
    pub examples: usize,
    /// Threads; default: the machine's cores.
    pub threads: Option<usize>,
    /// How long versions that run are waited for, to take a checkpoint at one position; 0: they are not asked.
    #[serde(default)]
    pub rendezvous_ms: u64,
}

/// Why the row of a key is not the same in two tables.
pub struct Explanation {
    /// What was found, in numbers and words.
    pub report: Report,
    /// Records of the key: the first of each pair of fates.
    pub records: RecordBatch,
    /// The key's rows in either table.
    pub rows: [RecordBatch; 2],
}

/// What was found, in numbers and words.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The first table.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// The key: columns and values.
    pub key: Key,
    /// Whether it is the tables' primary key: else rows that have these values.
    pub is_primary: bool,
    /// Whether both were at one position of the log.
    pub same_position: bool,
    /// Whether the rows of the key differ.
    pub differs: bool,
    /// Why.
    pub cause: Cause,
    /// The first step at which records part; none where that is no step's doing.
    pub step: Option<PartedStep>,
    /// Records of the key that count otherwise in one version than in the other, by why.
    pub parted: Parted,
    /// Records of the key by what became of them.
    pub fates: Vec<FateCount>,
    /// Records that neither version could decode: whose they are is not known.
    pub bad_in_all: u64,
    /// Records that were read.
    pub read: u64,
    /// Records that the versions have read, and that are gone from the log.
    pub gone: Vec<Gone>,
    /// Rows of the key in either table.
    pub rows: [u64; 2],
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// A step that is not the same in both plans.
#[derive(Clone, Debug, Serialize)]
pub struct PartedStep {
    /// What of it: as it is in the first plan, and in the second.
    pub changes: Vec<Change>,
    /// The same as sentences.
    pub in_words: Vec<String>,
}

/// How many records of the key had these fates.
#[derive(Clone, Debug, Serialize)]
pub struct FateCount {
    /// In the first version; none: it is not known.
    pub a: Option<&'static str>,
    /// In the second.
    pub b: Option<&'static str>,
    /// Which filter left them out, in the first.
    pub why_a: Option<String>,
    /// In the second.
    pub why_b: Option<String>,
    /// Where both use them: whether they bring the same values.
    pub same_values: bool,
    /// Why they count otherwise.
    pub cause: Cause,
    /// How many.
    pub records: u64,
    /// How many of them are among the records that are shown.
    pub kept: usize,
}

/// Records of a partition that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gone {
    /// Of which topic.
    pub topic: String,
    /// Of which partition.
    pub partition: i32,
    /// The first that is still there.
    pub before: i64,
    /// How many of them the first version has read.
    pub of_a: u64,
    /// The second.
    pub of_b: u64,
}

/// Explains the row of a key in two tables. `tell` is asked now and then whether to go on: so many records are read, of so many.
///
/// # Errors
/// `Refused` if there is no such table or key, nothing to explain it by, or no position in common; the log does not answer.
pub fn explain(
    settings: &Settings,
    names: [&TableName; 2],
    options: &Options,
    tell: &dyn Fn(u64, u64) -> Result<()>,
) -> Result<Explanation> {
    let began = instant();
    let catalog = Catalog::of(settings)?;
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let load = |name: &TableName| Subject::load(&catalog, &checkpoints, name);
    let mut subjects = [load(names[0])?, load(names[1])?];
    let _lease = leases::take(&checkpoints, &[&subjects[0].table, &subjects[1].table]);
    // Who condemns looks at the leases afterwards: one of the two sees the other.
    subjects.iter().try_for_each(|subject| catalog.require(subject.table.name())?.check_not_condemned())?;
    let mut met = Outcome::NotNeeded;
    if options.snapshots.is_none() {
        let limit = Duration::from_millis(options.rendezvous_ms);
        met = meet([&subjects[0], &subjects[1]], &load, limit, &|| tell(0, 0))?;
        subjects = [load(names[0])?, load(names[1])?];
    }
    let [a, b] = &subjects;
    let (snapshots, same_position) = match options.snapshots {
        Some(compared) => (compared, a.is_ours() && b.is_ours()),
        None => snapshots(a, b).map_err(|error| not_met(error, &met))?,
    };
    check_topics(a, b)?;
    let sides = [a.side(snapshots[0])?, b.side(snapshots[1])?];
    let (key, is_primary) = resolve(&subjects, &options.key)?;
    let mut notes = Vec::new();
    let paths = paths(&subjects, &key, &checkpoints, &mut notes)?;
    let rows = |side: usize| {
        let (table, snapshot) = (&subjects[side].table, snapshots[side]);
        records::rows_of_key(&catalog, table, snapshot, (&key, is_primary), ROWS, &|| tell(0, 0))
    };
    let rows = [rows(0)?, rows(1)?];
    let paths = [paths[0].as_ref(), paths[1].as_ref()];
    let beside = Beside::new(paths)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or_else(cores).clamp(1, 64);
    let log = open(paths, settings, threads)?;
    let positions = [sides[0].offsets.as_ref(), sides[1].offsets.as_ref()];
    let (spans, gone) = spans(log.as_ref(), paths, positions)?;
    let question = Question { paths, beside: &beside, keep: options.examples, threads };
    let found = replay(log.as_ref(), &spans, &question, tell)?;
    let records = records::records(&found, paths, &beside)?;
    let [a, b] = sides;
    let [(row_a, rows_a), (row_b, rows_b)] = rows;
    let mut report = Report {
        a,
        b,
        key,
        is_primary,
        same_position,
        differs: false,
        cause: Cause::None,
        step: None,
        parted: Parted::default(),
        fates: fates(&found, paths),
        bad_in_all: found.bad_in_all,
        read: found.read,
        gone,
        rows: [rows_a, rows_b],
        notes,
        seconds: 0.0,
    };
    judge(&mut report, &found, &beside, paths, [&row_a, &row_b])?;
    report.seconds = began.elapsed().as_secs_f64();
    Ok(Explanation { report, records, rows: [row_a, row_b] })
}

/// The key that is meant, and whether it is the primary key.
fn resolve(subjects: &[Subject; 2], asked: &Asked) -> Result<(Key, bool)> {
    // Of a table that is not kappa's ours has the key.
    let [first, second] = subjects;
    let ours = if first.is_ours() { first } else { second };
    let key = ours.table.primary_key()?;
    let all: Vec<String> = ours.table.schema()?.fields().iter().map(|field| field.name().clone()).collect();
    let table = ours.table.name().to_string();
    Ok((Columns { table: &table, key: &key, all: &all }.resolve(asked)?, !key.is_empty()))
}

/// The ways of the two versions' records; none of a table whose plan is not stored.
fn paths(subjects: &[Subject; 2], key: &Key, checkpoints: &FilePath, notes: &mut Vec<String>) -> Result<[Option<Path>; 2]> {
    let mut path = |subject: &Subject| -> Result<Option<Path>> {
        let name = subject.table.name().to_string();
        let Some(manifest) = &subject.manifest else {
            notes.push(if subject.is_ours() {
                format!(
                    "the checkpoints of {name} are not in {}: what it did with the records is not known",
                    checkpoints.display()
                )
            } else {
                format!("{name} is not kappa's: no plan of it is stored, and only the other's records are shown")
            });
            return Ok(None);
        };
        let path = Path::of(manifest, &name, key)?;
        if path.lost > 0 {
            notes.push(format!("{name} went on without {} records that were gone before it could read them", path.lost));
        }
        Ok(Some(path))
    };
    match [path(&subjects[0])?, path(&subjects[1])?] {
        [None, None] => Err(Error::refused("no_plan", "of neither table a plan is stored: there is nothing to replay")
            .hint("name a table that a job of kappa's writes; point the setting checkpoints at where it was built")),
        found => Ok(found),
    }
}

/// The topic that both read.
fn open(paths: [Option<&Path>; 2], settings: &Settings, threads: usize) -> Result<std::sync::Arc<dyn LogSource>> {
    let mut known = paths.into_iter().flatten();
    let Some(first) = known.next() else { return Err(Error::internal("no plan to replay")) };
    let topic = &first.source.read.topic;
    if let Some(other) = known.find(|other| other.source.read.topic != *topic) {
        let message = format!("one table comes of topic {topic}, the other of topic {}", other.source.read.topic);
        return Err(Error::refused("other_topics", message).hint("explain outputs of the same topic"));
    }
    let headers = |path: &&Path| path.source.read.metadata.iter().any(|column| column.kind == MetadataKind::Headers);
    let reading = Reading { threads, headers: paths.iter().flatten().any(headers) };
    let log = source::open(topic, settings, reading)?;
    if log.topic_id() != first.topic_id {
        return Err(Error::refused("topic_recreated", format!("topic {topic} is another one than the versions have read"))
            .with("before", &first.topic_id)
            .with("now", log.topic_id())
            .hint("the records that they were built from are gone"));
    }
    Ok(log)
}

/// What is to be read, and what of it is gone.
fn spans(log: &dyn LogSource, paths: [Option<&Path>; 2], positions: [Option<&Position>; 2]) -> Result<(Vec<Span>, Vec<Gone>)> {
    let Some(topic) = paths.iter().flatten().next().map(|path| path.source.read.topic.clone()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let extents = log.partitions()?;
    let mut partitions: Vec<i32> = paths.iter().flatten().flat_map(|path| path.starts.keys().copied()).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let (mut spans, mut gone) = (Vec::new(), Vec::new());
    for partition in partitions {
        let sides = [0, 1].map(|side: usize| {
            let (start, time) = paths[side]?.starts.get(&partition)?;
            let end = positions[side]?.get(&topic)?.get(&partition).copied()?;
            (end > start.0).then_some((start.0..end, *time))
        });
        let ranges = || sides.iter().flatten().map(|(range, _)| range);
        let Some(from) = ranges().map(|range| range.start).min() else { continue };
        let until = ranges().map(|range| range.end).max().unwrap_or(from);
        let extent = extents.iter().find(|extent| extent.partition.0 == partition);
        let (log_start, log_end) = extent.map_or((until, until), |extent| (extent.start.0, extent.end.0));
        if log_end < until {
            return Err(Error::refused("log_truncated", format!("topic {topic} ends before where the versions are"))
                .with("partition", partition)
                .with("position", until)
                .with("log_end", log_end)
                .hint("the log lost records that were read: restore it"));
        }
        if log_start > from {
            let lost = |side: usize| {
                let range = sides[side].as_ref().map_or(0..0, |(range, _)| range.clone());
                (range.end.min(log_start) - range.start).max(0).unsigned_abs()
            };
            gone.push(Gone { topic: topic.clone(), partition, before: log_start, of_a: lost(0), of_b: lost(1) });
        }
        let span = Span { partition: Partition(partition), from: Offset(from.max(log_start)), until: Offset(until), sides };
        spans.extend((span.from < span.until).then_some(span));
    }
    Ok((spans, gone))
}

fn fates(found: &Found, paths: [Option<&Path>; 2]) -> Vec<FateCount> {
    let why = |side: usize, fate: Option<cause::Fate>| paths[side].zip(fate).and_then(|(path, fate)| path.why(fate));
    let count = |(fates, tally): (&replay::Fates, &replay::Tally)| FateCount {
        a: fates.a.map(cause::Fate::name),
        b: fates.b.map(cause::Fate::name),
        why_a: why(0, fates.a),
        why_b: why(1, fates.b),
        same_values: fates.same_values,
        cause: fates.parting(),
        records: tally.records,
        kept: tally.kept.len(),
    };
    let mut counts: Vec<FateCount> = found.fates.iter().map(count).collect();
    counts.sort_by_key(|count| (count.cause == Cause::None, std::cmp::Reverse(count.records)));
    counts
}

/// Says why, and at which step.
fn judge(
    report: &mut Report,
    found: &Found,
    beside: &Beside,
    paths: [Option<&Path>; 2],
    rows: [&RecordBatch; 2],
) -> Result<()> {
    for (fates, tally) in &found.fates {
        if let (Some(a), Some(b)) = (fates.a, fates.b) {
            report.parted.add(a, b, fates.same_values, tally.records);
        }
    }
    let (same_number, is_known) = (report.rows[0] == report.rows[1], paths.iter().all(Option::is_some));
    let are_all_kept = report.rows[0] == rows[0].num_rows() as u64;
    report.differs = !same_number
        || if report.is_primary {
            report.rows[0] > 0 && trace::values_differ(rows[0], rows[1])?
        } else if is_known {
            report.parted.sum() > 0
        } else {
            are_all_kept && trace::rows_differ(rows[0], rows[1])?
        };
    if !report.is_primary && !is_known && same_number && !are_all_kept {
        let of = report.rows[0];
        report.notes.push(format!("whether these {of} rows are the same in both is not looked at here: kappa diff does"));
    }
    let facts = Facts {
        differs: report.differs && is_known,
        parted: report.parted,
        gone: !report.gone.is_empty() || paths.iter().flatten().any(|path| path.lost > 0),
        plans_differ: beside.first_changed().is_some(),
    };
    report.cause = cause::cause(&facts);
    let is_of_it = |fates: &replay::Fates| fates.parting() == report.cause;
    let kept = found.fates.iter().filter(|(fates, _)| is_of_it(fates)).flat_map(|(_, tally)| &tally.kept);
    let place = kept.filter_map(|kept| kept.parts_at).min();
    let place = place.or_else(|| beside.first_changed().filter(|_| report.cause == Cause::ChangedStep));
    let changes = place.map(|place| beside.changes(place, report.cause)).unwrap_or_default();
    let in_words = changes.iter().map(ToString::to_string).collect();
    report.step = (!changes.is_empty() && report.cause != Cause::None).then_some(PartedStep { changes, in_words });
    report.notes.extend(notes(report, &facts));
    Ok(())
}

fn notes(report: &Report, facts: &Facts) -> Vec<String> {
    let mut notes = Vec::new();
    for gone in &report.gone {
        notes.push(format!(
            "records before offset {} of partition {} are gone from the log: {} of them are in {}, {} in {}, and whether they are of \
             the key cannot be seen any more; which of the others are late is judged from there on",
            gone.before, gone.partition, gone.of_a, report.a.table, gone.of_b, report.b.table
        ));
    }
    if report.bad_in_all > 0 {
        notes.push(format!("{} of the records could not be decoded: whose they are is not known", report.bad_in_all));
    }
    if facts.differs && report.cause == Cause::None {
        notes.push(
            "the plans are the same, and so is what they make of each record: one of the tables was changed by another tool, or \
             lost what it had"
                .to_owned(),
        );
    }
    if !report.differs && report.parted.sum() > 0 {
        notes.push(format!("{} records count otherwise, which makes no difference to the row", report.parted.sum()));
    }
    if report.cause == Cause::ChangedStep && report.parted.sum() == 0 {
        notes.push("each record counts alike in both: what differs is what is made of them together".to_owned());
    }
    notes
}
