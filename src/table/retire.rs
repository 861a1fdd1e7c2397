//! A version that nobody keeps for a rollback is retired by the promote that takes its name from it: a property of its table, set in
//! the same transaction. The process that writes it looks for it now and then, and ends in order; who starts it again is told.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::{Catalog, Table};
use super::commit::PAUSE;
use super::files;
use super::name::TableName;
use super::store::Swapped;
use crate::error::{Error, Result};
use crate::time::{self, format_utc};

/// The property.
pub(super) const PROPERTY: &str = "kappa.retired";

/// By whom, and what took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// The name that showed it.
    pub name: TableName,
    /// What that shows since.
    pub table: TableName,
    /// The process that did it.
    pub by: String,
}

impl Retired {
    pub(super) fn property(&self) -> Result<(String, String)> {
        let text = serde_json::to_string(self).map_err(|error| Error::internal(format!("write {PROPERTY}: {error}")))?;
        Ok((PROPERTY.to_owned(), text))
    }

    /// The error of whoever starts the version of `table` again.
    pub fn refusal(&self, table: &TableName) -> Error {
        let message = format!("table {table} is retired: {self}");
        Error::refused("retired", message).hint(format!(
            "let it be, and take it out of what starts it; kappa rollback {} makes it serve again, and it may be started then; \
             --force starts it all the same",
            self.name
        ))
    }
}

impl std::fmt::Display for Retired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at_ms, name, table, by } = self;
        write!(f, "{name} shows {table} since {}, promoted with --no-keep-warm by {by}", format_utc(*at_ms))
    }
}

impl Table {
    /// By what it was retired, if no name shows it: see [`Catalog::retired`].
    ///
    /// # Errors
    /// `Corruption` if that cannot be read.
    pub fn retired(&self) -> Result<Option<Retired>> {
        let text = self.property(PROPERTY);
        let damaged = |error: serde_json::Error| {
            let message = format!("table {}: property {PROPERTY} cannot be read: {error}", self.name());
            Error::corruption("retired", message).hint("remove the property by another tool").source(error)
        };
        text.map(|text| serde_json::from_str(text).map_err(damaged)).transpose()
    }
}

impl Catalog {
    /// By what the version of these tables was retired; none while a name shows one of them.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn retired<'a>(&self, tables: impl Iterator<Item = (&'a TableName, Uuid)>) -> Result<Option<Retired>> {
        let mut found = None;
        for (name, uuid) in tables {
            let Some(table) = self.load_same(name, uuid)? else { continue };
            if !self.shown_by(&table)?.is_empty() {
                return Ok(None);
            }
            found = found.or(table.retired()?);
        }
        Ok(found)
    }

    /// The names that show a table. They say so themselves: the table may have heard of it no more.
    ///
    /// # Errors
    /// Those of the catalog.
    pub fn shown_by(&self, table: &Table) -> Result<Vec<TableName>> {
        let mut names = table.serves();
        let mut trouble = Ok(());
        names.retain(|name| {
            let turns = self.load(name).and_then(|name| Ok(name.map(|name| name.turns()).transpose()?.flatten()));
            let turns = turns.unwrap_or_else(|error| {
                trouble = Err(error);
                None
            });
            turns.is_some_and(|turns| turns.current().is_some_and(|turn| turn.uuid == table.uuid()))
        });
        trouble.map(|()| names)
    }

    /// Takes it back.
    ///
    /// # Errors
    /// `Conflict` where the table is changed each time; `Unavailable` if the catalog does not answer.
    pub fn unretire(&self, name: &TableName) -> Result<()> {
        let mut last = None;
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                std::thread::sleep(time::jitter(PAUSE));
            }
            let _turn = self.turn();
            let Some(base) = self.load(name)?.filter(|base| base.property(PROPERTY).is_some()) else { return Ok(()) };
            let (mut created, mut expired) = (Vec::new(), Vec::new());
            let removed = [PROPERTY.to_owned()];
            let swapped = self
                .amend(&base, HashMap::new(), &removed, &mut created, &mut expired)
                .and_then(|swap| self.swap(&[swap], None));
            match swapped {
                Ok(Swapped::Done) => {
                    if self.names_metadata() {
                        files::remove_quietly(&expired);
                    }
                    return Ok(());
                }
                Ok(Swapped::Lost(_)) => files::remove_quietly(&created),
                // The next look says it.
                Ok(Swapped::Unknown(error)) => last = Some(error),
                Err(error) => {
                    files::remove_quietly(&created);
                    return Err(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::conflict("table_changed", format!("table {name} was changed by somebody else each time")).hint("try again")
        }))
    }
}
