//! The commit: all tables of a checkpoint and the owner's row, by compare-and-swap, exactly once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use iceberg::spec::{DataFile, ManifestFile};
use uuid::Uuid;

use super::catalog::{Catalog, Table, sql_integer};
use super::datafile;
use super::expiry::Forgotten;
use super::files;
use super::key_index::Step;
use super::live::{Live, manifests};
use super::marker::{Decision, Facts, Marker, OWNER, PUBLISHER, decide};
use super::name::TableName;
use super::rest;
use super::serving::{Followed, Trouble};
use super::snapshot::{self, Built, Change, Notes};
use super::store::{OwnerRow, Swap, Swapped};
use super::upsert::{self, Planned, Staged, Upserts};
use crate::error::{Error, Result};
use crate::protocol::checkpoint::{StagedContent, StagedFile};
use crate::protocol::failpoint;
use crate::time;

/// Summary key: `adopted` if the snapshot holds the staged data files themselves, `copied` if it holds their rows.
pub const STAGED: &str = "kappa.staged";

/// Longest pause before a commit that lost is built again.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// How rows get into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitKind {
    /// They are added.
    Append,
    /// They take the place of rows with the same key.
    Upsert {
        /// The key columns, in the order of the table's key.
        primary_key: Vec<String>,
    },
}

/// What a checkpoint does to one table.
#[derive(Clone, Debug)]
pub struct TableCommit {
    /// The table.
    pub table: TableName,
    /// The table that files were staged for: another one of the same name is a conflict.
    pub table_uuid: Uuid,
    /// How rows get in.
    pub kind: CommitKind,
    /// The staged files. None at all still makes a snapshot, so that the marker and the offsets advance.
    pub files: Vec<StagedFile>,
    /// The marker (`kappa.version`, `kappa.timeline`, `kappa.checkpoint`, `kappa.manifest`) and what else the snapshot's
    /// summary says.
    pub summary: BTreeMap<String, String>,
}

/// Who commits: asserted in the same transaction.
#[derive(Clone, Debug)]
pub struct Fence {
    /// The version.
    pub version: String,
    /// The token with which [`Catalog::claim_owner`] was called.
    pub owner: u64,
    /// The checkpoint, stored in the owner's row.
    pub checkpoint: u64,
    /// After a crash: checksums of large files are compared too.
    pub recovering: bool,
}

impl Fence {
    pub(super) fn row(&self) -> Result<OwnerRow<'_>> {
        let (owner, checkpoint) = (sql_integer(self.owner)?, sql_integer(self.checkpoint)?);
        Ok(OwnerRow { version: &self.version, owner, checkpoint })
    }
}

/// What became of one table's commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// This call committed it.
    Committed {
        /// The new snapshot.
        snapshot_id: i64,
        /// Staged files that no snapshot names: they may be deleted once the checkpoint is recorded as confirmed.
        released: Vec<String>,
        /// Snapshots that the table, and the names that show it, have forgotten with this commit.
        forgotten: Vec<Forgotten>,
        /// What is wrong with names that show it.
        troubles: Vec<Trouble>,
    },
    /// An earlier call had.
    AlreadyCommitted {
        /// Its snapshot, if it is known.
        snapshot_id: Option<i64>,
        /// As above, as far as it is known.
        released: Vec<String>,
    },
}

/// One table of an attempt.
enum Prepared {
    Already(Option<i64>, Vec<String>),
    Built(Box<Next>, Swap, Vec<String>),
}

/// A table's next state, what it means for its keys, and the names that show it.
struct Next {
    base: Table,
    built: Built,
    step: Step,
    primary_key: Vec<String>,
    followed: Vec<Followed>,
    troubles: Vec<Trouble>,
}

enum Attempt {
    Done(Vec<CommitOutcome>),
    Lost(TableName),
    Unknown(Error),
}

impl Catalog {
    /// Commits a checkpoint to all its tables, or to none.
    ///
    /// Before each attempt the marker is looked for, so that a repeated call, or one after a lost reply, does nothing. A
    /// foreign commit in between is no conflict: the change is built again on top of it.
    ///
    /// # Errors
    /// `Conflict` if another owner took the version over (nothing moved), if a table was replaced, or if other writers win
    /// too often; `Corruption` if a staged file is damaged or the table holds this checkpoint with other content;
    /// `Unavailable` if the catalog does not answer: then the outcome is unknown, and the same call finds it out.
    pub fn commit(&self, commits: &[TableCommit], fence: &Fence) -> Result<Vec<CommitOutcome>> {
        commits.iter().try_for_each(|commit| check_names(commit, fence))?;
        if commits.iter().map(|commit| &commit.table).collect::<HashSet<_>>().len() != commits.len() {
            return Err(Error::internal("a checkpoint names a table twice"));
        }
        let mut last = None;
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                std::thread::sleep(time::jitter(PAUSE));
            }
            let mut created = Vec::new();
            match self.attempt(commits, fence, attempt, &mut created) {
                Ok(Attempt::Done(outcomes)) => return Ok(outcomes),
                Ok(Attempt::Lost(table)) => {
                    // Nothing moved, and that is known.
                    files::remove_quietly(&created);
                    let message = format!("table {table} kept changing under the commit");
                    last = Some(Error::conflict("commit_lost", message).hint("stop other writers of this table, then retry"));
                }
                // The files stay: the catalog may name them. The next attempt looks for the marker; after an error of the disk
                // that is the next process'.
                Ok(Attempt::Unknown(error)) if !error.is_retryable() => return Err(error),
                Ok(Attempt::Unknown(error)) => last = Some(error),
                Err(error) => {
                    // Errors come from before the transaction, or from one that was rolled back.
                    files::remove_quietly(&created);
                    return Err(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::internal("a commit without an attempt")))
    }

    fn attempt(&self, commits: &[TableCommit], fence: &Fence, attempt: u32, created: &mut Vec<String>) -> Result<Attempt> {
        let _turn = self.turn();
        let mut prepared = Vec::with_capacity(commits.len());
        for commit in commits {
            let base = self.require(&commit.table)?;
            match self.prepare(commit, &base, fence, attempt == 0, created) {
                Ok(table) => prepared.push(table),
                // Another tool's maintenance may have removed what this base names: what the table has now decides. A staged
                // file is nobody else's.
                Err(error) if error.code() != "staged_file" && self.has_moved(&base)? => {
                    return Ok(Attempt::Lost(commit.table.clone()));
                }
                Err(error) => return Err(error),
            }
        }
        // Names that others keep changing are left behind for now.
        if attempt < self.settings.attempts / 2 {
            prepared.iter_mut().for_each(|table| table.bring_names(self, created));
        }
        failpoint::hit("K15");
        match self.publish_with_names(&mut prepared, fence)? {
            Swapped::Done => {}
            Swapped::Lost(table) => return Ok(Attempt::Lost(table)),
            Swapped::Unknown(error) => return Ok(Attempt::Unknown(error)),
        }
        failpoint::hit("K16");
        Ok(Attempt::Done(prepared.into_iter().map(|table| self.done(table)).collect()))
    }

    fn publish_with_names(&self, prepared: &mut [Prepared], fence: &Fence) -> Result<Swapped> {
        let swaps = |prepared: &[Prepared]| prepared.iter().flat_map(Prepared::swaps).collect::<Vec<Swap>>();
        let error = match self.publish(&swaps(prepared), fence) {
            Err(error) if error.code() != "fenced" => error,
            published => return published,
        };
        // Nothing has moved. If it is a name that the catalog does not let move, the version goes on without it.
        let left: usize = prepared.iter_mut().map(|table| table.leave_names(&error)).sum();
        if left == 0 { Err(error) } else { self.publish(&swaps(prepared), fence) }
    }

    /// Looks whether the checkpoint is in the table; if not, writes the table's next state.
    fn prepare(
        &self,
        commit: &TableCommit,
        base: &Table,
        fence: &Fence,
        first: bool,
        created: &mut Vec<String>,
    ) -> Result<Prepared> {
        if base.uuid() != commit.table_uuid {
            return Err(Error::conflict("table_replaced", format!("table {} was replaced by another one", commit.table))
                .with("expected_uuid", commit.table_uuid)
                .with("found_uuid", base.uuid())
                .hint("the version that this process wrote is gone: stop it"));
        }
        snapshot::check_supported(base)?;
        if !self.has_owners() {
            rest::check_owner(base.metadata(), &fence.row()?)?;
        }
        let marker = marker_of(commit)?;
        if let Decision::Already(snapshot_id) = decide(&Facts::of(base.metadata(), &marker), &marker)? {
            let snapshot = snapshot_id.and_then(|id| base.metadata().snapshot_by_id(id));
            let copied = snapshot.and_then(|snapshot| snapshot.summary().additional_properties.get(STAGED));
            let copied = copied.is_some_and(|staged| staged == "copied");
            return Ok(Prepared::Already(snapshot_id, released(commit, base, copied)));
        }
        for file in &commit.files {
            check_staged(file, base, first && fence.recovering, first)?;
        }
        let manifests = manifests(base.metadata().current_snapshot().map(AsRef::as_ref))?;
        let Planned { change, copied, step } = self.plan(commit, base, &manifests, created)?;
        let mut summary = commit.summary.clone();
        summary.insert(STAGED.to_owned(), if copied { "copied" } else { "adopted" }.to_owned());
        let mut properties = marker.properties();
        properties.extend(summary.get(OWNER).map(|owner| (PUBLISHER.to_owned(), owner.clone())));
        let notes = Notes { summary: &summary, properties, now: self.now_ms() };
        let built = self.build(base, manifests, &change, notes, created)?;
        let swap = base.swap_for(&built.table);
        let primary_key = match &commit.kind {
            CommitKind::Append => Vec::new(),
            CommitKind::Upsert { primary_key } => primary_key.clone(),
        };
        let released = released(commit, base, copied);
        let next = Next { base: base.clone(), built, step, primary_key, followed: Vec::new(), troubles: Vec::new() };
        Ok(Prepared::Built(Box::new(next), swap, released))
    }

    fn plan(
        &self,
        commit: &TableCommit,
        base: &Table,
        manifests: &[ManifestFile],
        created: &mut Vec<String>,
    ) -> Result<Planned> {
        let staged = staged(commit, base)?;
        match &commit.kind {
            CommitKind::Append if staged.keys.is_empty() => {
                Ok(Planned { change: Change::append(staged.data), copied: false, step: Step::Same })
            }
            CommitKind::Append => Err(Error::internal("deleted keys for an append table")),
            CommitKind::Upsert { primary_key } => {
                let live = if staged.keys.is_empty() { Live::default() } else { Live::load(&self.manifests, manifests)? };
                let with = Upserts { settings: &self.settings, indexes: &self.indexes };
                upsert::plan(base, &live, staged, primary_key, &with, created)
            }
        }
    }

    /// Builds a table's next state, durable as far as the store does not make it so.
    pub(super) fn build(
        &self,
        base: &Table,
        manifests: Vec<ManifestFile>,
        change: &Change,
        notes: Notes<'_>,
        created: &mut Vec<String>,
    ) -> Result<Built> {
        let built = snapshot::build(&self.manifests, base, manifests, change, notes, &self.settings, created)?;
        created.push(built.table.metadata_location().to_owned());
        self.write_metadata(&built.table)?;
        Ok(built)
    }

    /// Moves tables to what was built for them, if the version is still this owner's.
    pub(super) fn publish(&self, swaps: &[Swap], fence: &Fence) -> Result<Swapped> {
        self.swap(swaps, Some(&fence.row()?))
    }

    /// Whether the catalog has another state of the table by now.
    pub(super) fn has_moved(&self, base: &Table) -> Result<bool> {
        Ok(self.load(base.name())?.is_none_or(|now| now.metadata_location() != base.metadata_location()))
    }

    /// Goes on from what the catalog has now.
    pub(super) fn adopt(&self, built: &Built) {
        if !self.store.names_metadata() {
            // What the server has made of it, the next look says; old files are its own to remove.
            return;
        }
        self.remember(&built.table);
        let location = built.table.location();
        files::remove_quietly(built.expired_metadata.iter().filter(|url| files::is_below(url, location)));
    }

    fn done(&self, prepared: Prepared) -> CommitOutcome {
        match prepared {
            Prepared::Already(snapshot_id, released) => CommitOutcome::AlreadyCommitted { snapshot_id, released },
            Prepared::Built(next, _, released) => {
                let Next { base, built, step, primary_key, followed, troubles } = *next;
                self.adopt(&built);
                self.indexes.follow(&base, built.snapshot_id, step, &primary_key);
                let Built { snapshot_id, mut forgotten, .. } = built;
                forgotten.extend(self.followed(followed));
                CommitOutcome::Committed { snapshot_id, released, forgotten, troubles }
            }
        }
    }
}

impl Prepared {
    /// The names that show the table are to move with it.
    fn bring_names(&mut self, catalog: &Catalog, created: &mut Vec<String>) {
        if let Self::Built(next, ..) = self {
            (next.followed, next.troubles) = catalog.followers(&next.built.table, created);
        }
    }

    /// They are not to move with it after all; how many there were.
    fn leave_names(&mut self, why: &Error) -> usize {
        let Self::Built(next, ..) = self else { return 0 };
        let left = std::mem::take(&mut next.followed);
        let trouble = |name: &Followed| Trouble { name: name.name().clone(), error: why.clone() };
        next.troubles.extend(left.iter().map(trouble));
        left.len()
    }

    fn swaps(&self) -> Vec<Swap> {
        match self {
            Self::Already(..) => Vec::new(),
            Self::Built(next, swap, _) => {
                std::iter::once(swap.clone()).chain(next.followed.iter().map(Followed::swap)).collect()
            }
        }
    }
}

fn marker_of(commit: &TableCommit) -> Result<Marker> {
    Marker::read(|key| commit.summary.get(key))
        .ok_or_else(|| Error::internal(format!("commit to {} without a whole marker", commit.table)))
}

fn check_names(commit: &TableCommit, fence: &Fence) -> Result<()> {
    let marker = marker_of(commit)?;
    if marker.version == fence.version && marker.checkpoint == fence.checkpoint {
        return Ok(());
    }
    Err(Error::internal(format!("commit to {} under the fence of another version or checkpoint", commit.table)))
}

/// A staged file must lie under its table, and be there as it was written. Content is compared in the first attempt only.
fn check_staged(file: &StagedFile, table: &Table, thorough: bool, first: bool) -> Result<()> {
    if !file.path.starts_with(&format!("{}/data/", table.location())) {
        return Err(Error::corruption("staged_file", format!("staged file {} is not of table {}", file.path, table.name())));
    }
    if first { files::verify(&file.path, file.bytes, file.checksum, thorough) } else { Ok(()) }
}

fn staged(commit: &TableCommit, table: &Table) -> Result<Staged> {
    let mut staged = Staged { data: Vec::new(), keys: Vec::new() };
    for file in &commit.files {
        match file.content {
            StagedContent::Data => staged.data.push(data_file(file, table)?),
            StagedContent::DeletedKeys => staged.keys.push(file.path.clone()),
            StagedContent::Records => {
                let message = format!("staged file {} holds records of a topic, not rows of {}", file.path, table.name());
                return Err(Error::corruption("staged_file", message));
            }
        }
    }
    Ok(staged)
}

fn data_file(file: &StagedFile, table: &Table) -> Result<DataFile> {
    let described = datafile::from_json(&file.data_file, table.metadata().current_schema())?;
    let same = described.file_path() == file.path
        && described.file_size_in_bytes() == file.bytes
        && described.record_count() == file.rows;
    if same {
        return Ok(described);
    }
    Err(Error::corruption("staged_file", format!("the description of staged file {} is not of it", file.path)))
}

/// The staged files that no snapshot needs. What is removed later lies under the table, whatever a manifest says.
fn released(commit: &TableCommit, table: &Table, copied: bool) -> Vec<String> {
    let free = |file: &&StagedFile| copied || file.content == StagedContent::DeletedKeys;
    let ours = |path: &String| files::is_below(path, table.location());
    commit.files.iter().filter(free).map(|file| file.path.clone()).filter(ours).collect()
}

/// The marker keys of a summary, for callers that build one.
pub fn marker_summary(version: &str, timeline: &str, checkpoint: u64, manifest: &str) -> BTreeMap<String, String> {
    let marker = Marker { version: version.into(), timeline: timeline.into(), checkpoint, manifest: manifest.into() };
    let properties: HashMap<String, String> = marker.properties();
    properties.into_iter().collect()
}
