//! What lies in a directory and what is free beside it, for people.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bytes of all files below a path, links apart. A file with several names counts once: checkpoints share theirs. What comes and
/// goes meanwhile counts or not.
pub fn bytes_below(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    add(path, &mut seen)
}

fn add(path: &Path, seen: &mut HashSet<(u64, u64)>) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => add(&entry.path(), seen),
        Ok(found) if found.is_file() && seen.insert((found.dev(), found.ino())) => found.len(),
        _ => 0,
    };
    entries.map(of).sum()
}

/// The bytes that are free on the disk of a directory, which need not be there yet; none where the system does not say.
pub fn free_at(directory: &Path) -> Option<u64> {
    let there = directory.ancestors().find(|path| path.is_dir())?;
    rustix::fs::statvfs(there).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::fs::write(root.path().join("a/x"), [0; 100]).unwrap();
        std::fs::write(root.path().join("y"), [0; 10]).unwrap();
        std::fs::hard_link(root.path().join("a/x"), root.path().join("z")).unwrap();
        assert_eq!(bytes_below(root.path()), 110);
        assert_eq!(bytes_below(&root.path().join("not there")), 0);
        assert!(free_at(&root.path().join("not/there")).is_some());
    }
}
