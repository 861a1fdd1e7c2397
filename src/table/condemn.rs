//! A version that nothing needs is condemned before it goes: a property of its tables, set and taken back by compare-and-swap, that
//! everybody looks at who would take the version up again.

use serde::{Deserialize, Serialize};

use super::catalog::{Catalog, Table};
use super::files;
use super::store::{Swap, Swapped};
use crate::error::{Error, Result};
use crate::time::format_utc;

/// The property. Empty: it was taken back.
const PROPERTY: &str = "kappa.condemned";

/// Since when, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    /// Milliseconds since 1970 UTC.
    pub since_ms: i64,
    /// The process that did it.
    pub by: String,
}

impl Table {
    /// Since when it is condemned.
    ///
    /// # Errors
    /// `Corruption` if that cannot be read.
    pub fn condemned(&self) -> Result<Option<Condemned>> {
        let text = self.property(PROPERTY).filter(|text| !text.is_empty());
        let damaged = |error: serde_json::Error| {
            let message = format!("table {}: property {PROPERTY} cannot be read: {error}", self.name());
            Error::corruption("condemned", message).hint(self.way_out()).source(error)
        };
        text.map(|text| serde_json::from_str(text).map_err(damaged)).transpose()
    }

    /// Refuses to take up what is condemned.
    ///
    /// # Errors
    /// `Refused`, with what takes it back.
    pub fn check_not_condemned(&self) -> Result<()> {
        let Some(condemned) = self.condemned()? else { return Ok(()) };
        let (name, since) = (self.name(), format_utc(condemned.since_ms));
        let message = format!("table {name} is condemned since {since} by {}: kappa gc is about to delete it", condemned.by);
        Err(Error::refused("condemned", message).hint(self.way_out()))
    }

    fn way_out(&self) -> String {
        format!("if it is still needed: kappa gc --spare {}", self.name())
    }
}

impl Catalog {
    /// Condemns tables as they are, or takes that back; all or none, as far as the store can. False: one of them was changed
    /// meanwhile.
    ///
    /// # Errors
    /// `Unavailable` if the catalog does not answer: then the tables say it.
    pub fn condemn(&self, tables: &[Table], condemned: Option<&Condemned>) -> Result<bool> {
        let text = condemned.map(serde_json::to_string).transpose();
        let text = text.map_err(|error| Error::internal(format!("write {PROPERTY}: {error}")))?.unwrap_or_default();
        let _turn = self.turn();
        let (mut created, mut expired) = (Vec::new(), Vec::new());
        let swaps: Result<Vec<Swap>> =
            tables.iter().map(|base| self.with_property(base, &text, &mut created, &mut expired)).collect();
        let swapped = swaps.and_then(|swaps| self.swap(&swaps, None));
        match swapped {
            Ok(Swapped::Done) => {
                files::remove_quietly(&expired);
                Ok(true)
            }
            Ok(Swapped::Lost(_)) => {
                files::remove_quietly(&created);
                Ok(false)
            }
            Ok(Swapped::Unknown(error)) => Err(error),
            Err(error) => {
                files::remove_quietly(&created);
                Err(error)
            }
        }
    }

    fn with_property(&self, base: &Table, text: &str, created: &mut Vec<String>, expired: &mut Vec<String>) -> Result<Swap> {
        let properties = [(PROPERTY.to_owned(), text.to_owned())].into();
        if self.names_metadata() {
            self.amend(base, properties, &[], created, expired)
        } else {
            self.with_empty_snapshot(base, properties, created)
        }
    }
}
