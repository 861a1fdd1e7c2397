//! The sink of Iceberg tables: rows are staged as Parquet files under the table, and committed from the manifest by
//! [`crate::table::Catalog::commit`].

#[cfg(test)]
mod age_tests;
#[cfg(test)]
mod catalog_suite;
#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod key_index_tests;
#[cfg(test)]
mod maintenance_tests;
#[cfg(test)]
mod measure_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod readers_tests;
#[cfg(test)]
mod serving_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod view_tests;

use std::sync::Arc;

use ::iceberg::spec::{DataContentType, SchemaRef as IcebergSchemaRef};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};

use crate::durable;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::protocol::door::{Act, Door};
use crate::protocol::failpoint;
use crate::sink::{Change, StagedContent, StagedFile, StagingWriter};
use crate::table::datafile::{self, FinishedFile, ParquetFile};
use crate::table::{Table, files, schema};
use crate::time;

/// A data file is closed at this size.
const ROLL_AT: usize = 256 << 20;

/// Stages rows of one worker for one table. Memory is bounded by two Parquet row groups.
pub struct IcebergStaging {
    location: String,
    iceberg_schema: IcebergSchemaRef,
    schema: SchemaRef,
    /// The key columns, and where they are in `schema`; none for an append table.
    key: Option<(SchemaRef, Vec<usize>)>,
    roll_at: usize,
    data: Option<ParquetFile>,
    keys: Option<ParquetFile>,
    closed: Vec<StagedFile>,
    door: Door,
}

impl IcebergStaging {
    /// A writer for `table`; whether it takes appends or upserts follows from the table's primary key.
    pub fn new(table: &Table) -> Result<Self> {
        let schema = schema::to_arrow(table.metadata().current_schema())?;
        let primary_key = table.primary_key()?;
        let find = |name: &String| {
            let unknown = |_| Error::corruption("primary_key", format!("table {} has no key column {name}", table.name()));
            schema.index_of(name).map_err(unknown)
        };
        let places = primary_key.iter().map(find).collect::<Result<Vec<_>>>()?;
        // A table that another engine made may have no file yet.
        durable::create_directory(&files::path_of(&format!("{}/data", table.location()))?)?;
        let key = ArrowSchema::new(places.iter().map(|place| schema.field(*place).clone()).collect::<Vec<_>>());
        Ok(Self {
            location: table.location().to_owned(),
            iceberg_schema: table.metadata().current_schema().clone(),
            key: (!places.is_empty()).then(|| (Arc::new(key), places)),
            schema,
            roll_at: ROLL_AT,
            data: None,
            keys: None,
            closed: Vec::new(),
            door: Door::default(),
        })
    }

    /// The same writer with files of another size: bytes at which one is closed.
    pub fn roll_at(mut self, bytes: usize) -> Self {
        self.roll_at = bytes;
        self
    }

    /// The same writer behind a door.
    pub fn behind(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    fn write_rows(&mut self, batch: &RecordBatch) -> Result<()> {
        if self.data.is_none() {
            self.data = Some(ParquetFile::create(&self.new_url(""), &self.schema)?);
        }
        if let Some(file) = &mut self.data {
            file.write(batch)?;
            if file.size() >= self.roll_at {
                self.close_data()?;
            }
        }
        Ok(())
    }

    fn write_keys(&mut self, keys: &RecordBatch) -> Result<()> {
        if self.keys.is_none() {
            self.keys = Some(ParquetFile::create(&self.new_url("-keys"), keys.schema_ref())?);
        }
        match &mut self.keys {
            Some(file) => file.write(keys),
            None => Ok(()),
        }
    }

    fn new_url(&self, suffix: &str) -> String {
        format!("{}/data/{}{suffix}.parquet", self.location, time::new_ordered_uuid())
    }

    fn close(&mut self) -> Result<Vec<StagedFile>> {
        self.close_data()?;
        self.close_keys()?;
        if !self.closed.is_empty() {
            durable::sync_directory(&files::path_of(&format!("{}/data", self.location))?)?;
        }
        failpoint::hit("K6");
        Ok(std::mem::take(&mut self.closed))
    }

    fn close_data(&mut self) -> Result<()> {
        let Some(file) = self.data.take() else { return Ok(()) };
        let finished = finish(file)?;
        let data_file = datafile::to_json(finished.data_file(&self.iceberg_schema, DataContentType::Data)?)?;
        self.closed.push(staged(StagedContent::Data, &finished, data_file));
        Ok(())
    }

    fn close_keys(&mut self) -> Result<()> {
        let Some(file) = self.keys.take() else { return Ok(()) };
        self.closed.push(staged(StagedContent::DeletedKeys, &finish(file)?, serde_json::Value::Null));
        Ok(())
    }
}

/// What was not prepared is nobody's: a job that stops between two checkpoints leaves no file.
impl Drop for IcebergStaging {
    fn drop(&mut self) {
        files::remove_quietly(self.data.iter().chain(&self.keys).map(ParquetFile::url));
        files::remove_quietly(self.closed.iter().map(|file| &file.path));
    }
}

fn finish(mut file: ParquetFile) -> Result<FinishedFile> {
    file.flush()?;
    failpoint::hit("K5");
    file.finish()
}

fn staged(content: StagedContent, file: &FinishedFile, data_file: serde_json::Value) -> StagedFile {
    let (path, checksum) = (file.url.clone(), file.checksum);
    StagedFile { content, path, rows: file.rows, bytes: file.bytes, checksum, data_file }
}

impl StagingWriter for IcebergStaging {
    fn write(&mut self, change: Change) -> Result<()> {
        match (change, &self.key) {
            (Change::Append(batch) | Change::Upsert(batch) | Change::Delete(batch), _) if batch.num_rows() == 0 => Ok(()),
            (Change::Append(batch), None) => self.write_rows(&schema::conform(&batch, &self.schema)?),
            (Change::Upsert(batch), Some((key, places))) => {
                let batch = schema::conform(&batch, &self.schema)?;
                let columns = batch.project(places)?.columns().to_vec();
                let keys = schema::assemble(key, columns, batch.num_rows())?;
                self.write_rows(&batch)?;
                self.write_keys(&keys)
            }
            (Change::Delete(batch), Some((key, _))) => {
                if batch.num_columns() != key.fields().len() {
                    return Err(Error::internal(format!(
                        "{} columns for a key of {}",
                        batch.num_columns(),
                        key.fields().len()
                    )));
                }
                let columns = key.fields().iter().zip(batch.columns());
                let columns = columns.map(|(field, column)| schema::convert(column, field)).collect::<Result<Vec<_>>>()?;
                let keys = schema::assemble(key, columns, batch.num_rows())?;
                self.write_keys(&keys)
            }
            (Change::Append(_), Some(_)) => Err(Error::internal(format!("append to the upsert table at {}", self.location))),
            (_, None) => Err(Error::internal(format!("upsert into the append table at {}", self.location))),
        }
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Vec<StagedFile>> {
        let door = self.door.clone();
        door.pass(Act::Stage, || self.close())
    }
}
