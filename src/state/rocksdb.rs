//! The store over RocksDB: the only file that knows it.
//!
//! The log is the write-ahead log: RocksDB's own is off, and what is not in a checkpoint is replayed. Column families
//! flush together, so a checkpoint never holds one family's epoch without the other's. Any error of the store is final
//! for the process: it stops and the next one restores (RocksDB stays unusable after a full disk, for one).

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, IteratorMode, Options, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::{StateStore, StoreSize, Visit, Write};
use crate::error::{Error, ErrorKind, Result};

/// A RocksDB in a directory of its own.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
    cache: Cache,
    buffers: WriteBufferManager,
}

impl RocksStore {
    /// Opens or creates the store. `memory` bytes bound its write buffers, block cache, indexes and filters together.
    pub fn open(path: &Path, families: &[String], memory: usize) -> Result<Self> {
        let cache = Cache::new_lru_cache(memory);
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
        Ok(Self { db, path: path.to_owned(), cache, buffers })
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
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_write_buffer_size((memory / 8).clamp(1 << 20, 64 << 20));
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

    fn family(&self, name: &str) -> Result<&rocksdb::ColumnFamily> {
        self.db.cf_handle(name).ok_or_else(|| Error::internal(format!("there is no state family {name:?}")))
    }
}

impl StateStore for RocksStore {
    fn multi_get(&self, family: &str, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let cf = self.family(family)?;
        let found = self.db.batched_multi_get_cf(cf, keys, false);
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

    fn scan(&self, family: &str, visit: &mut Visit<'_>) -> Result<()> {
        for item in self.db.iterator_cf(self.family(family)?, IteratorMode::Start) {
            let (key, value) = item.map_err(|e| failed("read", &self.path, &e))?;
            visit(&key, &value)?;
        }
        Ok(())
    }

    fn checkpoint(&self, directory: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| failed("checkpoint", &self.path, &e))?;
        checkpoint.create_checkpoint(directory).map_err(|e| failed("checkpoint", directory, &e))
    }

    fn size(&self) -> StoreSize {
        let property = |name: &str| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let disk = property("rocksdb.total-sst-files-size")
            .max(self.db.live_files().map(|files| files.iter().map(|file| file.size as u64).sum()).unwrap_or(0));
        StoreSize { disk, memory: (self.cache.get_usage() + self.buffers.get_usage()) as u64 }
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
