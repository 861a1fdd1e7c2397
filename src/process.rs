//! This process: how others may know it, and the files that it holds locked.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
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

/// Whether a process of this host has locked a file, by how it described itself; none where that cannot be seen. It is looked up
/// and not tried: a lock that is tried is in the way of whoever takes it at that moment.
pub fn has_locked(description: &str, path: &Path) -> Option<bool> {
    let words: Vec<&str> = description.split(' ').collect();
    let ["process", number, "on", "host", host] = words[..] else { return None };
    let is_ours = describe().ends_with(&format!(" on host {host}"));
    let fds = format!("/proc/{}/fd", number.parse::<u32>().ok().filter(|_| is_ours && system().is_some())?);
    let fds = match std::fs::read_dir(fds) {
        Ok(fds) => fds,
        // There is no such process.
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(false),
        Err(_) => return None,
    };
    let file = std::fs::metadata(path).ok()?;
    let has = |fd: std::fs::DirEntry| {
        let is_it = std::fs::metadata(fd.path()).is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()));
        let about =
            |fd: std::fs::DirEntry| std::fs::read_to_string(format!("/proc/{number}/fdinfo/{}", fd.file_name().display()));
        is_it && about(fd).is_ok_and(|about| about.lines().any(|line| line.starts_with("lock:")))
    };
    Some(fds.flatten().any(has))
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
    fn who_has_locked_a_file_is_seen_without_touching_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        let open = || File::options().write(true).create(true).truncate(false).open(&path).unwrap();
        let lock = FileLock::take(open()).unwrap();
        assert_eq!(has_locked(&describe(), &path), Some(true));
        drop(lock);
        let _opened = open();
        assert_eq!(has_locked(&describe(), &path), Some(false));
        let nobody = describe().replacen(&std::process::id().to_string(), "4194305", 1);
        assert_eq!(has_locked(&nobody, &path), Some(false));
        assert_eq!(has_locked("process 1 on host elsewhere", &path), None);
        assert_eq!(has_locked("", &path), None);
    }

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
