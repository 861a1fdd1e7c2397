//! Whether a checkpoint is already in a table: facts from the metadata, then a pure decision.

use std::collections::HashMap;

use iceberg::spec::TableMetadata;

use crate::error::{Error, Result};

/// The version that a commit belongs to.
pub const VERSION: &str = "kappa.version";
/// The timeline of its checkpoints.
pub const TIMELINE: &str = "kappa.timeline";
/// The checkpoint.
pub const CHECKPOINT: &str = "kappa.checkpoint";
/// The hash of its manifest.
pub const MANIFEST: &str = "kappa.manifest";
/// Who published that. Not of the marker, beside it in the summary.
pub const OWNER: &str = "kappa.owner";
/// The same beside the marker in the table properties, where [`OWNER`] may say whose the version is by now.
pub const PUBLISHER: &str = "kappa.publisher";

/// Who committed what: stands in the summary of each snapshot that kappa makes, and as a hint in the table properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The version.
    pub version: String,
    /// Checkpoints are compared only within one timeline.
    pub timeline: String,
    /// The checkpoint.
    pub checkpoint: u64,
    /// The hash of its manifest.
    pub manifest: String,
}

impl Marker {
    /// Reads a marker from a summary or from properties; none if it is not kappa's.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a String>) -> Option<Self> {
        Some(Self {
            version: get(VERSION)?.clone(),
            timeline: get(TIMELINE)?.clone(),
            checkpoint: get(CHECKPOINT)?.parse().ok()?,
            manifest: get(MANIFEST)?.clone(),
        })
    }

    /// The marker as properties.
    pub fn properties(&self) -> HashMap<String, String> {
        HashMap::from([
            (VERSION.to_owned(), self.version.clone()),
            (TIMELINE.to_owned(), self.timeline.clone()),
            (CHECKPOINT.to_owned(), self.checkpoint.to_string()),
            (MANIFEST.to_owned(), self.manifest.clone()),
        ])
    }

    /// The newest marker among the ancestors of main, past snapshots that are not kappa's, and its snapshot.
    pub fn newest(metadata: &TableMetadata) -> Option<(Self, i64)> {
        let mut next = metadata.current_snapshot_id();
        for _ in 0..metadata.snapshots().len() {
            let snapshot = metadata.snapshot_by_id(next?)?;
            if let Some(marker) = Self::read(|key| snapshot.summary().additional_properties.get(key)) {
                return Some((marker, snapshot.snapshot_id()));
            }
            next = snapshot.parent_snapshot_id();
        }
        None
    }

    pub(super) fn same_timeline(&self, other: &Self) -> bool {
        self.version == other.version && self.timeline == other.timeline
    }
}

/// What a table says about a version and timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The newest marker of this version and timeline among the ancestors of main, with its snapshot.
    pub newest: Option<(Marker, i64)>,
    /// Whether the ancestors could be walked to the first snapshot.
    pub complete: bool,
    /// The newest marker of any version, kept as table properties.
    pub hint: Option<Marker>,
}

impl Facts {
    /// Walks the ancestors of main, past snapshots that are not ours.
    pub fn of(metadata: &TableMetadata, ours: &Marker) -> Self {
        let hint = Marker::read(|key| metadata.properties().get(key));
        let mut next = metadata.current_snapshot_id();
        // Bounded by the number of snapshots, whatever the parents say.
        for _ in 0..=metadata.snapshots().len() {
            let Some(id) = next else { return Self { newest: None, complete: true, hint } };
            let Some(snapshot) = metadata.snapshot_by_id(id) else { break };
            let marker = Marker::read(|key| snapshot.summary().additional_properties.get(key));
            if let Some(marker) = marker.filter(|marker| marker.same_timeline(ours)) {
                return Self { newest: Some((marker, id)), complete: true, hint };
            }
            next = snapshot.parent_snapshot_id();
        }
        Self { newest: None, complete: false, hint }
    }

    fn reached(&self) -> u64 {
        self.newest.as_ref().map_or(0, |(marker, _)| marker.checkpoint)
    }

    /// The later checkpoint of this timeline that the properties tell of, where the whole chain of ancestors ends before it.
    pub(super) fn rolled_back_from(&self, ours: &Marker) -> Option<&Marker> {
        let ahead = |hint: &&Marker| self.complete && hint.same_timeline(ours) && hint.checkpoint > self.reached();
        self.hint.as_ref().filter(ahead)
    }
}

/// What to do with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is not in the table.
    Commit,
    /// It is; in this snapshot, if the newest marker is its own and the snapshot is still there.
    Already(Option<i64>),
}

/// Decides whether `ours` still has to be committed.
///
/// The ancestors are the truth, since they follow rollbacks; the properties are a hint that counts only where snapshots
/// have expired before a marker was found. Without either nobody knows, and guessing would lose or double rows. Where the
/// properties tell of a later checkpoint than the whole chain of ancestors, somebody rolled the table back: what lies
/// between is gone from it, and committing on top would leave a hole.
pub fn decide(facts: &Facts, ours: &Marker) -> Result<Decision> {
    if let Some(hint) = facts.rolled_back_from(ours) {
        return Err(Error::refused("rolled_back", "the table was rolled back by another tool")
            .with("committed_checkpoint", hint.checkpoint)
            .with("table_checkpoint", facts.reached())
            .hint("set the table's main branch to its newest kappa snapshot again, or reprocess into a new table"));
    }
    let (newest, snapshot) = match (&facts.newest, facts.complete, &facts.hint) {
        (Some((marker, snapshot)), _, _) => (marker, Some(*snapshot)),
        (None, true, _) => return Ok(Decision::Commit),
        (None, false, Some(hint)) if hint.same_timeline(ours) => (hint, None),
        // The hint is of the newest commit: an earlier timeline of ours stood here when this one began.
        (None, false, Some(hint)) if hint.version == ours.version => return Ok(Decision::Commit),
        (None, false, _) => {
            return Err(Error::corruption("marker_lost", "snapshots expired before the last commit of this version was found")
                .with("checkpoint", ours.checkpoint)
                .hint("nobody can tell what is committed: reprocess into a new version"));
        }
    };
    if newest.checkpoint < ours.checkpoint {
        return Ok(Decision::Commit);
    }
    if newest.checkpoint > ours.checkpoint {
        return Ok(Decision::Already(None));
    }
    if newest.manifest == ours.manifest {
        return Ok(Decision::Already(snapshot));
    }
    Err(Error::corruption("marker_differs", "the table holds this checkpoint with other content")
        .with("checkpoint", ours.checkpoint)
        .with("committed_manifest", &newest.manifest)
        .with("our_manifest", &ours.manifest)
        .hint("two processes made the same checkpoint: compare their manifests before anything else is committed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(timeline: &str, checkpoint: u64, manifest: &str) -> Marker {
        Marker { version: "v".into(), timeline: timeline.into(), checkpoint, manifest: manifest.into() }
    }

    fn facts(newest: Option<Marker>, complete: bool, hint: Option<Marker>) -> Facts {
        Facts { newest: newest.map(|marker| (marker, 7)), complete, hint }
    }

    #[test]
    fn a_found_marker_decides() {
        let ours = marker("t", 5, "h");
        let decide = |checkpoint, hash| super::decide(&facts(Some(marker("t", checkpoint, hash)), true, None), &ours);
        assert_eq!(decide(4, "x").unwrap(), Decision::Commit);
        assert_eq!(decide(5, "h").unwrap(), Decision::Already(Some(7)));
        assert_eq!(decide(6, "x").unwrap(), Decision::Already(None));
        assert_eq!(decide(5, "x").unwrap_err().code(), "marker_differs");
    }

    #[test]
    fn without_a_marker_the_whole_chain_means_not_committed() {
        let ours = marker("t", 5, "h");
        assert_eq!(decide(&facts(None, true, None), &ours).unwrap(), Decision::Commit);
        assert_eq!(decide(&facts(None, true, Some(marker("u", 9, "x"))), &ours).unwrap(), Decision::Commit);
    }

    #[test]
    fn a_table_that_was_rolled_back_is_refused() {
        let ours = marker("t", 5, "h");
        let rolled_back = |newest| facts(newest, true, Some(marker("t", 4, "x")));
        assert_eq!(decide(&rolled_back(None), &ours).unwrap_err().code(), "rolled_back");
        assert_eq!(decide(&rolled_back(Some(marker("t", 3, "x"))), &ours).unwrap_err().code(), "rolled_back");
        assert_eq!(decide(&rolled_back(Some(marker("t", 4, "x"))), &ours).unwrap(), Decision::Commit);
    }

    #[test]
    fn with_a_cut_chain_the_hint_decides_and_without_a_hint_we_stop() {
        let ours = marker("t", 5, "h");
        assert_eq!(decide(&facts(None, false, Some(marker("t", 5, "h"))), &ours).unwrap(), Decision::Already(None));
        assert_eq!(decide(&facts(None, false, Some(marker("t", 4, "h"))), &ours).unwrap(), Decision::Commit);
        assert_eq!(decide(&facts(None, false, Some(marker("u", 9, "h"))), &ours).unwrap(), Decision::Commit);
        assert_eq!(decide(&facts(None, false, Some(marker("t", 5, "x"))), &ours).unwrap_err().code(), "marker_differs");
        assert_eq!(decide(&facts(None, false, None), &ours).unwrap_err().code(), "marker_lost");
        let foreign = Marker { version: "w".into(), ..marker("t", 9, "x") };
        assert_eq!(decide(&facts(None, false, Some(foreign)), &ours).unwrap_err().code(), "marker_lost");
    }
}
