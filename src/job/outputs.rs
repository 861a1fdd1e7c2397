//! The outputs of a version: whose they are, made or claimed for it, and how far they are.

use std::collections::BTreeMap;

use super::options::RunOptions;
use super::prepare::{Prepared, Target};
use crate::checkpoint::committer::{CommitTarget, Committer, TableTarget, marker};
use crate::checkpoint::manifest::{Manifest, Mode, Sealed};
use crate::checkpoint::store::VersionDir;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::plan::logical::{BadRecordPolicy, LatePolicy};
use crate::plan::lower::PipelineSpec;
use crate::protocol::chain::{Link, is_whole};
use crate::protocol::failpoint;
use crate::protocol::version::{OutputFact, called};
use crate::sink::dead_letter;
use crate::sink::kafka::{OwnTopic, Topic, TopicDelivery};
use crate::table::field_ids::FieldIds;
use crate::table::marker::Marker;
use crate::table::{CommitKind, CreateTable, PREVIEW_PROPERTY, Table, TableName};
use crate::time::new_ordered_uuid;

/// The table property that says which version a table belongs to.
pub const VERSION_PROPERTY: &str = "kappa.version";
/// The table property that names the output of the job.
const OUTPUT_PROPERTY: &str = "kappa.output";
/// The table property that names the job that made a table.
pub const JOB_PROPERTY: &str = "kappa.job";

/// What an output writes to.
pub enum OutputEnd {
    /// A table, and that of its dead letters.
    Table(Box<(Table, Option<Table>)>),
    /// A topic.
    Topic(OwnTopic),
}

impl Prepared {
    /// Whose a table or topic is.
    pub(super) fn fact(&self, target: &Target, force: bool) -> Result<OutputFact> {
        let name = match target {
            Target::Table(name) => name,
            Target::Topic(topic) => return topic.fact(force),
        };
        let table = self.catalog.load(name)?;
        if table.as_ref().map(Table::turns).transpose()?.flatten().is_some() {
            return Err(Error::refused("is_a_name", format!("{name} is a name that shows the tables of versions"))
                .hint(format!("write to a table of its own, then: kappa promote {name} TABLE")));
        }
        table.as_ref().map(Table::check_not_condemned).transpose()?;
        if !self.is_preview() && table.as_ref().is_some_and(Table::is_preview) {
            return Err(Error::refused("is_a_preview", format!("table {name} is a preview, which the next one replaces"))
                .hint("write to a table of another name"));
        }
        Ok(match table.as_ref().map(|table| table.property(VERSION_PROPERTY)) {
            None => OutputFact::Absent,
            Some(None) => OutputFact::Foreign,
            Some(Some(version)) => OutputFact::Version(version.to_owned()),
        })
    }

    /// Refuses to go on with what is about to be deleted.
    pub(super) fn check_not_condemned(&self) -> Result<()> {
        let tables = self.targets.iter().filter_map(Target::table);
        tables
            .map(|name| self.catalog.load(name))
            .try_for_each(|table| table?.as_ref().map_or(Ok(()), Table::check_not_condemned))
    }

    /// Refuses to go on without end with a version that a promote has asked to stop. `--force` lifts it for good.
    pub(super) fn check_not_retired(&self, options: &RunOptions) -> Result<()> {
        if options.mode != Mode::Live && !options.follow {
            return Ok(());
        }
        let names = self.targets.iter().filter_map(Target::table);
        let tables = names.map(|name| self.catalog.load(name)).collect::<Result<Vec<_>>>()?;
        let of = || tables.iter().flatten().map(|table| (table.name(), table.uuid()));
        match self.catalog.retired(of())? {
            Some(_) if options.force => of().try_for_each(|(name, _)| self.catalog.unretire(name)),
            Some(retired) => Err(retired.refusal(of().next().map_or(&retired.table, |(name, _)| name))),
            None => Ok(()),
        }
    }

    /// Whether the outputs have what the newest manifest lists, and so all before it.
    pub(super) fn is_delivered(&self, dir: &VersionDir) -> Result<bool> {
        let (mut tables, mut topics) = (true, vec![true; self.targets.len()]);
        for number in dir.list()?.into_iter().rev() {
            let manifest = dir.read(number)?.manifest;
            if manifest.claim || number == Epoch(0) {
                continue;
            }
            for (at, target) in self.targets.iter().enumerate() {
                let newest = match target {
                    Target::Table(name) if tables => self.newest_of_table(name)?,
                    // Only a checkpoint that has records for a topic leaves a marker in it.
                    Target::Topic(topic) if topics[at] && manifest.outputs.get(at).is_some_and(|o| !o.files.is_empty()) => {
                        topics[at] = false;
                        topic.marker()?.map(|marker| (marker.version, marker.checkpoint))
                    }
                    _ => continue,
                };
                if newest.is_none_or(|(version, checkpoint)| version != manifest.version || checkpoint < number.0) {
                    return Ok(false);
                }
            }
            tables = false;
        }
        Ok(true)
    }

    fn newest_of_table(&self, name: &TableName) -> Result<Option<(String, u64)>> {
        let newest = self.catalog.load(name)?.and_then(|table| Marker::newest(table.metadata()));
        Ok(newest.map(|(marker, _)| (marker.version, marker.checkpoint)))
    }

    /// Whether the outputs have all that came before `first`, where manifests lie that `first` and those after it did not go on
    /// from.
    ///
    /// Errors: `Corruption` if they lack it, or nobody knows.
    pub(super) fn check_whole(&self, first: &Link, newest: &Manifest, dir: &VersionDir, committer: &Committer) -> Result<()> {
        let (version, timeline) = (&newest.version, &newest.timeline);
        let (mut tables, mut topics) = (Vec::new(), Vec::new());
        for target in &committer.targets {
            match target {
                CommitTarget::Table(target) => {
                    let table = self.catalog.load_same(&target.table, target.uuid)?;
                    tables.push(table.and_then(|table| table.delivered(version, timeline)));
                }
                CommitTarget::Topic(topic) => topics.push(topic),
            }
        }
        // A topic tells less than a table: a checkpoint without records for it leaves nothing there.
        let delivered = if tables.is_empty() {
            topics.into_iter().map(|topic| topic.delivered(version, timeline)).collect::<Result<_>>()?
        } else {
            tables
        };
        if !delivered.is_empty() && delivered.into_iter().all(|delivered| is_whole(first, delivered.unwrap_or((0, 1)))) {
            return Ok(());
        }
        let message = format!("manifest {} is missing, and may not be delivered", first.checkpoint - 1);
        Err(Error::corruption("manifest_missing", message)
            .with("directory", dir.root().join("manifests").display())
            .hint("put back what was taken out of this directory; or --replace, or reprocess into a new table or topic"))
    }

    /// Whether the outputs hold nothing that is newer than the newest manifest: one from a copy of the checkpoints would make
    /// checkpoints again whose numbers the outputs have, and they would pass for delivered.
    pub(super) fn check_newest(&self, newest: &Manifest) -> Result<()> {
        for target in &self.targets {
            let marker = match target {
                Target::Table(name) => {
                    let marker = self.catalog.load(name)?.and_then(|table| table.marker());
                    marker.map(|(marker, _)| (marker.version, marker.timeline, marker.checkpoint))
                }
                Target::Topic(topic) => topic.marker()?.map(|marker| (marker.version, marker.timeline, marker.checkpoint)),
            };
            let Some((version, timeline, checkpoint)) = marker else { continue };
            if version == newest.version && timeline == newest.timeline && checkpoint > newest.checkpoint.0 {
                let message = format!("{} is ahead of the checkpoints", called(&target.to_string()));
                return Err(Error::refused("old_checkpoints", message)
                    .with("delivered_checkpoint", checkpoint)
                    .with("newest_checkpoint", newest.checkpoint)
                    .hint("they are an older copy: restore the newest ones, or reprocess into a new table or topic"));
            }
        }
        Ok(())
    }

    /// What the outputs write to, made or claimed if it is not there yet. With `replaced`, tables of that version give way
    /// first, all at once: a crash never leaves some of one version and some of the other.
    pub(super) fn make_outputs(&self, last: &Sealed, replaced: Option<&str>, force: bool) -> Result<Vec<OutputEnd>> {
        let wanted = self.targets.iter().zip(&self.lowered.pipelines).map(|(target, pipeline)| match target {
            Target::Table(name) => self.wanted_tables(name, pipeline, &last.manifest, replaced).map(Some),
            Target::Topic(_) => Ok(None),
        });
        let mut wanted = wanted.collect::<Result<Vec<_>>>()?;
        for (wanted, output) in wanted.iter_mut().zip(&self.plan.outputs) {
            if let Some((rows, _)) = wanted {
                rows.properties.insert(OUTPUT_PROPERTY.to_owned(), output.name.clone().unwrap_or_default());
            }
        }
        if let Some(replaced) = replaced {
            let all = wanted.iter().flatten().flat_map(|(rows, letters)| [Some(rows), letters.as_ref()]).flatten();
            self.replace_tables(all, replaced)?;
            failpoint::hit("V1");
        }
        let topics = self.claim_topics(last, force)?;
        let make = |create: &CreateTable| self.make_table(create, &last.manifest.version);
        let end = |(target, wanted): (&Target, &Option<(CreateTable, Option<CreateTable>)>)| match (target, wanted) {
            (Target::Topic(topic), _) => {
                let own = topics.get(topic.name()).ok_or_else(|| Error::internal("a topic that nobody claimed"))?;
                Ok(OutputEnd::Topic(own.clone()))
            }
            (_, Some((rows, letters))) => {
                Ok(OutputEnd::Table(Box::new((make(rows)?, letters.as_ref().map(make).transpose()?))))
            }
            _ => Err(Error::internal("a table that nobody wants")),
        };
        self.targets.iter().zip(&wanted).map(end).collect()
    }

    /// Makes the topics the version's, by name. In the order of their names: of two jobs that want the same topics, the one
    /// that gets the first gets all.
    fn claim_topics(&self, last: &Sealed, force: bool) -> Result<BTreeMap<&str, OwnTopic>> {
        let topics = self.targets.iter().filter_map(|target| match target {
            Target::Topic(topic) => Some((topic.name(), topic)),
            Target::Table(_) => None,
        });
        let topics: BTreeMap<&str, &Topic> = topics.collect();
        topics.into_iter().map(|(name, topic)| Ok((name, claim(topic, last, force)?))).collect()
    }

    /// The tables of the outputs and of their dead letters, whether they are there or not.
    pub(super) fn all_tables(&self) -> Result<Vec<TableName>> {
        let tables = self.targets.iter().filter_map(Target::table);
        let both = |name: &TableName| Ok([name.clone(), TableName::parse(&dead_letter::table_name(&name.to_string()), "")?]);
        Ok(tables.map(both).collect::<Result<Vec<_>>>()?.concat())
    }

    /// The table of an output, and that of its dead letters if anything can go there.
    fn wanted_tables(
        &self,
        name: &TableName,
        pipeline: &PipelineSpec,
        manifest: &Manifest,
        replaced: Option<&str>,
    ) -> Result<(CreateTable, Option<CreateTable>)> {
        let preview = self.preview.clone().map(|whole_from| (PREVIEW_PROPERTY.to_owned(), whole_from));
        let ours = [(VERSION_PROPERTY.to_owned(), manifest.version.clone()), (JOB_PROPERTY.to_owned(), manifest.job.clone())];
        let properties: BTreeMap<String, String> = ours.into_iter().chain(preview).collect();
        let create = |name: TableName, schema, primary_key: &[String]| CreateTable {
            name,
            schema,
            primary_key: primary_key.to_vec(),
            properties: properties.clone(),
            field_ids: FieldIds::default(),
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
        Ok((rows, letters))
    }

    /// Puts fresh tables in the place of those that belong to version `replaced`.
    fn replace_tables<'a>(&self, wanted: impl Iterator<Item = &'a CreateTable>, replaced: &str) -> Result<()> {
        let mut changes = Vec::new();
        for create in wanted {
            let old = self.catalog.load(&create.name)?;
            let old = old.filter(|old| old.property(VERSION_PROPERTY) == Some(replaced));
            old.as_ref().map(|old| self.check_not_shown(old)).transpose()?;
            if let Some(old) = old {
                changes.push((old, self.numbered(create, None)?));
            }
        }
        let changes: Vec<_> = changes.iter().map(|(old, create)| (old.clone(), create)).collect();
        self.catalog.replace(&changes)
    }

    /// What a name shows is not taken from under it.
    fn check_not_shown(&self, table: &Table) -> Result<()> {
        let names = self.catalog.shown_by(table)?;
        let Some(name) = names.first() else { return Ok(()) };
        Err(Error::refused("serves", format!("table {} is what {name} shows", table.name()))
            .hint("reprocess into a new table, compare, and promote that; or roll the name back first"))
    }

    /// With what other versions of the same output have called their columns: one name may show them all.
    /// `made` is the table itself, if it is there.
    fn numbered(&self, create: &CreateTable, made: Option<&Table>) -> Result<CreateTable> {
        let Some(output) = create.properties.get(OUTPUT_PROPERTY) else { return Ok(create.clone()) };
        let (job, made) = (create.properties.get(JOB_PROPERTY), made.map(Table::uuid));
        let field_ids = self.catalog.field_ids(|table| {
            let is_of_output = match table.property(OUTPUT_PROPERTY) {
                Some(of) => of == output,
                // Earlier releases did not write it: what they have made may be of any output of the job.
                None => !dead_letter::is_name(table.name().table()),
            };
            is_of_output && table.property(JOB_PROPERTY) == job.map(String::as_str) && made != Some(table.uuid())
        })?;
        Ok(CreateTable { field_ids, ..create.clone() })
    }

    fn make_table(&self, create: &CreateTable, version: &str) -> Result<Table> {
        match self.catalog.load(&create.name)? {
            None => {
                failpoint::hit("V2");
                self.catalog.create(&self.numbered(create, None)?)
            }
            Some(table) if table.property(VERSION_PROPERTY) == Some(version) => match table.marker() {
                Some(_) => Ok(table),
                None => {
                    let create = self.numbered(create, Some(&table))?;
                    self.catalog.finish(table, &create)
                }
            },
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

    /// What delivers for the version.
    pub(super) fn committer(&self, dir: &VersionDir, manifest: &Manifest, outputs: &[OutputEnd]) -> Result<Committer> {
        let target = |(number, (end, pipeline)): (usize, (&OutputEnd, &PipelineSpec))| {
            let (rows, letters) = match end {
                OutputEnd::Table(tables) => (&tables.0, &tables.1),
                OutputEnd::Topic(topic) => {
                    let delivery = TopicDelivery::new(topic.clone(), dir.root(), &manifest.version, number)?;
                    return Ok(CommitTarget::Topic(Box::new(delivery)));
                }
            };
            Ok(CommitTarget::Table(TableTarget {
                table: rows.name().clone(),
                uuid: rows.uuid(),
                kind: match pipeline.aggregate {
                    Some(_) => CommitKind::Upsert { primary_key: pipeline.primary_key.clone() },
                    None => CommitKind::Append,
                },
                dead_letters: letters.as_ref().map(|table| (table.name().clone(), table.uuid())),
            }))
        };
        let targets = outputs.iter().zip(&self.lowered.pipelines).enumerate().map(target).collect::<Result<_>>()?;
        let began = new_ordered_uuid();
        Ok(Committer { catalog: self.catalog.clone(), targets, owner: manifest.owner, claimed: manifest.checkpoint, began })
    }
}

/// Makes a topic the version's. Once anything was read, it must be so already: records may be in it.
fn claim(topic: &Topic, last: &Sealed, force: bool) -> Result<OwnTopic> {
    let mut partitions = last.manifest.sources.iter().flat_map(|source| source.partitions.values());
    let begun = partitions.any(|partition| partition.next != partition.start);
    topic.claim(&marker(last), begun, force)
}
