//! Reading one partition in order, up to its durable end and never beyond.

use std::fs::File;
use std::io::ErrorKind;

use super::batch::{BatchHeader, Compression, HEADER};
use super::decode;
use super::extent::{self, Extent};
use super::files::{PartitionDir, read_full};
use super::index::{self, OffsetEntry};
use super::writer::{PartitionWriter, WriterOptions};
use crate::error::{Error, Result};
use crate::message::{Offset, Partition, RecordBlock};

/// A block's memory up to this size is kept for the next one, whatever was asked for.
const LARGE: usize = 16 << 20;

/// Reads a partition from an offset on, also while another process appends to it.
///
/// Every batch's checksum is verified, and that each starts where the one before ended: a gap is damage.
pub struct LogReader {
    dir: PartitionDir,
    extent: Extent,
    segment: Segment,
    /// Where the next batch lies in the segment, and the offset it must start with.
    position: u64,
    expected: i64,
    /// The next offset to hand out: it may lie within that batch.
    wanted: i64,
    unpacker: decode::Unpacker,
    /// The batch that is being unpacked.
    packed: Vec<u8>,
}

struct Segment {
    file: File,
    base: i64,
    /// Its size, if it has ended; the active one goes as far as the extent says.
    ended_at: Option<u64>,
}

impl Segment {
    fn open(dir: &PartitionDir, extent: &Extent, base: i64) -> Result<Self> {
        let path = dir.file(base, "log");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing(dir, base)?),
            Err(error) => return Err(Error::io("open", &path, error)),
        };
        let mut segment = Self { file, base, ended_at: None };
        segment.refresh(dir, extent)?;
        Ok(segment)
    }

    fn refresh(&mut self, dir: &PartitionDir, extent: &Extent) -> Result<()> {
        if extent.segment > self.base && self.ended_at.is_none() {
            let size =
                self.file.metadata().map_err(|error| Error::io("read the size of", dir.file(self.base, "log"), error))?;
            self.ended_at = Some(size.len());
        }
        Ok(())
    }

    fn limit(&self, extent: &Extent) -> u64 {
        self.ended_at.unwrap_or(extent.position)
    }
}

/// Why there is no segment with this base: retention came first, or it was lost.
fn missing(dir: &PartitionDir, base: i64) -> Result<Error> {
    let extent = extent::read(dir)?;
    Ok(if base < extent.start {
        before_start(dir, base, &extent)
    } else {
        dir.damage("log.gap", "a segment is missing", base, 0, base)
    })
}

fn before_start(dir: &PartitionDir, at: i64, extent: &Extent) -> Error {
    let what = format!("offset {at} is before the start of the log, {}", extent.start);
    dir.named(Error::refused("log.offset_out_of_range", what))
        .with("offset", at)
        .with("start", extent.start)
        .with("end", extent.end)
        .hint("the records between were deleted by retention: start from a later position, and know that the result lacks them")
}

fn past_end(dir: &PartitionDir, at: i64, extent: &Extent) -> Error {
    let what = format!("offset {at} is past the end of the log, {}", extent.end);
    dir.named(Error::refused("log.offset_out_of_range", what))
        .with("offset", at)
        .with("start", extent.start)
        .with("end", extent.end)
        .hint("was the log replaced by an older copy?")
}

impl LogReader {
    /// Opens a partition at an offset between its start and its end. Any other is refused, never moved.
    pub fn open(dir: PartitionDir, at: Offset) -> Result<Self> {
        let mut extent = extent::read(&dir)?;
        if at.0 < extent.start {
            return Err(before_start(&dir, at.0, &extent));
        }
        if at.0 > extent.end {
            // The records of a published end are durable a moment before the end itself is: a power cut in between leaves an
            // older one, and whoever had read on comes back with a greater offset. If nobody writes, find the end again.
            drop(PartitionWriter::open(dir.clone(), WriterOptions::default()));
            extent = extent::read(&dir)?;
        }
        if at.0 > extent.end {
            return Err(past_end(&dir, at.0, &extent));
        }
        let base = if at.0 >= extent.segment {
            extent.segment
        } else {
            let bases = dir.segments()?;
            let before = bases.partition_point(|base| *base <= at.0).checked_sub(1).and_then(|index| bases.get(index));
            *before.ok_or_else(|| dir.damage("log.gap", "a segment is missing", extent.start, 0, at.0))?
        };
        let segment = Segment::open(&dir, &extent, base)?;
        let unpacker = decode::Unpacker::default();
        let mut reader = Self { dir, extent, segment, position: 0, expected: base, wanted: at.0, unpacker, packed: Vec::new() };
        let entries = index::offsets(&reader.dir, base);
        if let Some(entry) = index::at_or_before(&entries, at.0) {
            reader.jump(entry);
        }
        Ok(reader)
    }

    /// Goes to the batch that an index entry points to, if that is what the entry says; else stays.
    fn jump(&mut self, entry: OffsetEntry) {
        let mut head = [0; HEADER];
        let is_inside = entry.position + HEADER as u64 <= self.segment.limit(&self.extent);
        if !is_inside || !matches!(read_full(&self.segment.file, &mut head, entry.position), Ok(HEADER)) {
            return;
        }
        match BatchHeader::parse(&head) {
            Ok(header) if header.last_offset() == entry.last_offset && header.base_offset >= self.segment.base => {
                (self.position, self.expected) = (entry.position, header.base_offset);
            }
            _ => {}
        }
    }

    /// The partition.
    pub fn partition(&self) -> Partition {
        Partition(self.dir.partition)
    }

    /// The next offset that will be handed out.
    pub fn position(&self) -> Offset {
        Offset(self.wanted)
    }

    /// Replaces the content of `block` by the next records, about `max_bytes` of them as they lie on disk, none at or past
    /// `until`. Never waits. Records before damage are handed out first; the call after that reports it.
    pub fn poll(&mut self, block: &mut RecordBlock, max_bytes: usize, until: Option<Offset>) -> Result<()> {
        block.records.clear();
        block.leader_epoch = None;
        block.partition = self.partition();
        // What one large batch took is not kept for all that follow.
        if block.data.capacity() > max_bytes.saturating_mul(4).max(LARGE) {
            block.data = Vec::new();
        }
        if self.packed.capacity() > LARGE {
            self.packed = Vec::new();
        }
        let until = until.map_or(i64::MAX, |offset| offset.0);
        while block.records.is_empty() && self.wanted < until && self.has_more()? {
            if self.position >= self.segment.limit(&self.extent) {
                self.next_segment()?;
                continue;
            }
            self.read(block, max_bytes.clamp(4 << 10, 1 << 30), until)?;
        }
        block.next_offset = self.position();
        Ok(())
    }

    /// Whether there are durable records at the wanted offset, looking again if there were none the last time.
    fn has_more(&mut self) -> Result<bool> {
        if self.wanted >= self.extent.end {
            let extent = extent::read_again(&self.dir, self.extent.sequence)?;
            if extent.end < self.extent.end {
                return Err(past_end(&self.dir, self.extent.end, &extent));
            }
            self.extent = extent;
            self.segment.refresh(&self.dir, &extent)?;
        }
        Ok(self.wanted < self.extent.end)
    }

    fn next_segment(&mut self) -> Result<()> {
        if self.segment.ended_at != Some(self.position) || self.expected <= self.segment.base {
            return Err(self.damage("the segment ends before the log does", self.position));
        }
        self.segment = Segment::open(&self.dir, &self.extent, self.expected)?;
        self.position = 0;
        Ok(())
    }

    fn damage(&self, what: &str, position: u64) -> Error {
        self.dir.damage("log.damaged", what, self.segment.base, position, self.expected)
    }

    /// Reads a run of bytes and takes the batches in it.
    fn read(&mut self, block: &mut RecordBlock, max_bytes: usize, until: i64) -> Result<()> {
        let left = self.segment.limit(&self.extent).saturating_sub(self.position);
        let size = left.min(max_bytes as u64) as usize;
        self.fill(&mut block.data, self.position, 0, size)?;
        let mut chunk = Chunk { size, at: 0, start: self.position, unpacked: 0 };
        while chunk.at < chunk.size {
            let found = block.records.len();
            match self.take(block, &mut chunk, max_bytes, until) {
                Ok(true) => {}
                Ok(false) => break,
                // Hand out what came before; the next call starts at the damage.
                Err(_) if found > 0 => {
                    block.records.truncate(found);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `data[from..to]` with bytes of the segment, where `data[0]` is the one at `start`.
    fn fill(&self, data: &mut Vec<u8>, start: u64, from: usize, to: usize) -> Result<()> {
        // Old bytes are overwritten: setting them to zero first would cost as much as reading.
        if data.len() < to {
            data.resize(to, 0);
        }
        let position = start + from as u64;
        let target = data.get_mut(from..to).unwrap_or_default();
        let got = read_full(&self.segment.file, target, position)
            .map_err(|error| Error::io("read", self.dir.file(self.segment.base, "log"), error))?;
        data.truncate(to);
        if got < to - from {
            return Err(self.damage("the file ends before its durable end", position + got as u64));
        }
        Ok(())
    }

    /// Takes the batch at `chunk.at`. False: no more from this chunk.
    fn take(&mut self, block: &mut RecordBlock, chunk: &mut Chunk, max_bytes: usize, until: i64) -> Result<bool> {
        let here = chunk.start + chunk.at as u64;
        let limit = self.segment.limit(&self.extent);
        let bytes = block.data.get(chunk.at..chunk.size).unwrap_or_default();
        if bytes.len() < HEADER && here + (bytes.len() as u64) < limit {
            return Ok(false);
        }
        let header = BatchHeader::parse(bytes).map_err(|what| self.damage(what, here))?;
        if !block.records.is_empty() && block.leader_epoch != Some(header.leader_epoch) {
            return Ok(false);
        }
        if header.base_offset != self.expected {
            let what = format!("a batch starts at offset {}, where {} was expected", header.base_offset, self.expected);
            return Err(self.damage(&what, here));
        }
        if here + header.size as u64 > limit {
            return Err(self.damage("a batch goes past the end of its segment", here));
        }
        if chunk.at + header.size > chunk.size && !self.extend(block, chunk, header.size, max_bytes)? {
            return Ok(false);
        }
        let last = header.last_offset();
        let batch = block.data.get(chunk.at..chunk.at + header.size).unwrap_or_default();
        if !header.is_intact(batch) {
            return Err(self.damage("a batch's checksum differs", here));
        }
        if last >= self.wanted && !header.is_control() {
            self.decode(&header, block, chunk, self.wanted..until).map_err(|error| self.at(error, here))?;
            block.leader_epoch = Some(header.leader_epoch);
        }
        if last >= until {
            self.wanted = until;
            // The batch has records for the next call, unless it ends just there.
            return Ok(false);
        }
        self.wanted = self.wanted.max(last + 1);
        chunk.at += header.size;
        self.position += header.size as u64;
        self.expected = last + 1;
        Ok(chunk.unpacked < max_bytes)
    }

    /// Reads the rest of a batch that the chunk has only the front of, unless the chunk is full enough without it.
    fn extend(&self, block: &mut RecordBlock, chunk: &mut Chunk, size: usize, max_bytes: usize) -> Result<bool> {
        let to = chunk.at + size;
        if chunk.at > 0 && (chunk.unpacked > 0 || to > max_bytes + max_bytes / 2) {
            return Ok(false);
        }
        self.fill(&mut block.data, chunk.start, chunk.size, to)?;
        chunk.size = to;
        Ok(true)
    }

    fn decode(
        &mut self,
        header: &BatchHeader,
        block: &mut RecordBlock,
        chunk: &mut Chunk,
        wanted: std::ops::Range<i64>,
    ) -> Result<(), Problem> {
        if header.is_transactional() {
            return Err(Problem::Refused("a batch belongs to a transaction"));
        }
        let place = header.records_at(chunk.at);
        let place = match header.compression() {
            Some(Compression::None) => place,
            None => return Err(Problem::Refused("a batch is packed with gzip or snappy")),
            Some(packed) => {
                self.packed.clear();
                self.packed.extend_from_slice(block.data.get(place).unwrap_or_default());
                let start = block.data.len();
                self.unpacker.unpack(packed, &self.packed, &mut block.data).map_err(Problem::Damage)?;
                chunk.unpacked += block.data.len() - start;
                start..block.data.len()
            }
        };
        decode::records(header, &block.data, place, wanted, &mut block.records).map_err(Problem::Damage)
    }

    fn at(&self, problem: Problem, position: u64) -> Error {
        match problem {
            Problem::Damage(what) => self.damage(what, position),
            Problem::Refused(what) => self
                .dir
                .named(Error::refused("log.foreign_batch", what))
                .with("file", self.dir.file(self.segment.base, "log").display())
                .with("position", position)
                .hint("kappa's own segments have none of these: was the segment copied from another log?"),
        }
    }
}

enum Problem {
    Damage(&'static str),
    Refused(&'static str),
}

/// A run of bytes at the front of a block's data.
struct Chunk {
    size: usize,
    /// The next batch in it.
    at: usize,
    /// The position of its first byte in the segment.
    start: u64,
    /// Bytes of unpacked records behind it.
    unpacked: usize,
}
