//! The limits of what is done to tables.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::expiry::Retention;
use super::key_index::IndexPolicy;
use super::maintenance::Policy;

/// Limits of the commit. The defaults suit production; tests make them small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A table whose live data stays below this many bytes is rewritten by an upsert; a larger one gets position deletes.
    pub rewrite_below: u64,
    /// Above this many manifests the small ones are merged into one.
    pub merge_manifests_above: usize,
    /// From this many position delete files of about one size on, an upsert writes one that takes their place.
    pub merge_deletes_at: usize,
    /// When an index of a table's keys is kept.
    pub key_index: IndexPolicy,
    /// How often a commit that lost to another writer is built again.
    pub attempts: u32,
    /// Which snapshots a commit forgets.
    pub retention: Retention,
    /// Which files are merged.
    pub compaction: Policy,
    /// How long before the start of a process metadata was made that nothing names and that may go.
    pub orphan_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rewrite_below: 8 << 20,
            merge_manifests_above: 100,
            merge_deletes_at: 16,
            key_index: IndexPolicy::default(),
            attempts: 20,
            retention: Retention::default(),
            compaction: Policy::default(),
            orphan_grace: Duration::from_secs(24 * 3600),
        }
    }
}
