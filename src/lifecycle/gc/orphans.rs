//! Files that crashed runs have left in the tables of versions that stay: a job removes them at its next start, and here it is done where
//! none comes. What a manifest lists stays, whether the tables have it or not.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Collector;
use super::facts::{Judged, Look};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::VersionDir;
use crate::error::{Error, Result};
use crate::protocol::gc::Decision;
use crate::table::Table;
use crate::table::files::path_of;
use crate::time::new_ordered_uuid;

/// Versions that stay for these reasons are known whole, and nobody writes to them.
const QUIET: [&str; 5] = ["serves", "shown", "young", "needed", "tagged"];

/// Whether all that lies in its tables, and that no snapshot and no manifest names, is nobody's.
fn is_quiet(judged: &Judged) -> bool {
    let facts = &judged.facts;
    let is_known = facts.unknown.is_none() && facts.runs.is_none() && facts.undelivered.is_none() && facts.topics.is_empty();
    is_known && matches!(&judged.decision, Decision::Keep(kept) if QUIET.contains(&kept.code))
}

impl Collector<'_> {
    /// Those files; none if another table may have files there.
    pub fn orphans(&mut self, look: &Look, version: &str, judged: &Judged) -> Result<Vec<PathBuf>> {
        if !is_quiet(judged) {
            return Ok(Vec::new());
        }
        let began = new_ordered_uuid();
        let dir = VersionDir::new(self.checkpoints, version);
        let mut listed = HashSet::new();
        for number in dir.list()? {
            listed.extend(files_of(&dir.read(number)?.manifest));
        }
        let mut orphans = Vec::new();
        for table in &judged.tables {
            orphans.extend(self.catalog.orphans_of(table.name(), table.uuid(), began)?);
        }
        orphans.retain(|path| !listed.contains(path));
        for table in &judged.tables {
            if !orphans.is_empty() && !self.is_alone(look, table)? {
                return Ok(Vec::new());
            }
        }
        Ok(orphans)
    }

    /// Whether nobody has files in a table's directory but the table itself, and names whose snapshots it knows to look at.
    fn is_alone(&mut self, look: &Look, table: &Table) -> Result<bool> {
        let directory = self.catalog.own_directory(table.location())?;
        let served = table.served();
        for other in look.tables.iter().filter(|other| other.name() != table.name()) {
            let is_known = served.contains(other.name()) && other.turns()?.is_some();
            if !is_known && self.uses.of(self.catalog, other)?.contains(&directory) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes them, if a look under the version's lock says the same.
    pub fn remove_orphans(&mut self, version: &str) -> Result<()> {
        let _lock = VersionDir::new(self.checkpoints, version).lock(false)?;
        let look = self.look()?;
        let judged = self.judge(&look, version, true)?;
        self.orphans(&look, version, &judged)?.iter().try_for_each(|path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
            _ => Ok(()),
        })
    }
}

/// The files in tables that a manifest lists.
fn files_of(manifest: &Manifest) -> impl Iterator<Item = PathBuf> {
    let outputs = manifest.outputs.iter().flat_map(|output| output.files.iter().chain(&output.dead_letters));
    outputs.filter_map(|file| path_of(&file.path).ok())
}
