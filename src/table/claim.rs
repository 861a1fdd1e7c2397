//! The claim of a version in its tables, where the store has no row that says whose it is: an empty snapshot and a property.
//!
//! The snapshot makes every commit that an earlier owner has begun lose, since it asserts the one before; and what is begun
//! afterwards finds the property.

use std::collections::HashMap;

use super::catalog::{Catalog, Table, sql_integer};
use super::commit::PAUSE;
use super::files;
use super::live::manifests;
use super::maintenance::inherited;
use super::name::TableName;
use super::rest::{self, OWNER_PROPERTY};
use super::snapshot::{Change, Notes, check_supported};
use super::store::{OwnerRow, Swap, Swapped};
use crate::error::{Error, Result};
use crate::time;

impl Catalog {
    /// Makes `owner` the owner of a version in those of its tables that are there. Where [`Self::claim_owner`] has done so for all
    /// of them, nothing happens.
    ///
    /// # Errors
    /// `Conflict` if a later owner has claimed it; `Unavailable` if the catalog does not answer.
    pub fn claim_tables(&self, version: &str, owner: u64, tables: &[TableName]) -> Result<()> {
        if self.has_owners() {
            return Ok(());
        }
        let row = OwnerRow { version, owner: sql_integer(owner)?, checkpoint: 0 };
        tables.iter().try_for_each(|name| self.claim_table(name, &row))
    }

    fn claim_table(&self, name: &TableName, row: &OwnerRow<'_>) -> Result<()> {
        let mut last = None;
        for attempt in 0..self.settings.attempts.max(1) {
            if attempt > 0 {
                std::thread::sleep(time::jitter(PAUSE));
            }
            let _turn = self.turn();
            let Some(base) = self.load(name)?.filter(|base| base.property("kappa.version") == Some(row.version)) else {
                return Ok(());
            };
            rest::check_owner(base.metadata(), row)?;
            if base.property(OWNER_PROPERTY) == Some(&row.owner.to_string()) {
                return Ok(());
            }
            let mut created = Vec::new();
            let owner = [(OWNER_PROPERTY.to_owned(), row.owner.to_string())].into();
            let claimed = self.with_empty_snapshot(&base, owner, &mut created).and_then(|swap| self.swap(&[swap], None));
            match claimed {
                Ok(Swapped::Done) => return Ok(()),
                Ok(Swapped::Lost(_)) => files::remove_quietly(&created),
                // The next look finds the property, or not.
                Ok(Swapped::Unknown(error)) => last = Some(error),
                Err(error) => {
                    files::remove_quietly(&created);
                    return Err(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::conflict("claim_lost", format!("table {name} kept changing under the claim"))
                .hint("stop other writers of it")
        }))
    }

    /// The step of a table to an empty snapshot and other properties: a server that asserts snapshots, and no properties, makes all lose
    /// that have begun on the state before.
    pub(super) fn with_empty_snapshot(
        &self,
        base: &Table,
        properties: HashMap<String, String>,
        created: &mut Vec<String>,
    ) -> Result<Swap> {
        check_supported(base)?;
        let manifests = manifests(base.metadata().current_snapshot().map(AsRef::as_ref))?;
        let summary = inherited(base);
        let notes = Notes { summary: &summary, properties, now: self.now_ms() };
        Ok(base.swap_for(&self.build(base, manifests, &Change::nothing(), notes, created)?.table))
    }
}
