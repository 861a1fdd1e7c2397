//! Runs a job over a part of the log, in a directory that is gone afterwards, to see what it costs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::judge::Sample;
use super::range::TopicRange;
use super::window::{Meter, Ranges, Window};
use crate::checkpoint::manifest::Mode;
use crate::checkpoint::store::remove_directory;
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::job::prepare::prepare;
use crate::job::{Event, Run, RunOptions, start_prepared};
use crate::message::{Offset, Partition};
use crate::plan::logical::JobPlan;
use crate::time::{instant, new_uuid};

/// Records of a sample, at most.
const RECORDS: u64 = 4_000_000;
/// So long is read, at most.
const READING: Duration = Duration::from_secs(3);
/// A log that gives nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(50);

/// How the job runs.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Worker threads; default: the machine's cores.
    pub parallelism: Option<usize>,
    /// Bytes for state.
    pub memory_bytes: usize,
}

/// What came of it.
pub struct Sampled {
    /// The measure.
    pub sample: Sample,
    /// By source, what was read: records and bytes.
    pub read: Vec<(u64, u64)>,
    /// A record stopped the job.
    pub failure: Option<Error>,
}

/// Removes a directory when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("kappa-plan-{}", new_uuid()));
        std::fs::create_dir_all(&path).map_err(|error| Error::io("create directory", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_directory(&self.0);
    }
}

/// The middle of each partition, so that all together have at most `most` records.
pub fn middle(range: &TopicRange, share: f64) -> Ranges {
    let part = |partition: &super::range::PartitionRange| {
        let records = partition.records();
        let length = ((records as f64 * share).ceil() as u64).min(records);
        let start = partition.start + ((records - length) / 2).cast_signed();
        (Partition(partition.partition), (Offset(start), Offset(start + length.cast_signed())))
    };
    range.partitions.iter().map(part).collect()
}

/// Runs the job over a sample of what it would read. `go_on` is asked now and then whether to.
///
/// # Errors
/// The log does not answer, or the job cannot run.
pub fn sample(
    plan: &JobPlan,
    settings: &Settings,
    ranges: &[TopicRange],
    machine: Machine,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Sampled> {
    let scratch = Scratch::new()?;
    let settings = settings.in_directory(&scratch.0);
    let total: u64 = ranges.iter().map(|range| range.records).sum();
    let share = RECORDS as f64 / (total.max(RECORDS)) as f64;
    // What would go to a topic goes to a table here.
    let mut plan = plan.clone();
    plan.outputs.iter_mut().for_each(|output| output.to = None);
    let options = options(&plan, machine);
    let mut prepared = prepare(plan, &options, &settings)?;
    let mut meters = Vec::new();
    for (log, range) in prepared.sources.iter_mut().zip(ranges) {
        let meter = Arc::new(Meter::default());
        meters.push(meter.clone());
        *log = Arc::new(Window { log: log.clone(), ranges: middle(range, share), meter });
    }
    let run = start_prepared(prepared, options)?;
    let ended = watch(&run, &meters, go_on)?;
    let read: Vec<(u64, u64)> = meters.iter().map(|meter| (meter.records(), meter.bytes())).collect();
    let failure = match run.report() {
        Ok(report) => {
            let (records, seconds) = (report.events, ended.seconds);
            let output_bytes = bytes_of(&scratch.0.join("warehouse"), "parquet");
            return Ok(Sampled {
                sample: Sample { records, seconds, state_bytes: ended.state_bytes, output_bytes },
                read,
                failure: None,
            });
        }
        Err(error) if error.kind() == ErrorKind::Data => error,
        Err(error) => return Err(error),
    };
    Ok(Sampled { sample: Sample::default(), read, failure: Some(failure) })
}

fn options(plan: &JobPlan, machine: Machine) -> RunOptions {
    let tables = plan
        .outputs
        .iter()
        .enumerate()
        .map(|(number, output)| (output.name.clone().unwrap_or_default(), format!("output_{number}")));
    RunOptions {
        mode: Mode::Reprocess,
        output_tables: tables.collect(),
        from: None,
        until: None,
        align: None,
        preview: None,
        follow: false,
        replace: false,
        take_over: false,
        allow_gaps: false,
        force: false,
        parallelism: machine.parallelism,
        memory_bytes: machine.memory_bytes,
        // One at the end.
        checkpoint_interval_ms: 3_600_000,
        max_bytes_per_second: None,
        batch_records: None,
        tables: crate::table::Settings::default(),
    }
}

/// How a run over a sample ended.
#[derive(Default)]
struct Ended {
    seconds: f64,
    state_bytes: u64,
}

/// Waits for the end, and asks for it where that takes too long.
fn watch(run: &Run, meters: &[Arc<Meter>], go_on: &dyn Fn() -> Result<()>) -> Result<Ended> {
    let (began, mut ended) = (instant(), Ended::default());
    let reading = || meters.iter().filter_map(|meter| meter.elapsed()).max();
    loop {
        let event = run.next_event(TICK);
        match event {
            Some(Event::Checkpoint { state_bytes, .. }) => ended.state_bytes = state_bytes,
            Some(Event::Complete { .. }) => ended.seconds = reading().unwrap_or_default().as_secs_f64(),
            None if run.is_finished() => return Ok(ended),
            _ => {}
        }
        go_on()?;
        if reading().is_some_and(|reading| reading > READING) {
            run.request_stop();
        }
        if reading().is_none() && began.elapsed() > PATIENCE {
            return Err(Error::new(ErrorKind::Unavailable, "log", "the log gives no records")
                .hint("plan measures how fast it is read: try again when it answers"));
        }
    }
}

/// Of the files of one kind in a directory.
fn bytes_of(path: &Path, extension: &str) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_of(&entry.path(), extension),
        _ if entry.path().extension().is_some_and(|found| found == extension) => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    };
    entries.map(of).sum()
}
