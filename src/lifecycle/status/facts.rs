//! What a version's manifests and files say.

use std::path::Path;

use serde::Serialize;

use super::logs::{Logs, TopicStatus};
use crate::checkpoint::manifest::{Holder, Manifest, Mode};
use crate::checkpoint::store::VersionDir;
use crate::durable::size::bytes_below;
use crate::plan::lower::lower;
use crate::process;
use crate::protocol::event_time::holder;
use crate::runtime::decode::{Keep, SourceDecoder};

/// How a version fares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Facts {
    /// The job's name.
    pub job: String,
    /// `live`, `reprocess`, or `finished`.
    pub mode: &'static str,
    /// Of its plan.
    pub fingerprint: String,
    /// Who claimed it last.
    pub process: Option<Process>,
    /// By topic, how far it is.
    pub topics: Vec<TopicStatus>,
    /// Records behind the end of the log; none where a log does not answer.
    pub lag: Option<u64>,
    /// The least watermark over all partitions, milliseconds since 1970 UTC.
    pub closed_ms: Option<i64>,
    /// The partition that it is of, if others are further, as `TOPIC/PARTITION`.
    pub closed_by: Option<String>,
    /// Records a second between the last checkpoints that are kept; none where there are not two.
    pub records_per_second: Option<f64>,
    /// The newest checkpoint.
    pub checkpoint: u64,
    /// When it was made, milliseconds since 1970 UTC.
    pub checkpoint_ms: i64,
    /// The state that it names, on disk.
    pub checkpoint_bytes: u64,
    /// All that the version keeps beside its tables, on disk.
    pub state_bytes: u64,
    /// What to look after.
    pub warnings: Vec<String>,
}

/// The process that claimed a version last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Whether it runs the version now; none: that cannot be seen from here.
    pub is_running: Option<bool>,
    /// Its number and host.
    pub process: String,
    /// When it claimed the version, milliseconds since 1970 UTC.
    pub since_ms: i64,
}

/// The facts of a version, by its newest manifest.
pub fn facts(dir: &VersionDir, newest: &Manifest, logs: &mut Logs<'_>) -> Facts {
    let mode = mode(newest);
    let topics: Vec<TopicStatus> = newest.sources.iter().map(|source| logs.look(source, mode == "finished")).collect();
    let process = newest.holder.as_ref().map(|holder| Process {
        is_running: is_running(holder, &dir.lock_path()),
        process: holder.process.clone(),
        since_ms: holder.since_ms,
    });
    let before = dir.list().ok().and_then(|list| dir.read(*list.first()?).ok()).map(|sealed| sealed.manifest);
    let at = |manifest: &Manifest| (manifest.position_sum(), manifest.created_ms);
    Facts {
        job: newest.job.clone(),
        mode,
        fingerprint: newest.fingerprint.clone(),
        process,
        lag: topics.iter().map(|topic| topic.lag).sum(),
        closed_ms: newest.closed_ms,
        closed_by: closed_by(newest),
        records_per_second: before.and_then(|before| rate(at(&before), at(newest))),
        checkpoint: newest.checkpoint.0,
        checkpoint_ms: newest.created_ms,
        checkpoint_bytes: newest.state.as_ref().map_or(0, |state| bytes_below(&dir.root().join(state))),
        state_bytes: bytes_below(dir.root()),
        warnings: topics.iter().flat_map(TopicStatus::warnings).collect(),
        topics,
    }
}

fn mode(manifest: &Manifest) -> &'static str {
    match (manifest.mode, manifest.finished) {
        (Mode::Live, _) => "live",
        (Mode::Reprocess, false) => "reprocess",
        (Mode::Reprocess, true) => "finished",
    }
}

/// Whether the process that claimed a version last runs it. One that is there, and took it over from a process that hangs, has
/// no lock as long as that one does.
pub(crate) fn is_running(owner: &Holder, lock: &Path) -> Option<bool> {
    if owner.is_gone() {
        return Some(false);
    }
    let said = std::fs::read_to_string(lock).unwrap_or_default();
    let holder = said.split(", since").next().unwrap_or_default();
    process::has_locked(holder, lock)
}

/// Records a second between two positions.
fn rate((position, ms): (i64, i64), (later, later_ms): (i64, i64)) -> Option<f64> {
    let (records, passed) = (later - position, later_ms - ms);
    (passed > 0 && records >= 0).then(|| records as f64 * 1e3 / passed as f64)
}

/// The partition whose watermark is the least, if another's is greater.
fn closed_by(manifest: &Manifest) -> Option<String> {
    let lowered = lower(&manifest.plan).ok()?;
    let bounds = lowered.sources.iter().map(|spec| Some(SourceDecoder::new(spec, None, Keep::default()).ok()?.bounds()));
    let bounds = bounds.collect::<Option<Vec<_>>>()?;
    let (places, frontiers): (Vec<_>, Vec<_>) =
        manifest.frontiers(&bounds).map(|(source, partition, frontier)| ((source, partition), frontier)).unzip();
    let (source, partition) = places.get(holder(&frontiers, 1)?)?;
    Some(format!("{}/{partition}", manifest.sources.get(*source)?.topic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::now_ms;

    #[test]
    fn a_rate_needs_time_and_goes_forward() {
        assert_eq!(rate((100, 1_000), (400, 3_000)), Some(150.0));
        assert_eq!(rate((100, 1_000), (100, 3_000)), Some(0.0));
        assert_eq!(rate((100, 1_000), (400, 1_000)), None);
        assert_eq!(rate((100, 1_000), (50, 2_000)), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_version_runs_while_its_lock_is_held_and_no_longer() {
        let root = tempfile::tempdir().unwrap();
        let dir = VersionDir::new(root.path(), "v");
        dir.create().unwrap();
        let owner = Holder::this(now_ms());
        let lock = dir.lock(false).unwrap();
        assert_eq!(is_running(&owner, &dir.lock_path()), Some(true));
        // Looking takes nothing: who starts a job at this moment is not in anybody's way.
        assert_eq!(dir.lock(false).unwrap_err().code(), "locked");
        drop(lock);
        assert_eq!(is_running(&owner, &dir.lock_path()), Some(false));
        dir.lock(false).unwrap();
        let gone = Holder { birth: owner.birth.clone().map(|birth| birth + "0"), ..owner.clone() };
        let _lock = dir.lock(false).unwrap();
        assert_eq!(is_running(&gone, &dir.lock_path()), Some(false));
        std::fs::write(dir.lock_path(), "process 7 on host elsewhere, since 2026-01-01T00:00:00Z").unwrap();
        assert_eq!(is_running(&Holder { birth: None, ..owner }, &dir.lock_path()), None);
    }

    #[test]
    fn which_partition_holds_the_watermark_is_said() {
        let golden = include_bytes!("../../../tests/golden/manifest-format-1.manifest");
        let mut manifest = Manifest::decode(golden).unwrap().manifest;
        let topic = manifest.sources[0].topic.clone();
        let mut partition = manifest.sources[0].partitions.values().next().unwrap().clone();
        partition.time.accepted_max = Some(5_000_000);
        manifest.sources[0].partitions = [(0, partition.clone()), (1, partition.clone())].into();
        assert_eq!(closed_by(&manifest), None);
        partition.time.accepted_max = Some(4_000_000);
        manifest.sources[0].partitions.insert(2, partition);
        assert_eq!(closed_by(&manifest), Some(format!("{topic}/2")));
    }
}
