//! The segment that is written to, with its indexes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::extent::Extent;
use super::files::PartitionDir;
use super::index::{self, OffsetEntry, TimeEntry};
use crate::durable::sync_directory;
use crate::error::{Error, Result};
use crate::protocol::failpoint;

/// The active segment of a partition.
#[derive(Debug)]
pub struct ActiveSegment {
    dir: PartitionDir,
    file: File,
    /// The offset of its first record.
    pub base: i64,
    /// Its size: where the next batch goes.
    pub position: u64,
    /// The greatest timestamp in it, and the last offset of the batch that holds it.
    pub newest: TimeEntry,
    offsets: IndexFile,
    times: IndexFile,
    index_interval: u64,
    since_entry: u64,
    last_time_entry: i64,
}

impl ActiveSegment {
    /// Creates an empty segment, and makes its name durable.
    pub fn create(dir: &PartitionDir, base: i64, index_interval: u64) -> Result<Self> {
        let path = dir.file(base, "log");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        let segment = Self {
            dir: dir.clone(),
            file,
            base,
            position: 0,
            newest: TimeEntry { timestamp: i64::MIN, last_offset: -1 },
            offsets: IndexFile::create(dir, base, "index", &[])?,
            times: IndexFile::create(dir, base, "timeindex", &[])?,
            index_interval,
            since_entry: 0,
            last_time_entry: i64::MIN,
        };
        sync_directory(&dir.path)?;
        Ok(segment)
    }

    /// Goes on writing a segment as its extent says. Its indexes are cut back to that.
    pub fn reopen(dir: &PartitionDir, extent: &Extent, index_interval: u64) -> Result<Self> {
        let (base, path) = (extent.segment, dir.file(extent.segment, "log"));
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| Error::io("open", &path, error))?;
        let mut offsets = index::offsets(dir, base);
        offsets.retain(|entry| entry.position < extent.position && entry.last_offset < extent.end);
        let mut times = index::times(dir, base);
        times.retain(|entry| entry.last_offset < extent.end && entry.timestamp <= extent.max_timestamp);
        let offset_bytes: Vec<u8> = offsets.iter().flat_map(|entry| index::offset_entry(base, *entry)).collect();
        let time_bytes: Vec<u8> = times.iter().flat_map(|entry| index::time_entry(base, *entry)).collect();
        Ok(Self {
            dir: dir.clone(),
            file,
            base,
            position: extent.position,
            newest: TimeEntry { timestamp: extent.max_timestamp, last_offset: extent.max_timestamp_offset },
            offsets: IndexFile::create(dir, base, "index", &offset_bytes)?,
            times: IndexFile::create(dir, base, "timeindex", &time_bytes)?,
            index_interval,
            since_entry: extent.position - offsets.last().map_or(0, |entry| entry.position),
            last_time_entry: times.last().map_or(i64::MIN, |entry| entry.timestamp),
        })
    }

    /// Writes a batch behind the last one.
    pub fn append(&mut self, batch: &[u8], last_offset: i64, max_timestamp: i64) -> Result<()> {
        let written =
            if failpoint::is_armed("F4") { self.append_torn(batch) } else { self.file.write_all_at(batch, self.position) };
        written.map_err(|error| Error::io("append to", self.dir.file(self.base, "log"), error))?;
        self.note(batch.len(), last_offset, max_timestamp);
        Ok(())
    }

    /// Dies with half a batch written, once the failpoint's count is reached.
    fn append_torn(&self, batch: &[u8]) -> std::io::Result<()> {
        let (front, back) = batch.split_at(batch.len() / 2);
        self.file.write_all_at(front, self.position)?;
        failpoint::hit("F4");
        self.file.write_all_at(back, self.position + front.len() as u64)
    }

    /// Takes in a batch that lies in the file behind the last one: moves the position, and adds to the indexes.
    pub fn note(&mut self, size: usize, last_offset: i64, max_timestamp: i64) {
        if max_timestamp > self.newest.timestamp {
            self.newest = TimeEntry { timestamp: max_timestamp, last_offset };
        }
        if self.since_entry > self.index_interval {
            let entry = OffsetEntry { last_offset, position: self.position };
            self.offsets.waiting.extend(index::offset_entry(self.base, entry));
            self.note_time();
            self.since_entry = 0;
        }
        self.position += size as u64;
        self.since_entry += size as u64;
    }

    fn note_time(&mut self) {
        if self.newest.timestamp > self.last_time_entry {
            self.times.waiting.extend(index::time_entry(self.base, self.newest));
            self.last_time_entry = self.newest.timestamp;
        }
    }

    /// Cuts the file off at the position: what lies behind was never whole.
    pub fn truncate(&self) -> Result<()> {
        self.file.set_len(self.position).map_err(|error| Error::io("truncate", self.dir.file(self.base, "log"), error))
    }

    /// Makes the records durable. The indexes are only written: they can be made again.
    pub fn sync(&mut self) -> Result<()> {
        self.offsets.write()?;
        self.times.write()?;
        failpoint::hit("L1");
        self.file.sync_data().map_err(|error| Error::io("sync", self.dir.file(self.base, "log"), error))?;
        failpoint::hit("L2");
        Ok(())
    }

    /// Ends the segment: its time index gets the last word, and both indexes become durable.
    pub fn seal(&mut self) -> Result<()> {
        self.note_time();
        self.offsets.write()?;
        self.times.write()?;
        self.offsets.sync()?;
        self.times.sync()
    }
}

/// An index file and what is to be added to it.
#[derive(Debug)]
struct IndexFile {
    file: File,
    path: std::path::PathBuf,
    size: u64,
    waiting: Vec<u8>,
}

impl IndexFile {
    fn create(dir: &PartitionDir, base: i64, extension: &str, content: &[u8]) -> Result<Self> {
        let path = dir.file(base, extension);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        let mut index = Self { file, path, size: 0, waiting: content.to_vec() };
        index.write()?;
        index.file.set_len(index.size).map_err(|error| Error::io("truncate", &index.path, error))?;
        Ok(index)
    }

    fn write(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.file.write_all_at(&self.waiting, self.size).map_err(|error| Error::io("append to", &self.path, error))?;
            self.size += self.waiting.len() as u64;
            self.waiting.clear();
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|error| Error::io("sync", &self.path, error))
    }
}
