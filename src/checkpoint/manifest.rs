//! The manifest: the one document that decides. Checkpoint N exists once its manifest is durable; everything it lists
//! will be delivered.
//!
//! A file is one header line, `kappa-manifest 1 LENGTH CRC32C SHA256`, and then LENGTH bytes of JSON. The hash of the
//! body is the manifest's identity: it goes into the next manifest and into every commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::message::{Epoch, Offset, Partition};
use crate::plan::logical::JobPlan;
use crate::plan::time_zones::ZoneTables;
use crate::protocol::chain::Link;
use crate::protocol::checkpoint::{StagedContent, StagedFile};
pub use crate::protocol::event_time::SourceCounts;
use crate::protocol::event_time::{PartitionFrontier, PartitionTime, TimeBounds};

/// The format that this release writes. It reads the last two.
pub const FORMAT: u32 = 1;
/// The log does not tell, or nothing was read yet.
pub const UNKNOWN_EPOCH: i32 = -1;
const MAGIC: &str = "kappa-manifest";
const RESTORE: &str = "restore the file from a copy, or move it away and run the same command again: the job goes on from the \
    checkpoint before if no table or topic has this one yet, and is refused if one has; then --replace, or reprocess into a new one";

/// How a version is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Goes on until it is stopped.
    Live,
    /// Reads up to the end as it was at the start.
    Reprocess,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Live { "live" } else { "reprocess" })
    }
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Of this document.
    pub format: u32,
    /// The job's name.
    pub job: String,
    /// One execution of one plan.
    pub version: String,
    /// The catalog of its tables, without a password. Whoever collects in another one leaves the version alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
    /// Checkpoint numbers are compared only within one timeline.
    pub timeline: String,
    /// The number of this checkpoint, from 0: the manifest that creates the version.
    pub checkpoint: Epoch,
    /// Rises with each process that takes the version over.
    pub owner: u64,
    /// Who that is. For people; nothing depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// The hash of the manifest before; empty for the first.
    pub previous: String,
    /// A manifest that only says who owns the version from here on: it repeats the one before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claim: bool,
    /// When it was made, milliseconds since 1970 UTC. For people; nothing depends on it.
    pub created_ms: i64,
    /// How the version is executed.
    pub mode: Mode,
    /// `--from` and `--until` as they were given: a resumed run must give the same.
    pub from: String,
    /// See `from`.
    pub until: String,
    /// Whether the frozen end was reached.
    pub finished: bool,
    /// The canonical plan.
    pub plan: JobPlan,
    /// Of the plan.
    pub fingerprint: String,
    /// The transitions of the time zones that the plan uses: a new time-zone database cannot change an old version.
    pub time_zones: ZoneTables,
    /// What is read, from where, and how far.
    pub sources: Vec<SourceState>,
    /// The least watermark over all partitions, milliseconds since 1970 UTC.
    pub closed_ms: Option<i64>,
    /// The watermark without partitions that are read to their end.
    pub visible_ms: Option<i64>,
    /// Timers of operators: none yet.
    pub timers: Vec<serde_json::Value>,
    /// The stateful operators.
    pub operators: Vec<OperatorState>,
    /// The directory of the state, relative to the version's; none before the first checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// CRC-32C of what that directory lists its files in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_checksum: Option<u32>,
    /// The outputs.
    pub outputs: Vec<OutputState>,
}

/// The process that owns a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process and its host.
    pub process: String,
    /// When it claimed the version, milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// What tells it from a later process of the same number, where the system says that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub birth: Option<String>,
}

impl Holder {
    /// This process, from now on.
    pub fn this(now_ms: i64) -> Self {
        Self { process: crate::process::describe(), since_ms: now_ms, birth: crate::process::birth() }
    }

    /// Whether it is known that there is no such process any more.
    pub fn is_gone(&self) -> bool {
        self.birth.as_deref().is_some_and(|birth| crate::process::is_gone(&self.process, birth))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, since {}", self.process, crate::time::format_utc(self.since_ms))
    }
}

/// A topic that a version reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceState {
    /// Its name.
    pub topic: String,
    /// Its identity.
    pub topic_id: String,
    /// Records with an event time below are left out: in milliseconds since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor_ms: Option<i64>,
    /// Groups above this event time are whole; none: all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_from_ms: Option<i64>,
    /// By partition.
    pub partitions: BTreeMap<i32, PartitionState>,
}

impl SourceState {
    /// Where each partition is.
    pub fn positions(&self) -> BTreeMap<Partition, Offset> {
        self.partitions.iter().map(|(partition, state)| (Partition(*partition), state.next)).collect()
    }
}

/// A partition that a version reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Where the domain begins.
    pub start: Offset,
    /// The next record to read.
    pub next: Offset,
    /// Where a bounded run stops, as it was frozen at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Offset>,
    /// The epoch of the leader that wrote the record before `next`; [`UNKNOWN_EPOCH`] if it is not known.
    pub leader_epoch: i32,
    /// Records that were gone before they were read: `--allow-gaps` went on without them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// How far event time has come, in the unit of the event-time column.
    pub time: PartitionTime,
    /// The account of the source's side.
    pub counts: SourceCounts,
}

impl PartitionState {
    /// Nothing is read yet, and there is no end.
    pub fn beginning(start: Offset, time: PartitionTime) -> Self {
        let counts = SourceCounts::default();
        Self { start, next: start, end: None, leader_epoch: UNKNOWN_EPOCH, lost: 0, time, counts }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A stateful operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorState {
    /// Its stable name.
    pub name: String,
    /// What the edge to it carries. `retract`: rows that are taken back come as such, without a weight column.
    #[serde(default = "Edge::append", skip_serializing_if = "Edge::is_append")]
    pub input: Edge,
    /// The families of its state.
    pub families: Vec<String>,
    /// The encoding of its keys.
    pub key_encoding: u32,
    /// The encodings of its accumulators, in order.
    pub accumulator_encodings: Vec<u8>,
    /// The seed of the hash that keys are grouped by.
    pub hash_seed: u64,
    /// How many key groups there are.
    pub key_groups: u16,
    /// The columns of the state: key columns, then aggregates; numbered from 1.
    pub fields: Vec<StateField>,
    /// When its groups expire, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<OperatorExpiry>,
}

/// How an operator's state is cut by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorExpiry {
    /// So long after the end of its interval a group expires, milliseconds.
    pub after_ms: i64,
    /// The length of the slices of time in which the ends of intervals lie, milliseconds.
    pub slice_ms: i64,
}

/// A column of an operator's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateField {
    /// Stable within the operator.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub data_type: crate::plan::schema::DataType,
}

/// What an edge of the plan carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// New rows only.
    Append,
    /// The newest row of each key.
    Upsert,
    /// New rows, and rows that are taken back.
    Retract,
}

impl Edge {
    fn append() -> Self {
        Self::Append
    }

    fn is_append(&self) -> bool {
        *self == Self::Append
    }
}

/// An output of a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputState {
    /// The name given to `job.write`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The table; `kafka:TOPIC` for a topic.
    pub table: String,
    /// What it carries.
    pub edge: Edge,
    /// The column that carries weights, for `retract`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
    /// Records that a filter left out, since the domain's start.
    pub filtered: u64,
    /// Records that came when their group had expired, since the domain's start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expired: u64,
    /// Records that were used, since the domain's start.
    pub used: u64,
    /// Rows that this checkpoint changes.
    pub rows_changed: u64,
    /// Records staged for the topic since the domain's start, if it is one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub records: u64,
    /// Files of this checkpoint.
    pub files: Vec<StagedFile>,
    /// Files of this checkpoint's dead letters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<StagedFile>,
}

/// A manifest with its bytes' hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The document.
    pub manifest: Manifest,
    /// SHA-256 of its body, in hex.
    pub hash: String,
}

impl Sealed {
    /// Its place in the version's chain.
    pub fn link(&self) -> Link {
        let Manifest { checkpoint, owner, claim, previous, .. } = &self.manifest;
        let (hash, previous) = (self.hash.clone(), previous.clone());
        Link { checkpoint: checkpoint.0, owner: *owner, claim: *claim, hash, previous }
    }
}

impl Manifest {
    /// The file's bytes, and the hash.
    pub fn encode(&self) -> Result<(Vec<u8>, String)> {
        let body = serde_json::to_vec_pretty(self).map_err(|e| Error::internal(format!("write a manifest: {e}")))?;
        let hash = hex(&Sha256::digest(&body));
        let mut file = format!("{MAGIC} {FORMAT} {} {:08x} {hash}\n", body.len(), crc32c::crc32c(&body)).into_bytes();
        file.extend_from_slice(&body);
        Ok((file, hash))
    }

    /// Reads a file's bytes. Anything that is not exactly what was written is an error.
    pub fn decode(file: &[u8]) -> Result<Sealed> {
        let damaged = |what: &str| Error::corruption("manifest", format!("a manifest is damaged: {what}")).hint(RESTORE);
        let end = memchr::memchr(b'\n', file).ok_or_else(|| damaged("no header"))?;
        let (header, body) = (String::from_utf8_lossy(&file[..end]), &file[end + 1..]);
        let fields: Vec<&str> = header.split(' ').collect();
        let [MAGIC, format, length, crc, hash] = fields[..] else {
            return Err(damaged("not a manifest"));
        };
        if format.parse() != Ok(FORMAT) {
            return Err(Error::refused(
                "manifest_format",
                format!("the manifest has format {format}, this release reads {FORMAT}"),
            )
            .hint("use the release that wrote it, or a newer one"));
        }
        if length != body.len().to_string() {
            return Err(damaged("its length is wrong"));
        }
        if crc != format!("{:08x}", crc32c::crc32c(body)) || hex(&Sha256::digest(body)) != hash {
            return Err(damaged("its checksum is wrong"));
        }
        let manifest: Self = serde_json::from_slice(body).map_err(|e| damaged(&e.to_string()))?;
        if let Some(path) = manifest.stray_path() {
            return Err(damaged(&format!("it names {path:?}, which is no place for its files")));
        }
        Ok(Sealed { manifest, hash: hash.to_owned() })
    }

    /// A path that leads out of where it belongs. State and records lie in the version's directory; that files of a table lie
    /// under it, the commit checks, which knows where that is.
    fn stray_path(&self) -> Option<&str> {
        let is_below = |folder: &str, path: &str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        };
        let mut files = self.outputs.iter().flat_map(|output| output.files.iter().chain(&output.dead_letters));
        let stray_file = |file: &&StagedFile| match file.content {
            StagedContent::Records => !is_below("outbox/", &file.path),
            StagedContent::Data | StagedContent::DeletedKeys => file.path.split('/').any(|part| part == ".."),
        };
        let stray_state = self.state.as_deref().filter(|state| !is_below("state/", state));
        stray_state.or_else(|| files.find(stray_file).map(|file| file.path.as_str()))
    }

    /// Whether the records of each output add up: named invariant, checked before each commit.
    pub fn check_account(&self) -> Result<()> {
        for (output, source) in self.outputs.iter().zip(self.output_sources()) {
            let mut counts = SourceCounts::default();
            for partition in self.sources.get(source).into_iter().flat_map(|s| s.partitions.values()) {
                counts.add(&partition.counts);
            }
            let gone = counts.bad + counts.below_floor + counts.late_dropped;
            let sum = gone + output.filtered + output.expired + output.used;
            if counts.read != sum {
                return Err(Error::internal(format!(
                    "the account of {} does not add up: {} read, but {sum} = {} bad + {} below floor + {} late + {} filtered + {} expired + {} used",
                    output.table,
                    counts.read,
                    counts.bad,
                    counts.below_floor,
                    counts.late_dropped,
                    output.filtered,
                    output.expired,
                    output.used
                )));
            }
        }
        Ok(())
    }

    /// For each output the index of its source: reads in the order of their ids.
    pub fn output_sources(&self) -> Vec<usize> {
        let ids: Vec<u32> = self.plan.outputs.iter().map(|output| output.plan.read().id).collect();
        let mut known = ids.clone();
        known.sort_unstable();
        known.dedup();
        ids.iter().map(|id| known.binary_search(id).unwrap_or(0)).collect()
    }

    /// How far each partition's time has come: the source's number, the partition, and what the frontiers are made of. `bounds`:
    /// by source.
    pub fn frontiers<'a>(&'a self, bounds: &'a [TimeBounds]) -> impl Iterator<Item = (usize, i32, PartitionFrontier)> + 'a {
        self.sources.iter().zip(bounds).enumerate().flat_map(|(number, (source, bounds))| {
            source.partitions.iter().map(move |(partition, state)| {
                let watermark_ms = state.time.watermark_ms(bounds);
                let at_end = state.end.is_some_and(|end| state.next >= end);
                (number, *partition, PartitionFrontier { watermark_ms, at_end })
            })
        })
    }

    /// The sum of all positions. They only grow: where it is the same, nothing has moved.
    pub fn position_sum(&self) -> i64 {
        self.sources.iter().flat_map(|source| source.partitions.values()).map(|partition| partition.next.0).sum()
    }

    /// A hash of the domain: what is read of which topics, from where on. Partitions that were found later do not change it.
    pub fn domain_hash(&self) -> Result<String> {
        let starts = |source: &SourceState| -> BTreeMap<i32, i64> {
            let first = source.partitions.iter().filter(|(_, partition)| partition.time.found_at_ms.is_none());
            first.map(|(number, partition)| (*number, partition.start.0)).collect()
        };
        let source = |it: &SourceState| (it.topic.clone(), it.topic_id.clone(), it.floor_ms, starts(it));
        let sources: Vec<_> = self.sources.iter().map(source).collect();
        let bytes = serde_json::to_vec(&sources).map_err(|error| Error::internal(format!("the domain as JSON: {error}")))?;
        Ok(hex(&Sha256::digest(&bytes)))
    }

    /// Positions by topic and partition.
    pub fn positions(&self) -> BTreeMap<&str, BTreeMap<i32, Offset>> {
        let next = |source: &SourceState| source.partitions.iter().map(|(id, p)| (*id, p.next)).collect();
        self.sources.iter().map(|source| (source.topic.as_str(), next(source))).collect()
    }
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
