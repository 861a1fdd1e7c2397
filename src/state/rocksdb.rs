//! The store over RocksDB: the only file that knows it.
//!
//! The log is the write-ahead log: RocksDB's own is off, and what is not in a checkpoint is replayed. Column families
//! flush together, so a checkpoint never holds one family's epoch without the other's. Any error of the store is final
//! for the process: it stops and the next one restores (RocksDB stays unusable after a full disk, for one).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, IteratorMode, LruCacheOptions,
    Options, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::{Changes, Found, Keys, StateStore, StoreSize, Visit};
use crate::error::{Error, Result};

/// How often a flush before a checkpoint is asked for.
const FLUSHES: usize = 10;

/// Bytes of a block of state: large ones pack well.
const BLOCK: usize = 16 << 10;
/// Bytes of a block where a few bytes are looked up here and there: each look unpacks one.
const SMALL_BLOCK: usize = 4 << 10;

/// Bytes of the cache that no other part of it may use.
const SHARD: usize = 16 << 20;

/// A RocksDB in a directory of its own.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
    families: Vec<String>,
    cache: Cache,
}

impl RocksStore {
    /// Opens or creates the store. `memory` bytes bound its write buffers, block cache, indexes and filters together.
    pub fn open(path: &Path, families: &[String], memory: usize) -> Result<Self> {
        Self::open_in_blocks(path, families, memory, BLOCK)
    }

    /// The same for entries of a few bytes that are looked up far apart from each other.
    pub fn open_for_lookups(path: &Path, families: &[String], memory: usize) -> Result<Self> {
        Self::open_in_blocks(path, families, memory, SMALL_BLOCK)
    }

    fn open_in_blocks(path: &Path, families: &[String], memory: usize, block: usize) -> Result<Self> {
        let cache = Self::cache(memory);
        // Write buffers are charged to the cache, so that one number bounds both.
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(memory / 2, false, cache.clone());
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&buffers);
        options.set_max_open_files(512);
        options.set_max_background_jobs(2);
        options.set_keep_log_file_num(1);
        options.set_max_manifest_file_size(4 << 20);
        let descriptor = |name: &String| ColumnFamilyDescriptor::new(name, Self::family_options(&cache, memory, block));
        let mut descriptors: Vec<_> = families.iter().map(descriptor).collect();
        descriptors.push(ColumnFamilyDescriptor::new("default", Options::default()));
        let db = DB::open_cf_descriptors(&options, path, descriptors).map_err(|e| failed("open", path, &e))?;
        Ok(Self { db, path: path.to_owned(), families: families.to_vec(), cache })
    }

    /// In few shards where it is small: each must hold the filter of a file, which would else be read again for each look.
    fn cache(memory: usize) -> Cache {
        let mut options = LruCacheOptions::default();
        options.set_capacity(memory);
        options.set_num_shard_bits((memory / SHARD).max(1).ilog2().min(6) as i32);
        Cache::new_lru_cache_opts(&options)
    }

    fn family_options(cache: &Cache, memory: usize, block: usize) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_block_size(block);
        table.set_format_version(5);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        // At the bottom too: what is read again and again must be quick to unpack.
        options.set_compression_type(DBCompressionType::Lz4);
        // Each checkpoint flushes, and a small state is all in its bottommost level: merge it half as often as by default.
        options.set_level_zero_file_num_compaction_trigger(8);
        options.set_write_buffer_size((memory / 4).clamp(1 << 20, 64 << 20));
        // Most of what is looked for in a state that is larger than memory is not in a write buffer.
        options.set_memtable_whole_key_filtering(true);
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }

    /// Makes `to` a copy of a checkpoint by hard links, so that the checkpoint itself is never opened. Files that
    /// RocksDB appends to are copied; all are where `to` is on another file system, as RocksDB does it in a checkpoint.
    /// `checksum` is what `checkpoint` gave, if it is known.
    pub fn clone_checkpoint(from: &Path, to: &Path, checksum: Option<u32>) -> Result<()> {
        // Without this file RocksDB would begin an empty store; it looks for the other files itself.
        if !from.join("CURRENT").is_file() {
            return Err(damaged(format!("the state in {} is gone: it has no file CURRENT", from.display())));
        }
        if let Some(checksum) = checksum
            && list_checksum(from)? != checksum
        {
            return Err(damaged(format!("the list of files of the state in {} is damaged", from.display())));
        }
        std::fs::create_dir_all(to).map_err(|e| Error::io("create", to, e))?;
        for entry in std::fs::read_dir(from).map_err(|e| Error::io("read", from, e))? {
            let entry = entry.map_err(|e| Error::io("read", from, e))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let linked = match source.extension().is_some_and(|e| e == "sst") {
                true => std::fs::hard_link(&source, &target),
                false => Err(ErrorKind::CrossesDevices.into()),
            };
            match linked {
                Err(e) if e.kind() == ErrorKind::CrossesDevices => std::fs::copy(&source, &target).map(drop),
                done => done,
            }
            .map_err(|e| Error::io("copy to", &target, e))?;
        }
        Ok(())
    }

    /// Brings everything that was written into table files. A checkpoint does that itself, but when the write-buffer manager
    /// has begun a flush at the same moment it has been seen to leave out the newest entries, and there is no write-ahead log
    /// that would hold them. So the flush is asked for by name, and then it is looked whether anything is left.
    fn flush(&self) -> Result<()> {
        let families = self.families.iter().map(|name| self.family(name)).collect::<Result<Vec<_>>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        for _ in 0..FLUSHES {
            if self.in_memory(&families)? == 0 {
                return Ok(());
            }
            self.db.flush_cfs_opt(&families, &options).map_err(|e| failed("flush", &self.path, &e))?;
        }
        match self.in_memory(&families)? {
            0 => Ok(()),
            left => Err(Error::internal(format!("{left} entries of the state in {} stay in memory", self.path.display()))),
        }
    }

    /// Entries that are in no table file yet.
    fn in_memory(&self, families: &[&rocksdb::ColumnFamily]) -> Result<u64> {
        let mut entries = 0;
        for family in families {
            for property in ["rocksdb.num-entries-active-mem-table", "rocksdb.num-entries-imm-mem-tables"] {
                let value = self.db.property_int_value_cf(family, property).map_err(|e| failed("look at", &self.path, &e))?;
                entries += value.ok_or_else(|| Error::internal(format!("RocksDB does not know {property}")))?;
            }
        }
        Ok(entries)
    }

    fn family(&self, name: &str) -> Result<&rocksdb::ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::internal(format!("there is no state family {name:?}")))
    }
}

impl StateStore for RocksStore {
    fn multi_get(&self, family: &str, keys: &Keys, found: &mut Found<'_>) -> Result<()> {
        let cf = self.family(family)?;
        let values = self.db.batched_multi_get_cf(cf, keys.iter(), keys.iter().is_sorted());
        for (index, value) in values.into_iter().enumerate() {
            let value = value.map_err(|e| failed("read", &self.path, &e))?;
            found(index, value.as_deref())?;
        }
        Ok(())
    }

    fn write(&self, family: &str, changes: &Changes) -> Result<()> {
        let cf = self.family(family)?;
        let mut batch = WriteBatch::default();
        for (key, value) in changes.sorted() {
            match value {
                Some(value) => batch.put_cf(cf, key, value),
                None => batch.delete_cf(cf, key),
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|e| failed("write", &self.path, &e))
    }

    /// One tombstone for each range that holds anything: whatever it covers is not looked at.
    fn delete_ranges(&self, family: &str, ranges: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let cf = self.family(family)?;
        let (mut batch, mut iterator) = (WriteBatch::default(), self.db.raw_iterator_cf(cf));
        for (from, to) in ranges {
            iterator.seek(from);
            // Where nothing is found, the reason may be an error; the next look would forget it.
            match iterator.key() {
                Some(key) if key < to.as_slice() => batch.delete_range_cf(cf, from, to),
                Some(_) => {}
                None => iterator.status().map_err(|e| failed("read", &self.path, &e))?,
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|e| failed("write", &self.path, &e))
    }

    fn scan(&self, family: &str, visit: &mut Visit<'_>) -> Result<()> {
        for item in self.db.iterator_cf(self.family(family)?, IteratorMode::Start) {
            let (key, value) = item.map_err(|e| failed("read", &self.path, &e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    /// RocksDB syncs table files and its options when they are made, and of the checkpoint what it copies and the directory. All
    /// files are linked or copied aside and come in one rename.
    fn checkpoint(&self, directory: &Path) -> Result<u32> {
        self.flush()?;
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| failed("checkpoint", &self.path, &e))?;
        checkpoint.create_checkpoint(directory).map_err(|e| failed("checkpoint", directory, &e))?;
        list_checksum(directory)
    }

    fn size(&self) -> StoreSize {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let disk = property("rocksdb.total-sst-files-size")
            .max(self.db.live_files().map(|files| files.iter().map(|file| file.size as u64).sum()).unwrap_or(0));
        StoreSize { disk, memory: self.cache.get_usage() as u64 }
    }
}

/// CRC-32C of the files in which RocksDB lists all the others. One that is cut off reads as a smaller store, without an error;
/// table files have checksums of their own in each block, and their sizes are in the list.
fn list_checksum(directory: &Path) -> Result<u32> {
    let failed = |e| Error::io("read", directory, e);
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(failed)?;
    let is_list = |name: &String| name == "CURRENT" || name.starts_with("MANIFEST-");
    let mut names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(is_list).collect();
    names.sort_unstable();
    names.iter().try_fold(0, |checksum, name| {
        let path = directory.join(name);
        let content = std::fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        Ok(crc32c::crc32c_append(crc32c::crc32c_append(checksum, name.as_bytes()), &content))
    })
}

fn damaged(message: String) -> Error {
    Error::corruption("state", message).hint(
        "run the same command again: it restores the state from the last checkpoint; if it is the checkpoint that is damaged, \
         restore its folder from a copy, or build the table anew from the log: --replace, or reprocess into a new table",
    )
}

fn failed(action: &str, path: &Path, error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    let message = format!("{action} state in {}: {text}", path.display());
    if error.kind() == rocksdb::ErrorKind::Corruption {
        return damaged(message);
    }
    let error = Error::disk("state", message);
    match error.hint_text() {
        Some(_) => error,
        None => error.hint("run the same command again: it goes on from the last checkpoint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(store: &RocksStore, family: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut note = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        store.scan(family, &mut note).unwrap();
        found
    }

    /// With so little memory that buffers are flushed all the time, and writers side by side.
    #[test]
    fn a_checkpoint_holds_everything_that_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let families = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let store = RocksStore::open(&dir.path().join("db"), &families, 50_000).unwrap();
        for round in 0..40u32 {
            std::thread::scope(|scope| {
                for writer in 0..3u32 {
                    let (store, families) = (&store, &families);
                    scope.spawn(move || {
                        for (step, family) in (0..20u32).flat_map(|step| families.iter().map(move |family| (step, family))) {
                            let mut changes = Changes::default();
                            let key = [writer.to_be_bytes(), (step % 7).to_be_bytes()].concat();
                            changes.put(|out| out.extend(key), |out| out.extend((round * 100 + step).to_le_bytes()));
                            store.write(family, &changes).unwrap();
                        }
                    });
                }
            });
            let (taken, copy) = (dir.path().join(format!("taken{round}")), dir.path().join(format!("copy{round}")));
            let checksum = store.checkpoint(&taken).unwrap();
            RocksStore::clone_checkpoint(&taken, &copy, Some(checksum)).unwrap();
            let restored = RocksStore::open(&copy, &families, 1 << 20).unwrap();
            for family in &families {
                assert_eq!(content(&restored, family), content(&store, family), "round {round}, family {family}");
            }
        }
    }

    #[test]
    fn a_checkpoint_that_lost_files_is_not_taken_for_an_empty_state() {
        let dir = tempfile::tempdir().unwrap();
        let (taken, families) = (dir.path().join("taken"), ["a".to_owned()]);
        let store = RocksStore::open(&dir.path().join("db"), &families, 1 << 20).unwrap();
        let mut changes = Changes::default();
        changes.put(|out| out.extend(b"key"), |out| out.extend(b"value"));
        store.write("a", &changes).unwrap();
        store.checkpoint(&taken).unwrap();
        let names = || std::fs::read_dir(&taken).unwrap().map(|entry| entry.unwrap().path());
        let table = names().find(|path| path.extension().is_some_and(|e| e == "sst")).unwrap();
        for (number, lost) in [table, taken.join("CURRENT")].into_iter().enumerate() {
            std::fs::remove_file(&lost).unwrap();
            let copy = dir.path().join(number.to_string());
            let opened =
                RocksStore::clone_checkpoint(&taken, &copy, None).and_then(|()| RocksStore::open(&copy, &families, 1 << 20));
            assert!(opened.is_err(), "without {}", lost.display());
        }
    }
    /// A block that cannot be read, behind a range and before another: what is looked for next is found, and says nothing of it.
    #[test]
    fn ranges_are_not_taken_for_empty_where_they_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (path, families) = (dir.path().join("db"), ["a".to_owned()]);
        let key = |number: u32| number.to_be_bytes().to_vec();
        {
            let store = RocksStore::open(&path, &families, 1 << 20).unwrap();
            let mut changes = Changes::default();
            (0..20_000)
                .for_each(|n| changes.put(|out| out.extend(key(n)), |out| out.extend(crc32c::crc32c(&key(n)).to_be_bytes())));
            store.write("a", &changes).unwrap();
            store.flush().unwrap();
        }
        let tables = || std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
        let table = tables().find(|path| path.extension().is_some_and(|e| e == "sst")).unwrap();
        let mut bytes = std::fs::read(&table).unwrap();
        // Of the first block, in which the first range lies.
        bytes[100] ^= 1;
        std::fs::write(&table, bytes).unwrap();
        let store = RocksStore::open(&path, &families, 1 << 20).unwrap();
        let delete = |ranges: &[(u32, u32)]| {
            let ranges: Vec<_> = ranges.iter().map(|(from, to)| (key(*from), key(*to))).collect();
            store.delete_ranges("a", &ranges)
        };
        delete(&[(19_990, 19_995)]).unwrap();
        assert_eq!(delete(&[(5, 10), (19_900, 19_950)]).unwrap_err().code(), "state");
    }

    #[test]
    fn what_cannot_be_read_is_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let (taken, families) = (dir.path().join("taken"), ["a".to_owned()]);
        let store = RocksStore::open(&dir.path().join("db"), &families, 1 << 20).unwrap();
        let checksum = store.checkpoint(&taken).unwrap();
        let clone = |to: &str, checksum| RocksStore::clone_checkpoint(&taken, &dir.path().join(to), Some(checksum));
        assert_eq!(clone("other", checksum ^ 1).unwrap_err().kind(), crate::error::ErrorKind::Corruption);
        clone("same", checksum).unwrap();
        // Whoever reads, a folder gives an error of the disk.
        let names = || std::fs::read_dir(&taken).unwrap().map(|entry| entry.unwrap().path());
        let list = names().find(|path| path.to_string_lossy().contains("MANIFEST-")).unwrap();
        std::fs::remove_file(&list).unwrap();
        std::fs::create_dir(&list).unwrap();
        let error = clone("unread", checksum).unwrap_err();
        assert_eq!((error.kind(), error.code()), (crate::error::ErrorKind::Unavailable, "io"), "{error}");
    }
}
