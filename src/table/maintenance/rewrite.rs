//! Several data files become one: read and written aside, then put in their place by compare-and-swap.
//!
//! Commits go on meanwhile. Rows of the old files that they delete are deleted in the new one too, by their places there;
//! if one of the old files is gone, the work was for nothing and is thrown away.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use iceberg::spec::{DataContentType, DataFile, Operation};
use roaring::RoaringTreemap;
use uuid::Uuid;

use super::choose::{Policy, choose};
use crate::error::Result;
use crate::table::catalog::{Catalog, Table};
use crate::table::datafile::ParquetFile;
use crate::table::deletes::Positions;
use crate::table::live::{Live, LiveFile, Weight, manifests};
use crate::table::name::TableName;
use crate::table::scan::RowReader;
use crate::table::snapshot::Change;
use crate::table::{files, schema, upsert};

/// One file that holds the live rows of others, durable and in no snapshot yet.
#[derive(Debug)]
pub struct Rewritten {
    pub(super) table: TableName,
    pub(super) uuid: Uuid,
    inputs: Vec<Input>,
    /// None if no row was left.
    output: Option<DataFile>,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub struct Input {
    pub(in crate::table) path: String,
    /// The rows that were deleted then.
    pub(in crate::table) deleted: RoaringTreemap,
    /// Where its rows begin in the new file.
    pub(in crate::table) first: u64,
}

impl Input {
    /// Where a row is in the new file; of one that was deleted then, where the next is.
    pub(in crate::table) fn place(&self, row: u64) -> u64 {
        self.first + row - row.checked_sub(1).map_or(0, |before| self.deleted.rank(before))
    }
}

impl Rewritten {
    /// How many files it takes the place of.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The files.
    pub(in crate::table) fn files(&self) -> &[Input] {
        &self.inputs
    }

    /// The file that takes their place.
    pub(in crate::table) fn output(&self) -> Option<&str> {
        self.output.as_ref().map(DataFile::file_path)
    }

    /// How many rows it has.
    pub(in crate::table) fn rows(&self) -> u64 {
        self.output.as_ref().map_or(0, DataFile::record_count)
    }

    /// Removes what was written.
    pub(super) fn discard(&self) {
        if let Some(file) = &self.output {
            files::remove_quietly([&file.file_path().to_owned()]);
        }
    }
}

/// Rewrites those files of a table that are most worth it. None if none is, or if it was told to stop.
pub(super) fn rewrite(catalog: &Catalog, table: &Table, policy: &Policy, stop: &AtomicBool) -> Result<Option<Rewritten>> {
    if is_small(table, policy) {
        return Ok(None);
    }
    let live = Live::load(catalog.manifests(), &manifests(table.metadata().current_snapshot().map(AsRef::as_ref))?)?;
    let mut positions = if may_have_much_deleted(&live, policy) { live.positions()? } else { Positions::new() };
    let weights: Vec<Weight> = live.data.iter().map(|entry| entry.weight(&positions)).collect();
    let chosen: Vec<&LiveFile> = choose(&weights, policy).into_iter().filter_map(|at| live.data.get(at)).collect();
    let paths: HashSet<&str> = chosen.iter().map(|entry| entry.file.file_path()).collect();
    // A file that is listed twice, as some tools let happen, is left alone.
    let repeated = live.data.iter().filter(|entry| paths.contains(entry.file.file_path())).count() > chosen.len();
    if chosen.is_empty() || repeated {
        return Ok(None);
    }
    if positions.is_empty() {
        positions = live.positions()?;
    }
    let url = upsert::new_data_url(table, "-compacted");
    let written = copy(table, &url, &chosen, &mut positions, stop);
    if !matches!(written, Ok(Some(_))) {
        files::remove_quietly([&url]);
    }
    let Some((inputs, output)) = written? else { return Ok(None) };
    if output.is_none() {
        files::remove_quietly([&url]);
    }
    Ok(Some(Rewritten { table: table.name().clone(), uuid: table.uuid(), inputs, output }))
}

/// Whether a look at the newest summary is enough: too few files to merge, and no deleted rows.
fn is_small(table: &Table, policy: &Policy) -> bool {
    let total = |key| table.summary(None, key).and_then(|total| total.parse::<usize>().ok());
    let few = total("total-data-files").is_some_and(|files| files < policy.fan_in);
    few && total("total-position-deletes") == Some(0)
}

/// Whether so many rows are deleted that a file may be worth rewriting for that: only then delete files are read to choose.
fn may_have_much_deleted(live: &Live, policy: &Policy) -> bool {
    let deleted: u64 = live.deletes.iter().map(|entry| entry.file.record_count()).sum();
    let least = live.data.iter().map(|entry| entry.file.record_count()).min().unwrap_or(0);
    deleted as f64 > policy.deleted_share * least as f64
}

/// Copies the live rows; none if it was told to stop.
fn copy(
    table: &Table,
    url: &str,
    chosen: &[&LiveFile],
    positions: &mut Positions,
    stop: &AtomicBool,
) -> Result<Option<(Vec<Input>, Option<DataFile>)>> {
    let schema = schema::to_arrow(table.metadata().current_schema())?;
    let mut output = ParquetFile::create(url, &schema)?;
    let (mut inputs, mut rows) = (Vec::with_capacity(chosen.len()), 0_u64);
    for entry in chosen {
        let path = entry.file.file_path();
        let deleted = positions.remove(path).unwrap_or_default();
        let first = rows;
        for batch in RowReader::open(path, &schema, Some(&deleted))? {
            let batch = batch?;
            if stop.load(SeqCst) {
                return Ok(None);
            }
            rows += batch.num_rows() as u64;
            output.write(&batch)?;
        }
        inputs.push(Input { path: path.to_owned(), deleted, first });
    }
    let finished = output.finish()?;
    upsert::sync_data(table)?;
    let described = finished.data_file(table.metadata().current_schema(), DataContentType::Data)?;
    Ok(Some((inputs, (rows > 0).then_some(described))))
}

/// What putting it in place does to a table that holds `live` now; none if one of the files is gone.
pub(super) fn plan(rewritten: &Rewritten, table: &Table, live: &Live, created: &mut Vec<String>) -> Result<Option<Change>> {
    let mut positions = live.positions()?;
    let (mut moved, mut removed) = (RoaringTreemap::new(), Vec::new());
    for input in &rewritten.inputs {
        let Some(entry) = live.data.iter().find(|entry| entry.file.file_path() == input.path) else { return Ok(None) };
        let deleted = positions.remove(&input.path).unwrap_or_default();
        // Somebody set the table back: rows that were left out are there again.
        if !input.deleted.is_subset(&deleted) {
            return Ok(None);
        }
        let rows = entry.file.record_count();
        moved.extend((deleted - &input.deleted).iter().filter(|row| *row < rows).map(|row| input.place(row)));
        removed.push(entry.clone());
    }
    let (mut deletes, outdated) = outdated_deletes(live, &removed)?;
    removed.extend(outdated);
    if let Some(output) = rewritten.output.as_ref().filter(|_| !moved.is_empty()) {
        deletes.insert(output.file_path().to_owned(), moved);
    }
    let added_deletes = if deletes.is_empty() { Vec::new() } else { vec![live.kept.write(table, deletes, created)?] };
    let added = rewritten.output.iter().cloned().collect();
    Ok(Some(Change { added, added_deletes, removed, operation: Operation::Replace, rows: 0 }))
}

/// The delete files of which most rows are of no file that is live once `removed` is gone, and what of them still counts.
/// Others stay as they are: it would be dear to write them again for each merge.
fn outdated_deletes(live: &Live, removed: &[LiveFile]) -> Result<(Positions, Vec<LiveFile>)> {
    let gone: HashSet<&str> = removed.iter().map(|entry| entry.file.file_path()).collect();
    let data = live.data.iter().filter(|entry| !gone.contains(entry.file.file_path())).cloned().collect();
    let rest = Live { data, deletes: Vec::new(), kept: live.kept.clone() };
    let mut outdated = Vec::new();
    for delete in &live.deletes {
        let counts: u64 = rest.positions_in([delete])?.values().map(RoaringTreemap::len).sum();
        if counts * 2 < delete.file.record_count() {
            outdated.push(delete.clone());
        }
    }
    Ok((rest.positions_in(&outdated)?, outdated))
}
