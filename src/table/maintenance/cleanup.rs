//! Files that only forgotten snapshots named.
//!
//! A commit that forgets snapshots gives their names; what they reach and no snapshot that is kept does is removed: data files
//! first, and statistics that other tools made; then manifests, then manifest lists. What a crash leaves of it is found by [`super::orphans`].
//!
//! Only files below the table's directory are removed. Metadata may name any file of the disk: files that another tool has
//! added from elsewhere belong to whoever put them there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use iceberg::spec::{ManifestFile, SnapshotRef};

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::failpoint;
use crate::table::catalog::{Catalog, Table};
use crate::table::expiry::{self, Forgotten};
use crate::table::files::{self, spelling};
use crate::table::live::manifests;
use crate::table::manifests::ManifestReader;

/// What the snapshots of a table reach, and those of names that show it or have done so. Paths are those of the local disk.
#[derive(Debug, Default)]
pub struct Reach {
    /// By manifest list, its manifests.
    lists: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// By manifest, its live files.
    manifests: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Each file once, though many manifests name it.
    files: HashSet<Arc<str>>,
}

impl Reach {
    /// Looks at snapshots that were not there before, and forgets those that are gone.
    ///
    /// # Errors
    /// `Unavailable` if it was told to stop.
    pub(super) fn update(&mut self, catalog: &Catalog, table: &Table, stop: &AtomicBool) -> Result<()> {
        let names = catalog.names_with_files_of(table)?;
        // A name shows other versions too, whose files are not looked after here. What another tool has committed to the name lies
        // below the name, and may list files of this table.
        let ours = |of: &Table, snapshot: &SnapshotRef| {
            let list = snapshot.manifest_list();
            of.uuid() == table.uuid() || [table, of].iter().any(|it| files::is_below(list, it.location()))
        };
        let all = std::iter::once(table).chain(&names);
        let pairs = all.flat_map(|of| of.metadata().snapshots().map(move |snapshot| (of, snapshot)));
        let snapshots: Vec<&SnapshotRef> = pairs.filter(|(of, it)| ours(of, it)).map(|(_, it)| it).collect();
        for snapshot in &snapshots {
            let list = spelling(snapshot.manifest_list());
            if self.lists.contains_key(list) {
                continue;
            }
            if stop.load(SeqCst) {
                return Err(Error::new(ErrorKind::Unavailable, "stopped", "the job ends"));
            }
            let listed = manifests(Some(snapshot.as_ref()))?;
            let reader = catalog.manifests();
            let paths = listed.iter().map(|manifest| self.look_into(reader, manifest)).collect::<Result<_>>()?;
            self.lists.insert(list.into(), paths);
        }
        let there: HashSet<&str> = snapshots.iter().map(|snapshot| spelling(snapshot.manifest_list())).collect();
        let before = self.lists.len();
        self.lists.retain(|list, _| there.contains(list.as_ref()));
        if self.lists.len() < before {
            let used: HashSet<Arc<str>> = self.lists.values().flatten().cloned().collect();
            self.manifests.retain(|manifest, _| used.contains(manifest));
            self.files = self.manifests.values().flatten().cloned().collect();
        }
        Ok(())
    }

    fn look_into(&mut self, reader: &ManifestReader, manifest: &ManifestFile) -> Result<Arc<str>> {
        let path = spelling(&manifest.manifest_path);
        if let Some((known, _)) = self.manifests.get_key_value(path) {
            return Ok(known.clone());
        }
        let entries = reader.live_entries(manifest)?;
        let files = entries.iter().map(|entry| self.intern(spelling(entry.file.file_path()))).collect();
        let path: Arc<str> = path.into();
        self.manifests.insert(path.clone(), files);
        Ok(path)
    }

    fn intern(&mut self, path: &str) -> Arc<str> {
        if let Some(known) = self.files.get(path) {
            return known.clone();
        }
        let path: Arc<str> = path.into();
        self.files.insert(path.clone());
        path
    }

    /// Manifest lists, manifests, data files and delete files.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.lists.keys().chain(self.manifests.keys()).chain(&self.files).map(AsRef::as_ref)
    }
}

/// Removes what only `forgotten` snapshots reach. How many files that were.
pub(super) fn clean(
    catalog: &Catalog,
    table: &Table,
    forgotten: &[Forgotten],
    reach: &mut Reach,
    stop: &AtomicBool,
) -> Result<usize> {
    let reader = catalog.manifests();
    reach.update(catalog, table, stop)?;
    let (mut dead, mut lists) = (HashMap::new(), Vec::new());
    let metadata = table.metadata();
    let still_there = |forgotten: &&Forgotten| metadata.snapshot_by_id(forgotten.snapshot.snapshot_id()).is_some();
    let mut gone: HashSet<String> = HashSet::new();
    for Forgotten { snapshot, statistics } in forgotten.iter().filter(|forgotten| !still_there(forgotten)) {
        gone.extend(statistics.iter().cloned());
        // A name's snapshot and the version's own have one list. An earlier attempt, or somebody else's expiry, may have been here.
        let list = snapshot.manifest_list();
        if !reach.lists.contains_key(spelling(list)) && files::exists(list)? {
            let listed = manifests(Some(snapshot.as_ref()))?;
            dead.extend(listed.into_iter().map(|manifest| (manifest.manifest_path.clone(), manifest)));
            lists.push(list.to_owned());
        }
    }
    dead.retain(|path, _| !reach.manifests.contains_key(spelling(path)));
    // One file may be of several snapshots.
    let kept: HashSet<&str> = expiry::statistics(metadata).map(|(_, path)| spelling(path)).collect();
    gone.retain(|path| !kept.contains(spelling(path)));
    for manifest in dead.values() {
        if files::exists(&manifest.manifest_path)? {
            let entries = reader.live_entries(manifest)?;
            let paths = entries.iter().map(|entry| entry.file.file_path());
            gone.extend(paths.filter(|path| !reach.files.contains(spelling(path))).map(str::to_owned));
        }
    }
    let ours = |url: &String| files::is_below(url, table.location());
    gone.retain(ours);
    dead.retain(|url, _| ours(url));
    lists.retain(ours);
    failpoint::hit("C3");
    files::remove_quietly(&gone);
    failpoint::hit("C4");
    files::remove_quietly(dead.keys());
    files::remove_quietly(&lists);
    Ok(gone.len() + dead.len() + lists.len())
}
