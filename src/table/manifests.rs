//! Manifests read once: they never change after they are written.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use iceberg::io::FileIO;
use iceberg::spec::ManifestFile;

use super::deletes::DeleteFiles;
use super::iceberg_error;
use super::io::Io;
use super::live::LiveFile;
use crate::error::Result;

/// Bytes of manifests, as files, whose entries are kept. In memory they are a few times that.
const CACHE_BYTES: i64 = 4 << 20;

/// Reads manifests, and keeps the entries of small ones: a commit reads all manifests of its base, nearly all of which the
/// commit before has read too.
#[derive(Clone)]
pub struct ManifestReader {
    io: Io,
    cache: Arc<Mutex<Cache>>,
    deletes: DeleteFiles,
}

#[derive(Default)]
struct Cache {
    bytes: i64,
    entries: HashMap<String, Arc<Vec<LiveFile>>>,
}

impl ManifestReader {
    /// A reader with nothing kept.
    pub fn new(io: Io) -> Self {
        Self { io, cache: Arc::default(), deletes: DeleteFiles::default() }
    }

    /// The async door.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// What is in the delete files that manifests list.
    pub(super) fn deletes(&self) -> &DeleteFiles {
        &self.deletes
    }

    /// The live entries of a manifest.
    pub fn live_entries(&self, manifest: &ManifestFile) -> Result<Arc<Vec<LiveFile>>> {
        let kept = self.cache.lock().ok().and_then(|cache| cache.entries.get(&manifest.manifest_path).cloned());
        if let Some(entries) = kept {
            return Ok(entries);
        }
        let loaded = self
            .io
            .run(manifest.load_manifest(&FileIO::new_with_fs()))
            .map_err(|error| iceberg_error(&format!("read manifest {}", manifest.manifest_path), error))?;
        let live = loaded.entries().iter().filter(|entry| entry.is_alive()).map(LiveFile::from_entry);
        let entries = Arc::new(live.collect::<Result<Vec<_>>>()?);
        self.keep(manifest, &entries);
        Ok(entries)
    }

    fn keep(&self, manifest: &ManifestFile, entries: &Arc<Vec<LiveFile>>) {
        let Ok(mut cache) = self.cache.lock() else { return };
        if manifest.manifest_length > CACHE_BYTES / 4 {
            return;
        }
        // What is in use comes back at the next commit; what is not is forgotten without counting.
        if cache.bytes + manifest.manifest_length > CACHE_BYTES {
            *cache = Cache::default();
        }
        if cache.entries.insert(manifest.manifest_path.clone(), entries.clone()).is_none() {
            cache.bytes += manifest.manifest_length;
        }
    }
}
