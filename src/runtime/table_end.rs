//! The end of a grouped output: rows of groups go through the steps behind the grouping, and on to the table's writer.

use arrow::array::{BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::filter_record_batch;

use super::pipeline::PipelineContext;
use super::staging::Stager;
use crate::error::Result;
use crate::message::Epoch;
use crate::operator::steps::Steps;
use crate::plan::lower::PipelineSpec;
use crate::plan::schema::Schema;
use crate::sink::{Change, StagedFile, StagingWriter};

/// From groups to the table.
pub(super) struct TableEnd {
    after: Steps,
    /// The columns of the group key in batches of groups: the first ones, in the order of the primary key.
    key: Vec<usize>,
    stager: Stager,
}

impl TableEnd {
    /// For groups that look like `groups`, the columns of the key first.
    pub(super) fn new(
        spec: &PipelineSpec,
        groups: &Schema,
        writer: Box<dyn StagingWriter>,
        context: &PipelineContext<'_>,
    ) -> Result<Self> {
        let after = Steps::compile(&spec.after, groups, None, context.zones)?;
        let (wakers, worker) = (context.wakers.clone(), context.index);
        let stager = Stager::new(writer, move || wakers.wake(worker))?;
        Ok(Self { after, key: (0..spec.primary_key.len()).collect(), stager })
    }

    /// Writes groups as they are now; where no filter accepts one, its row is deleted.
    pub(super) fn write(&mut self, groups: RecordBatch) -> Result<()> {
        let keys = groups.project(&self.key)?;
        let (rows, accepted) = self.after.apply_numbered(groups)?;
        if rows.num_rows() > 0 {
            self.stager.write(Change::Upsert(rows));
        }
        if let Some(accepted) = accepted {
            self.delete_keys(filter_record_batch(&keys, &others(keys.num_rows(), &accepted))?);
        }
        Ok(())
    }

    /// Deletes the rows of groups that are gone. The steps behind the grouping have no meaning for them.
    pub(super) fn delete(&mut self, groups: &RecordBatch) -> Result<()> {
        self.delete_keys(groups.project(&self.key)?);
        Ok(())
    }

    fn delete_keys(&mut self, keys: RecordBatch) {
        if keys.num_rows() > 0 {
            self.stager.write(Change::Delete(keys));
        }
    }

    /// Begins to make what was written durable.
    pub(super) fn prepare(&mut self, epoch: Epoch) {
        self.stager.prepare(epoch);
    }

    /// Bytes of rows that are not written yet.
    pub(super) fn memory(&self) -> usize {
        self.stager.memory()
    }

    /// Takes the files of the barrier that was begun, if they are durable by now. Whether none are on their way any more.
    pub(super) fn take_staged(&mut self, files: &mut Vec<StagedFile>) -> Result<bool> {
        files.extend(self.stager.take_staged()?.into_iter().flatten());
        Ok(!self.stager.is_away())
    }
}

/// Which of so many rows are not among these.
fn others(rows: usize, accepted: &UInt32Array) -> BooleanArray {
    let mut others = vec![true; rows];
    accepted.values().iter().for_each(|row| others[*row as usize] = false);
    BooleanArray::from(others)
}
