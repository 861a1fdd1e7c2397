//! Finds or makes the version that a run executes: its outputs, its directory, its newest manifest; and brings the outputs
//! up to that manifest before anything new is read.

use std::sync::Arc;

use uuid::Uuid;

use super::align::Aligned;
use super::certificates;
use super::domain::{add_partitions, new_domain, resume_domain};
use super::options::{Position, RunOptions};
use super::outputs::{OutputEnd, VERSION_PROPERTY};
use super::prepare::{Prepared, Target};
use crate::checkpoint::committer::Committer;
use crate::checkpoint::gc::Kept;
use crate::checkpoint::manifest::{
    Edge, FORMAT, Holder, Manifest, Mode, OperatorExpiry, OperatorState, OutputState, Sealed, SourceState, StateField,
};
use crate::checkpoint::store::{VersionDir, VersionLock, remove_directory, taken_over};
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::operator::accumulator;
use crate::plan::logical::JobPlan;
use crate::plan::lower::{AggregateSpec, PipelineSpec, SourceSpec};
use crate::plan::time_zones::ZoneTables;
use crate::protocol::chain::{Place, places};
use crate::protocol::failpoint;
use crate::protocol::version::{ALIGN, Request, StoredVersion, VersionDecision, called, common_version, decide_version};
use crate::runtime::pipeline::families_of;
use crate::source::LogSource;
use crate::state::encoding::{FORMAT_VERSION, HASH_SEED, KEY_GROUPS};
use crate::time::{instant, new_ordered_uuid, new_uuid, now_ms};

/// A version that this process owns.
pub struct OwnedVersion {
    /// Its directory.
    pub dir: VersionDir,
    /// Held while it runs.
    pub lock: Arc<VersionLock>,
    /// The manifest that it goes on from.
    pub last: Sealed,
    /// What is kept on disk.
    pub kept: Kept,
    /// By output, what it writes to.
    pub outputs: Vec<OutputEnd>,
    /// Commits for it.
    pub committer: Committer,
    /// Whether it existed before.
    pub resumed: bool,
}

impl Prepared {
    /// Opens the version for a run: creates it, resumes it, replaces it, or refuses.
    pub fn open_version(&self, options: &RunOptions) -> Result<OwnedVersion> {
        let names: Vec<String> = self.targets.iter().map(ToString::to_string).collect();
        if options.preview.is_some() && options.replace {
            self.clear_previews()?;
        }
        let fact = |target| Ok((format!("{target}"), self.fact(target, options.force)?));
        let facts = self.targets.iter().map(fact).collect::<Result<Vec<_>>>()?;
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
            until: self.until(options),
            tables: names,
        };
        let decision = decide_version(&request, stored.as_ref().map(|(_, stored)| stored))?;
        if decision != VersionDecision::Resume && options.preview.is_none() {
            certificates::check(&self.checkpoints, &self.fingerprint, options.force)?;
        }
        match decision {
            VersionDecision::Create => self.create(options, None),
            VersionDecision::Replace => self.create(options, version.as_deref()),
            VersionDecision::Resume => match stored {
                Some((dir, _)) => self.resume(dir, options),
                None => Err(Error::internal("nothing to resume")),
            },
        }
    }

    fn stored(&self, version: &str, tables: &[String]) -> Result<(VersionDir, StoredVersion)> {
        let dir = self.version_dir(version)?;
        let newest = if dir.exists() { dir.newest()? } else { None };
        let Some(Sealed { manifest, .. }) = newest else {
            let names = tables.iter().map(|name| called(name)).collect::<Vec<_>>().join(", ");
            let message = format!("the checkpoints of {names} are not in {}", self.checkpoints.display());
            return Err(Error::refused("no_checkpoints", message)
                .with("version", version)
                .hint("point the setting checkpoints at where it was built, or choose a new table or topic"));
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

    /// Versions are UUIDs: what a table property says can never lead out of the checkpoints' directory.
    pub(super) fn version_dir(&self, version: &str) -> Result<VersionDir> {
        let uuid: Uuid = version
            .parse()
            .map_err(|_| Error::corruption("version", format!("property {VERSION_PROPERTY} is {version:?}, not a version")))?;
        Ok(VersionDir::new(&self.checkpoints, &uuid.to_string()).behind(self.door.clone()))
    }

    fn create(&self, options: &RunOptions, replaced: Option<&str>) -> Result<OwnedVersion> {
        let old = replaced.map(|version| self.version_dir(version)).transpose()?;
        // Whoever runs the old version must be gone before its directory is.
        let old_lock = old.as_ref().filter(|dir| dir.exists()).map(|dir| dir.lock(false)).transpose()?;
        let manifest = self.first_manifest(options)?;
        let dir = self.version_dir(&manifest.version)?;
        let version = manifest.version.clone();
        let (lock, last) = self.begin(&dir, manifest).inspect_err(|_| self.abandon(&dir, &version))?;
        let lock = Arc::new(lock);
        let outputs = self.make_outputs(&last, replaced, options.force).inspect_err(|_| self.abandon(&dir, &version))?;
        drop(old_lock);
        if let Some(old) = old {
            remove_directory(old.root())?;
        }
        let mut kept = Kept::default();
        kept.add(last.manifest.checkpoint, None);
        kept.confirm(last.manifest.checkpoint, Vec::new());
        let committer = self.committer(&dir, &last.manifest, &outputs)?;
        Ok(OwnedVersion { dir, lock, last, kept, outputs, committer, resumed: false })
    }

    fn begin(&self, dir: &VersionDir, manifest: Manifest) -> Result<(VersionLock, Sealed)> {
        dir.create()?;
        let lock = dir.lock(false)?;
        let hash = dir.publish(&manifest)?;
        self.catalog.claim_owner(&manifest.version, manifest.owner)?;
        Ok((lock, Sealed { manifest, hash }))
    }

    /// Removes a version that could not be begun and that no output names: a job that is started again and again on a full
    /// disk must not leave one each time.
    fn abandon(&self, dir: &VersionDir, version: &str) {
        let is_free = |target: &Target| match target {
            Target::Table(name) => {
                self.catalog.load(name).is_ok_and(|table| table.is_none_or(|t| t.property(VERSION_PROPERTY) != Some(version)))
            }
            Target::Topic(_) => false,
        };
        if self.targets.iter().all(is_free) {
            let _ = remove_directory(dir.root());
        }
    }

    fn first_manifest(&self, options: &RunOptions) -> Result<Manifest> {
        let now = now_ms();
        let from = self.preview.clone().or_else(|| options.from.clone()).unwrap_or_else(|| "earliest".to_owned());
        let until = self.until(options).unwrap_or_else(|| "head".to_owned());
        let align = self.align.as_ref().map(|table| Aligned::with(&self.catalog, table)).transpose()?;
        let start = Position::parse("--from", &from, now)?;
        let end = if align.is_some() { Position::Head } else { Position::parse("--until", &until, now)? };
        let end = (options.mode == Mode::Reprocess).then_some(&end);
        if options.mode == Mode::Reprocess {
            self.sources
                .iter()
                .zip(&self.lowered.sources)
                .try_for_each(|(source, spec)| check_replayable(source.as_ref(), spec))?;
        }
        let domain = |(spec, source): (&SourceSpec, &Arc<dyn LogSource>)| {
            if let Some(preview) = &options.preview {
                return preview.domain(&spec.read.topic, source.as_ref());
            }
            let mut domain = new_domain(spec, source.as_ref(), &start, end, options.allow_gaps)?;
            align.as_ref().map(|align| align.freeze(&mut domain)).transpose()?;
            Ok(domain)
        };
        let outputs =
            self.plan.outputs.iter().zip(&self.targets).zip(&self.lowered.pipelines).map(|((output, target), pipeline)| {
                OutputState {
                    name: output.name.clone(),
                    table: target.to_string(),
                    edge: if pipeline.aggregate.is_some() { Edge::Upsert } else { Edge::Append },
                    weight: None,
                    filtered: 0,
                    expired: 0,
                    used: 0,
                    rows_changed: 0,
                    records: 0,
                    files: Vec::new(),
                    dead_letters: Vec::new(),
                }
            });
        let sources = self.lowered.sources.iter().zip(&self.sources).map(domain).collect::<Result<_>>()?;
        let version = new_ordered_uuid().to_string();
        align.as_ref().map(|align| align.pin(&self.catalog, &version)).transpose()?;
        Ok(Manifest {
            format: FORMAT,
            job: self.plan.job.clone(),
            version,
            catalog: Some(self.catalog.identity().to_owned()),
            timeline: new_uuid().to_string(),
            checkpoint: Epoch(0),
            owner: 1,
            holder: Some(Holder::this(now)),
            previous: String::new(),
            claim: false,
            created_ms: now,
            mode: options.mode,
            from,
            until,
            finished: false,
            plan: self.plan.clone(),
            fingerprint: self.fingerprint.clone(),
            time_zones: options.preview.as_ref().map_or_else(|| ZoneTables::of_plan(&self.plan), |it| it.zones(&self.plan))?,
            sources,
            closed_ms: None,
            visible_ms: None,
            timers: Vec::new(),
            operators: self.operators()?,
            state: None,
            state_checksum: None,
            outputs: outputs.collect(),
        })
    }

    /// The end that is asked for, as manifests hold it.
    fn until(&self, options: &RunOptions) -> Option<String> {
        let align = self.align.as_ref().map(|table| format!("{ALIGN}{table}"));
        align.or_else(|| options.until.clone())
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
                expiry: aggregate.expiry.as_ref().map(|e| OperatorExpiry { after_ms: e.after_ms, slice_ms: e.slice_ms() }),
            });
        }
        Ok(operators)
    }

    /// Takes a version over from a process that is gone: claims it, delivers what was durable, and clears what was not.
    fn resume(&self, dir: VersionDir, options: &RunOptions) -> Result<OwnedVersion> {
        let lock = Arc::new(dir.lock(options.take_over)?);
        // Who condemns it has the lock meanwhile.
        self.check_not_condemned()?;
        self.check_not_retired(options)?;
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
        check_topic_keys(&newest.manifest.plan, &self.plan)?;
        self.check_newest(&newest.manifest)?;
        let last = self.claim(&dir, &newest, sources, options)?;
        failpoint::hit("K21");
        self.catalog.claim_owner(&last.manifest.version, last.manifest.owner)?;
        self.catalog.claim_tables(&last.manifest.version, last.manifest.owner, &self.all_tables()?)?;
        let outputs = self.make_outputs(&last, None, options.force)?;
        failpoint::hit("K21");
        let mut committer = self.committer(&dir, &last.manifest, &outputs)?;
        let kept = self.deliver(&dir, &mut committer)?;
        failpoint::hit("K21");
        dir.remove_orphans(&kept, last.manifest.owner)?;
        failpoint::hit("K21");
        Ok(OwnedVersion { dir, lock, last, kept, outputs, committer, resumed: true })
    }

    /// Publishes manifest N+1: it repeats N under a new owner. Who loses the race for it has lost the version.
    fn claim(&self, dir: &VersionDir, newest: &Sealed, sources: Vec<SourceState>, options: &RunOptions) -> Result<Sealed> {
        let mut claim = newest.manifest.clone();
        claim.sources = sources;
        claim.catalog = Some(self.catalog.identity().to_owned());
        claim.checkpoint = newest.manifest.checkpoint.next();
        claim.owner += 1;
        claim.holder = Some(Holder::this(now_ms()));
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
                add_partitions(stored, source.as_ref(), newest.manifest.closed_ms)?;
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
    /// Delivers every durable manifest that the tables and topics may not have, in order. What they have is left alone, and what
    /// is not of the chain. That goes with the rest once all is delivered.
    fn deliver(&self, dir: &VersionDir, committer: &mut Committer) -> Result<Kept> {
        let (mut kept, began) = (Kept::default(), instant());
        let manifests = dir.list()?.into_iter().map(|number| dir.read(number)).collect::<Result<Vec<_>>>()?;
        let links: Vec<_> = manifests.iter().map(Sealed::link).collect();
        let (places, first) = places(&links);
        if let Some((first, newest)) = first.zip(manifests.last()).filter(|_| places.contains(&Place::Unclear)) {
            self.check_whole(first, &newest.manifest, dir, committer)?;
        }
        for (sealed, place) in manifests.iter().zip(places) {
            let manifest = &sealed.manifest;
            if manifest.owner > committer.owner {
                return Err(taken_over(manifest));
            }
            kept.add(manifest.checkpoint, manifest.state.clone());
            let released = if place != Place::Chain || manifest.claim || manifest.checkpoint == Epoch(0) {
                Vec::new()
            } else {
                failpoint::hit("K21");
                committer.recover(sealed, began)?.released
            };
            kept.confirm(manifest.checkpoint, released);
        }
        kept.collect(dir)?;
        Ok(kept)
    }
}

/// Another key would part a topic's records of one key: it is for a new topic.
fn check_topic_keys(before: &JobPlan, now: &JobPlan) -> Result<()> {
    let topics = before.outputs.iter().zip(&now.outputs).filter_map(|(before, now)| before.to.as_ref().zip(now.to.as_ref()));
    for (before, now) in topics {
        if before.key != now.key {
            let key = |key: &[String]| if key.is_empty() { "none".to_owned() } else { format!("({})", key.join(", ")) };
            let message = format!("topic {} was begun with the key {}, not {}", now.topic, key(&before.key), key(&now.key));
            return Err(Error::refused("other_topic_key", message).hint("write records with another key to a new topic"));
        }
    }
    Ok(())
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
