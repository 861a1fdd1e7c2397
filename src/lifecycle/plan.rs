//! `plan`: before anything runs, what a reprocess would read, what it would cost, and what it would change.
//!
//! [`range`] asks the log, [`sample`] runs the job over a part of it ([`window`]), [`changes`] compares plans, and [`judge`] says
//! what the numbers mean. Nothing is committed, and nothing of it is kept.

pub mod changes;
pub mod judge;
pub mod range;
pub mod sample;
mod window;

use std::path::Path;

use serde::{Deserialize, Serialize};

use self::changes::{Change, changes};
use self::judge::{Cost, Finding, Level, Sample, cost, headroom, judge_disk, judge_headroom, judge_retention};
use self::range::{TopicRange, range_of};
use self::sample::{Machine, Sampled, sample};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::VersionDir;
use crate::config::Settings;
use crate::durable::size::{bytes_below, free_at};
use crate::error::{Error, Result};
use crate::job::certificates;
use crate::job::options::Position;
use crate::plan::fingerprint::fingerprint;
use crate::plan::logical::JobPlan;
use crate::plan::lower::lower;
use crate::query::diff::side::Subject;
use crate::table::{Catalog, TableName};
use crate::time::now_ms;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The table of the version to compare with.
    pub against: Option<String>,
    /// As for a run; default: earliest.
    pub from: Option<String>,
    /// As for a run; default: head.
    pub until: Option<String>,
    /// Worker threads; default: the machine's cores.
    pub parallelism: Option<usize>,
    /// Bytes for state.
    pub memory_bytes: usize,
}

/// What a reprocess would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The job's name.
    pub job: String,
    /// Of its plan.
    pub fingerprint: String,
    /// How much the worst finding matters.
    pub verdict: &'static str,
    /// By topic, what would be read.
    pub topics: Vec<TopicRange>,
    /// How many records.
    pub records: u64,
    /// The part of it that was run.
    pub sample: Sample,
    /// What the whole would cost; none: there is nothing to read, or the sample was stopped.
    pub cost: Option<Cost>,
    /// Records a second that are written; none: nothing is.
    pub growth_per_second: Option<f64>,
    /// How many times faster they are read; none: without limit, or not known.
    pub headroom: Option<f64>,
    /// Free on the disk of the checkpoints, where that is known.
    pub free_bytes: Option<u64>,
    /// The version that was compared with.
    pub against: Option<Against>,
    /// What to know of.
    pub findings: Vec<Finding>,
}

/// The version that a table holds, beside this plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    /// The table.
    pub table: String,
    /// Its version.
    pub version: String,
    /// The job that made it.
    pub job: String,
    /// Of its plan.
    pub fingerprint: String,
    /// Its newest checkpoint.
    pub checkpoint: u64,
    /// Where it began.
    pub from: String,
    /// Its state on disk.
    pub state_bytes: u64,
    /// Both plans have one fingerprint: the same rows come of them.
    pub same: bool,
    /// What changes.
    pub changes: Vec<Change>,
    /// The same as sentences.
    pub in_words: Vec<String>,
}

/// Plans a reprocess. `go_on` is asked now and then whether to.
///
/// # Errors
/// The plan is not valid, a position or table is not there, or the log or catalog does not answer.
pub fn plan(job: JobPlan, options: &Options, settings: &Settings, go_on: &dyn Fn() -> Result<()>) -> Result<Plan> {
    plan_by(job, options, settings, &|job, topics, machine| sample(job, settings, topics, machine, go_on))
}

/// What reading a part of the log took.
pub type Measure<'a> = dyn Fn(&JobPlan, &[TopicRange], Machine) -> Result<Sampled> + 'a;

/// The same by what `measure` says.
///
/// # Errors
/// As for [`plan`].
pub fn plan_by(job: JobPlan, options: &Options, settings: &Settings, measure: &Measure<'_>) -> Result<Plan> {
    let lowered = lower(&job)?;
    let now = now_ms();
    let from = Position::parse("--from", options.from.as_deref().unwrap_or("earliest"), now)?;
    let until = Position::parse("--until", options.until.as_deref().unwrap_or("head"), now)?;
    let fingerprint = fingerprint(&job)?;
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let old = options.against.as_deref().map(|table| version_of(table, &checkpoints, settings)).transpose()?;
    let mut findings = Vec::new();
    findings.extend(
        certificates::check(&checkpoints, &fingerprint, false)
            .err()
            .map(|error| Finding::new(Level::Refused, error.code(), error.message(), error.hint_text().unwrap_or_default())),
    );
    let range = |spec| range_of(spec, settings, (&from, &until), &mut findings);
    let mut topics = lowered.sources.iter().map(range).collect::<Result<Vec<_>>>()?;
    if let Some((table, manifest)) = &old {
        compare_starts(&table.to_string(), manifest, &topics, &from, &mut findings);
    }
    let records = topics.iter().map(|topic| topic.records).sum();
    let machine = Machine { parallelism: options.parallelism, memory_bytes: options.memory_bytes };
    let sampled = if records > 0 { Some(measure(&job, &topics, machine)?) } else { None };
    let sample = sampled.as_ref().map(|sampled| sampled.sample).unwrap_or_default();
    let cost = cost(&sample, records);
    sampled.iter().for_each(|sampled| take_in(sampled, &mut topics, &mut findings));
    let growth = topics.iter().filter_map(|topic| topic.growth_per_second).reduce(|a, b| a + b);
    let headroom = cost.as_ref().and_then(|cost| headroom(cost.records_per_second, growth));
    findings.extend(judge_headroom(headroom));
    let free_bytes = free_at(&checkpoints);
    findings.extend(cost.as_ref().zip(free_bytes).and_then(|(cost, free)| judge_disk(cost, free)));
    let against = old.map(|(table, manifest)| against(&table, &manifest, &job, &fingerprint, &checkpoints)).transpose()?;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    Ok(Plan {
        job: job.job,
        fingerprint,
        verdict: verdict(&findings),
        topics,
        records,
        sample,
        cost,
        growth_per_second: growth,
        headroom,
        free_bytes,
        against,
        findings,
    })
}

fn verdict(findings: &[Finding]) -> &'static str {
    match findings.iter().map(|finding| finding.level).max() {
        None | Some(Level::Info) => "fine",
        Some(Level::Warning) => "warning",
        Some(Level::Refused) => "refused",
    }
}

/// The table and the newest manifest of the version that it holds.
pub fn version_of(table: &str, checkpoints: &Path, settings: &Settings) -> Result<(TableName, Manifest)> {
    let name = TableName::parse(table, &settings.catalog_namespace)?;
    let catalog = Catalog::of(settings)?;
    let subject = Subject::load(&catalog, checkpoints, &name)?;
    let is_ours = subject.is_ours();
    let manifest = subject.manifest.ok_or_else(|| {
        if is_ours {
            Error::refused("no_checkpoints", format!("the checkpoints of {name} are not in {}", checkpoints.display()))
                .hint("point the setting checkpoints at where it was built")
        } else {
            Error::refused("not_a_version", format!("table {name} was not made by kappa: it has no plan to compare with"))
                .hint("name a table that a job of kappa's writes")
        }
    })?;
    Ok((name, manifest))
}

/// Whether what the version was built from is still there, and asked for.
fn compare_starts(table: &str, manifest: &Manifest, topics: &[TopicRange], from: &Position, findings: &mut Vec<Finding>) {
    for topic in topics {
        let Some(then) = manifest.sources.iter().find(|source| source.topic == topic.topic) else { continue };
        if *from == Position::Earliest {
            findings.extend(judge_retention(table, then, topic));
            continue;
        }
        let begins = |range: &range::PartitionRange| then.partitions.get(&range.partition).map(|state| state.start.0);
        if topic.partitions.iter().any(|range| begins(range).is_some_and(|began| range.start > began)) {
            let message =
                format!("it begins later in topic {} than {table} did: what lies before is not compared", topic.topic);
            findings.push(Finding::new(Level::Info, "begins_later", message, "leave --from out to build all of it again"));
        }
    }
}

/// What the sample tells of the log.
fn take_in(sampled: &Sampled, topics: &mut [TopicRange], findings: &mut Vec<Finding>) {
    for (topic, (records, bytes)) in topics.iter_mut().zip(&sampled.read).filter(|(_, (records, _))| *records > 0) {
        let estimate = *bytes as f64 / *records as f64 * topic.records as f64;
        topic.bytes = topic.bytes.or(Some(estimate as u64));
    }
    if let Some(error) = &sampled.failure {
        let place = |(name, value): &(&str, String)| format!("{name} {value}");
        let places: Vec<_> = error.context().iter().map(place).collect();
        let message = format!("a reprocess would stop: {} ({})", error.message(), places.join(", "));
        findings.push(Finding::new(Level::Warning, error.code(), message, error.hint_text().unwrap_or_default()));
    }
}

fn against(table: &TableName, manifest: &Manifest, job: &JobPlan, fingerprint: &str, checkpoints: &Path) -> Result<Against> {
    let same = manifest.fingerprint == fingerprint;
    let changes = if same { Vec::new() } else { changes(&manifest.plan, job)? };
    let dir = VersionDir::new(checkpoints, &manifest.version);
    Ok(Against {
        table: table.to_string(),
        version: manifest.version.clone(),
        job: manifest.job.clone(),
        fingerprint: manifest.fingerprint.clone(),
        checkpoint: manifest.checkpoint.0,
        from: manifest.from.clone(),
        state_bytes: manifest.state.as_ref().map_or(0, |state| bytes_below(&dir.root().join(state))),
        same,
        in_words: changes.iter().map(ToString::to_string).collect(),
        changes,
    })
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
