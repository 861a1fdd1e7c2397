//! `rollback`: a name shows the version before again, at once. A promote that was rolled back is as if it had not been: the next
//! rollback goes one further back.

use std::path::Path;

use super::keep_warm;
use super::promote::{Promotion, prepared, turns_of, until_turned, unturned};
use crate::error::{Error, Result};
use crate::protocol::cutover::Granted;
use crate::table::serving::Action;
use crate::table::{Catalog, TableName};

/// Turns a name back.
///
/// # Errors
/// `Refused` where there is no such name, or no version before that is still there; those of the catalog.
pub fn rollback(catalog: &Catalog, checkpoints: &Path, name: &TableName) -> Result<Promotion> {
    let seen = turns_of(&catalog.require(name)?)?;
    let facts = |id: &str| {
        let base = unturned(catalog, name, seen.current(), id)?;
        let (Some(now), Some(before)) = (seen.current(), seen.before()) else {
            return Err(Error::refused("nothing_before", format!("{name} has shown no other version before"))
                .hint("promote the table that it is to show"));
        };
        let to = catalog.load_same(&before.table, before.uuid)?.ok_or_else(|| {
            Error::refused("version_gone", format!("table {}, which {name} has shown before, is gone", before.table))
                .hint("it was dropped or replaced: promote a table that is there")
        })?;
        to.check_not_condemned()?;
        let from = catalog.load_same(&now.table, now.uuid)?;
        let notes = keep_warm::cold(checkpoints, name, from.as_ref(), &to).into_iter().collect();
        let granted = Granted { notes, ..Granted::default() };
        Ok(vec![prepared(name, base, to, from, granted, (Action::Rollback, id))?])
    };
    until_turned(facts, catalog)
}
