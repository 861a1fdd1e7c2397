//! Directories of tables that the catalog does not have: of versions that were replaced, and of processes that died while they made a
//! table.

use super::Collector;
use super::facts::{Look, is_version};
use super::journal::{Condemned, Journal};
use super::report::{Action, Directory};
use crate::checkpoint::store::VersionDir;
use crate::durable::size::bytes_below;
use crate::error::Result;
use crate::protocol::failpoint;
use crate::protocol::gc::{Decision, Facts, decide};
use crate::table::directory::Found;
use crate::table::uses::Directories;
use crate::time::new_uuid;
use uuid::Uuid;

impl Collector<'_> {
    /// Judges each of them, and does what follows.
    pub fn unnamed(&mut self, apply: bool) -> Result<Vec<Directory>> {
        let look = self.look()?;
        let known = look.tables.iter().filter_map(|table| self.catalog.own_directory(table.location()).ok()).collect();
        let mut directories = Vec::new();
        for found in self.catalog.other_directories(&known)? {
            let mut directory = self.judge_directory(&look, &found);
            if apply && directory.action == Action::Delete {
                directory.trouble = self.delete_directory(&found).unwrap_or_else(|error| Some(error.to_string()));
            }
            directories.push(directory);
        }
        Ok(directories)
    }

    fn judge_directory(&mut self, look: &Look, found: &Found) -> Directory {
        let version = found.version.as_deref().filter(|version| is_version(version));
        let runs = version.map(|version| VersionDir::new(self.checkpoints, version).runner());
        let mut facts = Facts { written_ms: found.written_ms, is_preview: found.is_preview, ..Facts::default() };
        facts.unknown = look.trouble.clone().or_else(|| self.check_catalog(found.catalog.as_deref()).err());
        match runs.transpose() {
            Ok(runs) => facts.runs = runs.flatten(),
            Err(error) => facts.unknown = Some(error.to_string()),
        }
        if decide(&facts, self.limits) == Decision::Delete {
            match self.needed_by(look, &Directories::from([found.directory.clone()]), None) {
                Ok(names) => facts.needed_by = names,
                Err(why) => facts.unknown = Some(why),
            }
        }
        let (action, code, why, until_ms) = match decide(&facts, self.limits) {
            Decision::Keep(kept) => (Action::Keep, Some(kept.code), kept.why, kept.until_ms),
            _ => (Action::Delete, None, "no table of the catalog has it".to_owned(), None),
        };
        let (path, table, bytes) = (found.directory.display().to_string(), found.name.clone(), bytes_below(&found.directory));
        Directory { path, table, action, code, why, until_ms, bytes, trouble: None }
    }

    fn delete_directory(&mut self, found: &Found) -> Result<Option<String>> {
        let location = format!("file://{}", found.directory.display());
        let table = Condemned { table: found.name.clone(), uuid: Uuid::nil(), location };
        let journal = Journal::new(new_uuid().to_string(), None, vec![table], self.limits.now_ms);
        self.write_down(&journal)?;
        failpoint::hit("G2");
        self.finish(&journal, None)
    }
}
