//! Instantiates a lowered plan: state, workers with their operators and queues, and the coordinator over them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Sender, unbounded};

use super::options::RunOptions;
use super::outputs::OutputEnd;
use super::prepare::Prepared;
use super::version::OwnedVersion;
use super::watch::{WatchList, Watched};
use crate::checkpoint::committer::Committer;
use crate::checkpoint::coordinator::{Control, Coordinator, Observer};
use crate::checkpoint::manifest::{Manifest, UNKNOWN_EPOCH};
use crate::error::{Error, Result};
use crate::job::key_store::key_stores;
use crate::operator::lookup::Room;
use crate::plan::expr::AggregateFunction;
use crate::plan::lower::{AggregateCall, AggregateSpec, PipelineSpec, SourceSpec};
use crate::protocol::checkpoint::{Command, PartitionAck, Report};
use crate::protocol::event_time::TimeBounds;
use crate::runtime::align::Aligner;
use crate::runtime::channel::{Wakers, edge};
use crate::runtime::decode::{Keep, SourceDecoder};
use crate::runtime::partition::{BATCH_RECORDS, PartitionTask};
use crate::runtime::pipeline::{Limits, Pipeline, PipelineContext, Writers, families};
use crate::runtime::rate_limit::RateLimit;
use crate::runtime::task::{Links, RegroupLinks, Worker};
use crate::sink::iceberg::IcebergStaging;
use crate::sink::kafka::{OwnTopic, StagingTarget, TopicStaging};
use crate::sink::{Nowhere, StagingWriter};
use crate::state::StateStore;
use crate::state::memory::MemoryStore;
use crate::state::rocksdb::RocksStore;
use crate::table::Table;

/// A job that runs.
pub struct Launched {
    /// The worker threads.
    pub workers: Vec<JoinHandle<()>>,
    /// Ready to be run.
    pub coordinator: Coordinator,
    /// Tells the coordinator about partitions that are found.
    pub reports: Sender<Report>,
}

/// What an owner may hold of its part of the caches.
fn room(cache: usize) -> Room {
    Room { cache, waiting: (cache / 4).min(WAITING) }
}

/// Sets everything up and starts the workers, which keep the progress of what is watched.
pub fn launch(
    prepared: &Prepared,
    version: OwnedVersion,
    options: &RunOptions,
    control: Arc<Control>,
    watched: Arc<WatchList>,
    observer: Box<dyn Observer>,
) -> Result<Launched> {
    let workers = options.threads();
    let manifest = &version.last.manifest;
    let stateful: Vec<String> = prepared.lowered.pipelines.iter().flat_map(families).collect();
    let store = open_state(&version, &stateful, options.memory_bytes / PARTS * STORE)?;
    let limits = limits(options.memory_bytes, workers);
    let wakers = Wakers::new(workers);
    let context = context(prepared, options.memory_bytes, &limits, workers, manifest, store.clone(), wakers.clone());
    let (reports, from_workers) = unbounded();
    let mut links = make_links(workers, &wakers, &prepared.lowered.pipelines);
    links.reverse();
    let bounds = source_bounds(prepared)?;
    let rate = options.max_bytes_per_second.map(|bytes| Arc::new(RateLimit::new(bytes)));
    let (mut commands, mut built) = (Vec::new(), Vec::new());
    for index in 0..workers {
        let (sender, receiver) = unbounded();
        commands.push(sender);
        let links = links.pop().ok_or_else(|| Error::internal("a worker without queues"))?;
        built.push(Worker {
            index,
            workers,
            partitions: partitions_of(index, options, workers, prepared, manifest, &watched.all())?,
            decoders: decoders(prepared, manifest)?,
            topics: prepared.lowered.sources.iter().map(|spec| spec.read.topic.clone()).collect(),
            sources: prepared.sources.clone(),
            pipelines: pipelines(prepared, &version, &PipelineContext { index, ..context.clone() })?,
            links,
            commands: receiver,
            reports: reports.clone(),
            wakers: wakers.clone(),
            closed_ms: manifest.closed_ms,
            limits,
            rate: rate.clone(),
        });
    }
    let handles = spawn(built, &commands)?;
    let sources = prepared.sources.clone();
    let keys = version.dir.work(version.last.manifest.owner).join("keys");
    let keys = key_stores(keys, options.memory_bytes / PARTS * KEYS, prepared.lowered.pipelines.len());
    let committer = Committer { catalog: version.committer.catalog.clone().with_key_stores(keys), ..version.committer };
    let coordinator = Coordinator {
        dir: version.dir,
        lock: version.lock,
        last: version.last,
        kept: version.kept,
        store,
        bounds,
        commands,
        wake: Box::new(move || wakers.wake_all()),
        reports: from_workers,
        positions: Box::new(move || watched.all().iter().map(|p| p.progress.next.load(Relaxed)).sum()),
        verify: Box::new(move || sources.iter().try_for_each(|source| source.verify())),
        committer,
        control,
        interval: Duration::from_millis(options.checkpoint_interval_ms.max(1)),
        follow: options.follow,
        observer,
    };
    Ok(Launched { workers: handles, coordinator, reports })
}

/// What the pipelines of a worker share; for each its own number is put in.
fn context<'a>(
    prepared: &Prepared,
    memory: usize,
    limits: &Limits,
    workers: usize,
    manifest: &'a Manifest,
    store: Option<Arc<dyn StateStore>>,
    wakers: Wakers,
) -> PipelineContext<'a> {
    PipelineContext {
        index: 0,
        workers,
        room: room(limits.cache_bytes / owners(prepared)),
        local_bytes: memory / PARTS * SOURCES / workers / folds(prepared),
        zones: &manifest.time_zones,
        store: store.unwrap_or_else(|| Arc::new(MemoryStore::default())),
        fresh: manifest.state.is_none(),
        wakers,
    }
}

/// The local sides that share the memory for them. A second grouping has two: for what it takes back, and what it adds.
fn folds(prepared: &Prepared) -> usize {
    let of = |pipeline: &PipelineSpec| usize::from(pipeline.aggregate.is_some()) + 2 * usize::from(pipeline.regroup.is_some());
    prepared.lowered.pipelines.iter().map(of).sum::<usize>().max(1)
}

/// The owners that share a worker's memory for caches.
fn owners(prepared: &Prepared) -> usize {
    prepared.lowered.pipelines.iter().map(|pipeline| families(pipeline).len()).sum::<usize>().max(1)
}

/// The parts of the budget: the store's, the owners' caches, the source sides', the key indexes of tables. What is left of all
/// is for what is on its way, and for what the store needs while it merges files.
const STORE: usize = 13;
const CACHES: usize = 10;
const SOURCES: usize = 4;
const KEYS: usize = 2;
const PARTS: usize = 32;

/// More than this is not worth the time that it takes at once.
const WAITING: usize = 16 << 20;

fn limits(memory: usize, workers: usize) -> Limits {
    Limits { cache_bytes: memory / PARTS * CACHES / workers, dirty: 64 << 10, changed: 500_000 }
}

/// The running state of this owner: a clone of the checkpoint that the manifest names, or empty.
fn open_state(version: &OwnedVersion, families: &[String], memory: usize) -> Result<Option<Arc<dyn StateStore>>> {
    if families.is_empty() {
        return Ok(None);
    }
    let manifest = &version.last.manifest;
    let work = version.dir.work(manifest.owner);
    crate::checkpoint::store::remove_directory(&work)?;
    match &manifest.state {
        Some(state) => {
            RocksStore::clone_checkpoint(&version.dir.root().join(state), &work, manifest.state_checksum)?;
        }
        None => std::fs::create_dir_all(&work).map_err(|e| Error::io("create", &work, e))?,
    }
    Ok(Some(Arc::new(RocksStore::open(&work, families, memory)?)))
}

fn make_links(workers: usize, wakers: &Wakers, pipelines: &[PipelineSpec]) -> Vec<Links> {
    let (partials, distinct, tallies) = (edge(workers, wakers), edge(workers, wakers), edge(workers, wakers));
    let link = |((partials, distinct), tallies): ((_, _), _)| {
        let ((partials, partials_in), (distinct, distinct_in), (tallies, tallies_in)): ((_, Vec<_>), (_, Vec<_>), (_, Vec<_>)) =
            (partials, distinct, tallies);
        let groups_in = Aligner::new(partials_in.into_iter().chain(tallies_in).collect());
        Links { partials, distinct, tallies, values_in: Aligner::new(distinct_in), groups_in, regroup: None }
    };
    let mut links: Vec<Links> = partials.into_iter().zip(distinct).zip(tallies).map(link).collect();
    if pipelines.iter().any(|pipeline| pipeline.regroup.is_some()) {
        for (links, (changes, changes_in)) in links.iter_mut().zip(edge(workers, wakers)) {
            links.regroup = Some(RegroupLinks { changes, changes_in: Aligner::new(changes_in) });
        }
    }
    links
}

/// Partitions are dealt out in turn, over all sources.
fn partitions_of(
    index: usize,
    options: &RunOptions,
    workers: usize,
    prepared: &Prepared,
    manifest: &Manifest,
    watched: &[Arc<Watched>],
) -> Result<Vec<PartitionTask>> {
    let mut tasks = Vec::new();
    for watched in watched.iter().skip(index).step_by(workers) {
        let state = manifest.sources.get(watched.source).and_then(|source| source.partitions.get(&watched.partition.0));
        let (Some(state), Some(source)) = (state, prepared.sources.get(watched.source)) else {
            return Err(Error::internal("a partition without a source"));
        };
        let leader_epoch = (state.leader_epoch != UNKNOWN_EPOCH).then_some(state.leader_epoch);
        let reader = source.open(watched.partition, state.next, leader_epoch)?;
        let start = PartitionAck { next: state.next, time: state.time, counts: state.counts, leader_epoch };
        let task = PartitionTask::new(watched.source, watched.partition, start, state.end, reader, watched.progress.clone());
        tasks.push(task.with_batch(options.batch_records.unwrap_or(BATCH_RECORDS)));
    }
    Ok(tasks)
}

fn decoders(prepared: &Prepared, manifest: &Manifest) -> Result<Vec<SourceDecoder>> {
    let any = |source: usize, of: fn(&AggregateSpec) -> bool| {
        let pipelines = prepared.lowered.pipelines.iter().filter(|pipeline| pipeline.source == source);
        pipelines.flat_map(|pipeline| &pipeline.aggregate).any(of)
    };
    let decoder = |(number, spec): (usize, &SourceSpec)| {
        let floor = manifest.sources.get(number).and_then(|source| source.floor_ms);
        let order = any(number, |aggregate| aggregate.calls.iter().any(is_ordered));
        SourceDecoder::new(spec, floor, Keep { order, watermarks: any(number, |aggregate| aggregate.expiry.is_some()) })
    };
    prepared.lowered.sources.iter().enumerate().map(decoder).collect()
}

fn is_ordered(call: &AggregateCall) -> bool {
    matches!(call.function, AggregateFunction::First | AggregateFunction::Last)
}

/// By source, the bounds of its event time.
pub(super) fn source_bounds(prepared: &Prepared) -> Result<Vec<TimeBounds>> {
    let bounds = |spec: &SourceSpec| Ok(SourceDecoder::new(spec, None, Keep::default())?.bounds());
    prepared.lowered.sources.iter().map(bounds).collect()
}

fn pipelines(prepared: &Prepared, version: &OwnedVersion, context: &PipelineContext<'_>) -> Result<Vec<Pipeline>> {
    let mut pipelines = Vec::new();
    for (number, (spec, end)) in prepared.lowered.pipelines.iter().zip(&version.outputs).enumerate() {
        let writers = match end {
            OutputEnd::Table(tables) => table_writers(prepared, &tables.0, tables.1.as_ref())?,
            OutputEnd::Topic(topic) => topic_writers(prepared, version, number, spec, topic)?,
        };
        let source = prepared.lowered.sources.get(spec.source).ok_or_else(|| Error::internal("an output without a source"))?;
        pipelines.push(Pipeline::new(number, spec, &source.schema, writers, context)?);
    }
    Ok(pipelines)
}

fn table_writers(prepared: &Prepared, rows: &Table, letters: Option<&Table>) -> Result<Writers> {
    let writer =
        |table| -> Result<Box<dyn StagingWriter>> { Ok(Box::new(IcebergStaging::new(table)?.behind(prepared.door.clone()))) };
    Ok(Writers { rows: writer(rows)?, dead_letters: letters.map(writer).transpose()? })
}

/// Dead letters are in the table that another output of the source has.
fn topic_writers(
    prepared: &Prepared,
    version: &OwnedVersion,
    number: usize,
    spec: &PipelineSpec,
    topic: &OwnTopic,
) -> Result<Writers> {
    let output = prepared.plan.outputs.get(number).ok_or_else(|| Error::internal("an output without a plan"))?;
    let key = match (&output.to, spec.primary_key.as_slice()) {
        (Some(to), []) => to.key.clone(),
        (_, keys) => keys.to_vec(),
    };
    let rows = TopicStaging::new(StagingTarget {
        output: output.name.as_ref().map_or_else(|| "the output".to_owned(), |name| format!("output {name}")),
        topic: topic.name.clone(),
        root: version.dir.root().to_owned(),
        owner: version.last.manifest.owner,
        schema: spec.schema.clone(),
        key,
        max_message_bytes: topic.max_message_bytes,
    })?;
    Ok(Writers { rows: Box::new(rows), dead_letters: Some(Box::new(Nowhere)) })
}

fn spawn(workers: Vec<Worker>, commands: &[Sender<Command>]) -> Result<Vec<JoinHandle<()>>> {
    let mut handles = Vec::new();
    for worker in workers {
        let name = format!("kappa-worker-{}", worker.index);
        match std::thread::Builder::new().name(name).spawn(move || worker.run()) {
            Ok(handle) => handles.push(handle),
            Err(e) => {
                commands.iter().for_each(|command| drop(command.send(Command::Shutdown)));
                return Err(Error::internal(format!("start a worker thread: {e}")));
            }
        }
    }
    Ok(handles)
}
