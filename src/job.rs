//! A job that runs: started from a plan, watched through events, stopped or waited for, with a report at its end.

mod align;
mod allocator;
pub mod certificates;
pub mod domain;
pub mod events;
mod key_file;
mod key_store;
pub mod launch;
pub mod monitor;
pub mod options;
pub mod outputs;
pub mod prepare;
pub mod preview;
pub mod version;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};

pub use events::{Event, Outcome, Report};
pub use options::RunOptions;

use crate::checkpoint::coordinator::{CheckpointDone, Control, Ending, Observer};
use crate::checkpoint::manifest::{Manifest, Mode};
use crate::config::Settings;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Epoch;
use crate::plan::logical::JobPlan;
use crate::protocol::checkpoint::MemoryUse;
use crate::protocol::event_time::holder;
use crate::protocol::failpoint;
use crate::protocol::version::TOPIC_SCHEME;
use crate::source::LogSource;
use crate::table::TableName;
use crate::table::retire::Retired;
use crate::table::serving::Trouble;
use crate::time::{format_utc, instant, now_ms};
use events::{StartedTopic, TableRows, Teller, total_counts};
use launch::{Launched, launch};
use monitor::Monitor;
use outputs::OutputEnd;
use prepare::{Prepared, Target, prepare};
use preview::{Positions, stands};
use version::OwnedVersion;
use watch::WatchList;

/// A job in the background. Dropping it stops the job without a last checkpoint.
pub struct Run {
    control: Arc<Control>,
    events: Receiver<Event>,
    thread: Mutex<Option<JoinHandle<Result<Report>>>>,
    outcome: Mutex<Option<Result<Report>>>,
}

/// Starts a job. What can be refused is refused before it returns.
pub fn start(plan: JobPlan, options: RunOptions, settings: Settings) -> Result<Run> {
    start_prepared(prepare(plan, &options, &settings)?, options)
}

/// Starts a job that is prepared.
pub fn start_prepared(prepared: Prepared, options: RunOptions) -> Result<Run> {
    let version = prepared.open_version(&options)?;
    let control = Arc::new(Control::default());
    let (teller, events) = Teller::new();
    teller.tell(started(&prepared, &version));
    notices(&version).into_iter().chain(uncertified(&prepared)).for_each(|event| teller.tell(event));
    let supervised = control.clone();
    allocator::give_memory_back();
    let thread = std::thread::Builder::new()
        .name("kappa-coordinator".into())
        .spawn(move || supervise(&prepared, version, &options, supervised, teller))
        .map_err(|e| Error::internal(format!("start a thread: {e}")))?;
    Ok(Run { control, events, thread: Mutex::new(Some(thread)), outcome: Mutex::new(None) })
}

impl Run {
    /// The next event, waiting up to `timeout` for it. `None` also when there will be none any more.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        self.events.recv_timeout(timeout).ok()
    }

    /// Asks for a last checkpoint and then the end.
    pub fn request_stop(&self) {
        self.control.stop.store(true, SeqCst);
    }

    /// Asks for the end, now. What was not checkpointed never happened.
    pub fn abort(&self) {
        self.control.abort.store(true, SeqCst);
    }

    /// Whether the job has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.thread).as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end, and gives the report or the error of the job.
    pub fn report(&self) -> Result<Report> {
        let mut outcome = lock(&self.outcome);
        if let Some(thread) = lock(&self.thread).take() {
            *outcome = Some(thread.join().unwrap_or_else(|_| Err(Error::internal("the coordinator panicked"))));
        }
        outcome.clone().unwrap_or_else(|| Err(Error::internal("the job has no outcome")))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.abort();
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn supervise(
    prepared: &Prepared,
    version: OwnedVersion,
    options: &RunOptions,
    control: Arc<Control>,
    events: Teller,
) -> Result<Report> {
    let (began, began_ms) = (instant(), now_ms());
    // Held until everything has stopped.
    let _lock = version.lock.clone();
    let watched = Arc::new(WatchList::new(prepared, &version.last.manifest)?);
    let memory = Arc::new(Mutex::new(MemoryUse::default()));
    let observer = Box::new(Told {
        events: events.clone(),
        head_time_ms: began_ms,
        at_head: version.last.manifest.until == "head",
        watched: watched.clone(),
        memory: memory.clone(),
        sources: prepared.sources.clone(),
        group: prepared.targets.first().filter(|_| !prepared.is_preview()).map(|first| consumer_group(&first.to_string())),
        middles: prepared.middles.clone(),
    });
    let Launched { workers, coordinator, reports } = launch(prepared, version, options, control, watched.clone(), observer)?;
    let monitor = Monitor {
        watched: watched.clone(),
        bounds: coordinator.bounds.clone(),
        sources: prepared.sources.clone(),
        topics: prepared.lowered.sources.iter().map(|spec| spec.read.topic.clone()).collect(),
        waits_ms: prepared.lowered.least_expiry_ms(),
        reports,
        events: events.clone(),
    };
    let (dir, owner) = (coordinator.dir.clone(), coordinator.last.manifest.owner);
    let outcome = std::thread::scope(|scope| {
        let (stop, stopped) = unbounded::<()>();
        scope.spawn(move || monitor.run(&stopped));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| coordinator.run()));
        drop(stop);
        outcome.unwrap_or_else(|_| Err(Error::internal("the coordinator panicked")))
    });
    for worker in workers {
        let _ = worker.join();
    }
    let (ending, last) = outcome?;
    // The running state is a copy: what counts is in the checkpoints.
    crate::checkpoint::store::remove_directory(&dir.work(owner))?;
    let report = finish(prepared, options, ending, &last.manifest, &watched, began, &events)?;
    Ok(Report { memory: *lock(&memory), ..report })
}

fn finish(
    prepared: &Prepared,
    options: &RunOptions,
    ending: Ending,
    manifest: &Manifest,
    watched: &WatchList,
    began: Instant,
    events: &Teller,
) -> Result<Report> {
    let outcome = match ending {
        Ending::Complete => Outcome::Complete,
        Ending::Stopped if options.mode == Mode::Live || manifest.mode == Mode::Live => Outcome::Stopped,
        Ending::Stopped | Ending::Aborted => Outcome::Interrupted,
    };
    let report = report(prepared, outcome, manifest, watched, began)?;
    let complete = Event::Complete {
        outcome,
        events: report.events,
        seconds: report.seconds,
        tables: report.tables.clone(),
        time_ms: now_ms(),
    };
    events.tell(complete);
    Ok(report)
}

fn report(prepared: &Prepared, outcome: Outcome, manifest: &Manifest, watched: &WatchList, began: Instant) -> Result<Report> {
    let counts = total_counts(manifest);
    let rows = |(number, target): (usize, &Target)| {
        let rows = match target {
            Target::Table(name) => prepared.catalog.require(name)?.row_count(),
            Target::Topic(_) => manifest.outputs.get(number).map_or(0, |output| output.records),
        };
        Ok(TableRows { table: target.to_string(), rows })
    };
    let position = |(topic, partitions): (&str, BTreeMap<i32, crate::message::Offset>)| {
        (topic.to_owned(), partitions.into_iter().map(|(partition, offset)| (partition, offset.0)).collect())
    };
    Ok(Report {
        job: manifest.job.clone(),
        tables: prepared.targets.iter().enumerate().map(rows).collect::<Result<_>>()?,
        mode: manifest.mode,
        outcome,
        read: counts.read,
        used: manifest.outputs.first().map_or(0, |output| output.used),
        filtered: manifest.outputs.first().map_or(0, |output| output.filtered),
        expired: manifest.outputs.first().map_or(0, |output| output.expired),
        late: counts.late_kept + counts.late_dropped,
        bad: counts.bad,
        below_floor: counts.below_floor,
        lost: manifest.sources.iter().flat_map(|source| source.partitions.values()).map(|partition| partition.lost).sum(),
        events: watched.events_read(),
        seconds: began.elapsed().as_secs_f64(),
        watermark_ms: manifest.visible_ms,
        closed_ms: manifest.closed_ms.filter(|_| prepared.lowered.least_expiry_ms().is_some()),
        held_by: held_by(prepared, manifest)?,
        checkpoints: manifest.checkpoint.0,
        version: manifest.version.clone(),
        position: manifest.positions().into_iter().map(position).collect(),
        peak_memory_bytes: peak_memory(),
        memory: MemoryUse::default(),
    })
}

/// Where groups expire: which partition `closed` is of, if others are further.
fn held_by(prepared: &Prepared, manifest: &Manifest) -> Result<Option<String>> {
    let Some(lead_ms) = prepared.lowered.least_expiry_ms() else { return Ok(None) };
    let bounds = launch::source_bounds(prepared)?;
    let (places, frontiers): (Vec<_>, Vec<_>) =
        manifest.frontiers(&bounds).map(|(source, partition, frontier)| ((source, partition), frontier)).unzip();
    let place = holder(&frontiers, lead_ms).and_then(|at| places.get(at));
    Ok(place.and_then(|(source, partition)| Some(format!("{}/{partition}", manifest.sources.get(*source)?.topic))))
}

/// The consumer group that tools for lag look at, of a version by its first output.
pub fn consumer_group(output: &str) -> String {
    format!("kappa-{}", output.strip_prefix(TOPIC_SCHEME).unwrap_or(output))
}

/// The process's high-water mark, from the operating system; 0 where it does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn started(prepared: &Prepared, version: &OwnedVersion) -> Event {
    let manifest = &version.last.manifest;
    let topics = manifest.sources.iter().zip(&prepared.sources).map(|(state, source)| {
        let extents = source.partitions().unwrap_or_default();
        let end =
            |partition: &i32| extents.iter().find(|extent| extent.partition.0 == *partition).map_or(0, |extent| extent.end.0);
        let left = state.partitions.iter().map(|(id, p)| (p.end.map_or_else(|| end(id), |end| end.0) - p.next.0).max(0) as u64);
        StartedTopic {
            topic: state.topic.clone(),
            partitions: state.partitions.len(),
            from: describe_start(version.resumed, state),
            records: left.sum(),
        }
    });
    Event::Started {
        job: manifest.job.clone(),
        tables: prepared.targets.iter().map(ToString::to_string).collect(),
        mode: manifest.mode,
        topics: topics.collect(),
        resumed: version.resumed,
        time_ms: now_ms(),
    }
}

fn describe_start(resumed: bool, state: &crate::checkpoint::manifest::SourceState) -> String {
    let offsets: Vec<i64> = state.partitions.values().map(|partition| partition.next.0).collect();
    match (resumed, state.floor_ms) {
        (false, Some(floor)) => format!("event time {}", format_utc(floor)),
        _ if offsets.windows(2).all(|pair| pair[0] == pair[1]) => format!("offset {}", offsets.first().unwrap_or(&0)),
        _ => {
            let list: Vec<String> = state.partitions.iter().map(|(id, partition)| format!("{id}:{}", partition.next)).collect();
            format!("offsets {}", list.join(", "))
        }
    }
}

/// What somebody who runs this, or reads the table later, must know about where it begins.
fn notices(version: &OwnedVersion) -> Vec<Event> {
    let manifest = &version.last.manifest;
    let notice = |message| Event::Notice { level: "info", message, time_ms: now_ms() };
    let floors = manifest.sources.iter().filter_map(|source| {
        let floor = format_utc(source.floor_ms?);
        let margin = domain::MARGIN_MS / 60_000;
        Some(notice(format!(
            "{}: reading begins where records were written {margin} minutes before {floor}; records with an event time before \
             {floor} are left out; groups from {floor} on are whole if no event time is more than {margin} minutes ahead of its record",
            source.topic,
        )))
    });
    let mut notices: Vec<Event> = floors.collect();
    if manifest.mode == Mode::Live && !version.resumed && manifest.from == "earliest" {
        let new = version.outputs.first().map_or("table", |output| match output {
            OutputEnd::Table(_) => "table",
            OutputEnd::Topic(_) => "topic",
        });
        notices.push(notice(format!(
            "a new {new}: live starts at the beginning of the log, so that its first row is as right as its last"
        )));
    }
    notices
}

/// A version that there is goes on, whatever a certificate has said since; whoever runs it should know.
fn uncertified(prepared: &Prepared) -> Option<Event> {
    let error = certificates::check(&prepared.checkpoints, &prepared.fingerprint, false).err()?;
    (!prepared.is_preview()).then(|| Event::Notice { level: "warning", message: error.message().to_owned(), time_ms: now_ms() })
}

/// Turns what the coordinator tells into events.
struct Told {
    events: Teller,
    head_time_ms: i64,
    at_head: bool,
    watched: Arc<WatchList>,
    /// The most that was held at any checkpoint.
    memory: Arc<Mutex<MemoryUse>>,
    sources: Vec<Arc<dyn LogSource>>,
    /// The consumer group that tools for lag look at; nothing is ever read from it. A preview has none.
    group: Option<String>,
    /// Where a preview halts.
    middles: Option<Vec<Positions>>,
}

impl Observer for Told {
    fn checkpoint(&self, done: CheckpointDone) {
        lock(&self.memory).raise(done.memory);
        self.events.tell(Event::Checkpoint {
            checkpoint: done.checkpoint.0,
            duration_ms: done.duration.as_secs_f64() * 1e3,
            stall_ms: done.stall.as_secs_f64() * 1e3,
            state_bytes: done.state_bytes,
            memory: done.memory,
            rows_changed: done.rows_changed,
            time_ms: now_ms(),
        });
        if self.middles.as_ref().is_some_and(|middles| stands(middles, &done.positions)) {
            self.events.tell(Event::Halted { time_ms: now_ms() });
        }
        if let Some(group) = &self.group {
            self.sources.iter().zip(&done.positions).for_each(|(source, positions)| source.publish(group, positions));
        }
        failpoint::hit("K19");
    }

    fn delivery_waits(&self, checkpoint: Epoch, why: &Error) {
        let message = format!("checkpoint {checkpoint} is durable but cannot be delivered now, which is tried again: {why}");
        self.events.tell(Event::Notice { level: "warning", message, time_ms: now_ms() });
    }

    fn table_neglected(&self, table: &TableName, why: &Error) {
        let message = match why.kind() {
            ErrorKind::Corruption => format!("a file of table {table} is damaged: {why}"),
            _ if why.code() == "key_index" => why.to_string(),
            _ => format!("files of table {table} cannot be merged or removed now, which is tried again: {why}"),
        };
        self.events.tell(Event::Notice { level: "warning", message, time_ms: now_ms() });
    }

    fn name_in_trouble(&self, trouble: &Trouble) {
        let message = format!("the name {}: {}", trouble.name, trouble.error);
        self.events.tell(Event::Notice { level: "warning", message, time_ms: now_ms() });
    }

    fn retired(&self, retired: &Retired) {
        let message =
            format!("retired: {retired}; a last checkpoint, then the end. Back again: kappa rollback {}", retired.name);
        self.events.tell(Event::Notice { level: "info", message, time_ms: now_ms() });
    }

    fn caught_up(&self, goes_on: bool) {
        if goes_on {
            self.watched.unbound();
        }
        self.events.tell(Event::CaughtUp { time_ms: now_ms(), head_time_ms: self.head_time_ms, at_head: self.at_head });
    }
}
