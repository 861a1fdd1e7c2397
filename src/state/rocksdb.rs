//! The store over RocksDB: the only file that knows it.
//!
//! The log is the write-ahead log: RocksDB's own is off, and what is not in a checkpoint is replayed. Column families
//! flush together, so a checkpoint never holds one family's epoch without the other's. Any error of the store is final
//! for the process: it stops and the next one restores (RocksDB stays unusable after a full disk, for one).

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, IteratorMode, LruCacheOptions,
    Options, WriteBatch, WriteBufferManager, WriteOptions,
};

use super::{StateStore, StoreSize, Visit, Write};
use crate::error::{Error, ErrorKind, Result};

/// How often a flush before a checkpoint is asked for.
const FLUSHES: usize = 10;

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
        let descriptor = |name: &String| ColumnFamilyDescriptor::new(name, Self::family_options(&cache, memory));
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

    fn family_options(cache: &Cache, memory: usize) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_bloom_filter(10.0, false);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_block_size(16 << 10);
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
    /// RocksDB appends to are copied.
    pub fn clone_checkpoint(from: &Path, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to).map_err(|e| Error::io("create", to, e))?;
        for entry in std::fs::read_dir(from).map_err(|e| Error::io("read", from, e))? {
            let entry = entry.map_err(|e| Error::io("read", from, e))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let immutable = source.extension().is_some_and(|e| e == "sst");
            let done =
                if immutable { std::fs::hard_link(&source, &target) } else { std::fs::copy(&source, &target).map(|_| ()) };
            done.map_err(|e| Error::io("link", &source, e))?;
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
    fn multi_get(&self, family: &str, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let cf = self.family(family)?;
        let found = self.db.batched_multi_get_cf(cf, keys, keys.is_sorted());
        found
            .into_iter()
            .map(|value| value.map(|v| v.map(|slice| slice.to_vec())).map_err(|e| failed("read", &self.path, &e)))
            .collect()
    }

    fn write(&self, family: &str, mut changes: Vec<Write>) -> Result<()> {
        let cf = self.family(family)?;
        changes.sort_unstable();
        let mut batch = WriteBatch::default();
        for (key, value) in &changes {
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
            if iterator.key().is_some_and(|key| key < to.as_slice()) {
                batch.delete_range_cf(cf, from, to);
            }
        }
        iterator.status().map_err(|e| failed("read", &self.path, &e))?;
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
    fn checkpoint(&self, directory: &Path) -> Result<()> {
        self.flush()?;
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| failed("checkpoint", &self.path, &e))?;
        checkpoint.create_checkpoint(directory).map_err(|e| failed("checkpoint", directory, &e))
    }

    fn size(&self) -> StoreSize {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let disk = property("rocksdb.total-sst-files-size")
            .max(self.db.live_files().map(|files| files.iter().map(|file| file.size as u64).sum()).unwrap_or(0));
        StoreSize { disk, memory: self.cache.get_usage() as u64 }
    }
}

fn failed(action: &str, path: &Path, error: &rocksdb::Error) -> Error {
    let text = error.to_string();
    let message = format!("{action} state in {}: {text}", path.display());
    if text.contains("No space left") {
        return Error::new(ErrorKind::Unavailable, "no_space", message)
            .hint("free space on this file system, then run the same command again: it goes on from the last checkpoint");
    }
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::corruption("state", message)
            .hint("run the same command again: it restores the state from the last checkpoint"),
        _ => Error::new(ErrorKind::Unavailable, "state", message)
            .hint("run the same command again: it goes on from the last checkpoint"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(store: &RocksStore, family: &str) -> Vec<Write> {
        let mut found = Vec::new();
        let mut note = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), Some(value.to_vec())));
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
                            let key = [writer.to_be_bytes(), (step % 7).to_be_bytes()].concat();
                            store.write(family, vec![(key, Some((round * 100 + step).to_le_bytes().to_vec()))]).unwrap();
                        }
                    });
                }
            });
            let (taken, copy) = (dir.path().join(format!("taken{round}")), dir.path().join(format!("copy{round}")));
            store.checkpoint(&taken).unwrap();
            RocksStore::clone_checkpoint(&taken, &copy).unwrap();
            let restored = RocksStore::open(&copy, &families, 1 << 20).unwrap();
            for family in &families {
                assert_eq!(content(&restored, family), content(&store, family), "round {round}, family {family}");
            }
        }
    }
}
