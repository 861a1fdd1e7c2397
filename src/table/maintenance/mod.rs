//! What keeps a table small while a job commits to it for months: data files are merged, and files that only forgotten
//! snapshots named are removed. Each step is safe to be cut off anywhere and is done again or found again later.

mod choose;
mod cleanup;
mod orphans;
mod rewrite;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use iceberg::spec::ManifestFile;
use uuid::Uuid;

pub use choose::Policy;
pub use cleanup::Reach;
pub(in crate::table) use rewrite::Input;
pub use rewrite::Rewritten;

use super::catalog::{Catalog, Table};
use super::commit::Fence;
use super::expiry::Forgotten;
use super::live::{Live, manifests};
use super::marker::{Facts, Marker};
use super::name::TableName;
use super::snapshot::{Built, Change, Notes, check_supported};
use super::store::Swapped;
use super::{commit, files};
use crate::error::{Error, Result};
use crate::protocol::failpoint;
use crate::time;

/// Summary key of a snapshot that only merged files: its rows are those of its parent, whose marker it repeats.
pub const COMPACTION: &str = "kappa.compaction";

/// How often it is decided what a merge does to a table before other commits have to wait for that.
const PLANS: usize = 3;

/// What a merge has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// How many files it took the place of.
    pub files: usize,
    /// The new snapshot.
    pub snapshot_id: i64,
    /// Snapshots that its commit forgot.
    pub forgotten: Vec<Forgotten>,
}

enum Attempt {
    Done(Box<Built>),
    /// Another commit was first.
    Lost,
    /// A file that was merged is gone from the table, or the table itself is.
    Overtaken,
    /// Nobody knows: the next attempt finds the old files there or not.
    Unknown(Error),
}

impl Catalog {
    /// Merges those files of a table that are most worth it into one. None if there is nothing to do, if another engine
    /// rewrote the same files meanwhile, or if it was told to stop.
    ///
    /// # Errors
    /// `Conflict` if another owner took the version over; `Corruption` if a file is damaged; `Unavailable` if the catalog
    /// or the disk is: the table is as before, or merged.
    pub fn compact(&self, name: &TableName, uuid: Uuid, fence: &Fence, stop: &AtomicBool) -> Result<Option<Compacted>> {
        let Some(rewritten) = self.rewrite(name, uuid, stop)? else { return Ok(None) };
        failpoint::hit("C1");
        self.put_in_place(&rewritten, fence, stop)
    }

    /// The first half of [`Self::compact`], which takes the time: the table does not know of it yet.
    pub fn rewrite(&self, name: &TableName, uuid: Uuid, stop: &AtomicBool) -> Result<Option<Rewritten>> {
        let Some(table) = self.load_same(name, uuid)? else { return Ok(None) };
        check_supported(&table)?;
        match rewrite::rewrite(self, &table, &self.settings.compaction, stop) {
            // Another tool removed what was being read: the next look finds what it has made of it.
            Err(_) if self.has_moved(&table)? => Ok(None),
            rewritten => rewritten,
        }
    }

    /// The second half: commits what was rewritten, on top of what came meanwhile.
    pub fn put_in_place(&self, rewritten: &Rewritten, fence: &Fence, stop: &AtomicBool) -> Result<Option<Compacted>> {
        let (mut unknown, mut lost) = (None, false);
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                std::thread::sleep(time::jitter(commit::PAUSE));
            }
            let mut created = Vec::new();
            match self.attempt_to_place(rewritten, fence, &mut created) {
                Ok(Attempt::Done(built)) => {
                    failpoint::hit("C2");
                    self.repoint(&built.table, rewritten, stop);
                    let (files, snapshot_id) = (rewritten.inputs(), built.snapshot_id);
                    return Ok(Some(Compacted { files, snapshot_id, forgotten: built.forgotten }));
                }
                Ok(Attempt::Unknown(error)) => {
                    let again = error.is_retryable() && !stop.load(SeqCst);
                    unknown = Some(error);
                    if !again {
                        break;
                    }
                }
                other => {
                    files::remove_quietly(&created);
                    lost = matches!(other, Ok(Attempt::Lost));
                    match other {
                        Ok(Attempt::Lost) if !stop.load(SeqCst) => {}
                        Err(error) if unknown.is_none() => {
                            rewritten.discard();
                            return Err(error);
                        }
                        _ => break,
                    }
                }
            }
        }
        // The catalog may name what was written; if it does not, it is found among the orphans.
        match (unknown, lost) {
            (Some(error), _) => Err(error),
            (None, true) => {
                rewritten.discard();
                let message = format!("table {} kept changing under a merge", rewritten.table);
                Err(Error::conflict("merge_lost", message).hint("stop other writers of this table"))
            }
            (None, false) => {
                rewritten.discard();
                Ok(None)
            }
        }
    }

    fn attempt_to_place(&self, rewritten: &Rewritten, fence: &Fence, created: &mut Vec<String>) -> Result<Attempt> {
        // What takes time is done before other commits have to wait, and again if one came meanwhile; at last while they wait.
        for _ in 0..PLANS {
            let Some(plan) = self.plan_to_place(rewritten, created)? else { return Ok(Attempt::Overtaken) };
            let _turn = self.turn();
            if !self.has_moved(&plan.base)? {
                return self.place(plan, rewritten, fence, created);
            }
            files::remove_quietly(&std::mem::take(created));
        }
        let _turn = self.turn();
        let Some(plan) = self.plan_to_place(rewritten, created)? else { return Ok(Attempt::Overtaken) };
        self.place(plan, rewritten, fence, created)
    }

    /// While other commits of this process wait.
    fn place(&self, plan: Planned, rewritten: &Rewritten, fence: &Fence, created: &mut Vec<String>) -> Result<Attempt> {
        let Planned { base, manifests, change } = plan;
        let summary = inherited(&base);
        let notes = Notes { summary: &summary, properties: Default::default(), now: self.now_ms() };
        let built = self.build(&base, manifests, &change, notes, created)?;
        match self.publish(&[base.swap_for(&built.table)], fence)? {
            Swapped::Done => {
                self.adopt(&built);
                self.indexes.follow_merge(&base, built.snapshot_id, rewritten);
                Ok(Attempt::Done(Box::new(built)))
            }
            Swapped::Lost(_) => Ok(Attempt::Lost),
            Swapped::Unknown(error) => Ok(Attempt::Unknown(error)),
        }
    }

    /// What putting it in place does to the table as it is now; none if it cannot be.
    fn plan_to_place(&self, rewritten: &Rewritten, created: &mut Vec<String>) -> Result<Option<Planned>> {
        let Some(base) = self.load_same(&rewritten.table, rewritten.uuid)? else { return Ok(None) };
        check_supported(&base)?;
        if was_rolled_back(&base) {
            return Ok(None);
        }
        match self.plan_on(rewritten, &base, created) {
            Err(_) if self.has_moved(&base)? => Ok(None),
            planned => Ok(planned?.map(|(manifests, change)| Planned { base, manifests, change })),
        }
    }

    fn plan_on(
        &self,
        rewritten: &Rewritten,
        base: &Table,
        created: &mut Vec<String>,
    ) -> Result<Option<(Vec<ManifestFile>, Change)>> {
        let manifests = manifests(base.metadata().current_snapshot().map(AsRef::as_ref))?;
        let live = Live::load(self.manifests(), &manifests)?;
        Ok(rewrite::plan(rewritten, base, &live, created)?.map(|change| (manifests, change)))
    }

    /// Removes the files that only these forgotten snapshots named. How many that were. Another call with the same snapshots
    /// does no harm.
    pub fn clean(
        &self,
        name: &TableName,
        uuid: Uuid,
        forgotten: &[Forgotten],
        reach: &mut Reach,
        stop: &AtomicBool,
    ) -> Result<usize> {
        match self.load_same(name, uuid)?.filter(Table::may_be_cleaned) {
            Some(table) => cleanup::clean(self, &table, forgotten, reach, stop),
            None => Ok(0),
        }
    }
}

/// A change and the table that it is of.
struct Planned {
    base: Table,
    manifests: Vec<ManifestFile>,
    change: Change,
}

/// Whether somebody set the table back behind a commit of kappa's: the next commit says so, and nothing is to be built on it.
fn was_rolled_back(table: &Table) -> bool {
    let hint = Marker::read(|key| table.metadata().properties().get(key));
    hint.is_some_and(|hint| Facts::of(table.metadata(), &hint).rolled_back_from(&hint).is_some())
}

/// What the newest snapshot says about the rows, which stay the same.
pub(in crate::table) fn inherited(base: &Table) -> BTreeMap<String, String> {
    let summary = base.metadata().current_snapshot().map(|snapshot| snapshot.summary().additional_properties.clone());
    let ours = summary.unwrap_or_default().into_iter().filter(|(key, _)| key.starts_with("kappa."));
    ours.chain([(COMPACTION.to_owned(), "true".to_owned())]).collect()
}
