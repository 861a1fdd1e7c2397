//! A name goes on with its version: each commit of the one moves the other too.
//!
//! A name never stands in the way of its version. What is wrong with it is told, and put right by the next commit, or, where none
//! comes, by a look now and then.

use super::project::project;
use super::{BY_TURN, SERVED, SERVES, SHOWS_CHECKPOINT, SHOWS_VERSION, names};
use crate::error::{Error, Result};
use crate::table::catalog::{Catalog, Table};
use crate::table::commit::Fence;
use crate::table::name::TableName;
use crate::table::snapshot::Built;
use crate::table::store::{Swap, Swapped};
use crate::table::{Forgotten, files};
use uuid::Uuid;

/// What is wrong with a name.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The name.
    pub name: TableName,
    /// What, and what comes of it.
    pub error: Error,
}

impl PartialEq for Trouble {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.error.code()) == (&other.name, other.error.code())
    }
}

impl Eq for Trouble {}

/// A name that moves on.
#[derive(Debug)]
pub(in crate::table) struct Followed {
    base: Table,
    built: Built,
}

impl Followed {
    pub(in crate::table) fn name(&self) -> &TableName {
        self.base.name()
    }

    pub(in crate::table) fn swap(&self) -> Swap {
        self.base.swap_for(&self.built.table)
    }
}

impl Catalog {
    /// The next states of the names that show a table, when it is as in `version`. Their metadata files are written and noted in
    /// `created`.
    pub(in crate::table) fn followers(&self, version: &Table, created: &mut Vec<String>) -> (Vec<Followed>, Vec<Trouble>) {
        let (mut followed, mut troubles) = (Vec::new(), Vec::new());
        for (name, uuid) in names(version, SERVES) {
            match self.follower(&name, uuid, version, created) {
                Ok((next, foreign)) => {
                    followed.extend(next);
                    troubles.extend(foreign.map(|error| Trouble { name, error }));
                }
                Err(error) => troubles.push(Trouble { name, error }),
            }
        }
        (followed, troubles)
    }

    /// The next state of one of them, if it shows this version and is behind; and the error if another tool has changed it.
    fn follower(
        &self,
        name: &TableName,
        uuid: Uuid,
        version: &Table,
        created: &mut Vec<String>,
    ) -> Result<(Option<Followed>, Option<Error>)> {
        let base = self.load_same(name, uuid)?.ok_or_else(|| {
            Error::conflict("name_gone", format!("the name {name} was dropped or replaced by another tool"))
                .hint(format!("it shows table {} no more: promote it again", version.name()))
        })?;
        let turns = base.turns()?.unwrap_or_default();
        // Somebody has turned it meanwhile.
        if turns.current().is_none_or(|turn| turn.uuid != version.uuid()) || !is_behind(&base, version) {
            return Ok((None, None));
        }
        let built = project(&base, version, &turns, None, self.now_ms(), &self.settings.retention)?;
        created.push(built.table.metadata_location().to_owned());
        self.write_metadata(&built.table)?;
        let foreign = base.summary(None, BY_TURN).is_none().then(|| foreign(&base));
        Ok((Some(Followed { base, built }), foreign))
    }

    /// Brings the views that a crash has left behind, where they do not turn with their names; those that cannot be brought.
    fn lagging_views(&self, version: &Table) -> Vec<Trouble> {
        let names = if self.names_metadata() { Default::default() } else { names(version, SERVES) };
        self.bring_views(names.keys())
    }

    /// The names with snapshots that may name files of a table.
    ///
    /// # Errors
    /// Without knowing all of them nothing may be removed.
    pub(in crate::table) fn names_with_files_of(&self, version: &Table) -> Result<Vec<Table>> {
        let loaded = |(name, uuid): (TableName, Uuid)| self.load_same(&name, uuid).transpose();
        names(version, SERVED).into_iter().filter_map(loaded).collect()
    }

    /// Goes on from where the names are now; snapshots that they have forgotten.
    pub(in crate::table) fn followed(&self, followed: Vec<Followed>) -> Vec<Forgotten> {
        let adopt = |followed: Followed| {
            self.adopt(&followed.built);
            followed.built.forgotten
        };
        followed.into_iter().flat_map(adopt).collect()
    }

    /// Moves the names that show a table to what it holds, where a commit has left them behind. What they have forgotten, and what
    /// is wrong with them.
    ///
    /// # Errors
    /// `Conflict` if another owner took the version over.
    pub fn follow(&self, table: &TableName, uuid: Uuid, fence: &Fence) -> Result<(Vec<Forgotten>, Vec<Trouble>)> {
        let load =
            || -> Result<Option<Table>> { Ok(self.load_same(table, uuid)?.filter(|table| !names(table, SERVES).is_empty())) };
        if load()?.is_none() {
            return Ok(Default::default());
        }
        let _turn = self.turn();
        let Some(version) = load()? else { return Ok(Default::default()) };
        let mut created = Vec::new();
        let (followed, mut troubles) = self.followers(&version, &mut created);
        troubles.extend(self.lagging_views(&version));
        let swaps: Vec<Swap> = followed.iter().map(Followed::swap).collect();
        if swaps.is_empty() {
            files::remove_quietly(&created);
            return Ok((Vec::new(), troubles));
        }
        match self.publish(&swaps, fence) {
            Ok(Swapped::Done) => Ok((self.followed(followed), troubles)),
            Ok(Swapped::Lost(_)) => {
                files::remove_quietly(&created);
                Ok((Vec::new(), troubles))
            }
            // The next look finds out.
            Ok(Swapped::Unknown(_)) => Ok((Vec::new(), troubles)),
            Err(error) => {
                files::remove_quietly(&created);
                if error.code() == "fenced" {
                    return Err(error);
                }
                let stuck = followed.iter().map(|name| Trouble { name: name.name().clone(), error: error.clone() });
                Ok((Vec::new(), troubles.into_iter().chain(stuck).collect()))
            }
        }
    }
}

/// Whether a name shows an older checkpoint of its version than that holds. Files that were merged are no news.
fn is_behind(name: &Table, version: &Table) -> bool {
    let Some((marker, _)) = version.marker() else { return false };
    let shows = |key| name.summary(None, key);
    shows(SHOWS_VERSION) != Some(&marker.version) || shows(SHOWS_CHECKPOINT) != Some(&marker.checkpoint.to_string())
}

fn foreign(name: &Table) -> Error {
    let message = format!("another tool has committed to the name {}", name.name());
    Error::conflict("foreign_commit", message)
        .with("snapshot", name.current_snapshot_id().unwrap_or_default())
        .hint("what it did is undone: a name only shows a version. Let the tool work on the version's own table")
}
