//! Keeps the tables of a running job small: a thread beside the committer that merges files and removes what no snapshot
//! names any more. It commits by the same compare-and-swap, under the same owner; a job never waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crossbeam_channel::{Receiver, Sender};
use uuid::Uuid;

use super::committer::News;
use crate::error::{Error, Result};
use crate::table::maintenance::Reach;
use crate::table::{Catalog, Fence, SnapshotRef, TableName};
use crate::time::{new_ordered_uuid, now_ms};

/// A commit to a table.
#[derive(Debug)]
pub struct Committed {
    /// The table.
    pub table: TableName,
    /// The checkpoint.
    pub checkpoint: u64,
    /// Snapshots that the table forgot with it.
    pub forgotten: Vec<SnapshotRef>,
}

/// Keeps tables of one version small.
pub struct Maintenance {
    catalog: Catalog,
    version: String,
    owner: u64,
    /// What has a name from before this is no file of this run.
    began: Uuid,
    tables: BTreeMap<TableName, Care>,
}

/// What is known of one table.
struct Care {
    uuid: Uuid,
    checkpoint: u64,
    forgotten: Vec<SnapshotRef>,
    reach: Reach,
    /// Whether what earlier processes left was looked for.
    swept: bool,
    /// Whether somebody was told that it does not work.
    told: bool,
}

impl Maintenance {
    /// For the tables of a version, which is claimed, and for which this process has written nothing yet.
    pub fn new(catalog: Catalog, version: &str, owner: u64, tables: impl Iterator<Item = (TableName, Uuid)>) -> Self {
        let care =
            |uuid| Care { uuid, checkpoint: 0, forgotten: Vec::new(), reach: Reach::default(), swept: false, told: false };
        let tables = tables.map(|(table, uuid)| (table, care(uuid))).collect();
        Self { catalog, version: version.to_owned(), owner, began: new_ordered_uuid(), tables }
    }

    /// Works after commits, until the sending side is gone or the job is `over`. What does not work is told once.
    pub fn run(&mut self, commits: &Receiver<Vec<Committed>>, news: &Sender<Result<News>>, over: &AtomicBool) {
        while let Ok(first) = commits.recv() {
            // What came meanwhile is worth one look.
            for committed in std::iter::once(first).chain(commits.try_iter()).flatten() {
                if let Some(care) = self.tables.get_mut(&committed.table) {
                    care.checkpoint = committed.checkpoint;
                    care.forgotten.extend(committed.forgotten);
                }
            }
            for (table, care) in &mut self.tables {
                if over.load(SeqCst) {
                    return;
                }
                let fence =
                    Fence { version: self.version.clone(), owner: self.owner, checkpoint: care.checkpoint, recovering: false };
                let look = || care.look_after(&self.catalog, table, self.began, &fence, over);
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
                match outcome.unwrap_or_else(|_| Err(Error::internal("the maintenance of a table panicked"))) {
                    Ok(()) => care.told = false,
                    // The committer finds out too, and ends the job.
                    Err(error) if error.code() == "fenced" => return,
                    Err(error) if !care.told => {
                        care.told = true;
                        // Without a coordinator there is nobody to tell.
                        let _ = news.send(Ok(News::Neglected(table.clone(), error)));
                    }
                    Err(_) => {}
                }
            }
        }
    }
}

impl Care {
    fn look_after(
        &mut self,
        catalog: &Catalog,
        table: &TableName,
        began: Uuid,
        fence: &Fence,
        over: &AtomicBool,
    ) -> Result<()> {
        if self.checkpoint == 0 {
            return Ok(());
        }
        while let Some(compacted) = catalog.compact(table, self.uuid, fence, over)? {
            self.forgotten.extend(compacted.forgotten);
        }
        if over.load(SeqCst) {
            return Ok(());
        }
        if !self.swept {
            catalog.remove_orphans(table, self.uuid, &mut self.reach, began, now_ms())?;
            self.swept = true;
        }
        if !self.forgotten.is_empty() {
            catalog.clean(table, self.uuid, &self.forgotten, &mut self.reach)?;
            self.forgotten.clear();
        }
        Ok(())
    }
}
