//! A tag on a snapshot, so that it is still there when somebody needs it. It says how old it may become (`max-ref-age-ms`, which
//! other tools go by); of one kind, those that are older go when the next one comes.

use std::time::Duration;

use super::catalog::{Catalog, Table};
use super::name::TableName;
use super::snapshot::next_location;
use super::store::Swapped;
use super::{files, iceberg_error};
use crate::error::{Error, Result};

/// A tag.
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// On which snapshot.
    pub snapshot: i64,
    /// What tags of its kind begin with.
    pub prefix: &'a str,
    /// The rest of its name.
    pub name: &'a str,
    /// How old the snapshot may become with it.
    pub age: Duration,
}

impl Catalog {
    /// Gives a snapshot of a table a tag. Behind REST it gets none, and stays as long as the table's retention says.
    ///
    /// # Errors
    /// `Refused` if the snapshot is gone; `Conflict` where others change the table all the time.
    pub fn pin(&self, name: &TableName, pin: &Pin<'_>) -> Result<()> {
        if !self.store.names_metadata() {
            return Ok(());
        }
        let _turn = self.turn();
        for _ in 0..self.settings.attempts.max(1) {
            let base = self.require(name)?;
            if base.metadata().snapshot_by_id(pin.snapshot).is_none() {
                let message = format!("table {name} has no snapshot {} any more", pin.snapshot);
                return Err(Error::refused("unknown_snapshot", message).hint("it has expired: run the same command again"));
            }
            let next = tagged(&base, pin, self.now_ms())?;
            self.write_metadata(&next)?;
            match self.swap(&[base.swap_for(&next)], None)? {
                Swapped::Done => {
                    self.remember(&next);
                    return Ok(());
                }
                Swapped::Lost(_) => files::remove_quietly([&next.metadata_location().to_owned()]),
                Swapped::Unknown(error) => return Err(error),
            }
        }
        Err(Error::conflict("table_changed", format!("table {name} was changed by others each time it was to get a tag"))
            .hint("try again"))
    }
}

/// The table with the tag.
fn tagged(base: &Table, pin: &Pin<'_>, now: i64) -> Result<Table> {
    let metadata = base.metadata().clone().into_builder(Some(base.metadata_location().to_owned()));
    let built = metadata.build().map_err(|error| iceberg_error(&format!("tag table {}", base.name()), error))?;
    let location = next_location(base, &built.metadata)?;
    let next = base.next_with(built.metadata, location, pin, now);
    Ok(next)
}
