//! Delivers what durable manifests list, in their order: first to the tables, all in one transaction, then to each topic.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use serde_json::json;
use uuid::Uuid;

use super::maintenance::{Committed, Maintenance};
use super::manifest::{Manifest, Sealed, SourceCounts};
use crate::error::{Error, Result};
use crate::message::Epoch;
use crate::protocol::delivery::{self, Marker};
use crate::protocol::failpoint;
use crate::sink::kafka::{Staged, TopicDelivery};
use crate::table::commit::marker_summary;
use crate::table::marker::OWNER;
use crate::table::retire::Retired;
use crate::table::serving::Trouble;
use crate::table::{Catalog, CommitKind, CommitOutcome, Fence, TableCommit, TableName};
use crate::time::instant;

/// How long a catalog may be away before a job gives up that is to come to an end: everything it owes is durable by then. One
/// that goes on without end waits for as long as it takes, says so this often, and reads little further meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// Where one output goes.
pub enum CommitTarget {
    /// To a table.
    Table(TableTarget),
    /// To a topic.
    Topic(Box<TopicDelivery>),
}

/// The tables of one output.
#[derive(Clone, Debug)]
pub struct TableTarget {
    /// The table.
    pub table: TableName,
    /// Its identity.
    pub uuid: Uuid,
    /// How rows get in.
    pub kind: CommitKind,
    /// The dead-letter table, if there is one.
    pub dead_letters: Option<(TableName, Uuid)>,
}

/// Commits manifests of one version.
pub struct Committer {
    /// Where tables are.
    pub catalog: Catalog,
    /// By output.
    pub targets: Vec<CommitTarget>,
    /// The owner that commits.
    pub owner: u64,
    /// The manifest with which it took the version over: nothing that it finds is newer.
    pub claimed: Epoch,
    /// An identifier made before this process wrote anything to the tables.
    pub began: Uuid,
}

/// A manifest that the tables and topics have.
#[derive(Debug)]
pub struct Confirmed {
    /// Its number.
    pub checkpoint: Epoch,
    /// Staged files that nothing needs any more.
    pub released: Vec<String>,
    /// The tables that have a new snapshot.
    pub committed: Vec<Committed>,
}

/// What the committer tells.
#[derive(Debug)]
pub enum News {
    /// A manifest was delivered.
    Confirmed(Confirmed),
    /// It was not, for now: it is tried again. Told at first and then each minute.
    Waits(Epoch, Error),
    /// A table cannot be kept small, or its keys not be indexed, for now.
    Neglected(TableName, Error),
    /// Something is wrong with a name that shows a table.
    Serving(Trouble),
    /// A promote asks the process to stop.
    Retired(Retired),
}

impl Committer {
    /// Delivers what a manifest lists; nothing happens if that was done before.
    ///
    /// The tables come first: their transaction asserts that this owner still has the version, also where there is no table.
    /// So a process that was taken over does not get to the topics, where it would end its successor's transactions.
    pub fn commit(&mut self, sealed: &Sealed, recovering: bool) -> Result<Confirmed> {
        let (mut released, committed) = self.commit_tables(sealed, recovering)?;
        failpoint::hit("K17");
        let manifest = &sealed.manifest;
        // While it runs, a process delivers its checkpoints in order: nothing later can be there.
        let newest = if recovering { self.claimed.0 } else { manifest.checkpoint.0 };
        for (target, output) in self.targets.iter_mut().zip(&manifest.outputs) {
            if let CommitTarget::Topic(topic) = target {
                let marker = marker(sealed);
                topic.deliver(&Staged { marker, files: &output.files, newest, recovering })?;
                released.extend(topic.released(&output.files));
            }
        }
        Ok(Confirmed { checkpoint: manifest.checkpoint, released, committed })
    }

    /// Delivers what a process before this one left. A cluster that has given the transaction up meanwhile, because it took too
    /// long, is not another owner: whether there is one is asked again each time, for a minute since recovery `began`.
    pub fn recover(&mut self, sealed: &Sealed, began: Instant) -> Result<Confirmed> {
        loop {
            match self.commit(sealed, true) {
                Err(error) if error.code() == "producer_fenced" && began.elapsed() < PATIENCE => std::thread::sleep(PAUSE),
                outcome => return outcome,
            }
        }
    }

    /// The maintenance of the tables.
    pub fn maintenance(&self, version: &str) -> Maintenance {
        let tables = self.targets.iter().flat_map(|target| match target {
            CommitTarget::Table(target) => vec![Some((target.table.clone(), target.uuid)), target.dead_letters.clone()],
            CommitTarget::Topic(_) => Vec::new(),
        });
        Maintenance::new(self.catalog.clone(), version, self.owner, self.claimed, self.began, tables.flatten())
    }

    /// Commits to all tables or to none; the staged files that nothing needs any more, and what was committed.
    fn commit_tables(&self, sealed: &Sealed, recovering: bool) -> Result<(Vec<String>, Vec<Committed>)> {
        let manifest = &sealed.manifest;
        let mut commits = Vec::new();
        for (number, (target, output)) in self.targets.iter().zip(&manifest.outputs).enumerate() {
            let CommitTarget::Table(target) = target else { continue };
            let summary = self.summary(sealed, number);
            if !output.dead_letters.is_empty() {
                let letters = target.dead_letters.clone();
                let (table, table_uuid) = letters.ok_or_else(|| no_dead_letter_table(manifest, &target.table))?;
                let files = output.dead_letters.clone();
                commits.push(TableCommit { table, table_uuid, kind: CommitKind::Append, files, summary: summary.clone() });
            }
            let (table, table_uuid, kind) = (target.table.clone(), target.uuid, target.kind.clone());
            commits.push(TableCommit { table, table_uuid, kind, files: output.files.clone(), summary });
        }
        let checkpoint = manifest.checkpoint.0;
        let fence = Fence { version: manifest.version.clone(), owner: self.owner, checkpoint, recovering };
        let outcomes = self.catalog.commit(&commits, &fence)?;
        let (mut all_released, mut committed) = (Vec::new(), Vec::new());
        for (commit, outcome) in commits.into_iter().zip(outcomes) {
            let (released, forgotten, troubles) = match outcome {
                CommitOutcome::Committed { released, forgotten, troubles, .. } => (released, forgotten, troubles),
                CommitOutcome::AlreadyCommitted { released, .. } => (released, Vec::new(), Vec::new()),
            };
            all_released.extend(released);
            committed.push(Committed { table: commit.table, checkpoint, forgotten, troubles });
        }
        Ok((all_released, committed))
    }

    fn summary(&self, sealed: &Sealed, output: usize) -> BTreeMap<String, String> {
        let manifest = &sealed.manifest;
        let mut summary = marker_summary(&manifest.version, &manifest.timeline, manifest.checkpoint.0, &sealed.hash);
        summary.insert("kappa.job".into(), manifest.job.clone());
        summary.insert(OWNER.into(), manifest.owner.to_string());
        summary.insert("kappa.offsets".into(), json!(manifest.positions()).to_string());
        summary.insert("kappa.closed".into(), manifest.closed_ms.map(crate::time::format_utc).unwrap_or_default());
        summary.insert("kappa.account".into(), account(manifest, output).to_string());
        summary
    }

    /// Commits manifests as they come, until the sending side is gone. A catalog or cluster that does not answer is asked again.
    /// `over`: the coordinator has ended and has its reason; what is durable is committed by the next process.
    /// `commits`: who looks after the tables hears of each. `goes_on`: whether the job goes on without end, for now.
    pub fn run(
        &mut self,
        requests: &Receiver<Sealed>,
        replies: &Sender<Result<News>>,
        commits: &Sender<Vec<Committed>>,
        over: &AtomicBool,
        goes_on: &dyn Fn() -> bool,
    ) {
        for sealed in requests {
            if over.load(SeqCst) {
                return;
            }
            let waits = |error| drop(replies.send(Ok(News::Waits(sealed.manifest.checkpoint, error))));
            let reply = self.commit_patiently(&sealed, over, goes_on, &waits).map(|mut confirmed| {
                // Without maintenance the job goes on.
                let _ = commits.send(std::mem::take(&mut confirmed.committed));
                News::Confirmed(confirmed)
            });
            let failed = reply.is_err();
            if replies.send(reply).is_err() || failed {
                return;
            }
        }
    }

    fn commit_patiently(
        &mut self,
        sealed: &Sealed,
        over: &AtomicBool,
        goes_on: &dyn Fn() -> bool,
        waits: &dyn Fn(Error),
    ) -> Result<Confirmed> {
        let (mut told, mut ending) = (None, instant());
        loop {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.commit(sealed, false)));
            if goes_on() {
                ending = instant();
            }
            match outcome.unwrap_or_else(|_| Err(Error::internal("the committer panicked"))) {
                Err(error) if error.is_retryable() && ending.elapsed() < PATIENCE && !over.load(SeqCst) => {
                    if told.is_none_or(|told: Instant| told.elapsed() >= PATIENCE) {
                        told = Some(instant());
                        waits(error);
                    }
                    std::thread::sleep(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }
}

/// What a topic says once it has a manifest's records.
pub fn marker(sealed: &Sealed) -> Marker {
    let manifest = &sealed.manifest;
    Marker {
        format: delivery::FORMAT,
        job: manifest.job.clone(),
        version: manifest.version.clone(),
        timeline: manifest.timeline.clone(),
        checkpoint: manifest.checkpoint.0,
        manifest: sealed.hash.clone(),
        previous: 0,
        owner: manifest.owner,
        topic_id: String::new(),
    }
}

/// What is durable is delivered or it is an error: never dropped in silence.
fn no_dead_letter_table(manifest: &Manifest, table: &TableName) -> Error {
    Error::refused(
        "no_dead_letter_table",
        format!("the dead-letter table of {table} is gone, and there are dead letters for it"),
    )
    .with("checkpoint", manifest.checkpoint)
    .hint("set on_bad_record=\"dead_letter\" again and run the same command: it makes the table and delivers them")
}

/// What became of the records of an output, since the domain's start.
fn account(manifest: &Manifest, output: usize) -> serde_json::Value {
    let mut counts = SourceCounts::default();
    let source = manifest.output_sources().get(output).copied().unwrap_or_default();
    manifest.sources.get(source).iter().flat_map(|s| s.partitions.values()).for_each(|p| counts.add(&p.counts));
    let (filtered, expired, used) = manifest.outputs.get(output).map_or((0, 0, 0), |o| (o.filtered, o.expired, o.used));
    json!({
        "read": counts.read, "bad": counts.bad, "below_floor": counts.below_floor, "late_dropped": counts.late_dropped,
        "filtered": filtered, "expired": expired, "used": used, "late_kept": counts.late_kept, "jumped": counts.jumped,
    })
}
