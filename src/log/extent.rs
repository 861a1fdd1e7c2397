//! How far a partition reaches, durably: the one small file that says what readers may see.
//!
//! The writer publishes here only what it has fsynced. Two slots in different sectors are written in turn, each with a
//! sequence number and a checksum: a torn write, or a reader that comes in the middle of one, finds the slot before it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use uuid::Uuid;

use super::batch::MAX_OFFSET;
use super::files::{PartitionDir, read_full};
use crate::error::{Error, Result};
use crate::protocol::failpoint;

const MAGIC: u32 = u32::from_be_bytes(*b"KXT1");
const SLOT: usize = 512;
const BODY: usize = 88;
/// No segment is so large.
const MAX_POSITION: u64 = 1 << 62;

/// What the newest slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub(super) sequence: u64,
    pub(super) topic_id: Uuid,
    /// The first offset that is still there.
    pub start: i64,
    /// The offset after the last durable record.
    pub end: i64,
    /// The segment that holds the end.
    pub segment: i64,
    /// The byte of that segment at which `end` will be written.
    pub position: u64,
    /// The leader epoch of the writer.
    pub leader_epoch: i32,
    /// The greatest timestamp in that segment; [`i64::MIN`] while it is empty.
    pub max_timestamp: i64,
    /// The last offset of the batch that holds it.
    pub max_timestamp_offset: i64,
}

impl Extent {
    /// Of a partition whose records would start at `start`.
    pub fn empty(topic_id: Uuid, start: i64) -> Self {
        Self {
            sequence: 0,
            topic_id,
            start,
            end: start,
            segment: start,
            position: 0,
            leader_epoch: 0,
            max_timestamp: i64::MIN,
            max_timestamp_offset: -1,
        }
    }

    fn to_bytes(self) -> [u8; BODY] {
        let mut out = [0; BODY];
        out[..4].copy_from_slice(&MAGIC.to_be_bytes());
        out[4..12].copy_from_slice(&self.sequence.to_be_bytes());
        out[12..28].copy_from_slice(self.topic_id.as_bytes());
        out[28..36].copy_from_slice(&self.start.to_be_bytes());
        out[36..44].copy_from_slice(&self.end.to_be_bytes());
        out[44..52].copy_from_slice(&self.segment.to_be_bytes());
        out[52..60].copy_from_slice(&self.position.to_be_bytes());
        out[60..64].copy_from_slice(&self.leader_epoch.to_be_bytes());
        out[64..72].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[72..80].copy_from_slice(&self.max_timestamp_offset.to_be_bytes());
        let crc = crc32c::crc32c(&out[..BODY - 4]);
        out[BODY - 4..].copy_from_slice(&crc.to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let body = bytes.first_chunk::<BODY>()?;
        let number = |at: usize| body[at..].first_chunk::<8>().map(|bytes| i64::from_be_bytes(*bytes));
        let short = |at: usize| body[at..].first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        if short(0)? != MAGIC || short(BODY - 4)? != crc32c::crc32c(&body[..BODY - 4]) {
            return None;
        }
        let extent = Self {
            sequence: number(4)? as u64,
            topic_id: Uuid::from_bytes(*body[12..].first_chunk::<16>()?),
            start: number(28)?,
            end: number(36)?,
            segment: number(44)?,
            position: number(52)? as u64,
            leader_epoch: short(60)? as i32,
            max_timestamp: number(64)?,
            max_timestamp_offset: number(72)?,
        };
        extent.is_possible().then_some(extent)
    }

    /// Whether its numbers can be together: with a right checksum, others were never written.
    fn is_possible(&self) -> bool {
        let offsets = [0, self.start, self.end, MAX_OFFSET];
        let segment = (0..=self.end).contains(&self.segment);
        offsets.is_sorted() && segment && self.position <= MAX_POSITION && self.sequence < u64::MAX && self.leader_epoch >= 0
    }
}

fn path(dir: &PartitionDir) -> PathBuf {
    dir.path.join("extent")
}

/// Reads the extent; `None` if there is no such file, or no valid slot in it.
pub fn find(dir: &PartitionDir) -> Result<Option<Extent>> {
    find_from(dir, 0)
}

/// Reads an extent that should not be older than `sequence`. A reader that is held up between the two slots while the
/// writer publishes twice can see the one too old and the other torn: then it looks again.
fn find_from(dir: &PartitionDir, sequence: u64) -> Result<Option<Extent>> {
    let path = path(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", &path, error)),
    };
    let mut newest = None;
    for _ in 0..5 {
        let mut bytes = [0; 2 * SLOT];
        read_full(&file, &mut bytes, 0).map_err(|error| Error::io("read", &path, error))?;
        newest = bytes.chunks(SLOT).filter_map(Extent::from_bytes).max_by_key(|extent| extent.sequence);
        if newest.is_some_and(|extent| extent.sequence >= sequence) {
            break;
        }
    }
    match newest {
        Some(extent) if extent.topic_id != dir.topic_id => Err(dir
            .named(Error::refused("log.topic_recreated", "the topic was deleted and created again under the same name"))
            .hint("its records are others: read it as a new topic, into a new version")),
        newest => Ok(newest),
    }
}

/// Reads the extent, which must be there.
pub fn read(dir: &PartitionDir) -> Result<Extent> {
    read_again(dir, 0)
}

/// Reads the extent once more after one with this sequence number.
pub fn read_again(dir: &PartitionDir, sequence: u64) -> Result<Extent> {
    if let Some(extent) = find_from(dir, sequence)? {
        return Ok(extent);
    }
    if !dir.path.exists() {
        return Err(dir.named(Error::refused("log.partition_gone", "the partition is gone: was the topic deleted?")));
    }
    Err(dir
        .named(Error::corruption(
            "log.extent",
            "how far the partition reaches is not known: its extent file is missing or damaged",
        ))
        .with("file", path(dir).display())
        .hint("appending to the partition finds its end again"))
}

/// Publishes extents: the only place where what readers see moves.
#[derive(Debug)]
pub struct Publisher {
    file: File,
    path: PathBuf,
    current: Extent,
}

impl Publisher {
    /// Goes on from `current`. Nothing is written yet.
    pub fn open(dir: &PartitionDir, current: Extent) -> Result<Self> {
        let path = path(dir);
        let open = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        Ok(Self { file: open.map_err(|error| Error::io("open", &path, error))?, path, current })
    }

    /// What was published last.
    pub fn current(&self) -> &Extent {
        &self.current
    }

    /// Publishes `next`, durably. Everything it says must be durable itself before.
    pub fn publish(&mut self, next: Extent) -> Result<()> {
        let next = Extent { sequence: self.current.sequence + 1, ..next };
        let slot = (next.sequence % 2) * SLOT as u64;
        let failed = |error| Error::io("write", &self.path, error);
        self.file.write_all_at(&next.to_bytes(), slot).map_err(failed)?;
        failpoint::hit("L3");
        self.file.sync_data().map_err(failed)?;
        self.current = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let dir = PartitionDir { path: root.path().into(), topic: "t".into(), topic_id: Uuid::nil(), partition: 0 };
        assert_eq!(find(&dir).unwrap(), None);
        let mut publisher = Publisher::open(&dir, Extent::empty(Uuid::nil(), 0)).unwrap();
        for end in 1..=5 {
            publisher.publish(Extent { end, ..*publisher.current() }).unwrap();
            assert_eq!(read(&dir).unwrap().end, end);
        }
        let slot = (publisher.current().sequence % 2) * SLOT as u64;
        for byte in 0..BODY as u64 {
            let mut old = [0];
            let file = File::options().read(true).write(true).open(path(&dir)).unwrap();
            file.read_exact_at(&mut old, slot + byte).unwrap();
            file.write_all_at(&[!old[0]], slot + byte).unwrap();
            assert_eq!(read(&dir).unwrap().end, 4, "byte {byte}");
            file.write_all_at(&old, slot + byte).unwrap();
        }
        assert_eq!(read(&dir).unwrap().end, 5);
        let other = PartitionDir { topic_id: Uuid::from_u128(1), ..dir };
        assert_eq!(read(&other).unwrap_err().code(), "log.topic_recreated");
    }
}
