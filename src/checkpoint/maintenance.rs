//! Keeps the tables of a running job small: a thread beside the committer that merges files and removes what no snapshot
//! names any more. It commits by the same compare-and-swap, under the same owner. A job never waits for the work, only, as for
//! any other writer, for a commit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use uuid::Uuid;

use super::committer::News;
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::table::maintenance::Reach;
use crate::table::serving::Trouble;
use crate::table::{Catalog, Fence, Forgotten, TableName};
use crate::time::instant;

/// How long after the last commit names are looked for that were left behind.
const LOOK: Duration = Duration::from_secs(2);
/// Merges of one table before others get their turn.
const MERGES: usize = 4;
/// After failures so many looks are left out at most.
const LONGEST_PAUSE: u32 = 256;
/// Snapshots whose files could not be removed yet. Beyond these they are left to the next process, which finds the files.
const MOST_FORGOTTEN: usize = 10_000;

/// A commit to a table.
#[derive(Debug)]
pub struct Committed {
    /// The table.
    pub table: TableName,
    /// The checkpoint.
    pub checkpoint: u64,
    /// Snapshots that the table, and the names that show it, forgot with it.
    pub forgotten: Vec<Forgotten>,
    /// What is wrong with those names.
    pub troubles: Vec<Trouble>,
}

/// Keeps tables of one version small.
pub struct Maintenance {
    catalog: Catalog,
    version: String,
    owner: u64,
    /// The manifest with which it took the version over.
    claimed: u64,
    /// What has a name from before this is no file of this process.
    began: Uuid,
    tables: BTreeMap<TableName, Care>,
    /// When it last looked whether the version is retired; none once it is.
    looked: Option<Instant>,
}

/// What is known of one table.
struct Care {
    uuid: Uuid,
    checkpoint: u64,
    forgotten: Vec<Forgotten>,
    reach: Reach,
    /// Whether what earlier processes left was looked for.
    swept: bool,
    /// What is wrong with names that show it.
    troubles: Vec<Trouble>,
    /// What somebody was told that does not work.
    told: Option<&'static str>,
    /// Looks that are still left out.
    pause: u32,
    /// How many it will be after the next failure.
    next_pause: u32,
}

impl Maintenance {
    /// For the tables of a version whose earlier manifests are all delivered. `began` is an identifier that was made before this
    /// process wrote anything to the tables.
    pub fn new(
        catalog: Catalog,
        version: &str,
        owner: u64,
        claimed: Epoch,
        began: Uuid,
        tables: impl Iterator<Item = (TableName, Uuid)>,
    ) -> Self {
        let tables = tables.map(|(table, uuid)| (table, Care::new(uuid))).collect();
        let (version, looked) = (version.to_owned(), Some(instant()));
        Self { catalog, version, owner, claimed: claimed.0, began, tables, looked }
    }

    /// Works after commits, and looks after names where none come, until the sending side is gone or the job is `over`. What does not work is told once.
    pub fn run(&mut self, commits: &Receiver<Vec<Committed>>, news: &Sender<Result<News>>, over: &AtomicBool) {
        loop {
            let first = match commits.recv_timeout(LOOK) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // What came meanwhile is worth one look.
            let is_idle = first.is_empty();
            for committed in first.into_iter().chain(commits.try_iter().flatten()) {
                if let Some(care) = self.tables.get_mut(&committed.table) {
                    care.checkpoint = committed.checkpoint;
                    care.forgotten.extend(committed.forgotten);
                    care.tell_new(committed.troubles, news);
                }
            }
            for (table, care) in &mut self.tables {
                if over.load(SeqCst) {
                    return;
                }
                let checkpoint = care.checkpoint.max(self.claimed);
                let fence = Fence { version: self.version.clone(), owner: self.owner, checkpoint, recovering: false };
                let look = || {
                    if is_idle {
                        // Commits bring names along themselves.
                        return care.bring_names(&self.catalog, table, &fence, news).map(|()| false);
                    }
                    if care.rests() {
                        return Ok(false);
                    }
                    care.look_after(&self.catalog, table, self.began, &fence, over).map(|()| true)
                };
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
                let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("the maintenance of a table panicked")));
                // The committer finds out too, and ends the job.
                if outcome.as_ref().is_err_and(|error| error.code() == "fenced") {
                    return;
                }
                if let Some(error) = care.note(outcome).filter(|_| !over.load(SeqCst)) {
                    // Without a coordinator there is nobody to tell.
                    let _ = news.send(Ok(News::Neglected(table.clone(), error)));
                }
            }
            self.look_for_the_end(news);
        }
    }

    /// Tells, once, when the version is retired.
    fn look_for_the_end(&mut self, news: &Sender<Result<News>>) {
        if self.looked.is_none_or(|looked| looked.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(instant());
        // A catalog that is away is the committer's to wait for.
        if let Ok(Some(retired)) = self.catalog.retired(self.tables.iter().map(|(table, care)| (table, care.uuid))) {
            self.looked = None;
            let _ = news.send(Ok(News::Retired(retired)));
        }
    }
}

impl Care {
    fn new(uuid: Uuid) -> Self {
        let (forgotten, reach, troubles) = (Vec::new(), Reach::default(), Vec::new());
        Self { uuid, checkpoint: 0, forgotten, reach, swept: false, troubles, told: None, pause: 0, next_pause: 1 }
    }

    /// Whether this look is left out.
    fn rests(&mut self) -> bool {
        let rests = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        rests
    }

    fn look_after(
        &mut self,
        catalog: &Catalog,
        table: &TableName,
        began: Uuid,
        fence: &Fence,
        over: &AtomicBool,
    ) -> Result<()> {
        self.forgotten.drain(..self.forgotten.len().saturating_sub(MOST_FORGOTTEN));
        if self.checkpoint == 0 {
            return Ok(());
        }
        // One that fails does not keep the others from their work.
        let merged = self.merge(catalog, table, fence, over);
        let swept = self.sweep(catalog, table, began, fence, over);
        let cleaned = self.clean(catalog, table, over);
        // Commits go on without an index: it is for here to say so.
        let indexed = catalog.key_index_failure(self.uuid).map_or(Ok(()), Err);
        indexed.and(merged).and(swept).and(cleaned)
    }

    fn merge(&mut self, catalog: &Catalog, table: &TableName, fence: &Fence, over: &AtomicBool) -> Result<()> {
        for _ in 0..MERGES {
            let Some(compacted) = catalog.compact(table, self.uuid, fence, over)? else { break };
            self.forgotten.extend(compacted.forgotten);
        }
        Ok(())
    }

    fn sweep(&mut self, catalog: &Catalog, table: &TableName, began: Uuid, fence: &Fence, over: &AtomicBool) -> Result<()> {
        if !self.swept && !over.load(SeqCst) {
            catalog.remove_orphans(table, self.uuid, &mut self.reach, began, fence, over)?;
            self.swept = true;
        }
        Ok(())
    }

    fn clean(&mut self, catalog: &Catalog, table: &TableName, over: &AtomicBool) -> Result<()> {
        if !self.forgotten.is_empty() && !over.load(SeqCst) {
            catalog.clean(table, self.uuid, &self.forgotten, &mut self.reach, over)?;
            self.forgotten.clear();
        }
        Ok(())
    }

    /// The names that show the table and were left behind follow it.
    fn bring_names(&mut self, catalog: &Catalog, table: &TableName, fence: &Fence, news: &Sender<Result<News>>) -> Result<()> {
        match catalog.follow(table, self.uuid, fence) {
            Ok((forgotten, troubles)) => {
                self.forgotten.extend(forgotten);
                self.tell_new(troubles, news);
                Ok(())
            }
            Err(error) if error.code() == "fenced" => Err(error),
            // A catalog that is away is the committer's to wait for.
            Err(_) => Ok(()),
        }
    }

    /// Tells what is wrong with names, each thing once until it is right.
    fn tell_new(&mut self, troubles: Vec<Trouble>, news: &Sender<Result<News>>) {
        for trouble in troubles.iter().filter(|trouble| !self.troubles.contains(trouble)) {
            // Without a coordinator there is nobody to tell.
            let _ = news.send(Ok(News::Serving(trouble.clone())));
        }
        self.troubles = troubles;
    }

    /// Notes how a look went, or that there was none. The error, if it is not the one that was told before.
    fn note(&mut self, outcome: Result<bool>) -> Option<Error> {
        let error = match outcome {
            Ok(looked) => {
                if looked {
                    (self.told, self.next_pause) = (None, 1);
                }
                return None;
            }
            Err(error) => error,
        };
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
        let new = self.told != Some(error.code());
        self.told = Some(error.code());
        new.then_some(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_told_once_and_tried_less_and_less() {
        let mut care = Care::new(Uuid::nil());
        let fail = |code| Err(Error::corruption(code, "x"));
        assert!(care.note(fail("a")).is_some() && care.note(fail("a")).is_none() && care.note(fail("b")).is_some());
        assert_eq!((care.pause, care.next_pause), (4, 8));
        // A look that was left out is no success.
        for _ in 0..4 {
            assert!(care.rests() && care.note(Ok(false)).is_none());
        }
        assert!(!care.rests() && (care.pause, care.next_pause) == (0, 8));
        assert!(care.note(Ok(true)).is_none() && (care.pause, care.next_pause) == (0, 1));
        assert!(care.note(fail("b")).is_some());
    }
}
