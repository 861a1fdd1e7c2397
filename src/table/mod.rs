//! Iceberg tables in a catalog: create, load, commit by compare-and-swap, read.
//!
//! The commit is kappa's own, built from the specification's types in the `iceberg` crate, because exactly-once needs
//! what a stock commit does not give: the marker is looked for before *each* attempt, several tables and the owner's row
//! move in one transaction, an unknown outcome is looked up and never guessed, and everything is on disk before the
//! catalog points at it.
//!
//! In reading order: [`io`] the one async door; [`name`]; [`files`] durable local files; [`schema`] types, and [`field_ids`];
//! [`datafile`] Parquet and its metrics; [`deletes`] of rows by their positions; [`catalog`] over a [`store`], which is [`sql`] or
//! [`rest`]; [`claim`]; [`commit`] with [`marker`] (a pure decision),
//! [`upsert`] (rewrite or position deletes), [`snapshot`] (manifests to metadata), [`metadata`] (its files) and [`expiry`];
//! [`serving`] the names that show versions; [`retire`] what none shows any more; [`condemn`], [`uses`] and [`directory`] what is done before files of a version go; [`maintenance`] keeps a table small, and [`pin`] a snapshot from that; [`live`] what a snapshot holds, and [`scan`] its rows.

mod amend;
pub mod catalog;
mod claim;
pub mod commit;
pub mod condemn;
pub mod datafile;
mod deletes;
pub mod directory;
pub mod expiry;
pub mod field_ids;
pub mod files;
#[cfg(test)]
pub(crate) mod foreign;
pub mod io;
mod kept;
mod key_index;
pub mod live;
mod loaded;
pub mod maintenance;
pub mod manifests;
pub mod marker;
mod metadata;
pub mod name;
mod pin;
mod prune;
mod rest;
pub mod retire;
pub mod scan;
pub mod schema;
pub mod serving;
mod settings;
mod snapshot;
mod sql;
mod store;
mod tiers;
mod upsert;
pub mod uses;

pub use expiry::Forgotten;

pub use catalog::{Catalog, CreateTable, Settings, Table};
pub use commit::{CommitKind, CommitOutcome, Fence, TableCommit};
pub use io::Io;
pub use key_index::{IndexPolicy, KeyStore, OpenKeyStore};
#[cfg(test)]
pub(crate) use metadata::tests::said_by_a_job;
pub use name::TableName;
pub use pin::Pin;
#[cfg(test)]
pub(crate) use sql::fresh_schema;

use crate::error::Error;

/// The table property that holds the primary key, as a JSON list of column names.
pub const PRIMARY_KEY_PROPERTY: &str = "kappa.primary-key";

/// The table property that names the catalog in which a table was made: whoever finds its files elsewhere leaves them alone.
pub const CATALOG_PROPERTY: &str = "kappa.catalog";

/// The table property of a preview, which is replaced by the next: from which event time on it is whole.
pub const PREVIEW_PROPERTY: &str = "kappa.preview";

/// An error of the iceberg crate, with what was being done.
pub(crate) fn iceberg_error(action: &str, error: iceberg::Error) -> Error {
    let message = format!("{action}: {error}");
    let made = match error.kind() {
        iceberg::ErrorKind::DataInvalid => Error::corruption("iceberg", message),
        // All that is below it is the local disk.
        _ => Error::disk("iceberg", message),
    };
    made.source(error)
}
