//! Rows of two tables, parted by the hash of their keys: in memory as long as the budget lasts, then in a file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::time;

/// Bytes of a full block.
const BLOCK: usize = 64 << 10;
/// Rows of a partition that are small enough to stay near the processor.
const PARTITION_BYTES: u64 = 2 << 20;
const MOST_PARTITIONS: u64 = 4096;
/// The two lengths before a row.
const HEAD: usize = 8;

/// One of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first.
    A,
    /// The second.
    B,
}

/// The partitions of both tables.
pub struct Partitions {
    blocks: [Vec<Mutex<Vec<Block>>>; 2],
    /// Bytes of memory that are left for blocks.
    left: AtomicI64,
    spill: Spill,
    block: usize,
}

/// Encoded rows.
enum Block {
    Memory(Vec<u8>),
    Disk { at: u64, bytes: usize },
}

/// A file without a name: it is gone with the process, however that ends.
#[derive(Default)]
struct Spill {
    file: OnceLock<(File, PathBuf)>,
    end: AtomicU64,
    opening: Mutex<()>,
}

impl Partitions {
    /// Room for tables of about so many bytes in all, of which `memory` stay in memory, filled by `threads`.
    pub fn new(bytes: u64, memory: usize, threads: usize) -> Self {
        // While partitions are compared, each thread has one of them in memory, with a table of its keys.
        let fits = (memory as u64 / (8 * threads as u64)).clamp(1, PARTITION_BYTES);
        let count = (bytes / fits + 1).next_power_of_two().min(MOST_PARTITIONS) as usize;
        let buffers = 2 * threads * count;
        let block = (memory / 4 / buffers).clamp(512, BLOCK);
        let empty = || (0..count).map(|_| Mutex::default()).collect();
        let left = i64::try_from(memory / 2).unwrap_or(i64::MAX);
        Self { blocks: [empty(), empty()], left: AtomicI64::new(left), spill: Spill::default(), block }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.blocks[0].len()
    }

    /// Bytes that went to the disk.
    pub fn spilled(&self) -> u64 {
        self.spill.end.load(Relaxed)
    }

    /// What a thread puts rows in.
    pub fn writer(&self) -> Writer<'_> {
        let empty = || vec![Vec::new(); self.count()];
        Writer { partitions: self, buffers: [empty(), empty()] }
    }

    fn add(&self, which: Which, partition: usize, block: Vec<u8>) -> Result<()> {
        let Some(blocks) = self.blocks[which as usize].get(partition) else {
            return Err(Error::internal(format!("no partition {partition}")));
        };
        let bytes = block.len() as i64;
        let block = if self.left.fetch_sub(bytes, Relaxed) >= bytes {
            Block::Memory(block)
        } else {
            self.left.fetch_add(bytes, Relaxed);
            Block::Disk { at: self.spill.write(&block)?, bytes: block.len() }
        };
        blocks.lock().unwrap_or_else(PoisonError::into_inner).push(block);
        Ok(())
    }

    /// Takes the rows of a partition out, block by block.
    pub fn take(&self, which: Which, partition: usize) -> impl Iterator<Item = Result<Vec<u8>>> {
        let blocks = self.blocks[which as usize].get(partition);
        let blocks = blocks.map(|blocks| std::mem::take(&mut *blocks.lock().unwrap_or_else(PoisonError::into_inner)));
        blocks.unwrap_or_default().into_iter().map(|block| match block {
            Block::Memory(bytes) => Ok(bytes),
            Block::Disk { at, bytes } => self.spill.read(at, bytes),
        })
    }
}

impl Spill {
    fn open(&self) -> Result<&(File, PathBuf)> {
        let _turn = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.file.get() {
            return Ok(open);
        }
        let path = std::env::temp_dir().join(format!("kappa-diff-{}", time::new_uuid()));
        let failed = |error| Error::io("create", &path, error);
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(failed)?;
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        Ok(self.file.get_or_init(|| (file, path)))
    }

    fn write(&self, block: &[u8]) -> Result<u64> {
        let (file, path) = self.open()?;
        let at = self.end.fetch_add(block.len() as u64, Relaxed);
        file.write_all_at(block, at).map_err(|error| {
            Error::io("write", path, error)
                .hint("the comparison needs room there: set TMPDIR to a larger place, or give more --memory")
        })?;
        Ok(at)
    }

    fn read(&self, at: u64, bytes: usize) -> Result<Vec<u8>> {
        let (file, path) = self.open()?;
        let mut block = vec![0; bytes];
        file.read_exact_at(&mut block, at).map_err(|error| Error::io("read", path, error))?;
        Ok(block)
    }
}

/// Puts rows in partitions.
pub struct Writer<'a> {
    partitions: &'a Partitions,
    buffers: [Vec<Vec<u8>>; 2],
}

impl Writer<'_> {
    /// Adds a row.
    pub fn push(&mut self, which: Which, key: &[u8], values: &[u8]) -> Result<()> {
        if u32::try_from(key.len()).is_err() || u32::try_from(values.len()).is_err() {
            return Err(Error::data("huge_row", "a row has more than 4 GB"));
        }
        let partition = partition_of(hash(key), self.partitions.count());
        let limit = self.partitions.block;
        let Some(buffer) = self.buffers[which as usize].get_mut(partition) else {
            return Err(Error::internal(format!("no partition {partition}")));
        };
        let bytes = HEAD + key.len() + values.len();
        let full = if buffer.len() + bytes > limit { std::mem::take(buffer) } else { Vec::new() };
        if buffer.capacity() == 0 {
            buffer.reserve_exact(limit.max(bytes));
        }
        put_row(buffer, key, values);
        if full.is_empty() { Ok(()) } else { self.partitions.add(which, partition, full) }
    }

    /// Hands over what is left.
    pub fn finish(self) -> Result<()> {
        for (which, buffers) in [Which::A, Which::B].into_iter().zip(self.buffers) {
            for (partition, mut buffer) in buffers.into_iter().enumerate().filter(|(_, buffer)| !buffer.is_empty()) {
                buffer.shrink_to_fit();
                self.partitions.add(which, partition, buffer)?;
            }
        }
        Ok(())
    }
}

/// Appends a row: its two lengths, which fit, and its bytes.
#[inline]
pub fn put_row(to: &mut Vec<u8>, key: &[u8], values: &[u8]) {
    to.extend_from_slice(&(key.len() as u32).to_le_bytes());
    to.extend_from_slice(&(values.len() as u32).to_le_bytes());
    to.extend_from_slice(key);
    to.extend_from_slice(values);
}

/// Of a key.
#[inline]
pub fn hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// By bits in the middle: a hash table goes by those at the ends.
#[inline]
fn partition_of(hash: u64, count: usize) -> usize {
    (hash >> 32) as usize & (count - 1)
}

/// A row in a block.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// Where it begins.
    pub at: usize,
    /// The bytes of its key.
    pub key: &'a [u8],
    /// The bytes of its other columns.
    pub values: &'a [u8],
}

/// The row that begins at `at`.
#[inline]
pub fn row_at(block: &[u8], at: usize) -> Option<Row<'_>> {
    let rest = block.get(at..)?;
    let (head, rest) = rest.split_first_chunk::<HEAD>()?;
    let [a, b, c, d, e, f, g, h] = *head;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)?;
    let values = rest.get(..u32::from_le_bytes([e, f, g, h]) as usize)?;
    Some(Row { at, key, values })
}

/// The rows of a block.
pub fn rows(block: &[u8]) -> impl Iterator<Item = Row<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let row = row_at(block, at)?;
        at += HEAD + row.key.len() + row.values.len();
        Some(row)
    })
}
