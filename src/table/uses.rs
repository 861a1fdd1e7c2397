//! In which tables' directories the files of a table lie. Most tables have theirs in their own; a name has those of the versions that
//! it shows, and other tools may have added files of one table to another.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::catalog::{Catalog, Table};
use super::expiry::{Retention, expired, statistics};
use super::files::{self, path_of, spelling};
use super::iceberg_error;
use super::live::manifests;
use super::snapshot::next_location;
use super::store::Swapped;
use crate::error::Result;

/// Directories of tables: `WAREHOUSE/NAMESPACE/TABLE-XXXXXXXX`, without links.
pub type Directories = BTreeSet<PathBuf>;

/// What was found out so far: files never change.
#[derive(Debug, Default)]
pub struct Uses {
    /// By manifest list, with all that it leads to; by manifest.
    lists: HashMap<String, Directories>,
    manifests: HashMap<String, Directories>,
    /// By the folder of a file.
    folders: HashMap<PathBuf, Option<PathBuf>>,
}

impl Uses {
    /// The directories in which lies what a table names: its metadata, and all that the snapshots lead to that it keeps. Those that a
    /// name's next commit would forget do not count.
    ///
    /// # Errors
    /// Those of reading it. Without knowing all of them no file may go.
    pub fn of(&mut self, catalog: &Catalog, table: &Table) -> Result<Directories> {
        let metadata = table.metadata();
        let mut used = Directories::new();
        let log = metadata.metadata_log().iter().map(|entry| entry.metadata_file.as_str());
        let own = log.chain([table.metadata_location()]).chain(statistics(metadata).map(|(_, path)| path));
        own.for_each(|url| used.extend(self.directory(catalog, url)));
        used.extend(self.directory(catalog, &format!("{}/metadata/x", table.location())));
        let forgotten = catalog.forgettable(table)?;
        for snapshot in metadata.snapshots().filter(|snapshot| !forgotten.contains(&snapshot.snapshot_id())) {
            let list = snapshot.manifest_list();
            if !self.lists.contains_key(list) {
                let found = self.behind(catalog, snapshot)?;
                self.lists.insert(list.to_owned(), found);
            }
            used.extend(self.lists.get(list).into_iter().flatten().cloned());
        }
        Ok(used)
    }

    fn behind(&mut self, catalog: &Catalog, snapshot: &iceberg::spec::Snapshot) -> Result<Directories> {
        let mut used: Directories = self.directory(catalog, snapshot.manifest_list()).into_iter().collect();
        // What is on another kind of disk has no files on this one.
        if spelling(snapshot.manifest_list()).contains("://") {
            return Ok(used);
        }
        let listed = match manifests(Some(snapshot)) {
            // Forgotten since the table was loaded, and cleaned away; or lost, and then it leads nowhere.
            Err(error) if error.is_of_absent_file() => return Ok(used),
            listed => listed?,
        };
        for manifest in listed {
            let path = &manifest.manifest_path;
            used.extend(self.directory(catalog, path));
            if !self.manifests.contains_key(path) && !spelling(path).contains("://") && files::exists(path)? {
                let entries = catalog.manifests().live_entries(&manifest)?;
                let found = entries.iter().filter_map(|entry| self.directory(catalog, entry.file.file_path())).collect();
                self.manifests.insert(path.clone(), found);
            }
            used.extend(self.manifests.get(path).into_iter().flatten().cloned());
        }
        Ok(used)
    }

    /// The table's directory in which a file lies, if it is of the warehouse.
    fn directory(&mut self, catalog: &Catalog, url: &str) -> Option<PathBuf> {
        let folder = Path::new(spelling(url)).parent()?;
        if let Some(known) = self.folders.get(folder) {
            return known.clone();
        }
        let found = table_directory(catalog, folder);
        self.folders.insert(folder.to_owned(), found.clone());
        found
    }
}

/// The first two levels below the warehouse of a folder there, whichever way its path goes.
fn table_directory(catalog: &Catalog, folder: &Path) -> Option<PathBuf> {
    let root = path_of(catalog.warehouse()).ok()?;
    let root = root.canonicalize().unwrap_or(root);
    // One that is gone: its nearest ancestor says where it was.
    let there = folder.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)))?;
    let whole = there.1.join(folder.strip_prefix(there.0).ok()?);
    let below: Vec<_> = whole.strip_prefix(&root).ok()?.components().take(2).collect();
    (below.len() == 2).then(|| root.join(below.iter().collect::<PathBuf>()))
}

impl Catalog {
    /// The snapshots that the next commit of a name would forget; of other tables none.
    fn forgettable(&self, table: &Table) -> Result<BTreeSet<i64>> {
        if table.turns()?.is_none() {
            return Ok(BTreeSet::new());
        }
        let retention = Retention { at_least: 1, ..self.settings.retention };
        Ok(expired(table, &retention, self.now_ms()).into_iter().collect())
    }

    /// Has a name forget what its next commit would, where that is in one of these directories: what goes there goes from the name
    /// first. False: the name was changed meanwhile.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn forget_shown(&self, name: &Table, gone: &Directories) -> Result<bool> {
        let metadata = name.metadata();
        let lies_there = |id: &i64| {
            let snapshot = metadata.snapshot_by_id(*id);
            let folder = snapshot.and_then(|snapshot| Path::new(spelling(snapshot.manifest_list())).parent());
            folder.and_then(|folder| table_directory(self, folder)).is_some_and(|directory| gone.contains(&directory))
        };
        let forgotten: Vec<i64> = self.forgettable(name)?.into_iter().filter(lies_there).collect();
        if forgotten.is_empty() {
            return Ok(true);
        }
        let _turn = self.turn();
        let builder = metadata.clone().into_builder(Some(name.metadata_location().to_owned()));
        let built = builder.remove_snapshots(&forgotten).build();
        let built = built.map_err(|error| iceberg_error(&format!("forget snapshots of {}", name.name()), error))?;
        let location = next_location(name, &built.metadata)?;
        let expired: Vec<String> = built.expired_metadata_logs.into_iter().map(|entry| entry.metadata_file).collect();
        let next = name.next(built.metadata, location);
        self.write_metadata(&next)?;
        match self.swap(&[name.swap_for(&next)], None)? {
            Swapped::Done => {
                if self.names_metadata() {
                    files::remove_quietly(expired.iter().filter(|url| files::is_below(url, name.location())));
                }
                Ok(true)
            }
            Swapped::Lost(_) => {
                files::remove_quietly([&next.metadata_location().to_owned()]);
                Ok(false)
            }
            Swapped::Unknown(error) => Err(error),
        }
    }
}
