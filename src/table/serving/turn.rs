//! Turning names: each name, the version that it leaves and the version that it comes to move in one transaction, on the very states
//! on which it was decided.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::follow::Trouble;
use super::project::project;
use super::turns::{Action, Turn};
use super::{GC_BY, GC_ENABLED, SERVED, SERVES};
use crate::error::{Error, Result};
use crate::protocol::failpoint;
use crate::table::catalog::{Catalog, Table};
use crate::table::files;
use crate::table::name::TableName;
use crate::table::retire::{self, Retired};
use crate::table::snapshot::Built;
use crate::table::store::{Swap, Swapped, ViewSwap};

/// What a name is to be turned to, and the states on which that was decided.
#[derive(Clone, Debug)]
pub struct Move {
    /// The name as it is; none if it is not there.
    pub base: Option<Table>,
    /// The version that it shows, if its table is still there.
    pub from: Option<Table>,
    /// What is written into that if nobody is to keep it for a rollback.
    pub retire: Option<Retired>,
    /// The version that it is to show.
    pub to: Table,
    /// The name.
    pub name: TableName,
    /// The view that turns with it.
    pub view: Option<TableName>,
    /// What is written into it.
    pub turn: Turn,
}

/// What became of it.
#[derive(Debug)]
pub enum Turned {
    /// All names have turned: the states that they have now, and the views that have not yet.
    Done(Vec<Table>, Vec<Trouble>),
    /// None has: a table is not any more as it was when this was decided.
    Lost(TableName),
    /// Nobody knows. The names say it: whether they have the turn.
    Unknown(Error),
}

/// What a turn writes before it happens.
#[derive(Default)]
struct Prepared {
    names: Vec<Built>,
    swaps: Vec<Swap>,
    views: Vec<ViewSwap>,
    /// Files that were made, and new names.
    created: Vec<String>,
    begun: Vec<Table>,
    /// Metadata files that nothing names afterwards.
    expired: Vec<String>,
    /// Views that stay behind.
    troubles: Vec<Trouble>,
}

impl Prepared {
    fn discard(&self, catalog: &Catalog) {
        files::remove_quietly(&self.created);
        self.views.iter().filter(|view| view.from.is_none()).for_each(|view| remove_empty(view.next.location()));
        for name in &self.begun {
            if !catalog.names_metadata() {
                let _ = catalog.drop_table(name);
            } else {
                remove_empty(name.location());
            }
        }
    }
}

/// Without what was made in them they are empty.
fn remove_empty(location: &str) {
    if let Ok(directory) = files::path_of(location) {
        let _ = std::fs::remove_dir(directory.join("metadata"));
        let _ = std::fs::remove_dir(directory);
    }
}

impl Catalog {
    /// Turns names, all or none.
    ///
    /// # Errors
    /// `Refused` if the columns of a version mean something else under their ids than in the name.
    pub fn turn_names(&self, moves: &[Move]) -> Result<Turned> {
        let mut prepared = Prepared::default();
        let swapped = self.prepare_turn(moves, &mut prepared).and_then(|()| {
            failpoint::hit("P1");
            self.swap_with(&prepared.swaps, &prepared.views, None)
        });
        match swapped {
            Ok(Swapped::Done) => {
                failpoint::hit("P2");
                prepared.names.iter().for_each(|built| self.adopt(built));
                if self.names_metadata() {
                    files::remove_quietly(&prepared.expired);
                }
                // Behind REST, whose transactions know no views, they follow.
                let known = |to: &Move| prepared.troubles.iter().any(|trouble| trouble.name == to.name);
                let moved = moves.iter().filter(|to| to.view.is_some() && !self.names_metadata() && !known(to));
                let mut troubles = self.bring_views(moved.map(|to| &to.name));
                troubles.append(&mut prepared.troubles);
                Ok(Turned::Done(prepared.names.into_iter().map(|built| built.table).collect(), troubles))
            }
            Ok(Swapped::Lost(name)) => {
                prepared.discard(self);
                Ok(Turned::Lost(name))
            }
            Ok(Swapped::Unknown(error)) => Ok(Turned::Unknown(error)),
            Err(error) => {
                prepared.discard(self);
                Err(error)
            }
        }
    }

    fn prepare_turn(&self, moves: &[Move], prepared: &mut Prepared) -> Result<()> {
        let mut names = Vec::new();
        let mut versions = Versions::default();
        for to in moves {
            let base = match &to.base {
                Some(base) => base.clone(),
                None => {
                    let base = self.stage_name(&to.name, &to.to)?;
                    prepared.begun.push(base.clone());
                    base
                }
            };
            let turns = base.turns()?.unwrap_or_default();
            // It has turned already where a version did not hear of it.
            let has_turned = turns.current().is_some_and(|turn| turn.id == to.turn.id);
            let turns = if has_turned { turns } else { turns.with(to.turn.clone()) };
            let built = project(&base, &to.to, &turns, to.view.as_ref(), self.now_ms(), &self.settings.retention)?;
            prepared.created.push(built.table.metadata_location().to_owned());
            self.write_metadata(&built.table)?;
            let swap = base.swap_for(&built.table);
            let is_made = to.base.is_none() && self.names_metadata();
            names.push(if is_made { Swap { from: None, ..swap } } else { swap });
            prepared.names.push(built);
            if let Some(view) = &to.view {
                // Where it cannot turn in the same transaction it is still looked at before.
                let has_it = base.view().as_ref() == Some(view);
                match self.view_swap(&to.name, view, has_it, &to.to, &mut prepared.created) {
                    Ok(view) => prepared.views.extend(view.filter(|_| self.names_metadata())),
                    // What serves again must not wait for a view.
                    Err(error) if to.turn.action == Action::Rollback && !error.is_retryable() => {
                        prepared.troubles.push(Trouble { name: to.name.clone(), error });
                    }
                    Err(error) => return Err(error),
                }
            }
            if let Some(from) = &to.from {
                versions.leave(from, &to.name, to.retire.as_ref())?;
            }
            versions.come_to(&to.to, &to.name, base.uuid());
        }
        let (mut coming, mut leaving) = (Vec::new(), Vec::new());
        for Part { base, set, removed, comes } in versions.0.into_values() {
            let swap = self.amend(&base, set, &removed, &mut prepared.created, &mut prepared.expired)?;
            if comes { &mut coming } else { &mut leaving }.push(swap);
        }
        // Where tables move one after the other, a version knows of a name before that shows it: if it never does, no harm is done.
        prepared.swaps = coming.into_iter().chain(names).chain(leaving).collect();
        Ok(())
    }
}

/// The tables of versions that take part, and how their properties change. What they hold stays as it is.
#[derive(Default)]
struct Versions(BTreeMap<TableName, Part>);

struct Part {
    base: Table,
    set: HashMap<String, String>,
    removed: Vec<String>,
    /// Whether a name comes to it.
    comes: bool,
}

impl Versions {
    fn of(&mut self, table: &Table) -> &mut Part {
        let new = || Part { base: table.clone(), set: HashMap::new(), removed: Vec::new(), comes: false };
        self.0.entry(table.name().clone()).or_insert_with(new)
    }

    fn leave(&mut self, table: &Table, name: &TableName, retired: Option<&Retired>) -> Result<()> {
        let part = self.of(table);
        part.removed.push(format!("{SERVES}{name}"));
        match retired.filter(|_| !part.comes) {
            Some(retired) => part.set.extend([retired.property()?]),
            None => part.removed.push(retire::PROPERTY.to_owned()),
        }
        Ok(())
    }

    fn come_to(&mut self, table: &Table, name: &TableName, uuid: Uuid) {
        let Part { set, removed, comes, .. } = self.of(table);
        *comes = true;
        set.remove(retire::PROPERTY);
        removed.push(retire::PROPERTY.to_owned());
        set.extend([SERVES, SERVED].map(|prefix| (format!("{prefix}{name}"), uuid.to_string())));
        // Other tools would remove files that the names' snapshots need. Who had forbidden it before has done so for kappa too.
        if table.property(GC_ENABLED).is_none_or(|enabled| !enabled.eq_ignore_ascii_case("false")) {
            set.extend([(GC_ENABLED.to_owned(), "false".to_owned()), (GC_BY.to_owned(), "kappa".to_owned())]);
        }
    }
}
