//! Files that only forgotten snapshots named.
//!
//! A commit that forgets snapshots gives their names; what they reach and no snapshot that is kept does is removed: data
//! files first, then manifests, then manifest lists. What a crash leaves of it is found by [`super::orphans`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iceberg::spec::{ManifestFile, SnapshotRef};

use crate::error::Result;
use crate::protocol::failpoint;
use crate::table::catalog::{Catalog, Table};
use crate::table::files;
use crate::table::live::manifests;
use crate::table::manifests::ManifestReader;

/// What snapshots reach, by hashes of paths: two that collide keep a file longer, and never remove one too early.
#[derive(Debug, Default)]
pub struct Reach {
    /// By snapshot, its manifests.
    snapshots: HashMap<i64, Vec<u64>>,
    /// By manifest, its live files.
    manifests: HashMap<u64, Arc<[u64]>>,
}

impl Reach {
    /// Looks at snapshots that were not there before, and forgets those that are gone.
    pub(super) fn update(&mut self, reader: &ManifestReader, table: &Table) -> Result<()> {
        let there: HashSet<i64> = table.metadata().snapshots().map(|snapshot| snapshot.snapshot_id()).collect();
        self.snapshots.retain(|id, _| there.contains(id));
        for snapshot in table.metadata().snapshots() {
            if self.snapshots.contains_key(&snapshot.snapshot_id()) {
                continue;
            }
            let listed = manifests(Some(snapshot.as_ref()))?;
            for manifest in &listed {
                self.look_into(reader, manifest)?;
            }
            let hashes = listed.iter().map(|manifest| hash(&manifest.manifest_path)).collect();
            self.snapshots.insert(snapshot.snapshot_id(), hashes);
        }
        let used: HashSet<u64> = self.snapshots.values().flatten().copied().collect();
        self.manifests.retain(|manifest, _| used.contains(manifest));
        Ok(())
    }

    fn look_into(&mut self, reader: &ManifestReader, manifest: &ManifestFile) -> Result<()> {
        if let Entry::Vacant(place) = self.manifests.entry(hash(&manifest.manifest_path)) {
            let entries = reader.live_entries(manifest)?;
            place.insert(entries.iter().map(|entry| hash(entry.file.file_path())).collect());
        }
        Ok(())
    }

    /// Hashes of all data and delete files.
    pub(super) fn files(&self) -> HashSet<u64> {
        self.manifests.values().flat_map(|files| files.iter().copied()).collect()
    }

    /// Hashes of all manifests.
    pub(super) fn manifests(&self) -> impl Iterator<Item = u64> {
        self.manifests.keys().copied()
    }
}

/// Removes what only `forgotten` snapshots reach. How many files that were.
pub(super) fn clean(catalog: &Catalog, table: &Table, forgotten: &[SnapshotRef], reach: &mut Reach) -> Result<usize> {
    let reader = catalog.manifests();
    reach.update(reader, table)?;
    let (mut dead, mut lists) = (HashMap::new(), Vec::new());
    let still_there = |snapshot: &&SnapshotRef| table.metadata().snapshot_by_id(snapshot.snapshot_id()).is_some();
    for snapshot in forgotten.iter().filter(|snapshot| !still_there(snapshot)) {
        // An earlier attempt, or somebody else's expiry, may have been here.
        if files::exists(snapshot.manifest_list())? {
            let listed = manifests(Some(snapshot.as_ref()))?;
            dead.extend(listed.into_iter().map(|manifest| (manifest.manifest_path.clone(), manifest)));
            lists.push(snapshot.manifest_list().to_owned());
        }
    }
    dead.retain(|path, _| !reach.manifests.contains_key(&hash(path)));
    let kept = reach.files();
    let mut gone: HashSet<String> = HashSet::new();
    for manifest in dead.values() {
        if files::exists(&manifest.manifest_path)? {
            let entries = reader.live_entries(manifest)?;
            let paths = entries.iter().map(|entry| entry.file.file_path());
            gone.extend(paths.filter(|path| !kept.contains(&hash(path))).map(str::to_owned));
        }
    }
    failpoint::hit("C3");
    files::remove_quietly(&gone);
    failpoint::hit("C4");
    files::remove_quietly(dead.keys());
    files::remove_quietly(&lists);
    Ok(gone.len() + dead.len() + lists.len())
}

/// Of a path, whichever way a writer spells that it is of the local disk.
pub(super) fn hash(path: &str) -> u64 {
    let bare = path.strip_prefix("file://").or_else(|| path.strip_prefix("file:")).unwrap_or(path);
    xxhash_rust::xxh3::xxh3_64(bare.as_bytes())
}
