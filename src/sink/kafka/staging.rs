//! Stages rows for a topic: Kafka's record batches in files of the version's outbox.

use std::io::Write;
use std::path::PathBuf;

use crate::codec::JsonRowEncoder;
use crate::durable;
use crate::error::{Error, Result};
use crate::log::encode::{BatchBuilder, MAX_RECORD};
use crate::log::{Compression, NewRecord};
use crate::message::Epoch;
use crate::plan::schema::Schema;
use crate::protocol::failpoint;
use crate::sink::{Change, StagedContent, StagedFile, StagingWriter};
use crate::table::files::ChecksumFile;
use crate::time;
use arrow::array::RecordBatch;

/// Bytes of records, before they are packed, in a batch.
const BATCH: usize = 256 << 10;
/// A file is closed at this size.
const ROLL_AT: u64 = 64 << 20;
/// What a record has beside key and value in a batch of its own, generously.
const OVERHEAD: usize = 256;
/// How much of a key an error shows.
const SHOWN: usize = 200;

/// For what is staged, and where.
#[derive(Clone, Debug)]
pub struct StagingTarget {
    /// What people call the output.
    pub output: String,
    /// The topic.
    pub topic: String,
    /// The version's directory.
    pub root: PathBuf,
    /// Who stages: each owner has a folder of its own.
    pub owner: u64,
    /// The columns.
    pub schema: Schema,
    /// The columns of the records' key; none: they have no key.
    pub key: Vec<String>,
    /// The greatest batch that the topic takes.
    pub max_message_bytes: usize,
}

/// Stages rows of one worker for one topic. Memory is bounded by a batch of records.
pub struct TopicStaging {
    target: StagingTarget,
    value: JsonRowEncoder,
    /// The key columns, and where they are among the columns.
    key: Option<(JsonRowEncoder, Vec<usize>)>,
    folder: String,
    batch: BatchBuilder,
    open: Option<OpenFile>,
    closed: Vec<StagedFile>,
    key_bytes: Vec<u8>,
    value_bytes: Vec<u8>,
}

struct OpenFile {
    path: String,
    file: ChecksumFile,
    rows: i64,
}

impl TopicStaging {
    /// A writer; the folder is made.
    pub fn new(target: StagingTarget) -> Result<Self> {
        let place = |name: &String| {
            let found = target.schema.find(name).map(|(place, field)| (place, field.clone()));
            found.ok_or_else(|| Error::internal(format!("key column {name} is not in the output")))
        };
        let (places, fields): (Vec<_>, Vec<_>) = target.key.iter().map(place).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let folder = format!("outbox/{}", target.owner);
        durable::create_directory(&target.root.join(&folder))?;
        Ok(Self {
            value: JsonRowEncoder::new(&target.schema),
            key: (!places.is_empty()).then(|| (JsonRowEncoder::new(&Schema { fields }), places)),
            folder,
            batch: BatchBuilder::new(Compression::Zstd),
            open: None,
            closed: Vec::new(),
            key_bytes: Vec::new(),
            value_bytes: Vec::new(),
            target,
        })
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        let values = self.value.rows(batch)?;
        let keys = match &self.key {
            Some((encoder, places)) => Some(encoder.rows(&batch.project(places)?)?),
            None => None,
        };
        let timestamp = time::now_ms();
        for row in 0..batch.num_rows() {
            self.value_bytes.clear();
            values.write(row, &mut self.value_bytes);
            self.key_bytes.clear();
            if let Some(keys) = &keys {
                keys.write(row, &mut self.key_bytes);
            }
            self.push(keys.is_some(), true, timestamp)?;
        }
        Ok(())
    }

    /// Records without a value: what readers that keep the newest of each key forget.
    fn write_tombstones(&mut self, batch: &RecordBatch) -> Result<()> {
        let Some((encoder, _)) = &self.key else {
            return Err(Error::internal(format!("rows are taken back from topic {}, which has no keys", self.target.topic)));
        };
        let (keys, timestamp) = (encoder.rows(batch)?, time::now_ms());
        for row in 0..batch.num_rows() {
            self.key_bytes.clear();
            keys.write(row, &mut self.key_bytes);
            self.value_bytes.clear();
            self.push(true, false, timestamp)?;
        }
        Ok(())
    }

    /// Adds the record that lies in the buffers.
    fn push(&mut self, has_key: bool, has_value: bool, timestamp: i64) -> Result<()> {
        let size = self.key_bytes.len() + self.value_bytes.len() + OVERHEAD;
        if size > self.target.max_message_bytes.min(MAX_RECORD) {
            return Err(self.too_large());
        }
        if self.batch.count() > 0 && self.batch.size() + size > BATCH {
            self.write_batch()?;
        }
        self.batch.push(&NewRecord {
            key: has_key.then_some(&self.key_bytes),
            value: has_value.then_some(&self.value_bytes),
            timestamp,
            ..NewRecord::default()
        });
        Ok(())
    }

    #[cold]
    fn too_large(&self) -> Error {
        let bytes = self.key_bytes.len() + self.value_bytes.len();
        let most = self.target.max_message_bytes.min(MAX_RECORD).saturating_sub(OVERHEAD);
        let topic = &self.target.topic;
        let key = String::from_utf8_lossy(self.key_bytes.get(..SHOWN).unwrap_or(&self.key_bytes));
        let message = format!("a record of {} has {bytes} bytes, and topic {topic} takes at most {most}", self.target.output);
        let error = Error::data("record_too_large", message);
        let error = if key.is_empty() { error } else { error.with("key", key) };
        error.hint("raise max.message.bytes of the topic, or write fewer or shorter columns; then run the same command again")
    }

    fn write_batch(&mut self) -> Result<()> {
        if self.batch.count() == 0 {
            return Ok(());
        }
        if self.open.is_none() {
            let path = format!("{}/{}.records", self.folder, time::new_ordered_uuid());
            let file = ChecksumFile::create(&self.target.root.join(&path))?;
            self.open = Some(OpenFile { path, file, rows: 0 });
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let finished = self.batch.finish(open.rows, 0)?;
        let path = self.target.root.join(&open.path);
        open.file.write_all(self.batch.bytes()).map_err(|e| Error::io("write", &path, e))?;
        open.rows = finished.last_offset + 1;
        self.batch.clear();
        if open.file.written().0 >= ROLL_AT { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        failpoint::hit("K5");
        let path = self.target.root.join(&open.path);
        open.file.sync().map_err(|e| Error::io("sync", &path, e))?;
        let (bytes, checksum) = open.file.written();
        self.closed.push(StagedFile {
            content: StagedContent::Records,
            path: open.path,
            rows: open.rows.unsigned_abs(),
            bytes,
            checksum,
            data_file: serde_json::Value::Null,
        });
        Ok(())
    }
}

impl StagingWriter for TopicStaging {
    fn write(&mut self, change: Change) -> Result<()> {
        match change {
            Change::Append(batch) | Change::Upsert(batch) => self.write_rows(&batch),
            Change::Delete(keys) => self.write_tombstones(&keys),
        }
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<StagedFile>> {
        self.write_batch()?;
        self.close()?;
        if !self.closed.is_empty() {
            durable::sync_directory(&self.target.root.join(&self.folder))?;
        }
        failpoint::hit("K6");
        Ok(std::mem::take(&mut self.closed))
    }
}
