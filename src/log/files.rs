//! Names of files, and writing them so that a power cut leaves the old or the new content, never half of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::batch::MAX_OFFSET;
use crate::durable::sync_directory;
use crate::error::{Error, Result};
use crate::process::FileLock;

/// What to do about a small file that cannot be made again.
pub const RESTORE: &str = "restore the file from a copy";

/// One partition's directory, and the names that errors give it.
#[derive(Clone, Debug)]
pub struct PartitionDir {
    /// `<root>/<topic>/<partition>`.
    pub path: PathBuf,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's identity.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

impl PartitionDir {
    /// The file of the segment that starts at `base`, with this extension.
    pub fn file(&self, base: i64, extension: &str) -> PathBuf {
        self.path.join(format!("{base:020}.{extension}"))
    }

    /// The offsets at which segments start, rising.
    pub fn segments(&self) -> Result<Vec<i64>> {
        let failed = |error| Error::io("list", &self.path, error);
        let mut bases = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let base = name.to_str().and_then(|name| name.strip_suffix(".log")).filter(|digits| digits.len() == 20);
            bases.extend(base.and_then(|digits| digits.parse::<i64>().ok()).filter(|base| (0..=MAX_OFFSET).contains(base)));
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// Adds whose error it is.
    pub fn named(&self, error: Error) -> Error {
        error.with("topic", &self.topic).with("partition", self.partition)
    }

    /// Damage in a segment, at a byte, where the record with this offset was expected.
    pub fn damage(&self, code: &'static str, what: &str, base: i64, position: u64, offset: i64) -> Error {
        self.named(Error::corruption(code, what))
            .with("offset", offset)
            .with("file", self.file(base, "log").display())
            .with("position", position)
            .hint("restore the file from a copy: nothing behind this position is read")
    }
}

/// Replaces a file's content in one step, durably.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    let failed = |error| Error::io("write", &unfinished, error);
    let mut file = File::create(&unfinished).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(|error| Error::io("write", path, error))?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Deletes a file that may be gone already.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("delete", path, error)),
        _ => Ok(()),
    }
}

/// Reads at a position until `buffer` is full or the file ends; the count of bytes read.
pub fn read_full(file: &File, buffer: &mut [u8], position: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The right to write one partition, across threads and processes. It ends with the value, and with the process.
#[derive(Debug)]
pub struct WriterLock(#[expect(dead_code, reason = "holding it is all there is to do")] FileLock);

impl WriterLock {
    /// Takes the lock, or says that another writer has it.
    pub fn acquire(dir: &PartitionDir) -> Result<Self> {
        let path = dir.path.join("lock");
        let open = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(|error| Error::io("open", &path, error))?;
        match FileLock::take(file) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, fs::TryLockError::WouldBlock)) => Err(dir
                .named(Error::conflict("log.locked", "another writer has this partition"))
                .hint("a partition has one writer at a time: wait for the other one to end, or stop it")),
            Err((_, fs::TryLockError::Error(error))) => Err(Error::io("lock", &path, error)),
        }
    }
}
