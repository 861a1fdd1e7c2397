//! A tag on a snapshot, so that it is still there when somebody needs it. It says how old it may become (`max-ref-age-ms`, which
//! other tools go by); of one kind, those that are older go when the next one comes.

use std::collections::HashMap;
use std::time::Duration;

use super::amend::with_properties;
use super::catalog::Catalog;
use super::files;
use super::name::TableName;
use super::store::Swapped;
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
            let now = self.now_ms();
            let (next, expired) = with_properties(&base, HashMap::new(), &[], now)?;
            let next = next.tagged(pin, now);
            self.write_metadata(&next)?;
            match self.swap(&[base.swap_for(&next)], None)? {
                Swapped::Done => {
                    self.remember(&next);
                    files::remove_quietly(expired.iter().filter(|url| files::is_below(url, base.location())));
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
