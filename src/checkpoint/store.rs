//! A version's directory: its manifests, its states, its lock.
//!
//! ```text
//! CHECKPOINTS/VERSION/lock                       held while a process runs the version
//! CHECKPOINTS/VERSION/manifests/00000000000000000012.manifest
//! CHECKPOINTS/VERSION/state/12-3                 RocksDB's checkpoint for manifest 12, made by owner 3
//! CHECKPOINTS/VERSION/work                       by owner, the running state
//! CHECKPOINTS/VERSION/outbox/3/UUID.records      records for topics, staged by owner 3
//! ```

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::gc::Kept;
use super::manifest::{Manifest, Sealed};
use crate::durable::{create_directory, sync_directory};
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::protocol::failpoint;

/// The directory of one version.
#[derive(Clone, Debug)]
pub struct VersionDir {
    root: PathBuf,
}

/// The lock on a version; let go when dropped, or when the process dies.
#[derive(Debug)]
pub struct VersionLock {
    _file: File,
}

impl VersionDir {
    /// The directory of `version` under the checkpoints' directory.
    pub fn new(checkpoints: &Path, version: &str) -> Self {
        Self { root: checkpoints.join(version) }
    }

    /// Makes the directories.
    pub fn create(&self) -> Result<()> {
        for dir in ["manifests", "state", "work"] {
            create_directory(&self.root.join(dir))?;
        }
        Ok(())
    }

    /// Whether the version has a directory.
    pub fn exists(&self) -> bool {
        self.root.join("manifests").is_dir()
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the running state of an owner lies.
    pub fn work(&self, owner: u64) -> PathBuf {
        self.root.join("work").join(owner.to_string())
    }

    /// The name of a checkpoint's state, relative to the version's directory.
    pub fn state_name(checkpoint: Epoch, owner: u64) -> String {
        format!("state/{checkpoint}-{owner}")
    }

    /// Takes the lock.
    ///
    /// Errors: `Conflict` if another process holds it, with what that process wrote about itself.
    pub fn lock(&self) -> Result<VersionLock> {
        let path = self.root.join("lock");
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(|e| Error::io("open", &path, e))?;
        if file.try_lock().is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(Error::conflict("locked", format!("another process runs this version: {}", holder.trim()))
                .with("lock", path.display())
                .hint("stop it first; if it hangs (stopped, not dead), --take-over goes ahead without it"));
        }
        let text = format!("process {}, since {}\n", std::process::id(), crate::time::format_utc(crate::time::now_ms()));
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
        written.map_err(|e| Error::io("write", &path, e))?;
        Ok(VersionLock { _file: file })
    }

    fn manifest_path(&self, checkpoint: Epoch) -> PathBuf {
        self.root.join("manifests").join(format!("{:020}.manifest", checkpoint.0))
    }

    /// Publishes a manifest, if there is none of its number: `link(2)` decides between two that try at once.
    ///
    /// Errors: `Conflict` if another process published that number.
    pub fn publish(&self, manifest: &Manifest) -> Result<String> {
        let (bytes, hash) = manifest.encode()?;
        let target = self.manifest_path(manifest.checkpoint);
        let dir = self.root.join("manifests");
        let staged = dir.join(format!("{}.{}.tmp", manifest.checkpoint, manifest.owner));
        write_durably(&staged, &bytes)?;
        failpoint::hit("K8");
        match std::fs::hard_link(&staged, &target) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let _ = std::fs::remove_file(&staged);
                let other = self.read(manifest.checkpoint)?;
                return Err(taken_over(&other.manifest));
            }
            Err(e) => {
                let _ = std::fs::remove_file(&staged);
                return Err(unpublished(&target, e));
            }
        }
        failpoint::hit("K9");
        sync_directory(&dir)?;
        std::fs::remove_file(&staged).map_err(|e| Error::io("remove", &staged, e))?;
        Ok(hash)
    }

    /// Reads a manifest.
    pub fn read(&self, checkpoint: Epoch) -> Result<Sealed> {
        let path = self.manifest_path(checkpoint);
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        Manifest::decode(&bytes).map_err(|e| e.with("file", path.display()))
    }

    /// The numbers of all manifests, rising.
    pub fn list(&self) -> Result<Vec<Epoch>> {
        let dir = self.root.join("manifests");
        let mut numbers = Vec::new();
        for name in file_names(&dir)? {
            if let Some(number) = name.strip_suffix(".manifest").and_then(|number| number.parse().ok()) {
                numbers.push(Epoch(number));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The newest manifest, if the version has any. A manifest that was being written when the process died has another
    /// name and is not seen; one that is damaged is an error, since what it listed may have been delivered.
    pub fn newest(&self) -> Result<Option<Sealed>> {
        self.list()?.last().map(|number| self.read(*number)).transpose()
    }

    /// Removes a manifest. First the manifest, then what only it named.
    pub fn remove(&self, checkpoint: Epoch) -> Result<()> {
        remove_file(&self.manifest_path(checkpoint))?;
        sync_directory(&self.root.join("manifests"))
    }

    /// Removes what a crash left behind: staged manifests, and state and records that no manifest names.
    pub fn remove_orphans(&self, kept: &Kept, owner: u64) -> Result<()> {
        let kept_states = kept.states();
        let manifests = self.root.join("manifests");
        for name in file_names(&manifests)?.iter().filter(|name| name.ends_with(".tmp")) {
            remove_file(&manifests.join(name))?;
        }
        for name in file_names(&self.root.join("state"))? {
            let relative = format!("state/{name}");
            if !kept_states.contains(&relative) {
                remove_directory(&self.root.join(relative))?;
            }
        }
        for name in file_names(&self.root.join("work"))? {
            if name.parse::<u64>().is_ok_and(|other| other < owner) {
                remove_directory(&self.root.join("work").join(name))?;
            }
        }
        self.remove_unsent(kept, owner)
    }

    /// Removes what earlier owners staged for topics, but for files of manifests that are kept.
    fn remove_unsent(&self, kept: &Kept, owner: u64) -> Result<()> {
        let outbox = self.root.join("outbox");
        for name in file_names(&outbox)?.iter().filter(|name| name.parse::<u64>().is_ok_and(|other| other < owner)) {
            let folder = outbox.join(name);
            for file in file_names(&folder)? {
                let path = folder.join(file);
                if !kept.needs(&path) {
                    remove_file(&path)?;
                }
            }
            // One that is not empty stays until the rest of it may go.
            let _ = std::fs::remove_dir(&folder);
        }
        Ok(())
    }
}

/// The error of a process that finds a successor.
pub fn taken_over(by: &Manifest) -> Error {
    let message = format!("another process took this version over: owner {} published checkpoint {}", by.owner, by.checkpoint);
    Error::conflict("taken_over", message)
        .with("version", &by.version)
        .hint("nothing was lost: the other process goes on; this one has stopped")
}

/// A file could be made there but not linked: FAT, and some of what is mounted from elsewhere, have no links.
fn unpublished(target: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{PermissionDenied, Unsupported};
    if !matches!(error.kind(), PermissionDenied | Unsupported) {
        return Error::io("publish", target, error);
    }
    let message = format!("publish {}: its file system makes no hard links: {error}", target.display());
    Error::config("no_hard_links", message)
        .source(error)
        .hint("a checkpoint is published by one: point the setting checkpoints at a local disk (ext4, XFS, Btrfs, …)")
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(|e| Error::io("create", path, e))?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first).map_err(|e| Error::io("write", path, e))?;
    failpoint::hit("K7");
    file.write_all(second).map_err(|e| Error::io("write", path, e))?;
    file.sync_all().map_err(|e| Error::io("sync", path, e))
}

/// The names in a directory; none if it does not exist.
pub fn file_names(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.map(|e| e.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<std::io::Result<_>>().map_err(|e| Error::io("read", path, e))
}

fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Removes a directory and what is in it; one that is gone already is fine.
pub fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}
