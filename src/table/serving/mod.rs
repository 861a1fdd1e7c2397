//! The serving table: the name that dashboards read. It is an Iceberg table of its own, whose snapshots name the manifest list of
//! the version that it shows: turning it to another version copies no file, and every reader that reads Iceberg sees it.
//!
//! [`turns`]: to which versions a name was turned, written in the name itself; [`project`]: its next state; [`turn`]: turning names,
//! in one transaction with the versions concerned; [`follow`]: a name goes on with the commits of its version; [`view`]: a view of the
//! same, for engines that read views.

mod follow;
mod project;
mod turn;
mod turns;
mod view;

use std::collections::BTreeMap;

use iceberg::spec::SnapshotRef;
use uuid::Uuid;

pub(super) use self::follow::Followed;
pub use self::follow::Trouble;
pub use self::turn::{Move, Turned};
pub use self::turns::{Action, Turn, Turns};
pub use self::view::view_of;
use super::catalog::Table;
use super::name::TableName;
use crate::error::{Error, Result};

/// Before a name, a property of a version's table: that the name of this identity shows it now. One for each name, since a REST
/// catalog lets two turns of different names change the properties of one table at once.
const SERVES: &str = "kappa.serves.";
/// The same: that the name's snapshots may name the table's files.
const SERVED: &str = "kappa.served.";
/// Properties that keep other tools from removing what a name's snapshots share with versions, and say that kappa set the first.
const GC_ENABLED: &str = "gc.enabled";
pub(super) const GC_BY: &str = "kappa.gc";

/// Summary keys of a name's snapshots: the version that it shows, its table, the snapshot of that, and the turn by which.
const SHOWS_VERSION: &str = "kappa.serving";
const SHOWS_TABLE: &str = "kappa.serving.table";
const SHOWS_SNAPSHOT: &str = "kappa.serving.snapshot";
const SHOWS_CHECKPOINT: &str = "kappa.serving.checkpoint";
const BY_TURN: &str = "kappa.serving.turn";

/// Names, each with its identity.
type Names = BTreeMap<TableName, Uuid>;

impl Table {
    /// The turns of a name; none if this is no name.
    ///
    /// # Errors
    /// `Corruption` if they cannot be read.
    pub fn turns(&self) -> Result<Option<Turns>> {
        self.property(turns::PROPERTY).map(|text| Turns::read(self.name(), text)).transpose()
    }

    /// The names that show this table now, as far as it knows.
    pub fn serves(&self) -> Vec<TableName> {
        names(self, SERVES).into_keys().collect()
    }

    /// The names that show it or have done so, as far as it knows.
    pub fn served(&self) -> Vec<TableName> {
        names(self, SERVED).into_keys().collect()
    }

    /// The snapshot that a name showed before the last `turns` turns; none if it is not there any more.
    pub fn shown_before(&self, turns: usize) -> Option<i64> {
        // By their order, not by their parents: of those between, some have expired.
        let mut snapshots: Vec<&SnapshotRef> = self.metadata().snapshots().collect();
        snapshots.sort_unstable_by_key(|snapshot| std::cmp::Reverse(snapshot.sequence_number()));
        // What other tools commit between is of no turn, and nobody's to show.
        let by_turn = |snapshot: &SnapshotRef| {
            let turn = snapshot.summary().additional_properties.get(BY_TURN)?.clone();
            Some((turn, snapshot.snapshot_id()))
        };
        let mut shown: Vec<(String, i64)> = snapshots.into_iter().filter_map(by_turn).collect();
        shown.dedup_by(|older, newer| older.0 == newer.0);
        shown.get(turns).map(|(_, snapshot)| *snapshot)
    }
}

/// The names that properties of a version's table tell of. What is no name there is none.
fn names(table: &Table, prefix: &str) -> Names {
    let name = |(key, uuid): (&String, &String)| {
        let name = TableName::parse(key.strip_prefix(prefix)?, "").ok()?;
        Some((name, uuid.parse().ok()?))
    };
    table.metadata().properties().iter().filter_map(name).collect()
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("a name cannot be written as JSON: {error}")))
}
