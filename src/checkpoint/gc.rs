//! Old checkpoints go as they fall out of use: first the manifest, then the state that only it named, then staged files
//! that the tables took over. Interrupted anywhere, the next run removes the rest.

use std::collections::VecDeque;
use std::path::Path;

use super::store::{VersionDir, remove_directory};
use crate::error::Result;
use crate::message::Epoch;
use crate::protocol::failpoint;

/// Manifests kept, the newest confirmed one included.
pub const KEPT: usize = 2;

/// A manifest that is kept.
#[derive(Debug)]
struct Entry {
    checkpoint: Epoch,
    state: Option<String>,
    /// `None` until it is confirmed.
    released: Option<Vec<String>>,
}

/// What a running version keeps.
#[derive(Debug, Default)]
pub struct Kept {
    entries: VecDeque<Entry>,
}

impl Kept {
    /// Notes a durable manifest.
    pub fn add(&mut self, checkpoint: Epoch, state: Option<String>) {
        self.entries.push_back(Entry { checkpoint, state, released: None });
    }

    /// Notes that the tables have a manifest's output, and that they need these staged files no more.
    pub fn confirm(&mut self, checkpoint: Epoch, released: Vec<String>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.checkpoint == checkpoint) {
            entry.released = Some(released);
        }
    }

    /// The states that manifests name.
    pub fn states(&self) -> Vec<String> {
        self.entries.iter().filter_map(|entry| entry.state.clone()).collect()
    }

    /// Whether a manifest that is kept lists this staged file.
    pub fn needs(&self, path: &Path) -> bool {
        let lists = |entry: &Entry| entry.released.iter().flatten().any(|file| Path::new(file) == path);
        self.entries.iter().any(lists)
    }

    /// Removes what is no longer needed: confirmed manifests but for the newest few.
    pub fn collect(&mut self, dir: &VersionDir) -> Result<()> {
        while self.entries.len() > KEPT && self.entries.get(KEPT - 1).is_some_and(|entry| entry.released.is_some()) {
            if self.entries.front().is_some_and(|entry| entry.released.is_none()) {
                return Ok(());
            }
            let Some(oldest) = self.entries.pop_front() else { return Ok(()) };
            dir.remove(oldest.checkpoint)?;
            failpoint::hit("K20");
            if let Some(state) = oldest.state.filter(|state| !self.states().contains(state)) {
                remove_directory(&dir.root().join(state))?;
            }
            crate::table::files::remove_quietly(&oldest.released.unwrap_or_default());
        }
        Ok(())
    }
}
