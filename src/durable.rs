//! Directories whose entries outlive a power cut.

pub mod size;

use std::fs::{self, File};
use std::path::Path;

use crate::error::{Error, Result};

/// Directories above a new one whose entries are made durable too: as many may be new with it.
const ABOVE: usize = 4;

/// Makes a directory and its parents, and their entries durable.
pub fn create_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(|error| Error::io("create directory", path, error))?;
    path.ancestors().skip(1).take(ABOVE).try_for_each(|parent| {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        // A parent that is not ours to open needs no sync: it was there before.
        if File::open(parent).is_ok() { sync_directory(parent) } else { Ok(()) }
    })
}

/// Makes a directory's entries durable.
pub fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| Error::io("sync directory", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_an_error_names_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/c");
        create_directory(&path).and_then(|()| create_directory(&path)).unwrap();
        assert!(path.is_dir());
        fs::write(place.path().join("file"), "").unwrap();
        let error = create_directory(&place.path().join("file/x")).unwrap_err();
        assert!(error.message().contains("file/x"), "{error}");
    }
}
