//! What is, or would be, collected, and why the rest is not.

use serde::Serialize;

/// What was found, and what was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether it was done; else it is what would be.
    pub applied: bool,
    /// When, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// What was asked for.
    pub older_than_ms: i64,
    /// See `older_than_ms`.
    pub grace_ms: i64,
    /// The versions.
    pub versions: Vec<Version>,
    /// Directories of tables that the catalog does not have.
    pub directories: Vec<Directory>,
    /// Deletions that an earlier process has begun.
    pub begun: Vec<Begun>,
    /// What went away.
    pub deleted_bytes: u64,
    /// What is to go now.
    pub deletable_bytes: u64,
    /// What is to go later: what is condemned, or is to be.
    pub condemned_bytes: u64,
    /// What stays.
    pub kept_bytes: u64,
}

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    Keep,
    /// It stays and was condemned: that is taken back.
    Spare,
    /// It is condemned.
    Condemn,
    /// It is condemned, and stays until the grace is over.
    Wait,
    /// It goes.
    Delete,
}

/// A version.
#[derive(Clone, Debug, Serialize)]
pub struct Version {
    /// Its identifier, as its tables have it.
    pub version: String,
    /// Its job.
    pub job: Option<String>,
    /// Its tables.
    pub tables: Vec<String>,
    /// What happens to it.
    pub action: Action,
    /// Why it stays, for machines.
    pub code: Option<&'static str>,
    /// Why, in words.
    pub why: String,
    /// Until when at least it stays, milliseconds since 1970 UTC.
    pub until_ms: Option<i64>,
    /// When it was written last.
    pub written_ms: i64,
    /// Since when it is condemned.
    pub condemned_ms: Option<i64>,
    /// Bytes in the directories of its tables.
    pub data_bytes: u64,
    /// Bytes of checkpoints and state.
    pub state_bytes: u64,
    /// Bytes of what waits to be sent to topics.
    pub staged_bytes: u64,
    /// Bytes that crashed runs have left in the directories of the tables of one that stays. They go.
    pub orphan_bytes: u64,
    /// Why what was to be done was not, or not all.
    pub trouble: Option<String>,
}

impl Version {
    /// All its bytes, but for orphans.
    pub fn bytes(&self) -> u64 {
        (self.data_bytes + self.state_bytes + self.staged_bytes).saturating_sub(self.orphan_bytes)
    }
}

/// A directory of a table that the catalog does not have.
#[derive(Clone, Debug, Serialize)]
pub struct Directory {
    /// Where it is.
    pub path: String,
    /// The table that it was of.
    pub table: String,
    /// What happens to it.
    pub action: Action,
    /// Why it stays, for machines.
    pub code: Option<&'static str>,
    /// Why, in words.
    pub why: String,
    /// Until when at least it stays, milliseconds since 1970 UTC.
    pub until_ms: Option<i64>,
    /// Bytes in it.
    pub bytes: u64,
    /// Why what was to be done was not.
    pub trouble: Option<String>,
}

/// A deletion that was begun.
#[derive(Clone, Debug, Serialize)]
pub struct Begun {
    /// The version; none: of a directory.
    pub version: Option<String>,
    /// Tables.
    pub tables: Vec<String>,
    /// What is left of them.
    pub bytes: u64,
    /// Why it is not finished.
    pub trouble: Option<String>,
}

impl Report {
    /// Adds up.
    pub fn total(mut self) -> Self {
        let of_versions = self.versions.iter().map(|it| (it.action, it.trouble.is_none(), it.bytes()));
        let of_orphans = self.versions.iter().map(|it| (Action::Delete, it.trouble.is_none(), it.orphan_bytes));
        let of_directories = self.directories.iter().map(|it| (it.action, it.trouble.is_none(), it.bytes));
        let of_begun = self.begun.iter().map(|it| (Action::Delete, it.trouble.is_none(), it.bytes));
        for (action, is_done, bytes) in of_versions.chain(of_orphans).chain(of_directories).chain(of_begun) {
            *match action {
                Action::Delete if self.applied && is_done => &mut self.deleted_bytes,
                Action::Delete => &mut self.deletable_bytes,
                Action::Condemn | Action::Wait => &mut self.condemned_bytes,
                Action::Keep | Action::Spare => &mut self.kept_bytes,
            } += bytes;
        }
        self
    }
}
