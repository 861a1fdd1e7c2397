//! One look at the catalog and the checkpoints: what is known of each version.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;

use super::Collector;
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::{VersionDir, file_names};
use crate::error::Result;
use crate::lifecycle::leases::{self, Lease};
use crate::message::Epoch;
use crate::protocol::gc::{Decision, Facts, decide};
use crate::protocol::version::TOPIC_SCHEME;
use crate::table::marker::VERSION;
use crate::table::uses::Directories;
use crate::table::{Table, TableName};

/// The tables, and who reads what.
pub struct Look {
    /// All tables that can be read.
    pub tables: Vec<Table>,
    /// Why not everything is known: nothing may go then.
    pub trouble: Option<String>,
    leases: Vec<Lease>,
}

/// What is known of a version, and decided about it.
pub struct Judged {
    /// Its tables.
    pub tables: Vec<Table>,
    /// Their directories.
    pub directories: Directories,
    /// Its newest manifest.
    pub manifest: Option<Manifest>,
    /// What is known.
    pub facts: Facts,
    /// What follows.
    pub decision: Decision,
}

impl Collector<'_> {
    /// Looks at everything.
    pub fn look(&self) -> Result<Look> {
        let (mut tables, mut trouble) = (Vec::new(), None);
        for name in self.catalog.list()? {
            match self.catalog.load(&name) {
                Ok(table) => tables.extend(table),
                // On another kind of disk nothing is kappa's, and nothing there names files of kappa's.
                Err(error) if error.code() == "unsupported_location" => {}
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    trouble = trouble.or(Some(format!("table {name} cannot be read, and may need its files: {error}")));
                }
            }
        }
        let leases = match leases::all(self.checkpoints, self.limits.now_ms) {
            Err(error) if error.code() == "lease" => {
                trouble = trouble.or(Some(error.to_string()));
                Vec::new()
            }
            leases => leases?,
        };
        Ok(Look { tables, trouble, leases })
    }

    /// The versions that tables or checkpoints speak of, by what they call it.
    pub fn versions(&self, look: &Look) -> Result<Vec<String>> {
        let of_tables = look.tables.iter().filter_map(|table| table.property(VERSION)).map(str::to_owned);
        let of_directories = file_names(self.checkpoints)?.into_iter().filter(|name| is_version(name));
        let mut versions: Vec<String> = of_tables.chain(of_directories).collect();
        versions.sort_unstable();
        versions.dedup();
        Ok(versions)
    }

    /// What is known of a version, and decided. With `locked` this process has its lock.
    pub fn judge(&mut self, look: &Look, version: &str, locked: bool) -> Result<Judged> {
        let tables: Vec<Table> = look.tables.iter().filter(|table| table.property(VERSION) == Some(version)).cloned().collect();
        let mut judged = Judged {
            facts: Facts { has_tables: !tables.is_empty(), unknown: look.trouble.clone(), ..Facts::default() },
            decision: Decision::Condemn,
            directories: Directories::new(),
            manifest: None,
            tables,
        };
        if let Err(why) = self.gather(look, version, locked, &mut judged) {
            judged.facts.unknown = judged.facts.unknown.or(Some(why));
        }
        judged.decision = decide(&judged.facts, self.limits);
        if !matches!(judged.decision, Decision::Keep(_)) && !judged.directories.is_empty() {
            let needed = self.needed_by(look, &judged.directories, Some(version));
            match needed {
                Ok(names) => judged.facts.needed_by = names,
                Err(why) => judged.facts.unknown = Some(why),
            }
            judged.decision = decide(&judged.facts, self.limits);
        }
        Ok(judged)
    }

    /// The error says why the version cannot be judged.
    fn gather(&self, look: &Look, version: &str, locked: bool, judged: &mut Judged) -> Result<(), String> {
        if !is_version(version) {
            return Err(format!("property {VERSION} is {version:?}, which is no version"));
        }
        let said = |error: crate::error::Error| error.to_string();
        let dir = VersionDir::new(self.checkpoints, version);
        if dir.root().is_symlink() {
            return Err(format!("{} is a link", dir.root().display()));
        }
        judged.manifest = if dir.exists() { dir.newest().map_err(said)?.map(|sealed| sealed.manifest) } else { None };
        let Judged { tables, facts, manifest, directories, .. } = judged;
        if !locked {
            facts.runs = dir.runner().map_err(said)?;
        }
        facts.is_preview = tables.iter().any(Table::is_preview);
        facts.written_ms = written_ms(&dir, manifest.as_ref(), tables);
        facts.tags = tables.iter().flat_map(|table| table.tags(self.limits.now_ms)).collect();
        let uuids: Vec<Uuid> = tables.iter().map(Table::uuid).collect();
        let reads = |lease: &&Lease| lease.tables.iter().any(|it| it.version == version || uuids.contains(&it.uuid));
        facts.leases = look.leases.iter().filter(reads).map(|lease| lease.holder.process.clone()).collect();
        note_names(look, tables, facts).map_err(said)?;
        let since = tables.iter().map(|table| Ok(table.condemned()?.map(|condemned| condemned.since_ms)));
        let since = since.collect::<Result<Option<Vec<i64>>>>().map_err(said)?;
        facts.condemned_ms = since.and_then(|since| since.into_iter().max());
        let Some(manifest) = manifest else {
            let missing = format!("its checkpoints are not in {}: collect where they are", self.checkpoints.display());
            return if tables.is_empty() { Ok(()) } else { Err(missing) };
        };
        let topics = manifest.outputs.iter().filter_map(|output| output.table.strip_prefix(TOPIC_SCHEME));
        facts.topics = topics.map(str::to_owned).collect();
        if tables.is_empty() {
            return self.check_catalog(manifest.catalog.as_deref());
        }
        facts.undelivered = undelivered(&dir, tables).map_err(said)?;
        for table in tables.iter() {
            directories.insert(self.catalog.own_directory(table.location()).map_err(said)?);
        }
        Ok(())
    }

    /// Whether what the catalog does not have was made in it: what other catalogs have is not seen from here.
    pub fn check_catalog(&self, made_in: Option<&str>) -> Result<(), String> {
        match made_in {
            Some(catalog) if catalog == self.catalog.identity() => Ok(()),
            Some(catalog) => Err(format!("it was made in another catalog: {catalog}")),
            None => Err("it does not say in which catalog it was made".to_owned()),
        }
    }

    /// The tables, but for those of a version, with files in these directories. The error says why that is not known.
    pub fn needed_by(&mut self, look: &Look, directories: &Directories, version: Option<&str>) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for table in look.tables.iter().filter(|table| version.is_none() || table.property(VERSION) != version) {
            let used = self.uses.of(self.catalog, table);
            let used = used.map_err(|error| format!("which files table {} needs is not known: {error}", table.name()))?;
            if !used.is_disjoint(directories) {
                names.push(table.name().to_string());
            }
        }
        Ok(names)
    }
}

/// Versions are UUIDs as kappa writes them: no other name leads into the checkpoints.
pub fn is_version(name: &str) -> bool {
    Uuid::parse_str(name).is_ok_and(|uuid| uuid.to_string() == name)
}

/// When the version was written last, as far as its manifest and its tables say; else by its directory.
fn written_ms(dir: &VersionDir, manifest: Option<&Manifest>, tables: &[Table]) -> i64 {
    let said = tables.iter().filter_map(Table::written_ms).chain(manifest.map(|manifest| manifest.created_ms)).max();
    said.unwrap_or_else(|| modified_ms(dir.root()))
}

/// When a directory was changed last, by its file system.
fn modified_ms(path: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map_or(0, |found| found.mtime().saturating_mul(1000))
}

/// Which names show tables of the version, or did until when.
fn note_names(look: &Look, tables: &[Table], facts: &mut Facts) -> Result<()> {
    let mut names = BTreeMap::new();
    for name in &look.tables {
        names.extend(name.turns()?.map(|turns| (name.name(), turns)));
    }
    for table in tables {
        let served: Vec<TableName> = table.served();
        for (name, turns) in &names {
            if turns.current().is_some_and(|turn| turn.uuid == table.uuid()) {
                facts.serves.push(name.to_string());
            }
            let until = turns.shown_until(table.uuid()).or_else(|| turns.kept_from().filter(|_| served.contains(name)));
            facts.shown_until = facts.shown_until.take().max(until.map(|until| (until, name.to_string())));
        }
    }
    facts.serves.sort_unstable();
    facts.serves.dedup();
    Ok(())
}

/// The newest checkpoint that holds anything, if a table that is there does not have it. A claim only repeats the one before.
fn undelivered(dir: &VersionDir, tables: &[Table]) -> Result<Option<u64>> {
    for number in dir.list()?.into_iter().rev().take_while(|number| *number != Epoch(0)) {
        let manifest = dir.read(number)?.manifest;
        if manifest.claim {
            continue;
        }
        let is_output = |table: &&Table| manifest.outputs.iter().any(|output| output.table == table.name().to_string());
        let delivered = |table: &Table| table.delivered(&manifest.version, &manifest.timeline);
        let has = |table: &Table| delivered(table).is_some_and(|(checkpoint, _)| checkpoint >= number.0);
        return Ok((!tables.iter().filter(is_output).all(has)).then_some(number.0));
    }
    Ok(None)
}
