//! Files under a table that nothing names: what a process that died had begun.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use uuid::{Uuid, Version};

use super::cleanup::{Reach, hash};
use crate::error::{Error, Result};
use crate::table::catalog::{Catalog, Table};
use crate::table::files::path_of;
use crate::table::name::TableName;

/// Only files with these names are looked at.
const KINDS: [&str; 4] = ["parquet", "avro", "json", "puffin"];

impl Catalog {
    /// Removes files of a table that no snapshot that is kept names. How many.
    ///
    /// Only the owner of its version may call this, once all earlier manifests are delivered: data files with a name of
    /// kappa's that sorts before `began`, which the owner made before it wrote anything, are then nobody's. Those of other
    /// writers and all metadata may belong to a commit that is being made: they must have lain there for the grace of the
    /// settings before `now_ms`.
    pub fn remove_orphans(&self, name: &TableName, uuid: Uuid, reach: &mut Reach, began: Uuid, now_ms: i64) -> Result<usize> {
        let Some(table) = self.load(name)?.filter(|table| table.uuid() == uuid) else { return Ok(0) };
        reach.update(self.manifests(), &table)?;
        let named = named(&table, reach);
        let mut removed = 0;
        for (folder, may_be_ours) in [("data", true), ("metadata", false)] {
            let root = path_of(&format!("{}/{folder}", table.location()))?;
            let url_of = |path: &Path| format!("{}/{folder}/{}", table.location(), path.display());
            for (path, changed_ms) in files_below(&root)? {
                let inside = path.strip_prefix(&root).unwrap_or(&path);
                let old = changed_ms.saturating_add(self.settings.orphan_grace.as_millis() as i64) <= now_ms;
                let nobodys = match id_of(inside).filter(|_| may_be_ours) {
                    Some(id) => id < began,
                    None => old,
                };
                if nobodys && !named.contains(&hash(&url_of(inside))) {
                    std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

/// Hashes of everything that the table names. Paths of other writers may be spelt without the URL's scheme.
fn named(table: &Table, reach: &Reach) -> HashSet<u64> {
    let metadata = table.metadata();
    let mut named = reach.files();
    named.extend(reach.manifests());
    let lists = metadata.snapshots().map(|snapshot| snapshot.manifest_list().to_owned());
    let log = metadata.metadata_log().iter().map(|entry| entry.metadata_file.clone());
    let statistics = metadata.statistics_iter().map(|file| file.statistics_path.clone());
    let partitions = metadata.partition_statistics_iter().map(|file| file.statistics_path.clone());
    let all = lists.chain(log).chain(statistics).chain(partitions).chain([table.metadata_location().to_owned()]);
    named.extend(all.map(|url| hash(&url)));
    named
}

/// The name that kappa gives a data file begins with an identifier that sorts by time; those of one process only rise,
/// whatever the clock does.
fn id_of(path: &Path) -> Option<Uuid> {
    let name = path.to_str().filter(|name| name.ends_with(".parquet"))?;
    let id = Uuid::try_parse(name.get(..36)?).ok()?;
    (id.get_version() == Some(Version::SortRand)).then_some(id)
}

/// The files below a folder, with the time of their last change in milliseconds since 1970 UTC.
fn files_below(root: &Path) -> Result<Vec<(PathBuf, i64)>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |error| Error::io("look into", &folder, error);
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|end| KINDS.iter().any(|known| end == *known)) {
                // One that is gone meanwhile needs no look.
                let Ok(metadata) = entry.metadata() else { continue };
                let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                found.push((path, changed.map_or(i64::MAX, |since: Duration| since.as_millis() as i64)));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kappas_own_names_are_ours() {
        let ours = crate::time::new_ordered_uuid();
        for suffix in ["", "-deletes", "-keys", "-compacted"] {
            assert_eq!(id_of(Path::new(&format!("{ours}{suffix}.parquet"))), Some(ours));
        }
        for foreign in ["00000-0-a.parquet", "x/01981b0e-0000-7000-8000-000000000000.parquet", "ü.parquet"] {
            assert_eq!(id_of(Path::new(foreign)), None, "{foreign}");
        }
        assert_eq!(id_of(Path::new(&format!("{}.parquet", crate::time::new_uuid()))), None);
        assert_eq!(id_of(Path::new(&format!("{ours}.avro"))), None);
        assert!(ours < crate::time::new_ordered_uuid());
    }
}
