//! Manifests read once: they never change after they are written.

use std::sync::Arc;

use iceberg::io::FileIO;
use iceberg::spec::ManifestFile;

use super::deletes::DeleteFiles;
use super::iceberg_error;
use super::io::Io;
use super::kept::Kept;
use super::live::LiveFile;
use crate::error::Result;

/// Bytes of manifests, as files, whose entries are kept. In memory they are a few times that.
const KEPT_BYTES: u64 = 4 << 20;

/// Reads manifests, and keeps the entries of small ones: a commit reads all manifests of its base, nearly all of which the
/// commit before has read too.
#[derive(Clone)]
pub struct ManifestReader {
    io: Io,
    kept: Arc<Kept<Vec<LiveFile>>>,
    deletes: DeleteFiles,
}

impl ManifestReader {
    /// A reader with nothing kept.
    pub fn new(io: Io) -> Self {
        Self { io, kept: Arc::new(Kept::new(KEPT_BYTES, KEPT_BYTES / 4)), deletes: DeleteFiles::default() }
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
        if let Some(entries) = self.kept.get(&manifest.manifest_path) {
            return Ok(entries);
        }
        let loaded = self
            .io
            .run(manifest.load_manifest(&FileIO::new_with_fs()))
            .map_err(|error| iceberg_error(&format!("read manifest {}", manifest.manifest_path), error))?;
        let live = loaded.entries().iter().filter(|entry| entry.is_alive()).map(LiveFile::from_entry);
        let entries = Arc::new(live.collect::<Result<Vec<_>>>()?);
        let bytes = u64::try_from(manifest.manifest_length).unwrap_or_default();
        self.kept.put(&manifest.manifest_path, &entries, bytes);
        Ok(entries)
    }
}
