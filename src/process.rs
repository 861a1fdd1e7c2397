//! This process: how others may know it, and the files that it holds locked.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// `process 4711 on host db-1`: what somebody needs to find it.
pub fn describe() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("process {} on host {host}", std::process::id())
}

type Shared = Mutex<Option<File>>;

static HELD: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// A file that this process has locked. It ends with the value, and with the process: a child that is forked has no part in it.
#[derive(Debug)]
pub struct FileLock(Arc<Shared>);

impl FileLock {
    /// Takes the lock, if nobody has it.
    pub fn take(file: File) -> Result<Self, (File, TryLockError)> {
        if let Err(error) = file.try_lock() {
            return Err((file, error));
        }
        let shared = Arc::new(Mutex::new(Some(file)));
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| other.strong_count() > 0);
        held.push(Arc::downgrade(&shared));
        Ok(Self(shared))
    }

    /// Replaces what the file says.
    pub fn say(&self, text: &str) -> std::io::Result<()> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())),
            None => Ok(()),
        }
    }
}

/// To be called in a child that was forked: it closes the files that its parent has locked. The parent's locks stay, and end
/// with the parent; held open by the child they would outlive it.
pub fn forget_locks() {
    // A lock that another thread of the parent was just busy with stays locked for ever here: it is left alone.
    let Ok(held) = HELD.try_lock() else { return };
    for shared in held.iter().filter_map(Weak::upgrade) {
        if let Ok(mut file) = shared.try_lock() {
            drop(file.take());
        }
    }
}
