//! Leases: who reads a version for long says so beside the checkpoints, as long as it does, and nothing of it goes meanwhile.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checkpoint::manifest::Holder;
use crate::checkpoint::store::file_names;
use crate::durable::create_directory;
use crate::error::{Error, Result};
use crate::table::Table;
use crate::time::{new_uuid, now_ms};

const FORMAT: u32 = 1;
const ENDING: &str = ".json";
/// How long one holds without a sign of life, and how often there is one.
const LENGTH_MS: i64 = 60_000;
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    format: u32,
    /// What is read.
    pub tables: Vec<Leased>,
    /// Who reads.
    pub holder: Holder,
    /// Until when it holds, milliseconds since 1970 UTC.
    pub until_ms: i64,
}

/// A table that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// Its name then.
    pub table: String,
    /// Its identity.
    pub uuid: Uuid,
    /// Its version; empty: it is none of kappa's.
    pub version: String,
}

impl Lease {
    /// Whether it holds.
    fn holds(&self, now_ms: i64) -> bool {
        self.until_ms > now_ms && !self.holder.is_gone()
    }
}

/// A lease of this process: it is renewed until this is dropped.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn directory(checkpoints: &Path) -> PathBuf {
    checkpoints.join("leases")
}

/// Takes a lease on tables. Whoever does so looks afterwards whether they are condemned: who condemns looks at the leases then.
///
/// # Errors
/// Those of the disk.
pub fn take(checkpoints: &Path, tables: &[&Table]) -> Result<Held> {
    let leased = |table: &&Table| Leased {
        table: table.name().to_string(),
        uuid: table.uuid(),
        version: table.property("kappa.version").unwrap_or_default().to_owned(),
    };
    let tables = tables.iter().map(leased).collect();
    let lease = Lease { format: FORMAT, tables, holder: Holder::this(now_ms()), until_ms: 0 };
    let directory = directory(checkpoints);
    create_directory(&directory)?;
    let path = directory.join(format!("{}{ENDING}", new_uuid()));
    write(&path, &lease)?;
    let (stop, stopped) = bounded::<()>(0);
    let renewed = path.clone();
    let renew = move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            // The next one may be written; until then the last one holds.
            let _ = write(&renewed, &lease);
        }
    };
    let thread = std::thread::Builder::new().name("kappa-lease".into()).spawn(renew);
    let thread = thread.map_err(|error| Error::internal(format!("start a thread: {error}")))?;
    Ok(Held { path, stop: Some(stop), thread: Some(thread) })
}

/// From now on for its length, in one step. It need not outlive a power cut: the reader does not either.
fn write(path: &Path, lease: &Lease) -> Result<()> {
    let lease = Lease { until_ms: now_ms().saturating_add(LENGTH_MS), ..lease.clone() };
    let text = serde_json::to_vec(&lease).map_err(|error| Error::internal(format!("write a lease: {error}")))?;
    let staged = path.with_extension("tmp");
    std::fs::write(&staged, text).map_err(|error| Error::io("write", &staged, error))?;
    std::fs::rename(&staged, path).map_err(|error| Error::io("rename", &staged, error))
}

/// The leases that hold.
///
/// # Errors
/// `Corruption` if one cannot be read: it may be of a newer release.
pub fn all(checkpoints: &Path, now_ms: i64) -> Result<Vec<Lease>> {
    let mut leases = Vec::new();
    for (path, lease) in read(checkpoints)? {
        let lease = lease.map_err(|error| {
            let message = format!("the lease {} cannot be read: {error}", path.display());
            Error::corruption("lease", message).hint("wait for the process that wrote it; if there is none, remove the file")
        })?;
        leases.extend(Some(lease).filter(|lease| lease.holds(now_ms)));
    }
    Ok(leases)
}

/// Removes the leases that do not hold any more.
///
/// # Errors
/// Those of the disk.
pub fn remove_expired(checkpoints: &Path, now_ms: i64) -> Result<()> {
    let expired = |lease: &Result<Lease, String>| lease.as_ref().is_ok_and(|lease| !lease.holds(now_ms));
    for (path, _) in read(checkpoints)?.iter().filter(|(_, lease)| expired(lease)) {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn read(checkpoints: &Path) -> Result<Vec<(PathBuf, Result<Lease, String>)>> {
    let directory = directory(checkpoints);
    let mut leases = Vec::new();
    for name in file_names(&directory)?.iter().filter(|name| name.ends_with(ENDING)) {
        let path = directory.join(name);
        let text = match std::fs::read(&path) {
            // Its reader is done.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.map_err(|error| Error::io("read", &path, error))?,
        };
        let lease = serde_json::from_slice::<Lease>(&text).map_err(|error| error.to_string());
        let known =
            |lease: Lease| if lease.format == FORMAT { Ok(lease) } else { Err(format!("it has format {}", lease.format)) };
        leases.push((path, lease.and_then(known)));
    }
    Ok(leases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(place: &Path, name: &str, until_ms: i64, holder: Holder) -> PathBuf {
        let tables = vec![Leased { table: "m.t".into(), uuid: Uuid::nil(), version: "v".into() }];
        let path = directory(place).join(name);
        create_directory(&directory(place)).unwrap();
        let lease = Lease { format: FORMAT, tables, holder, until_ms };
        std::fs::write(&path, serde_json::to_vec(&lease).unwrap()).unwrap();
        path
    }

    #[test]
    fn one_holds_as_long_as_it_says_and_its_process_is_there() {
        let place = tempfile::tempdir().unwrap();
        let us = Holder::this(0);
        let gone = Holder { birth: us.birth.clone().map(|birth| birth + "0"), ..us.clone() };
        let holds = written(place.path(), "a.json", 1000, us.clone());
        let over = written(place.path(), "b.json", 999, us);
        let dead = written(place.path(), "c.json", 5000, gone);
        std::fs::write(directory(place.path()).join("d.tmp"), "{").unwrap();
        assert_eq!(all(place.path(), 999).unwrap().len(), 1);
        remove_expired(place.path(), 999).unwrap();
        assert!(holds.exists() && !over.exists() && !dead.exists());
        // What cannot be read may hold.
        std::fs::write(directory(place.path()).join("e.json"), "{\"format\":2}").unwrap();
        remove_expired(place.path(), 999).unwrap();
        assert_eq!(all(place.path(), 999).unwrap_err().code(), "lease");
    }

    #[test]
    fn one_is_there_until_it_is_dropped() {
        let place = tempfile::tempdir().unwrap();
        let held = take(place.path(), &[]).unwrap();
        let leases = all(place.path(), now_ms()).unwrap();
        assert!(leases.len() == 1 && leases[0].until_ms > now_ms() + LENGTH_MS / 2);
        drop(held);
        assert_eq!(file_names(&directory(place.path())).unwrap(), Vec::<String>::new());
    }
}
