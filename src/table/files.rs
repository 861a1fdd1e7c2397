//! Files on the local disk: written once, made durable, then never changed.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The path behind a `file://` URL (also `file:/path` and a plain absolute path, as other writers make them).
pub fn path_of(url: &str) -> Result<PathBuf> {
    let path = spelling(url);
    if path.starts_with('/') && !path.split('/').any(|part| part == "..") {
        return Ok(PathBuf::from(path));
    }
    Err(Error::config("unsupported_location", format!("{url} is not an absolute path on a local disk"))
        .hint("this release keeps tables on local disks: file:///path"))
}

/// A URL without its scheme, if it is of the local disk: writers spell it in different ways.
pub fn spelling(url: &str) -> &str {
    url.strip_prefix("file://").or_else(|| url.strip_prefix("file:")).unwrap_or(url)
}

/// The last part of a URL.
pub fn file_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// Whether there is a file.
pub fn exists(url: &str) -> Result<bool> {
    let path = path_of(url)?;
    path.try_exists().map_err(|error| Error::io("look at", &path, error))
}

/// Writes a whole new file and makes it durable; its directory entry is the caller's to sync.
pub fn write_durable(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| Error::io("write", path, error))
}

/// Whether a file lies below a table's directory. What a table names elsewhere is somebody else's.
pub fn is_below(url: &str, location: &str) -> bool {
    path_of(url).is_ok_and(|path| path.starts_with(spelling(location)) && path != Path::new(spelling(location)))
}

/// Removes files that nothing refers to. What cannot be removed stays for the garbage collector.
pub fn remove_quietly<'a>(urls: impl IntoIterator<Item = &'a String>) {
    for url in urls {
        if let Ok(path) = path_of(url) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Checks that a staged file is there as it was written.
///
/// The checksum is compared for small files always, for large ones when `thorough` (after a crash).
pub fn verify(url: &str, bytes: u64, checksum: u32, thorough: bool) -> Result<()> {
    const SMALL: u64 = 1 << 20;
    let path = path_of(url)?;
    let damaged = |what: String| {
        Err(Error::corruption("staged_file", format!("staged file {}: {what}", path.display()))
            .hint("the checkpoint cannot be delivered: restore this file, or start a new version"))
    };
    let length = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return damaged("it is gone".into()),
        Err(error) => return Err(Error::io("look at", &path, error)),
    };
    if length != bytes {
        return damaged(format!("it has {length} bytes, the manifest says {bytes}"));
    }
    if (thorough || bytes <= SMALL) && checksum_of(&path)? != checksum {
        return damaged("its checksum differs from the manifest's".into());
    }
    Ok(())
}

/// CRC-32C of a whole file.
pub fn checksum_of(path: &Path) -> Result<u32> {
    let read = || {
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 256 << 10];
        let mut checksum = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(checksum);
            }
            checksum = crc32c::crc32c_append(checksum, buffer.get(..count).unwrap_or_default());
        }
    };
    read().map_err(|error| Error::io("read", path, error))
}

/// A new file that counts and checksums what is written to it.
#[derive(Debug)]
pub struct ChecksumFile {
    file: BufWriter<File>,
    bytes: u64,
    checksum: u32,
}

impl ChecksumFile {
    /// Creates the file, which must not exist.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.map_err(|error| Error::io("create", path, error))?;
        Ok(Self { file: BufWriter::with_capacity(256 << 10, file), bytes: 0, checksum: 0 })
    }

    /// Bytes written so far, and their CRC-32C.
    pub fn written(&self) -> (u64, u32) {
        (self.bytes, self.checksum)
    }

    /// Makes the content durable.
    pub fn sync(&mut self) -> std::io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

impl Write for ChecksumFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.checksum = crc32c::crc32c_append(self.checksum, bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_absolute_paths_or_are_refused() {
        assert_eq!(path_of("file:///a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(path_of("file:/a/b").unwrap(), Path::new("/a/b"));
        assert_eq!(path_of("/a/b").unwrap(), Path::new("/a/b"));
        for bad in ["s3://bucket/x", "a/b", "file://a", "file:///a/../b"] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_lies_below_a_table_is_told_from_what_does_not() {
        let location = "file:///w/ns/t-1";
        for url in ["file:///w/ns/t-1/data/a.parquet", "file:/w/ns/t-1/metadata/m.avro", "/w/ns/t-1/x"] {
            assert!(is_below(url, location), "{url}");
        }
        for url in [
            "file:///w/ns/t-1",
            "file:///w/ns/t-10/a",
            "file:///w/ns/t-1/../t-2/a",
            "/etc/passwd",
            "s3://w/ns/t-1/a",
            "t-1/a",
            "",
        ] {
            assert!(!is_below(url, location), "{url}");
        }
    }

    #[test]
    fn a_changed_file_is_found_by_size_or_checksum() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let mut file = ChecksumFile::create(&path).unwrap();
        file.write_all(b"hello").unwrap();
        file.sync().unwrap();
        let (bytes, checksum) = file.written();
        let url = format!("file://{}", path.display());
        verify(&url, bytes, checksum, false).unwrap();
        assert!(verify(&url, bytes + 1, checksum, false).is_err());
        fs::write(&path, b"hellp").unwrap();
        assert!(verify(&url, bytes, checksum, false).unwrap_err().to_string().contains("checksum"));
        fs::remove_file(&path).unwrap();
        assert!(verify(&url, bytes, checksum, false).unwrap_err().to_string().contains("gone"));
        assert!(ChecksumFile::create(directory.path().join("no/x").as_path()).is_err());
    }
}
