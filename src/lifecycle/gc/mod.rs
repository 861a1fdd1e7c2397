//! `gc`: versions that nothing needs go, and what crashed runs have left. Nothing is changed by a look; a version is condemned first,
//! and goes at a later look, once the grace is over.
//!
//! In reading order: [`facts`] what one look finds; the decision is `protocol::gc`; [`journal`] how something is deleted; [`orphans`]
//! files that crashed runs have left in tables that stay; [`unnamed`] directories that no table speaks of; [`report`].
//!
//! Whoever condemns or deletes a version has its lock meanwhile, so that no job runs it. A promote that was decided before loses to
//! the condemnation, or is found by the look after it; one after it is refused.

mod facts;
mod journal;
mod orphans;
pub mod report;
mod unnamed;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use self::facts::{Judged, Look, is_version};
use self::journal::Journal;
use self::report::{Action, Begun, Report, Version};
use super::leases;
use crate::broker::ClientOptions;
use crate::checkpoint::manifest::Holder;
use crate::checkpoint::store::{VersionDir, VersionLock};
use crate::durable::create_directory;
use crate::durable::size::bytes_below;
use crate::error::{Error, Result};
use crate::job::consumer_group;
use crate::process::{self, FileLock};
use crate::protocol::failpoint;
use crate::protocol::gc::{Decision, Limits};
use crate::protocol::version::TOPIC_SCHEME;
use crate::table::condemn::Condemned;
use crate::table::marker::VERSION;
use crate::table::uses::Uses;
use crate::table::{Catalog, Table, TableName};
use crate::time::{format_utc, now_ms};

/// How often something is tried that others change meanwhile.
const ATTEMPTS: usize = 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How long nobody has needed what goes.
    pub older_than_ms: i64,
    /// How long it is condemned before.
    pub grace_ms: i64,
    /// Whether it is done.
    pub apply: bool,
}

/// Where things are, and what was found out about them.
pub struct Collector<'a> {
    /// Where tables are.
    pub catalog: &'a Catalog,
    /// Where versions keep their progress.
    pub checkpoints: &'a Path,
    /// The cluster that jobs read, if there is one.
    pub cluster: Option<&'a ClientOptions>,
    limits: Limits,
    uses: Uses,
}

impl<'a> Collector<'a> {
    /// For a catalog and the checkpoints of its versions.
    pub fn new(catalog: &'a Catalog, checkpoints: &'a Path, cluster: Option<&'a ClientOptions>) -> Self {
        let limits = Limits { now_ms: now_ms(), older_than_ms: 0, grace_ms: 0 };
        Self { catalog, checkpoints, cluster, limits, uses: Uses::default() }
    }

    /// Collects, or says what would be collected.
    ///
    /// # Errors
    /// Those of the catalog and the disk; `Conflict` if another process collects.
    pub fn collect(mut self, options: Options) -> Result<Report> {
        let Options { older_than_ms, grace_ms, apply } = options;
        self.limits = Limits { older_than_ms, grace_ms, ..self.limits };
        let _alone = apply.then(|| self.alone()).transpose()?;
        let now_ms = self.limits.now_ms;
        let mut report = Report { applied: apply, now_ms, older_than_ms, grace_ms, ..Report::default() };
        report.begun = self.begun(apply)?;
        let look = self.look()?;
        for version in self.versions(&look)? {
            let is_begun = |begun: &Begun| begun.version.as_ref() == Some(&version);
            if !report.begun.iter().any(is_begun) {
                report.versions.push(self.version(&look, &version, apply)?);
            }
        }
        report.directories = self.unnamed(apply)?;
        if apply {
            leases::remove_expired(self.checkpoints, now_ms)?;
        }
        Ok(report.total())
    }

    /// Takes the condemnation of a table's version back.
    ///
    /// # Errors
    /// `Refused` if it is of no version, or is being deleted already; those of the catalog.
    pub fn spare(mut self, name: &TableName) -> Result<Report> {
        let _alone = self.alone()?;
        for _ in 0..ATTEMPTS {
            let table = self.catalog.require(name)?;
            let Some(version) = table.property(VERSION).map(str::to_owned) else {
                return Err(Error::refused("not_a_version", format!("table {name} is not of a job of kappa's")));
            };
            let mut begun = journal::all(self.checkpoints)?.into_iter().flatten();
            if begun.any(|journal| journal.version.as_ref() == Some(&version)) {
                return Err(Error::refused("being_deleted", format!("the files of {name} are being deleted already"))
                    .hint("build it anew from the log: reprocess into a new table"));
            }
            let judged = {
                let look = self.look()?;
                self.judge(&look, &version, false)?
            };
            let condemned: Vec<Table> =
                judged.tables.iter().filter(|table| !matches!(table.condemned(), Ok(None))).cloned().collect();
            if condemned.is_empty() || self.catalog.condemn(&condemned, None)? {
                let mut spared = self.described(&version, &judged);
                (spared.action, spared.code, spared.why) = (Action::Spare, None, "its condemnation was taken back".to_owned());
                spared.until_ms = None;
                let (now_ms, versions) = (self.limits.now_ms, vec![spared]);
                return Ok(Report { applied: true, now_ms, versions, ..Report::default() }.total());
            }
        }
        Err(changing(name))
    }

    /// One process collects at a time.
    fn alone(&self) -> Result<FileLock> {
        let directory = journal::directory(self.checkpoints);
        create_directory(&directory)?;
        let path = directory.join("lock");
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        match FileLock::take(opened.map_err(|error| Error::io("open", &path, error))?) {
            Ok(lock) => {
                let holder = Holder::this(self.limits.now_ms);
                lock.say(&format!("{holder}\n")).map_err(|error| Error::io("write", &path, error))?;
                Ok(lock)
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let message = format!("another process collects: {}", holder.trim());
                Err(Error::conflict("locked", message).with("lock", path.display()).hint("wait for it, then look again"))
            }
        }
    }

    /// Finishes what earlier processes have begun to delete.
    fn begun(&mut self, apply: bool) -> Result<Vec<Begun>> {
        let mut begun = Vec::new();
        for journal in journal::all(self.checkpoints)? {
            let journal = match journal {
                Ok(journal) => journal,
                Err(error) => {
                    begun.push(Begun { version: None, tables: Vec::new(), bytes: 0, trouble: Some(error.to_string()) });
                    continue;
                }
            };
            let bytes = self.left_of(&journal);
            let trouble =
                if apply { self.finish(&journal, None).unwrap_or_else(|error| Some(error.to_string())) } else { None };
            let tables = journal.tables.into_iter().map(|table| table.table).collect();
            begun.push(Begun { version: journal.version, tables, bytes, trouble });
        }
        Ok(begun)
    }

    /// Judges a version, and does what follows.
    fn version(&mut self, look: &Look, version: &str, apply: bool) -> Result<Version> {
        let judged = self.judge(look, version, false)?;
        let mut described = self.described(version, &judged);
        // What cannot be read there is told by who reads it.
        let orphans = self.orphans(look, version, &judged).unwrap_or_default();
        described.orphan_bytes = orphans.iter().filter_map(|path| path.symlink_metadata().ok()).map(|found| found.len()).sum();
        if apply {
            // What fails for one is no reason to leave the others.
            match self.act(version, &judged, &mut described) {
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => described.trouble = Some(error.to_string()),
                Ok(trouble) => described.trouble = trouble,
            }
        }
        Ok(described)
    }

    fn described(&self, version: &str, judged: &Judged) -> Version {
        let Judged { tables, directories, manifest, facts, decision } = judged;
        let is_condemned = tables.iter().any(|table| !matches!(table.condemned(), Ok(None)));
        let (action, code, until_ms) = match decision {
            Decision::Keep(kept) if is_condemned && kept.code != "unknown" => (Action::Spare, Some(kept.code), kept.until_ms),
            Decision::Keep(kept) => (Action::Keep, Some(kept.code), kept.until_ms),
            Decision::Condemn => (Action::Condemn, None, Some(self.limits.now_ms.saturating_add(self.limits.grace_ms))),
            Decision::Wait(until) => (Action::Wait, None, Some(*until)),
            Decision::Delete => (Action::Delete, None, None),
        };
        let unneeded = || match &facts.shown_until {
            _ if tables.is_empty() => "its tables are gone from the catalog".to_owned(),
            Some((until, name)) => format!("not shown since {} ({name})", to_the_second(*until)),
            None => format!("never shown, last written {}", to_the_second(facts.written_ms)),
        };
        let dir = self.checkpoints.join(version);
        let (staged_bytes, all) =
            if is_version(version) { (bytes_below(&dir.join("outbox")), bytes_below(&dir)) } else { (0, 0) };
        Version {
            version: version.to_owned(),
            job: manifest.as_ref().map(|manifest| manifest.job.clone()),
            tables: tables.iter().map(|table| table.name().to_string()).collect(),
            action,
            code,
            why: if let Decision::Keep(kept) = decision { kept.why.clone() } else { unneeded() },
            until_ms,
            written_ms: facts.written_ms,
            condemned_ms: facts.condemned_ms,
            data_bytes: directories.iter().map(|directory| bytes_below(directory)).sum(),
            state_bytes: all.saturating_sub(staged_bytes),
            staged_bytes,
            orphan_bytes: 0,
            trouble: None,
        }
    }

    /// What is left to be done, in words.
    fn act(&mut self, version: &str, judged: &Judged, described: &mut Version) -> Result<Option<String>> {
        match described.action {
            Action::Keep if described.orphan_bytes > 0 => self.remove_orphans(version).map(|()| None),
            Action::Keep | Action::Wait => Ok(None),
            Action::Spare => self.set(&judged.tables, None).map(|()| None),
            Action::Condemn => {
                let lock = VersionDir::new(self.checkpoints, version).lock(false)?;
                self.condemn(version, &judged.tables, described)?;
                drop(lock);
                Ok(None)
            }
            Action::Delete => {
                let dir = VersionDir::new(self.checkpoints, version);
                let lock = dir.lock(false)?;
                self.delete(version, lock, described)
            }
        }
    }

    /// Condemns a version, and looks whether it was taken up at the same moment.
    fn condemn(&mut self, version: &str, tables: &[Table], described: &mut Version) -> Result<()> {
        self.set(tables, Some(&Condemned { since_ms: self.limits.now_ms, by: process::describe() }))?;
        failpoint::hit("G1");
        let look = self.look()?;
        let judged = self.judge(&look, version, true)?;
        if matches!(judged.decision, Decision::Keep(_)) {
            self.set(&judged.tables, None)?;
        }
        *described = self.described(version, &judged);
        // It was just condemned, and goes at a later look, however short the grace is.
        if matches!(described.action, Action::Wait | Action::Delete) {
            (described.action, described.until_ms) =
                (Action::Condemn, Some(self.limits.now_ms.saturating_add(self.limits.grace_ms)));
        }
        Ok(())
    }

    /// Condemns tables as they are, or takes that back.
    fn set(&self, tables: &[Table], condemned: Option<&Condemned>) -> Result<()> {
        match tables {
            [first, ..] if !self.catalog.condemn(tables, condemned)? => Err(changing(first.name())),
            _ => Ok(()),
        }
    }

    /// Deletes a version, if a look under its lock says the same. What is left to be done, in words.
    fn delete(&mut self, version: &str, lock: VersionLock, described: &mut Version) -> Result<Option<String>> {
        let look = self.look()?;
        let judged = self.judge(&look, version, true)?;
        if judged.decision != Decision::Delete {
            *described = self.described(version, &judged);
            return Ok(Some("it was taken up meanwhile".to_owned()));
        }
        for name in &look.tables {
            if !self.catalog.forget_shown(name, &judged.directories)? {
                return Err(changing(name.name()));
            }
        }
        let gone = |table: &Table| journal::Condemned {
            table: table.name().to_string(),
            uuid: table.uuid(),
            location: table.location().to_owned(),
        };
        let tables = judged.tables.iter().map(gone).collect();
        let mut journal = Journal::new(version.to_owned(), Some(version.to_owned()), tables, self.limits.now_ms);
        let outputs = judged.manifest.iter().flat_map(|manifest| &manifest.outputs);
        let first = outputs.map(|output| output.table.as_str()).next().filter(|output| !output.starts_with(TOPIC_SCHEME));
        journal.group = first.and_then(|first| Some((consumer_group(first), TableName::parse(first, "").ok()?)));
        self.write_down(&journal)?;
        failpoint::hit("G2");
        self.finish(&journal, Some(lock))
    }
}

fn to_the_second(ms: i64) -> String {
    format_utc(ms.div_euclid(1000).saturating_mul(1000))
}

fn changing(name: &TableName) -> Error {
    Error::conflict("table_changed", format!("table {name} was changed by another process meanwhile"))
        .hint("look again: kappa gc")
}
