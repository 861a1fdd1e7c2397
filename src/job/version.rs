//! Finds or makes the version that a run executes: its tables, its directory, its newest manifest; and brings the tables
//! up to that manifest before anything new is read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::domain::{add_partitions, new_domain, resume_domain};
use super::options::{Position, RunOptions};
use crate::checkpoint::committer::{CommitTarget, Committer};
use crate::checkpoint::gc::Kept;
use crate::checkpoint::manifest::{Edge, FORMAT, Manifest, Mode, OperatorState, OutputState, Sealed, SourceState, StateField};
use crate::checkpoint::store::{VersionDir, VersionLock, remove_directory, taken_over};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::operator::accumulator;
use crate::plan::fingerprint::fingerprint;
use crate::plan::logical::{BadRecordPolicy, JobPlan, LatePolicy};
use crate::plan::lower::{AggregateSpec, Lowered, PipelineSpec, SourceSpec};
use crate::plan::time_zones::ZoneTables;
use crate::protocol::failpoint;
use crate::protocol::version::{Request, StoredVersion, TableFact, VersionDecision, common_version, decide_version};
use crate::runtime::pipeline::families_of;
use crate::sink::dead_letter;
use crate::source::LogSource;
use crate::state::encoding::{FORMAT_VERSION, HASH_SEED, KEY_GROUPS};
use crate::table::marker::Marker;
use crate::table::{Catalog, CommitKind, CreateTable, Table, TableName};
use crate::time::{new_ordered_uuid, new_uuid, now_ms};

/// The table property that says which version a table belongs to.
pub const VERSION_PROPERTY: &str = "kappa.version";
const JOB_PROPERTY: &str = "kappa.job";

/// A job that is about to run.
pub struct Prepared {
    /// The plan as it was given.
    pub plan: JobPlan,
    /// What the runtime sets up.
    pub lowered: Lowered,
    /// Where tables are.
    pub catalog: Catalog,
    /// By source.
    pub sources: Vec<Arc<dyn LogSource>>,
    /// By output, its table.
    pub tables: Vec<TableName>,
    /// Of the plan.
    pub fingerprint: String,
    /// Where versions keep their progress.
    pub checkpoints: PathBuf,
}

/// A version that this process owns.
pub struct OwnedVersion {
    /// Its directory.
    pub dir: VersionDir,
    /// Held while it runs.
    pub lock: Option<VersionLock>,
    /// The manifest that it goes on from.
    pub last: Sealed,
    /// What is kept on disk.
    pub kept: Kept,
    /// By output: the table, and that of its dead letters.
    pub tables: Vec<(Table, Option<Table>)>,
    /// Commits for it.
    pub committer: Committer,
    /// Whether it existed before.
    pub resumed: bool,
}

impl Prepared {
    /// Opens the version for a run: creates it, resumes it, replaces it, or refuses.
    pub fn open_version(&self, options: &RunOptions) -> Result<OwnedVersion> {
        let names: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        let facts = self.tables.iter().map(|name| Ok((name.to_string(), self.fact(name)?))).collect::<Result<Vec<_>>>()?;
        let version = common_version(&facts)?;
        let mut stored = version.as_deref().map(|version| self.stored(version, &names)).transpose()?;
        if let Some((dir, stored)) = stored.as_mut().filter(|_| options.mode == Mode::Reprocess) {
            // A process that died between its last manifest and the catalog has not finished.
            stored.finished = stored.finished && self.is_delivered(dir)?;
        }
        let request = Request {
            // The same command goes on with a version that `--follow` has brought to its live part.
            live: options.mode == Mode::Live || (options.follow && stored.as_ref().is_some_and(|(_, stored)| stored.live)),
            replace: options.replace,
            fingerprint: self.fingerprint.clone(),
            from: options.from.clone(),
            until: options.until.clone(),
            tables: names,
        };
        match decide_version(&request, stored.as_ref().map(|(_, stored)| stored))? {
            VersionDecision::Create => self.create(options, None),
            VersionDecision::Replace => self.create(options, version.as_deref()),
            VersionDecision::Resume => match stored {
                Some((dir, _)) => self.resume(dir, options),
                None => Err(Error::internal("nothing to resume")),
            },
        }
    }

    fn fact(&self, name: &TableName) -> Result<TableFact> {
        let table = self.catalog.load(name)?;
        Ok(match table.as_ref().map(|table| table.property(VERSION_PROPERTY)) {
            None => TableFact::Absent,
            Some(None) => TableFact::Foreign,
            Some(Some(version)) => TableFact::Version(version.to_owned()),
        })
    }

    fn stored(&self, version: &str, tables: &[String]) -> Result<(VersionDir, StoredVersion)> {
        let dir = self.version_dir(version)?;
        let newest = if dir.exists() { dir.newest()? } else { None };
        let Some(Sealed { manifest, .. }) = newest else {
            let message = format!("the checkpoints of table {} are not in {}", tables.join(", "), self.checkpoints.display());
            return Err(Error::refused("no_checkpoints", message)
                .with("version", version)
                .hint("point the setting checkpoints at where it was built, or choose a new table name"));
        };
        let stored = StoredVersion {
            live: manifest.mode == Mode::Live,
            finished: manifest.finished,
            fingerprint: manifest.fingerprint,
            from: manifest.from,
            until: manifest.until,
            tables: manifest.outputs.into_iter().map(|output| output.table).collect(),
        };
        Ok((dir, stored))
    }

    /// Whether the tables have what the newest manifest lists, and so all before it.
    fn is_delivered(&self, dir: &VersionDir) -> Result<bool> {
        for number in dir.list()?.into_iter().rev() {
            let manifest = dir.read(number)?.manifest;
            if manifest.claim {
                continue;
            }
            let has_it = |name: &TableName| -> Result<bool> {
                let newest = self.catalog.load(name)?.and_then(|table| Marker::newest(table.metadata()));
                Ok(newest.is_some_and(|(marker, _)| marker.version == manifest.version && marker.checkpoint >= number.0))
            };
            return Ok(
                number == Epoch(0) || self.tables.iter().map(has_it).collect::<Result<Vec<_>>>()?.into_iter().all(|has| has)
            );
        }
        Ok(true)
    }

    /// Versions are UUIDs: what a table property says can never lead out of the checkpoints' directory.
    fn version_dir(&self, version: &str) -> Result<VersionDir> {
        let uuid: Uuid = version.parse().map_err(|_| {
            Error::corruption("version", format!("table property {VERSION_PROPERTY} is {version:?}, not a version"))
        })?;
        Ok(VersionDir::new(&self.checkpoints, &uuid.to_string()))
    }

    fn create(&self, options: &RunOptions, replaced: Option<&str>) -> Result<OwnedVersion> {
        let old = replaced.map(|version| self.version_dir(version)).transpose()?;
        // Whoever runs the old version must be gone before its directory is.
        let old_lock = old.as_ref().filter(|dir| dir.exists()).map(VersionDir::lock).transpose()?;
        let manifest = self.first_manifest(options)?;
        let dir = VersionDir::new(&self.checkpoints, &manifest.version);
        dir.create()?;
        let lock = dir.lock()?;
        let hash = dir.publish(&manifest)?;
        self.catalog.claim_owner(&manifest.version, manifest.owner)?;
        let last = Sealed { manifest, hash };
        let tables = self.make_tables(&last.manifest, replaced)?;
        drop(old_lock);
        if let Some(old) = old {
            remove_directory(old.root())?;
        }
        let mut kept = Kept::default();
        kept.add(last.manifest.checkpoint, None);
        kept.confirm(last.manifest.checkpoint, Vec::new());
        let committer = self.committer(&last.manifest, &tables);
        Ok(OwnedVersion { dir, lock: Some(lock), last, kept, tables, committer, resumed: false })
    }

    fn first_manifest(&self, options: &RunOptions) -> Result<Manifest> {
        let now = now_ms();
        let from = options.from.clone().unwrap_or_else(|| "earliest".to_owned());
        let until = options.until.clone().unwrap_or_else(|| "head".to_owned());
        let start = Position::parse("--from", &from, now)?;
        let end = Position::parse("--until", &until, now)?;
        let end = (options.mode == Mode::Reprocess).then_some(&end);
        if options.mode == Mode::Reprocess {
            self.sources
                .iter()
                .zip(&self.lowered.sources)
                .try_for_each(|(source, spec)| check_replayable(source.as_ref(), spec))?;
        }
        let domain =
            |(spec, source): (_, &Arc<dyn LogSource>)| new_domain(spec, source.as_ref(), &start, end, options.allow_gaps);
        let outputs =
            self.plan.outputs.iter().zip(&self.tables).zip(&self.lowered.pipelines).map(|((output, table), pipeline)| {
                OutputState {
                    name: output.name.clone(),
                    table: table.to_string(),
                    edge: if pipeline.aggregate.is_some() { Edge::Upsert } else { Edge::Append },
                    weight: None,
                    filtered: 0,
                    used: 0,
                    rows_changed: 0,
                    files: Vec::new(),
                    dead_letters: Vec::new(),
                }
            });
        Ok(Manifest {
            format: FORMAT,
            job: self.plan.job.clone(),
            version: new_ordered_uuid().to_string(),
            timeline: new_uuid().to_string(),
            checkpoint: Epoch(0),
            owner: 1,
            previous: String::new(),
            claim: false,
            created_ms: now,
            mode: options.mode,
            from,
            until,
            finished: false,
            plan: self.plan.clone(),
            fingerprint: self.fingerprint.clone(),
            time_zones: ZoneTables::of_plan(&self.plan)?,
            sources: self.lowered.sources.iter().zip(&self.sources).map(domain).collect::<Result<_>>()?,
            closed_ms: None,
            visible_ms: None,
            timers: Vec::new(),
            operators: self.operators()?,
            state: None,
            outputs: outputs.collect(),
        })
    }

    fn operators(&self) -> Result<Vec<OperatorState>> {
        let mut operators = Vec::new();
        let groupings = |pipeline: &'_ PipelineSpec| {
            let first = pipeline.aggregate.clone().map(|aggregate| (aggregate, Edge::Append));
            first.into_iter().chain(pipeline.regroup.clone().map(|regroup| (regroup.aggregate, Edge::Retract)))
        };
        for (aggregate, input) in self.lowered.pipelines.iter().flat_map(groupings) {
            let encoding = |call| Ok(accumulator::create(call)?.encoding_id());
            operators.push(OperatorState {
                name: aggregate.name.clone(),
                input,
                families: families_of(&aggregate),
                key_encoding: u32::from(FORMAT_VERSION),
                accumulator_encodings: aggregate.calls.iter().map(encoding).collect::<Result<_>>()?,
                hash_seed: HASH_SEED,
                key_groups: KEY_GROUPS,
                fields: state_fields(&aggregate),
            });
        }
        Ok(operators)
    }

    /// The tables of a manifest, made if they are not there yet. With `replaced`, tables of that version give way first,
    /// all at once: a crash never leaves some of one version and some of the other.
    fn make_tables(&self, manifest: &Manifest, replaced: Option<&str>) -> Result<Vec<(Table, Option<Table>)>> {
        let mut wanted = Vec::new();
        for (name, pipeline) in self.tables.iter().zip(&self.lowered.pipelines) {
            let create = |name: TableName, schema, primary_key: &[String]| CreateTable {
                name,
                schema,
                primary_key: primary_key.to_vec(),
                properties: BTreeMap::from([
                    (VERSION_PROPERTY.to_owned(), manifest.version.clone()),
                    (JOB_PROPERTY.to_owned(), manifest.job.clone()),
                ]),
            };
            let rows = create(name.clone(), pipeline.schema.clone(), &pipeline.primary_key);
            let name = TableName::parse(&dead_letter::table_name(&name.to_string()), "")?;
            // One from before `on_bad_record` was changed still belongs to the version, and may have letters to come.
            let ours = [Some(manifest.version.as_str()), replaced];
            let kept = self
                .catalog
                .load(&name)?
                .is_some_and(|table| table.property(VERSION_PROPERTY).is_some_and(|version| ours.contains(&Some(version))));
            let letters = (kept || self.buries(pipeline.source)).then(|| create(name, dead_letter::schema(), &[]));
            wanted.push((rows, letters));
        }
        if let Some(replaced) = replaced {
            self.replace_tables(wanted.iter().flat_map(|(rows, letters)| [Some(rows), letters.as_ref()]).flatten(), replaced)?;
            failpoint::hit("V1");
        }
        let make = |create: &CreateTable| self.make_table(create, &manifest.version);
        wanted.iter().map(|(rows, letters)| Ok((make(rows)?, letters.as_ref().map(make).transpose()?))).collect()
    }

    /// Puts fresh tables in the place of those that belong to version `replaced`.
    fn replace_tables<'a>(&self, wanted: impl Iterator<Item = &'a CreateTable>, replaced: &str) -> Result<()> {
        let mut changes = Vec::new();
        for create in wanted {
            let old = self.catalog.load(&create.name)?;
            changes.extend(old.filter(|old| old.property(VERSION_PROPERTY) == Some(replaced)).map(|old| (old, create)));
        }
        self.catalog.replace(&changes)
    }

    fn make_table(&self, create: &CreateTable, version: &str) -> Result<Table> {
        match self.catalog.load(&create.name)? {
            None => {
                failpoint::hit("V2");
                self.catalog.create(create)
            }
            Some(table) if table.property(VERSION_PROPERTY) == Some(version) => Ok(table),
            Some(table) => {
                Err(Error::refused("foreign_table", format!("table {} exists and belongs to something else", table.name()))
                    .hint("choose another name for the output"))
            }
        }
    }

    /// Whether anything of a source can go to a dead-letter table.
    pub fn buries(&self, source: usize) -> bool {
        self.lowered.sources.get(source).is_some_and(|spec| {
            spec.read.on_bad_record == BadRecordPolicy::DeadLetter || spec.read.late == LatePolicy::DeadLetter
        })
    }

    fn committer(&self, manifest: &Manifest, tables: &[(Table, Option<Table>)]) -> Committer {
        let target = |((rows, letters), pipeline): (&(Table, Option<Table>), &PipelineSpec)| CommitTarget {
            table: rows.name().clone(),
            uuid: rows.uuid(),
            kind: match pipeline.aggregate {
                Some(_) => CommitKind::Upsert { primary_key: pipeline.primary_key.clone() },
                None => CommitKind::Append,
            },
            dead_letters: letters.as_ref().map(|table| (table.name().clone(), table.uuid())),
        };
        let targets = tables.iter().zip(&self.lowered.pipelines).map(target).collect();
        Committer { catalog: self.catalog.clone(), targets, owner: manifest.owner }
    }

    /// Takes a version over from a process that is gone: claims it, delivers what was durable, and clears what was not.
    fn resume(&self, dir: VersionDir, options: &RunOptions) -> Result<OwnedVersion> {
        let lock = match dir.lock() {
            Ok(lock) => Some(lock),
            Err(error) if options.take_over && error.code() == "locked" => None,
            Err(error) => return Err(error),
        };
        let newest = dir.newest()?.ok_or_else(|| Error::internal("a version without manifests"))?;
        let mut sources = newest.manifest.sources.clone();
        for (stored, source) in sources.iter_mut().zip(&self.sources) {
            resume_domain(stored, source.as_ref(), options.allow_gaps)?;
        }
        if newest.manifest.operators != self.operators()? {
            let message =
                format!("the state of version {} has a form that this release does not read", newest.manifest.version);
            return Err(
                Error::refused("state_format", message).hint("run the release that wrote it, or reprocess into a new table")
            );
        }
        self.check_newest(&newest.manifest)?;
        let last = self.claim(&dir, &newest, sources, options)?;
        failpoint::hit("K21");
        self.catalog.claim_owner(&last.manifest.version, last.manifest.owner)?;
        let tables = self.make_tables(&last.manifest, None)?;
        failpoint::hit("K21");
        let committer = self.committer(&last.manifest, &tables);
        let kept = deliver(&dir, &committer)?;
        failpoint::hit("K21");
        dir.remove_orphans(&kept.states(), last.manifest.owner)?;
        failpoint::hit("K21");
        Ok(OwnedVersion { dir, lock, last, kept, tables, committer, resumed: true })
    }

    /// Whether the tables hold nothing that is newer than the newest manifest: one from a copy of the checkpoints would make
    /// checkpoints again whose numbers the tables have, and they would pass for delivered.
    fn check_newest(&self, newest: &Manifest) -> Result<()> {
        for name in &self.tables {
            let marker = self.catalog.load(name)?.and_then(|table| table.marker());
            let Some((marker, _)) = marker else { continue };
            let ours = marker.version == newest.version && marker.timeline == newest.timeline;
            if ours && marker.checkpoint > newest.checkpoint.0 {
                return Err(Error::refused("old_checkpoints", format!("table {name} is ahead of the checkpoints"))
                    .with("table_checkpoint", marker.checkpoint)
                    .with("newest_checkpoint", newest.checkpoint)
                    .hint("they are an older copy: restore the newest ones, or reprocess into a new table"));
            }
        }
        Ok(())
    }

    /// Publishes manifest N+1: it repeats N under a new owner. Who loses the race for it has lost the version.
    fn claim(&self, dir: &VersionDir, newest: &Sealed, sources: Vec<SourceState>, options: &RunOptions) -> Result<Sealed> {
        let mut claim = newest.manifest.clone();
        claim.sources = sources;
        claim.checkpoint = newest.manifest.checkpoint.next();
        claim.owner += 1;
        claim.previous.clone_from(&newest.hash);
        claim.claim = true;
        claim.created_ms = now_ms();
        // The plan's part that may change on the same version: what happens to bad records.
        claim.plan = self.plan.clone();
        if options.mode == Mode::Live || options.follow && claim.finished {
            claim.mode = Mode::Live;
            claim
                .sources
                .iter_mut()
                .flat_map(|source| source.partitions.values_mut())
                .for_each(|partition| partition.end = None);
            for (stored, source) in claim.sources.iter_mut().zip(&self.sources) {
                add_partitions(stored, source.as_ref())?;
            }
        }
        for output in &mut claim.outputs {
            output.rows_changed = 0;
            output.files.clear();
            output.dead_letters.clear();
        }
        let hash = dir.publish(&claim)?;
        Ok(Sealed { manifest: claim, hash })
    }
}

/// Commits every durable manifest that the tables may not have, in order. What they have is left alone.
fn deliver(dir: &VersionDir, committer: &Committer) -> Result<Kept> {
    let mut kept = Kept::default();
    for number in dir.list()? {
        let sealed = dir.read(number)?;
        if sealed.manifest.owner > committer.owner {
            return Err(taken_over(&sealed.manifest));
        }
        kept.add(number, sealed.manifest.state.clone());
        let released = if sealed.manifest.claim || number == Epoch(0) {
            Vec::new()
        } else {
            failpoint::hit("K21");
            committer.commit(&sealed, true)?.released
        };
        kept.confirm(number, released);
    }
    kept.collect(dir)?;
    Ok(kept)
}

fn state_fields(aggregate: &AggregateSpec) -> Vec<StateField> {
    let keys = aggregate.keys.iter().zip(&aggregate.key_types).map(|(key, data_type)| (key.name.clone(), data_type.clone()));
    let calls = aggregate.calls.iter().map(|call| (call.name.clone(), call.output_type.clone()));
    keys.chain(calls).zip(1..).map(|((name, data_type), id)| StateField { id, name, data_type }).collect()
}

fn check_replayable(source: &dyn LogSource, spec: &SourceSpec) -> Result<()> {
    match source.not_replayable()? {
        None => Ok(()),
        Some(reason) => {
            let message = format!("topic {} cannot be reprocessed: {reason}", spec.read.topic);
            Err(Error::refused("not_replayable", message)
                .hint("the result would depend on when it is read: use --mode live, or a topic that keeps all records"))
        }
    }
}

/// Checks a plan and opens what it needs.
pub fn prepare(plan: JobPlan, options: &RunOptions, settings: &Settings) -> Result<Prepared> {
    let lowered = crate::plan::lower::lower(&plan)?;
    let fingerprint = fingerprint(&plan)?;
    let mut tables = Vec::new();
    for output in &plan.outputs {
        let name = output.name.clone().unwrap_or_default();
        let alone = plan.outputs.len() == 1;
        let table = options.output_tables.get(&name).or_else(|| options.output_tables.get("").filter(|_| alone));
        let table = table.ok_or_else(|| {
            Error::config("no_output_table", format!("no table is named for output {name:?}")).hint(if alone {
                "give --output-table TABLE".to_owned()
            } else {
                format!("give --output-table {name}=TABLE")
            })
        })?;
        tables.push(TableName::parse(table, &settings.catalog_namespace)?);
    }
    for name in options.output_tables.keys().filter(|name| !name.is_empty()) {
        if !plan.outputs.iter().any(|output| output.name.as_ref() == Some(name)) {
            let known: Vec<_> = plan.outputs.iter().filter_map(|output| output.name.clone()).collect();
            return Err(Error::config("unknown_output", format!("the job has no output named {name:?}")).hint(
                if known.is_empty() {
                    "its output has no name: give --output-table TABLE".to_owned()
                } else {
                    format!("its outputs are {}", known.join(", "))
                },
            ));
        }
    }
    check_distinct(&tables)?;
    let catalog = Catalog::open(&settings.catalog_url, &settings.catalog_name, &settings.warehouse)?;
    let sources = lowered
        .sources
        .iter()
        .map(|spec| crate::source::open(&spec.read.topic, settings, options.threads()))
        .collect::<Result<_>>()?;
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    Ok(Prepared { plan, lowered, catalog, sources, tables, fingerprint, checkpoints })
}

/// Each output has a table of its own, and none is where another's dead letters go.
fn check_distinct(tables: &[TableName]) -> Result<()> {
    let distinct: std::collections::BTreeSet<_> = tables.iter().collect();
    if distinct.len() < tables.len() {
        return Err(Error::config("same_table_twice", "two outputs of the job are given the same table")
            .hint("give each output its own table"));
    }
    let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
    match names.iter().find(|name| names.contains(&dead_letter::table_name(name))) {
        None => Ok(()),
        Some(name) => {
            let message = format!("two outputs of the job use the table {}", dead_letter::table_name(name));
            Err(Error::config("same_table_twice", message)
                .hint(format!("it holds the dead letters of {name}: give the other output another table")))
        }
    }
}
