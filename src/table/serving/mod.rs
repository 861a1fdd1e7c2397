//! The serving table: the name that dashboards read. It is an Iceberg table of its own, whose snapshots name the manifest list of
//! the version that it shows: turning it to another version copies no file, and every reader that reads Iceberg sees it.
//!
//! [`turns`]: to which versions a name was turned, written in the name itself; [`project`]: its next state; [`turn`]: turning names,
//! in one transaction with the versions concerned; [`follow`]: a name goes on with the commits of its version.

mod follow;
mod project;
mod turn;
mod turns;

use std::collections::BTreeMap;

use uuid::Uuid;

pub(super) use self::follow::Followed;
pub use self::follow::Trouble;
pub use self::turn::{Move, Turned};
pub use self::turns::{Action, Turn, Turns};
use super::catalog::Table;
use super::name::TableName;
use crate::error::{Error, Result};

/// Property of a version's table: the names that show it now, each with its identity.
const SERVES: &str = "kappa.serves";
/// Property of a version's table: the names with snapshots that may name its files.
const SERVED: &str = "kappa.served";
/// Properties that keep other tools from removing what a name's snapshots share with versions, and say that kappa set the first.
const GC_ENABLED: &str = "gc.enabled";
pub(super) const GC_BY: &str = "kappa.gc";

/// Summary keys of a name's snapshots: the version that it shows, its table, the snapshot of that, and the turn by which.
const SHOWS_VERSION: &str = "kappa.serving";
const SHOWS_TABLE: &str = "kappa.serving.table";
const SHOWS_SNAPSHOT: &str = "kappa.serving.snapshot";
const SHOWS_CHECKPOINT: &str = "kappa.serving.checkpoint";
const BY_TURN: &str = "kappa.serving.turn";

/// Names by their identities.
pub(super) type Names = BTreeMap<TableName, Uuid>;

impl Table {
    /// The turns of a name; none if this is no name.
    ///
    /// # Errors
    /// `Corruption` if they cannot be read.
    pub fn turns(&self) -> Result<Option<Turns>> {
        self.property(turns::PROPERTY).map(|text| Turns::read(self.name(), text)).transpose()
    }

    /// The names that show this table now.
    ///
    /// # Errors
    /// `Corruption` if they cannot be read.
    pub fn serves(&self) -> Result<Vec<TableName>> {
        Ok(names(self, SERVES)?.into_keys().collect())
    }

    /// The snapshot that a name showed before the last `turns` turns; none if it is not there any more.
    pub fn shown_before(&self, turns: usize) -> Option<i64> {
        let metadata = self.metadata();
        let (mut left, mut turn) = (turns, None);
        let mut next = metadata.current_snapshot_id();
        for _ in 0..metadata.snapshots().len() {
            let snapshot = metadata.snapshot_by_id(next?)?;
            // What other tools commit between is of no turn, and nobody's to show.
            if let Some(by) = self.summary(next, BY_TURN).map(str::to_owned) {
                left = if turn.as_ref().is_some_and(|turn| *turn != by) { left.checked_sub(1)? } else { left };
                if left == 0 {
                    return next;
                }
                turn = Some(by);
            }
            next = snapshot.parent_snapshot_id();
        }
        None
    }
}

/// The names that a property of a version's table lists.
pub(super) fn names(table: &Table, property: &str) -> Result<Names> {
    let Some(text) = table.property(property) else { return Ok(Names::new()) };
    serde_json::from_str(text).map_err(|error| {
        let message = format!("table {}: property {property} is {text:?}: {error}", table.name());
        Error::corruption("serving", message)
            .hint("set it again as docs/formats.md says, or promote the table again")
            .source(error)
    })
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("a name cannot be written as JSON: {error}")))
}
