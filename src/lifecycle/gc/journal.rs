//! What is being deleted is written down first, `CHECKPOINTS/gc/ID.json`: killed anywhere, the next process finishes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Collector;
use super::facts::is_version;
use crate::broker::TopicClient;
use crate::checkpoint::store::{VersionDir, VersionLock, file_names, remove_directory};
use crate::durable::size::bytes_below;
use crate::durable::{create_directory, sync_directory};
use crate::error::{Error, Result};
use crate::protocol::failpoint;
use crate::table::TableName;
use crate::table::files::write_durable;
use crate::table::marker::VERSION;
use crate::table::uses::Directories;

const FORMAT: u32 = 1;
const ENDING: &str = ".json";
/// The owner of a version that is being deleted: after this one nobody commits to it.
const FOR_EVER: u64 = i64::MAX as u64;
/// How often a table is taken out of the catalog that others change meanwhile.
const ATTEMPTS: usize = 20;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    format: u32,
    /// Its own identifier, which is also the file's name.
    pub id: String,
    /// The version; none: directories of which no table speaks.
    pub version: Option<String>,
    /// Its tables.
    pub tables: Vec<Condemned>,
    /// The consumer group that its job has shown its place in the log by, and the table by whose name.
    pub group: Option<(String, TableName)>,
    /// When this was begun, milliseconds since 1970 UTC. For people; nothing depends on it.
    pub began_ms: i64,
}

/// A table that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Its name.
    pub table: String,
    /// Its identity.
    pub uuid: Uuid,
    /// The URL of its directory.
    pub location: String,
}

impl Journal {
    /// A new one.
    pub fn new(id: String, version: Option<String>, tables: Vec<Condemned>, began_ms: i64) -> Self {
        Self { format: FORMAT, id, version, tables, group: None, began_ms }
    }
}

/// Where journals, and the lock of those who write them, are.
pub fn directory(checkpoints: &Path) -> PathBuf {
    checkpoints.join("gc")
}

/// The journals that are there, or why one cannot be read.
pub fn all(checkpoints: &Path) -> Result<Vec<Result<Journal>>> {
    let directory = directory(checkpoints);
    let mut names: Vec<String> = file_names(&directory)?.into_iter().filter(|name| name.ends_with(ENDING)).collect();
    names.sort_unstable();
    Ok(names.iter().map(|name| read(&directory.join(name), name.trim_end_matches(ENDING))).collect())
}

fn read(path: &Path, id: &str) -> Result<Journal> {
    let refuse = |what: String| {
        Error::corruption("journal", format!("the journal {} cannot be gone by: {what}", path.display()))
            .hint("it was written by another release, or changed: nothing that it names is touched")
    };
    let text = std::fs::read(path).map_err(|error| Error::io("read", path, error))?;
    let journal: Journal = serde_json::from_slice(&text).map_err(|error| refuse(error.to_string()))?;
    if journal.format != FORMAT || journal.id != id {
        return Err(refuse(format!("it has format {} and identifier {:?}", journal.format, journal.id)));
    }
    match journal.version.as_deref().filter(|version| !is_version(version)) {
        Some(version) => Err(refuse(format!("{version:?} is no version"))),
        None => Ok(journal),
    }
}

impl Collector<'_> {
    /// Makes a journal durable.
    pub fn write_down(&self, journal: &Journal) -> Result<()> {
        let text = serde_json::to_vec_pretty(journal).map_err(|error| Error::internal(format!("write a journal: {error}")))?;
        let directory = directory(self.checkpoints);
        create_directory(&directory)?;
        let (path, staged) = (directory.join(format!("{}{ENDING}", journal.id)), directory.join(format!("{}.tmp", journal.id)));
        let _ = std::fs::remove_file(&staged);
        write_durable(&staged, &text)?;
        std::fs::rename(&staged, &path).map_err(|error| Error::io("rename", &staged, error))?;
        sync_directory(&directory)
    }

    /// The bytes that are left of what a journal names.
    pub fn left_of(&self, journal: &Journal) -> u64 {
        let directories = journal.tables.iter().filter_map(|table| self.catalog.own_directory(&table.location).ok());
        let version = journal.version.iter().map(|version| self.checkpoints.join(version));
        directories.chain(version).map(|path| bytes_below(&path)).sum()
    }

    /// Does what a journal says, from wherever that was cut off. What is left to be done, in words; none: nothing is.
    ///
    /// # Errors
    /// The journal stays, and the next call goes on.
    pub fn finish(&mut self, journal: &Journal, lock: Option<VersionLock>) -> Result<Option<String>> {
        if let Some(version) = &journal.version {
            let dir = VersionDir::new(self.checkpoints, version);
            // Nobody runs it while it goes.
            let lock = if lock.is_none() && dir.root().is_dir() { Some(dir.lock(false)?) } else { lock };
            self.take_tables_out(journal, version)?;
            failpoint::hit("G3");
            self.remove_directories(journal)?;
            failpoint::hit("G4");
            remove_directory(dir.root())?;
            drop(lock);
            failpoint::hit("G5");
        } else {
            self.remove_directories(journal)?;
        }
        if let Some(why) = self.forget_group(journal)? {
            return Ok(Some(why));
        }
        let directory = directory(self.checkpoints);
        let path = directory.join(format!("{}{ENDING}", journal.id));
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        sync_directory(&directory)?;
        Ok(None)
    }

    /// From now on nobody finds the version, and who still runs it commits no more.
    fn take_tables_out(&self, journal: &Journal, version: &str) -> Result<()> {
        let names = journal.tables.iter().map(|table| TableName::parse(&table.table, ""));
        let names = names.collect::<Result<Vec<_>>>()?;
        self.catalog.claim_owner(version, FOR_EVER)?;
        self.catalog.claim_tables(version, FOR_EVER, &names)?;
        for (name, gone) in names.iter().zip(&journal.tables) {
            let mut attempt = 0;
            // Of another identity it is another table.
            let ours = || self.catalog.load_same(name, gone.uuid);
            while let Some(table) = ours()?.filter(|table| table.property(VERSION) == Some(version)) {
                match self.catalog.drop_table(&table) {
                    Err(error) if error.code() == "table_changed" && attempt < ATTEMPTS => attempt += 1,
                    dropped => dropped?,
                }
            }
        }
        Ok(())
    }

    /// Removes the tables' files, if no table of the catalog needs one of them.
    fn remove_directories(&mut self, journal: &Journal) -> Result<()> {
        let own = |table: &Condemned| self.catalog.own_directory(&table.location);
        let directories = journal.tables.iter().map(own).collect::<Result<Directories>>()?;
        let there: Directories = directories.into_iter().filter(|directory| directory.exists()).collect();
        if there.is_empty() {
            return Ok(());
        }
        let look = self.look()?;
        let needed = look.trouble.clone().map_or_else(|| self.needed_by(&look, &there, None), Err);
        let refuse = |why: String| Error::refused("needed", why).hint("it is tried again by the next kappa gc --apply");
        match needed.map_err(refuse)?.as_slice() {
            [] => there.iter().try_for_each(|directory| self.catalog.remove_directory(directory)),
            names => Err(refuse(format!("files that were to go are in snapshots of {}", names.join(", ")))),
        }
    }

    /// Has the cluster forget the consumer group. What is in the way, in words.
    fn forget_group(&self, journal: &Journal) -> Result<Option<String>> {
        let (Some((group, table)), Some(cluster)) = (&journal.group, self.cluster) else { return Ok(None) };
        // Another version has taken the name, and the group with it.
        if self.catalog.load(table)?.is_some() {
            return Ok(None);
        }
        let forgotten = TopicClient::in_group(cluster, "", group).and_then(|client| client.forget_group());
        let why =
            |error| format!("the consumer group {group} is still there, and is tried again by the next kappa gc: {error}");
        Ok(forgotten.err().map(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_leads_elsewhere_is_not_gone_by() {
        let place = tempfile::tempdir().unwrap();
        let directory = directory(place.path());
        create_directory(&directory).unwrap();
        let version = Some("0196a000-0000-7000-8000-000000000001".to_owned());
        let good = Journal::new("a".into(), version, Vec::new(), 1);
        for (name, journal) in [
            ("a", good.clone()),
            ("b", Journal { id: "b".into(), version: Some("../../x".into()), ..good.clone() }),
            ("c", good.clone()),
            ("d", Journal { id: "d".into(), format: 2, ..good.clone() }),
        ] {
            std::fs::write(directory.join(format!("{name}.json")), serde_json::to_vec(&journal).unwrap()).unwrap();
        }
        std::fs::write(directory.join("e.json"), "{").unwrap();
        std::fs::write(directory.join("f.tmp"), "{").unwrap();
        let read = all(place.path()).unwrap();
        assert_eq!(read.len(), 5);
        assert_eq!(*read[0].as_ref().unwrap(), good);
        assert!(read[1..].iter().all(|journal| journal.as_ref().is_err_and(|error| error.code() == "journal")));
    }
}
