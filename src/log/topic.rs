//! Topics of a log: made, found, described, deleted.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::extent::{self, Extent, Publisher};
use super::files::{self, PartitionDir, WriterLock};
use super::names;
use super::reader::LogReader;
use super::retention::Retention;
use super::seek;
use super::size;
use super::topic_writer::TopicWriter;
use super::writer::{PartitionWriter, WriterOptions};
use super::{epochs, segment::ActiveSegment};
use crate::durable::{create_directory, sync_directory};
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};

/// The greatest number of partitions of a topic.
pub const MAX_PARTITIONS: i32 = 4096;

// Directories on their way in and out. `~` cannot occur in the name of a topic: nobody takes them for one.
const CREATING: &str = "creating~";
const DELETED: &str = "deleted~";

/// What `topic.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TopicFile {
    format: u32,
    topic: String,
    topic_id: Uuid,
    partitions: i32,
    #[serde(default)]
    retention: Retention,
}

/// A directory of topics.
#[derive(Clone, Debug)]
pub struct LogDir {
    root: PathBuf,
}

impl LogDir {
    /// The log in this directory. It need not exist: the first topic creates it.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Creates a topic, durably and in one step. One that exists is refused.
    pub fn create_topic(&self, name: &str, partitions: i32, retention: Retention) -> Result<Topic> {
        names::check(name)?;
        if !(1..=MAX_PARTITIONS).contains(&partitions) {
            return Err(Error::config("log.partitions", format!("a topic with {partitions} partitions is not possible"))
                .with("topic", name)
                .hint(format!("give it between 1 and {MAX_PARTITIONS}")));
        }
        let exists = || Error::refused("log.topic_exists", format!("topic {name} exists already")).with("topic", name);
        let path = self.root.join(name);
        if path.exists() {
            return Err(exists());
        }
        create_directory(&self.root)?;
        self.sweep()?;
        let file = TopicFile { format: 1, topic: name.to_owned(), topic_id: crate::time::new_uuid(), partitions, retention };
        let unfinished = self.root.join(format!("{CREATING}{}", file.topic_id));
        self.fill_topic(&unfinished, &file)?;
        match fs::rename(&unfinished, &path) {
            Ok(()) => sync_directory(&self.root)?,
            Err(error) => {
                let _ = fs::remove_dir_all(&unfinished);
                let taken = matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists);
                return Err(if taken { exists() } else { Error::io("create", &path, error) });
            }
        }
        self.topic(name)
    }

    /// Goes on with deletions that a crash has interrupted.
    fn sweep(&self) -> Result<()> {
        let entries = fs::read_dir(&self.root).map_err(|error| Error::io("list", &self.root, error))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(DELETED)) {
            let _ = fs::remove_dir_all(entry.path());
        }
        Ok(())
    }

    fn fill_topic(&self, path: &Path, file: &TopicFile) -> Result<()> {
        for partition in 0..file.partitions {
            let dir = PartitionDir {
                path: path.join(partition.to_string()),
                topic: file.topic.as_str().into(),
                topic_id: file.topic_id,
                partition,
            };
            fs::create_dir_all(&dir.path).map_err(|error| Error::io("create", &dir.path, error))?;
            ActiveSegment::create(&dir, 0, 0)?;
            epochs::start(&dir, 0, 0)?;
            let empty = Extent::empty(file.topic_id, 0);
            Publisher::open(&dir, empty)?.publish(empty)?;
            sync_directory(&dir.path)?;
        }
        let text = serde_json::to_vec_pretty(file).map_err(|error| Error::internal(format!("write topic.json: {error}")))?;
        files::replace(&path.join("topic.json"), &text)
    }

    /// Finds a topic. The error for an unknown one names those that are near.
    pub fn topic(&self, name: &str) -> Result<Topic> {
        names::check(name)?;
        let path = self.root.join(name);
        let text = match fs::read(path.join("topic.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(self.unknown(name)?),
            Err(error) => return Err(Error::io("read", path.join("topic.json"), error)),
        };
        let damaged = |what: String| {
            let file = path.join("topic.json");
            Error::corruption("log.topic_file", what).with("topic", name).with("file", file.display()).hint(files::RESTORE)
        };
        let file: TopicFile =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("topic.json is damaged: {error}")))?;
        if file.format != 1 {
            return Err(damaged(format!("topic.json has format {}, which this release does not know", file.format))
                .hint("use the release that wrote it, or a newer one"));
        }
        if !(1..=MAX_PARTITIONS).contains(&file.partitions) {
            return Err(damaged(format!("topic.json names {} partitions", file.partitions)));
        }
        if path.join(file.partitions.to_string()).exists() {
            return Err(damaged(format!("topic.json names {} partitions, and there are more", file.partitions)));
        }
        Ok(Topic { path, name: name.into(), file: Arc::new(file) })
    }

    fn unknown(&self, name: &str) -> Result<Error> {
        let topics = self.topics()?;
        let near = names::nearest(name, &topics);
        let error = Error::config("log.unknown_topic", format!("there is no topic {name} in {}", self.root.display()));
        let create = format!("create it with `kappa log create {name}`");
        Ok(error.with("topic", name).hint(match near.is_empty() {
            true if topics.is_empty() => format!("there are no topics at all: {create}"),
            true => create,
            false => format!("did you mean {}? or {create}", near.join(", ")),
        }))
    }

    /// The names of all topics, sorted.
    pub fn topics(&self) -> Result<Vec<String>> {
        let failed = |error| Error::io("list", &self.root, error);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut topics = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let valid = name.to_str().filter(|name| names::check(name).is_ok() && entry.path().join("topic.json").exists());
            topics.extend(valid.map(str::to_owned));
        }
        topics.sort_unstable();
        Ok(topics)
    }

    /// Deletes a topic and its records. One that is being written is left alone.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let topic = self.topic(name)?;
        let _locks: Vec<WriterLock> =
            topic.partitions().map(|partition| WriterLock::acquire(&topic.dir(partition)?)).collect::<Result<_>>()?;
        let doomed = self.root.join(format!("{DELETED}{}", topic.file.topic_id));
        fs::rename(&topic.path, &doomed).map_err(|error| Error::io("delete", &topic.path, error))?;
        sync_directory(&self.root)?;
        fs::remove_dir_all(&doomed).map_err(|error| Error::io("delete", &doomed, error))
    }

    /// Deletes what the retention of each topic no longer keeps. Partitions that are being written are left to their writer.
    pub fn enforce_retention(&self, now_ms: i64) -> Result<Vec<Retained>> {
        let mut done = Vec::new();
        for name in self.topics()? {
            let topic = self.topic(&name)?;
            for partition in topic.partitions() {
                let (bytes, is_busy) = match topic.writer(partition, WriterOptions::default()) {
                    Ok(mut writer) => (writer.enforce_retention(&topic.retention(), now_ms)?, false),
                    Err(error) if error.code() == "log.locked" => (0, true),
                    Err(error) => return Err(error),
                };
                done.push(Retained { topic: name.clone(), partition, start: topic.extent(partition)?.start, bytes, is_busy });
            }
        }
        Ok(done)
    }
}

/// What [`LogDir::enforce_retention`] did to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: Partition,
    /// Its first offset now.
    pub start: Offset,
    /// How many bytes were deleted.
    pub bytes: u64,
    /// Whether a writer had it, so that nothing was done.
    pub is_busy: bool,
}

/// How far a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicExtent {
    /// The first offset that is still there.
    pub start: Offset,
    /// The offset after the last durable record.
    pub end: Offset,
    /// The leader epoch of the newest writer.
    pub leader_epoch: i32,
    /// Bytes of segments on disk.
    pub bytes: u64,
}

/// A topic of a [`LogDir`].
#[derive(Clone, Debug)]
pub struct Topic {
    path: PathBuf,
    name: Arc<str>,
    file: Arc<TopicFile>,
}

impl Topic {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its identity: another topic under the same name has another one.
    pub fn id(&self) -> Uuid {
        self.file.topic_id
    }

    /// How long it is kept.
    pub fn retention(&self) -> Retention {
        self.file.retention
    }

    /// Its partitions, from 0.
    pub fn partitions(&self) -> impl ExactSizeIterator<Item = Partition> + use<> {
        (0..self.file.partitions).map(Partition)
    }

    /// Where a partition lies. One that the topic does not have is refused.
    pub fn dir(&self, partition: Partition) -> Result<PartitionDir> {
        if !(0..self.file.partitions).contains(&partition.0) {
            let what = format!("topic {} has no partition {partition}: it has 0 to {}", self.name, self.file.partitions - 1);
            return Err(Error::config("log.unknown_partition", what).with("topic", &self.name).with("partition", partition));
        }
        Ok(PartitionDir {
            path: self.path.join(partition.0.to_string()),
            topic: self.name.clone(),
            topic_id: self.file.topic_id,
            partition: partition.0,
        })
    }

    /// How far a partition goes now.
    pub fn extent(&self, partition: Partition) -> Result<TopicExtent> {
        let dir = self.dir(partition)?;
        let extent = extent::read(&dir)?;
        let mut bytes = extent.position;
        for base in dir.segments()?.into_iter().filter(|base| *base < extent.segment) {
            // Retention may delete it in between.
            bytes += fs::metadata(dir.file(base, "log")).map_or(0, |metadata| metadata.len());
        }
        let (start, end) = (Offset(extent.start), Offset(extent.end));
        Ok(TopicExtent { start, end, leader_epoch: extent.leader_epoch, bytes })
    }

    /// Opens a partition for reading.
    pub fn reader(&self, partition: Partition, at: Offset) -> Result<LogReader> {
        LogReader::open(self.dir(partition)?, at)
    }

    /// The epoch in which the record before an offset was written; none where there is none.
    ///
    /// # Errors
    /// The list of epochs cannot be read.
    pub fn epoch_before(&self, partition: Partition, offset: Offset) -> Result<Option<i32>> {
        let epochs = epochs::read(&self.dir(partition)?)?;
        Ok(epochs.iter().rev().find(|(_, start)| *start < offset.0).map(|(epoch, _)| *epoch))
    }

    /// Opens a partition for appending.
    pub fn writer(&self, partition: Partition, options: WriterOptions) -> Result<PartitionWriter> {
        PartitionWriter::open(self.dir(partition)?, options)
    }

    /// Opens all partitions for appending, or one.
    pub fn topic_writer(&self, only: Option<Partition>, options: WriterOptions) -> Result<TopicWriter> {
        TopicWriter::open(self, only, options)
    }

    /// The first offset of a partition whose record has this timestamp (milliseconds since 1970 UTC) or a later one; the
    /// end if none.
    pub fn offset_at(&self, partition: Partition, timestamp: i64) -> Result<Offset> {
        seek::offset_at(&self.dir(partition)?, timestamp)
    }
    /// The bytes on disk of the records between two offsets of a partition, by whole batches.
    pub fn bytes_between(&self, partition: Partition, from: Offset, until: Offset) -> Result<u64> {
        size::bytes_between(&self.dir(partition)?, from, until)
    }
}
