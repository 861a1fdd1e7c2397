//! What is on the disk that nothing needs.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kappa::table::live::{Live, manifests};
use kappa::table::maintenance::Reach;
use kappa::table::{Catalog, Fence, Settings, Table};

use super::world::World;

impl World {
    /// Nothing of a crash stays behind in the version's directory but the two checkpoints that are kept.
    pub fn assert_tidy(&self, what: &str) {
        let mut versions = self.versions();
        self.check_chain();
        // Sorted by creation: a version that died while it was created leaves an empty one behind.
        versions.sort();
        let dir = versions.pop().unwrap();
        let (manifests, states, work) = (names(&dir.join("manifests")), names(&dir.join("state")), names(&dir.join("work")));
        let temporary = manifests.iter().chain(&states).filter(|name| name.contains("tmp")).count();
        assert!(
            manifests.len() <= 2 && states.len() <= 2 && work.len() <= 1 && temporary == 0,
            "{what}: {manifests:?} {states:?} {work:?}"
        );
    }

    /// Removes what no table names, as a process does that takes the version over.
    pub fn sweep(&self) {
        let catalog = self.catalog().with_settings(Settings { orphan_grace: Duration::ZERO, ..Settings::default() });
        let newest = self.newest_manifest();
        let fence = Fence { version: newest.version, owner: newest.owner, checkpoint: newest.checkpoint.0, recovering: false };
        let go_on = AtomicBool::new(false);
        for name in catalog.list().unwrap() {
            let table = catalog.require(&name).unwrap();
            let began = kappa::time::new_ordered_uuid();
            let sweep = || catalog.remove_orphans(&name, table.uuid(), &mut Reach::default(), began, &fence, &go_on).unwrap();
            sweep();
            assert_eq!(sweep(), 0);
        }
    }

    /// After a sweep each table has the files that its snapshots name, and no others but those of other tools.
    pub fn assert_all_files_are_named(&self, what: &str) {
        let catalog = self.catalog();
        for name in catalog.list().unwrap() {
            let table = catalog.require(&name).unwrap();
            let folder = table.location().trim_start_matches("file://");
            let below = |kind| names(&Path::new(folder).join(kind)).into_iter().map(move |name| format!("{kind}/{name}"));
            let found: BTreeSet<String> = ["data", "metadata"].into_iter().flat_map(below).collect();
            let named = named(&catalog, &table);
            let foreign = |file: &&String| file.starts_with("metadata/99999-");
            let nameless: Vec<_> = found.difference(&named).filter(|file| !foreign(file)).collect();
            let missing: Vec<_> = named.difference(&found).collect();
            assert!(nameless.is_empty() && missing.is_empty(), "{what}: {name}: nameless {nameless:?}, missing {missing:?}");
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Below the table's location.
fn named(catalog: &Catalog, table: &Table) -> BTreeSet<String> {
    let metadata = table.metadata();
    let mut urls = vec![table.metadata_location().to_owned()];
    urls.extend(metadata.metadata_log().iter().map(|entry| entry.metadata_file.clone()));
    for snapshot in metadata.snapshots() {
        urls.push(snapshot.manifest_list().to_owned());
        let manifests = manifests(Some(snapshot.as_ref())).unwrap();
        let live = Live::load(catalog.manifests(), &manifests).unwrap();
        urls.extend(manifests.into_iter().map(|manifest| manifest.manifest_path));
        urls.extend(live.data.iter().chain(&live.deletes).map(|entry| entry.file.file_path().to_owned()));
    }
    let relative = |url: String| url.trim_start_matches(table.location()).trim_start_matches('/').to_owned();
    urls.into_iter().map(relative).collect()
}
