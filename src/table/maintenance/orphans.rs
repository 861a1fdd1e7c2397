//! Files of kappa's own under a table that nothing names: what a process that died had begun.
//!
//! Files of other writers are never touched. They may belong to a commit that is being made, or wait to be added.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use uuid::{Uuid, Version};

use super::cleanup::Reach;
use crate::error::{Error, Result};
use crate::table::catalog::{Catalog, Table};
use crate::table::commit::Fence;
use crate::table::expiry;
use crate::table::files::{path_of, spelling};
use crate::table::name::TableName;

impl Catalog {
    /// Removes files of a table that kappa has made and no snapshot that is kept names. How many.
    ///
    /// `began` is an identifier that the owner of the version made before it wrote anything; once all earlier manifests are
    /// delivered, and not before, data files whose name sorts before it are nobody's. Metadata must be older than that by the
    /// grace of the settings, since engines beside kappa name theirs alike.
    ///
    /// # Errors
    /// `Conflict` if another owner took the version over.
    pub fn remove_orphans(
        &self,
        name: &TableName,
        uuid: Uuid,
        reach: &mut Reach,
        began: Uuid,
        fence: &Fence,
        stop: &AtomicBool,
    ) -> Result<usize> {
        // The first look takes long; the second, while no commit of this process is being made, does not.
        if self.orphans(name, uuid, reach, began, stop)?.is_none() {
            return Ok(0);
        }
        let _turn = self.turn();
        let Some((table, orphans)) = self.orphans(name, uuid, reach, began, stop)? else { return Ok(0) };
        self.check_owner(&table, &fence.row()?)?;
        orphans.iter().try_for_each(|path| match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
            _ => Ok(()),
        })?;
        Ok(orphans.len())
    }

    /// What [`Self::remove_orphans`] would remove.
    ///
    /// # Errors
    /// Those of reading what the table names.
    pub fn orphans_of(&self, name: &TableName, uuid: Uuid, began: Uuid) -> Result<Vec<PathBuf>> {
        let found = self.orphans(name, uuid, &mut Reach::default(), began, &AtomicBool::new(false))?;
        Ok(found.map_or_else(Vec::new, |(_, orphans)| orphans))
    }

    /// The table, and what is there of it that nothing names.
    fn orphans(
        &self,
        name: &TableName,
        uuid: Uuid,
        reach: &mut Reach,
        began: Uuid,
        stop: &AtomicBool,
    ) -> Result<Option<(Table, Vec<PathBuf>)>> {
        let load = || -> Result<Option<Table>> { Ok(self.load_same(name, uuid)?.filter(Table::may_be_cleaned)) };
        let Some(table) = load()? else { return Ok(None) };
        // What is named is found out after what is there: a file that comes in between is not among those.
        let (data, metadata) = (files_below(&table, "data")?, files_below(&table, "metadata")?);
        let Some(table) = load()? else { return Ok(None) };
        reach.update(self, &table, stop)?;
        let named = named(&table, reach);
        let before = |grace| move |path: &PathBuf| id_of(path).is_some_and(|id| is_older(id, began, grace));
        let data = data.into_iter().filter(before(Duration::ZERO));
        let metadata = metadata.into_iter().filter(before(self.settings.orphan_grace));
        let orphans = data.chain(metadata).filter(|path| !named.contains(path.as_path())).collect();
        Ok(Some((table, orphans)))
    }
}

/// The paths of everything that the table names.
fn named(table: &Table, reach: &Reach) -> HashSet<PathBuf> {
    let metadata = table.metadata();
    let log = metadata.metadata_log().iter().map(|entry| entry.metadata_file.clone());
    let statistics = expiry::statistics(metadata).map(|(_, path)| path.to_owned());
    let all = log.chain(statistics).chain([table.metadata_location().to_owned()]);
    let mut named: HashSet<PathBuf> = all.map(|url| PathBuf::from(spelling(&url))).collect();
    named.extend(reach.paths().map(PathBuf::from));
    named
}

/// The identifier in a name that kappa gave: those sort by time, and those of one process only rise, whatever the clock does.
fn id_of(path: &Path) -> Option<Uuid> {
    let name = path.file_name()?.to_str()?;
    let ours = |at: usize| Uuid::try_parse(name.get(at..at + 36)?).ok();
    let id = (0..name.len()).find_map(ours)?;
    (id.get_version() == Some(Version::SortRand)).then_some(id)
}

/// Whether an identifier was made before another, by so much.
fn is_older(id: Uuid, other: Uuid, grace: Duration) -> bool {
    let time = |id: Uuid| id.get_timestamp().map(|time| Duration::new(time.to_unix().0, time.to_unix().1));
    id < other && time(id).zip(time(other)).is_some_and(|(this, that)| this.saturating_add(grace) <= that)
}

/// The files in a folder of the table, and in those below it.
fn files_below(table: &Table, folder: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![path_of(&format!("{}/{folder}", table.location()))?];
    while let Some(folder) = folders.pop() {
        let failed = |error| Error::io("look into", &folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time;

    #[test]
    fn only_kappas_own_names_have_an_identifier() {
        let ours = time::new_ordered_uuid();
        for name in ["{}.parquet", "{}-deletes.parquet", "{}-m0.avro", "snap-7-1-{}.avro", "00003-{}.metadata.json"] {
            assert_eq!(id_of(Path::new(&name.replace("{}", &ours.to_string()))), Some(ours), "{name}");
        }
        let foreign = time::new_uuid();
        for name in ["{}.parquet", "00000-0-{}-00001.parquet", "00003-{}.metadata.json", "ü.parquet", "a"] {
            assert_eq!(id_of(Path::new(&name.replace("{}", &foreign.to_string()))), None, "{name}");
        }
    }

    #[test]
    fn an_identifier_is_older_by_its_own_time() {
        let (first, second) = (time::new_ordered_uuid(), time::new_ordered_uuid());
        assert!(is_older(first, second, Duration::ZERO) && !is_older(second, first, Duration::ZERO));
        assert!(!is_older(first, first, Duration::ZERO) && !is_older(first, second, Duration::from_secs(60)));
    }
}
