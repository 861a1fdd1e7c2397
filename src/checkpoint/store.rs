//! A version's directory: its manifests, its states, its lock.
//!
//! ```text
//! CHECKPOINTS/VERSION/lock                       held while a process runs the version
//! CHECKPOINTS/VERSION/manifests/00000000000000000012.manifest
//! CHECKPOINTS/VERSION/state/12-3                 RocksDB's checkpoint for manifest 12, made by owner 3
//! CHECKPOINTS/VERSION/work                       by owner, the running state
//! CHECKPOINTS/VERSION/outbox/3/UUID.records      records for topics, staged by owner 3
//! ```

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::gc::Kept;
use super::manifest::{Holder, Manifest, Sealed};
use crate::durable::{create_directory, sync_directory};
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::process::FileLock;
use crate::protocol::door::{Act, Door};
use crate::protocol::failpoint;
use crate::state::StateStore;
use crate::time::{new_uuid, now_ms};

const STOP: &str = "stop it first; if it hangs (stopped, not dead), --take-over goes ahead without it";

/// The directory of one version.
#[derive(Clone, Debug)]
pub struct VersionDir {
    root: PathBuf,
    door: Door,
}

/// The lock on a version; let go when dropped, or when the process dies. Who takes a version over from a process that hangs
/// does not have it until that one is gone.
#[derive(Debug)]
pub struct VersionLock {
    path: PathBuf,
    held: OnceLock<FileLock>,
}

impl VersionLock {
    /// Takes the lock if nobody has it. What its holder has written about itself, if somebody has.
    fn try_take(&self) -> Result<Result<(), String>> {
        let path = &self.path;
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        match FileLock::take(opened.map_err(|e| Error::io("open", path, e))?) {
            Ok(lock) => {
                lock.say(&format!("{}\n", Holder::this(now_ms()))).map_err(|e| Error::io("write", path, e))?;
                let _ = self.held.set(lock);
                Ok(Ok(()))
            }
            Err((mut file, _)) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                Ok(Err(holder.trim().to_owned()))
            }
        }
    }

    /// Takes the lock if this process does not have it yet and nobody else has.
    pub fn take_if_free(&self) -> Result<()> {
        if self.held.get().is_some() { Ok(()) } else { self.try_take().map(drop) }
    }
}

impl VersionDir {
    /// The directory of `version` under the checkpoints' directory.
    pub fn new(checkpoints: &Path, version: &str) -> Self {
        Self { root: checkpoints.join(version), door: Door::default() }
    }

    /// The same directory behind a door.
    pub fn behind(self, door: Door) -> Self {
        Self { door, ..self }
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

    /// What is locked while a process runs the version.
    pub fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Where the running state of an owner lies.
    pub fn work(&self, owner: u64) -> PathBuf {
        self.root.join("work").join(owner.to_string())
    }

    /// The name of a checkpoint's state, relative to the version's directory.
    fn state_name(checkpoint: Epoch, owner: u64) -> String {
        format!("state/{checkpoint}-{owner}")
    }

    /// Takes the lock; with `take_over` goes ahead without it if another process holds it.
    ///
    /// Errors: `Conflict` if another process holds it, with what that process wrote about itself.
    pub fn lock(&self, take_over: bool) -> Result<VersionLock> {
        self.door.pass(Act::Lock, || self.take_lock(take_over))
    }

    fn take_lock(&self, take_over: bool) -> Result<VersionLock> {
        let lock = VersionLock { path: self.lock_path(), held: OnceLock::new() };
        match lock.try_take()? {
            Err(holder) if !take_over => Err(self.locked(&holder)),
            _ => Ok(lock),
        }
    }

    /// What the process that holds the lock has written about itself, if one does. Nothing is changed by the look.
    pub fn runner(&self) -> Result<Option<String>> {
        let path = self.lock_path();
        let mut file = match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| Error::io("open", &path, e))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io("look at the lock", &path, e)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(|e| Error::io("read", &path, e))?;
                Ok(Some(holder.trim().to_owned()))
            }
        }
    }

    /// Of two processes that are there, the one that took over from the other is named: it runs the version. If that is gone,
    /// the other may still be there, or what either of them has started.
    fn locked(&self, holder: &str) -> Error {
        let newest = self.newest().ok().flatten().and_then(|newest| newest.manifest.holder);
        let (message, hint) = match newest {
            Some(owner) if !owner.is_gone() => (format!("another process runs this version: {owner}"), STOP),
            Some(owner) if holder.starts_with(&format!("{}, ", owner.process)) => {
                let message = format!("{owner} is gone, but a process that it has started holds this version");
                (message, "find it with fuser or lsof and end it; or --take-over goes ahead without it")
            }
            Some(owner) => {
                (format!("another process holds this version: {holder}; {owner}, which took over from it, is gone"), STOP)
            }
            None => (format!("another process runs this version: {holder}"), STOP),
        };
        Error::conflict("locked", message).with("lock", self.lock_path().display()).hint(hint)
    }

    fn manifest_path(&self, checkpoint: Epoch) -> PathBuf {
        self.root.join("manifests").join(format!("{:020}.manifest", checkpoint.0))
    }

    /// Publishes a manifest, if there is none of its number: `link(2)` decides between two that try at once.
    ///
    /// Errors: `Conflict` if another process published that number.
    pub fn publish(&self, manifest: &Manifest) -> Result<String> {
        self.door.pass(Act::Publish, || self.put_if_absent(manifest))
    }

    fn put_if_absent(&self, manifest: &Manifest) -> Result<String> {
        let (bytes, hash) = manifest.encode()?;
        let target = self.manifest_path(manifest.checkpoint);
        let dir = self.root.join("manifests");
        // No two processes write to one file, whatever they take themselves for.
        let staged = dir.join(format!("{}-{}.{}.tmp", manifest.checkpoint, new_uuid(), manifest.owner));
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
        if let Some(newest) = self.newest()?.filter(|newest| newest.manifest.checkpoint > manifest.checkpoint) {
            // Somebody took over. Either from this manifest, which is theirs to deliver then; or the name was free because they are
            // so far ahead that they have cleared it away.
            let follows = match self.read(Epoch(manifest.checkpoint.0 + 1)) {
                Ok(next) => next.manifest.previous == hash,
                Err(error) if error.is_of_absent_file() => false,
                // It may be theirs to deliver.
                Err(error) => return Err(error),
            };
            if !follows {
                remove_file(&target)?;
            }
            return Err(taken_over(&newest.manifest));
        }
        failpoint::hit("K9");
        sync_directory(&dir)?;
        std::fs::remove_file(&staged).map_err(|e| Error::io("remove", &staged, e))?;
        Ok(hash)
    }

    /// Reads a manifest.
    pub fn read(&self, checkpoint: Epoch) -> Result<Sealed> {
        let path = self.manifest_path(checkpoint);
        let bytes = self.door.pass(Act::Look, || std::fs::read(&path).map_err(|e| Error::io("read", &path, e)))?;
        Manifest::decode(&bytes).map_err(|e| e.with("file", path.display()))
    }

    /// The numbers of all manifests, rising.
    pub fn list(&self) -> Result<Vec<Epoch>> {
        let dir = self.root.join("manifests");
        let mut numbers = Vec::new();
        for name in self.door.pass(Act::Look, || file_names(&dir))? {
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
        self.door.pass(Act::Forget, || {
            remove_file(&self.manifest_path(checkpoint))?;
            sync_directory(&self.root.join("manifests"))
        })
    }

    /// Makes the checkpoint of the state for a manifest, durable; its name, and the checksum of what it lists its files in.
    pub fn take_state(&self, store: &dyn StateStore, checkpoint: Epoch, owner: u64) -> Result<(String, u32)> {
        self.door.pass(Act::State, || {
            let name = Self::state_name(checkpoint, owner);
            let checksum = store.checkpoint(&self.root.join(&name))?;
            failpoint::hit("K3");
            sync_directory(&self.root.join("state"))?;
            Ok((name, checksum))
        })
    }

    /// Removes what a crash left behind: staged manifests, and state and records that no manifest names. What a later owner
    /// has made is none of that: this process may have been stopped here, and taken over.
    pub fn remove_orphans(&self, kept: &Kept, owner: u64) -> Result<()> {
        self.door.pass(Act::Clear, || self.clear(kept, owner))
    }

    fn clear(&self, kept: &Kept, owner: u64) -> Result<()> {
        let kept_states = kept.states();
        let manifests = self.root.join("manifests");
        for name in file_names(&manifests)?.iter().filter(|name| name.ends_with(".tmp") && !is_of_a_later(owner, name)) {
            remove_file(&manifests.join(name))?;
        }
        for name in file_names(&self.root.join("state"))? {
            let relative = format!("state/{name}");
            if !kept_states.contains(&relative) && !is_of_a_later(owner, &name) {
                remove_left_behind(&self.root.join(relative))?;
            }
        }
        for name in file_names(&self.root.join("work"))? {
            if name.parse::<u64>().is_ok_and(|other| other < owner) {
                remove_left_behind(&self.root.join("work").join(name))?;
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

/// Whether a staged manifest (`12-UUID.3.tmp`) or a state (`12-3`, also half made) is of a later owner.
fn is_of_a_later(owner: u64, name: &str) -> bool {
    let other = name.trim_end_matches(".tmp").rsplit(['-', '.']).next().and_then(|other| other.parse::<u64>().ok());
    other.is_some_and(|other| other > owner)
}

/// The error of a process that finds a successor.
pub fn taken_over(by: &Manifest) -> Error {
    let who = by.holder.as_ref().map_or_else(|| "its name is not known".to_owned(), ToString::to_string);
    let message = format!("another process took this version over: {who}");
    Error::conflict("taken_over", message)
        .with("owner", by.owner)
        .with("checkpoint", by.checkpoint)
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
    let mut file = File::create_new(path).map_err(|e| Error::io("create", path, e))?;
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

/// Removes a directory of an earlier owner. One that was taken over while it runs may still write there: what it writes is for
/// nobody, and the rest goes with the next process.
fn remove_left_behind(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Err(Error::io("remove", path, e)),
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

#[cfg(test)]
mod tests;
