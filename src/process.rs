//! This process: how others may know it, and the files that it holds locked.

use std::fs::{File, TryLockError};
use std::io::{Seek, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// `process 4711 on host db-1`: what somebody needs to find it.
pub fn describe() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("process {} on host {host}", std::process::id())
}

/// What tells this process from one that gets its number later; none where the system does not say.
pub fn birth() -> Option<String> {
    birth_of(std::process::id())
}

/// Of another process of this system; none if there is none of that number, or that can not be known.
fn birth_of(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything, the 20th number is when it began, in ticks since the system did.
    let began = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {began}", system()?))
}

/// This start of the system, and the numbering of its processes that this one sees.
fn system() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbering = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), numbering.display()))
}

/// Whether a process is known to be gone, by how it described itself and what it gave as its birth: of one on another system
/// that is not known, whatever that is called.
pub fn is_gone(description: &str, birth: &str) -> bool {
    let number = description.split(' ').nth(1).and_then(|number| number.parse().ok());
    let is_of_this_system = system().is_some_and(|system| birth.starts_with(&format!("{system} ")));
    number.is_some_and(|number| is_of_this_system && birth_of(number).as_deref() != Some(birth))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_gone_if_another_has_its_number_or_none() {
        let us = birth().unwrap();
        assert!(!is_gone(&describe(), &us));
        // Of the same number, and another time.
        assert!(is_gone(&describe(), &format!("{us}0")));
        // On another system nobody knows, or where it is not said.
        assert!(!is_gone("process 4194305 on host elsewhere", "another pid:[1] 7"));
        assert!(!is_gone(&describe(), ""));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (described, born) = (format!("process {} on host x", child.id()), birth_of(child.id()).unwrap());
        assert!(!is_gone(&described, &born));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(is_gone(&described, &born));
    }
}
