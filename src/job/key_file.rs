//! Keys and their places in a file that never changes: fixed records in the order of the keys' hashes, so that one short read finds
//! a key, whatever the number of keys.
//!
//! Keys come in any order. They are parted by the first bits of their hashes, and one partition at a time is sorted in memory. The
//! files have no names: they are gone with the process, however that ends.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::time;

/// Bytes of a record: a hash and a place, big endian, so that records sort as bytes.
const RECORD: usize = 24;
const HASH: usize = 16;
/// Partitions, as bits of a hash.
const PARTITION_BITS: u32 = 8;
/// Bytes of a partition that are written together.
const BLOCK: usize = 680 * RECORD;
/// Records that are found by one read, about.
const BUCKET: u64 = 128;

/// A file that is open, and the name it was made by.
struct Nameless {
    file: File,
    path: PathBuf,
}

impl Nameless {
    fn create(directory: &Path) -> Result<Self> {
        let path = directory.join(format!("keys-{}", time::new_uuid()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::io("create", &path, error))?;
        std::fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
        Ok(Self { file, path })
    }

    fn read(&self, bytes: &mut [u8], at: u64) -> Result<()> {
        self.file.read_exact_at(bytes, at).map_err(|error| Error::io("read", &self.path, error))
    }
}

/// Keys as they come.
pub struct KeyFileWriter {
    directory: PathBuf,
    spill: Nameless,
    /// Blocks in the spill file.
    blocks: u64,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    bytes: Vec<u8>,
    /// Its blocks in the spill file.
    blocks: Vec<u64>,
}

impl KeyFileWriter {
    /// For a file in a directory.
    pub fn new(directory: &Path) -> Result<Self> {
        let partitions = (0..1 << PARTITION_BITS).map(|_| Partition::default()).collect();
        Ok(Self { directory: directory.to_owned(), spill: Nameless::create(directory)?, blocks: 0, partitions })
    }

    /// Adds a key by its hash.
    pub fn add(&mut self, hash: u128, place: u64) -> Result<()> {
        let number = (hash >> (u128::BITS - PARTITION_BITS)) as usize;
        let Some(partition) = self.partitions.get_mut(number) else { return Err(Error::internal("no such partition")) };
        if partition.bytes.capacity() == 0 {
            partition.bytes.reserve_exact(BLOCK);
        }
        partition.bytes.extend_from_slice(&hash.to_be_bytes());
        partition.bytes.extend_from_slice(&place.to_be_bytes());
        if partition.bytes.len() >= BLOCK {
            let written = self.spill.file.write_all_at(&partition.bytes, self.blocks * BLOCK as u64);
            written.map_err(|error| Error::io("write", &self.spill.path, error))?;
            partition.blocks.push(self.blocks);
            partition.bytes.clear();
            self.blocks += 1;
        }
        Ok(())
    }

    /// The file; none if some hash came twice.
    pub fn finish(self) -> Result<Option<KeyFile>> {
        let Self { directory, spill, blocks, partitions } = self;
        let left: usize = partitions.iter().map(|partition| partition.bytes.len()).sum();
        let records = (blocks * BLOCK as u64 + left as u64) / RECORD as u64;
        let bits = (records / BUCKET).max(1).ilog2().max(1);
        let mut file = KeyFile { file: Nameless::create(&directory)?, bits, starts: vec![0; (1 << bits) + 1] };
        let Nameless { file: output, path } = &file.file;
        let mut output = BufWriter::with_capacity(1 << 20, output);
        let failed = |error| Error::io("write", path, error);
        for partition in partitions {
            let mut bytes = partition.read(&spill)?;
            let (records, _) = bytes.as_chunks_mut::<RECORD>();
            records.sort_unstable();
            if records.windows(2).any(|pair| matches!(pair, [a, b] if a[..HASH] == b[..HASH])) {
                return Ok(None);
            }
            for record in &*records {
                if let Some(end) = file.starts.get_mut(bucket(record, bits) + 1) {
                    *end += 1;
                }
            }
            output.write_all(&bytes).map_err(failed)?;
        }
        output.flush().map_err(failed)?;
        drop(output);
        let mut end = 0;
        for start in &mut file.starts {
            end += *start;
            *start = end;
        }
        Ok(Some(file))
    }
}

impl Partition {
    fn read(self, spill: &Nameless) -> Result<Vec<u8>> {
        let Self { mut bytes, blocks } = self;
        let mut end = bytes.len();
        bytes.resize(end + blocks.len() * BLOCK, 0);
        for block in blocks {
            spill.read(&mut bytes[end..end + BLOCK], block * BLOCK as u64)?;
            end += BLOCK;
        }
        Ok(bytes)
    }
}

/// In which bucket a record is, by the first bits of its hash.
fn bucket(hash: &[u8], bits: u32) -> usize {
    let first = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
    (first >> (u64::BITS - bits)) as usize
}

/// All the keys.
pub struct KeyFile {
    file: Nameless,
    bits: u32,
    /// At which record each bucket begins, and where the last one ends.
    starts: Vec<u64>,
}

impl KeyFile {
    /// The place of a key by its hash. `buffer` is for what is read.
    pub fn get(&self, hash: u128, buffer: &mut Vec<u8>) -> Result<Option<u64>> {
        let hash = hash.to_be_bytes();
        let bucket = bucket(&hash, self.bits);
        let Some([start, end]) = self.starts.get(bucket..bucket + 2) else { return Ok(None) };
        buffer.resize((end - start) as usize * RECORD, 0);
        self.file.read(buffer, start * RECORD as u64)?;
        let (records, _) = buffer.as_chunks::<RECORD>();
        let place = |record: &[u8; RECORD]| record.last_chunk().map_or(0, |place| u64::from_be_bytes(*place));
        Ok(records.iter().find(|record| record[..HASH] == hash).map(place))
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    /// With blocks that were spilled and some that were not, and with few keys or none.
    #[test]
    fn all_keys_are_found_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let hash = |key: u64| xxh3_128(&key.to_le_bytes());
        for count in [0, 1, 300, 500_000] {
            let mut writer = KeyFileWriter::new(directory.path()).unwrap();
            (0..count).for_each(|key| writer.add(hash(key), key * 3).unwrap());
            assert_eq!(writer.blocks > 0, count == 500_000);
            let (file, mut buffer) = (writer.finish().unwrap().unwrap(), Vec::new());
            for key in 0..count + 1000 {
                let found = file.get(hash(key), &mut buffer).unwrap();
                assert_eq!(found, (key < count).then_some(key * 3), "key {key} of {count}");
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "the files have no names");
    }

    #[test]
    fn a_key_that_came_twice_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        for count in [2, 400_000] {
            let mut writer = KeyFileWriter::new(directory.path()).unwrap();
            (0..count).for_each(|key: u64| writer.add(xxh3_128(&key.to_le_bytes()), key).unwrap());
            writer.add(xxh3_128(&1_u64.to_le_bytes()), count).unwrap();
            assert!(writer.finish().unwrap().is_none());
        }
    }
}
