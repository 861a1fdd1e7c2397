//! The store of a catalog: what there is of it that outlives the process. Three of them do the same.

use std::sync::Arc;

use iceberg::spec::{TableMetadata, ViewMetadata};

use super::catalog::absolute;
use super::io::Io;
use super::metadata::{self, Refs};
use super::name::TableName;
use super::rest::Rest;
use super::sql::Database;
use crate::config::shown_url;
use crate::error::{Error, Result};

/// One table's move from a state to the next.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) name: TableName,
    /// The metadata files of the two; without the first the table is made.
    pub(super) from: Option<String>,
    pub(super) to: String,
    /// What is in them.
    pub(super) base: Arc<TableMetadata>,
    pub(super) next: Arc<TableMetadata>,
    /// The branches and tags of the next.
    pub(super) refs: Arc<Refs>,
}

/// A view's move.
#[derive(Clone, Debug)]
pub(super) struct ViewSwap {
    pub(super) name: TableName,
    /// The metadata files of the two; without the first the view is made.
    pub(super) from: Option<String>,
    pub(super) to: String,
    /// What is in them.
    pub(super) base: Option<Box<ViewMetadata>>,
    pub(super) next: Box<ViewMetadata>,
}

/// A view as a store has it.
pub(super) struct View {
    /// Its metadata file.
    pub(super) location: String,
    pub(super) metadata: ViewMetadata,
}

/// The owner's row that a transaction asserts and moves.
#[derive(Clone, Debug)]
pub(super) struct OwnerRow<'a> {
    pub(super) version: &'a str,
    pub(super) owner: i64,
    pub(super) checkpoint: i64,
}

/// What became of a transaction of swaps.
#[derive(Debug)]
pub(super) enum Swapped {
    /// All moved.
    Done,
    /// Nothing moved: this table is not where it was.
    Lost(TableName),
    /// The commit was sent and its reply is an error.
    Unknown(Error),
}

/// A table as a store has it.
pub(super) struct Loaded {
    /// Its metadata file.
    pub(super) location: String,
    pub(super) metadata: TableMetadata,
    pub(super) refs: Refs,
}

/// What a store says of a table.
pub(super) enum Found {
    /// Where its metadata is.
    At(String),
    /// All of it.
    Whole(Box<Loaded>),
}

impl Found {
    /// The URL of the metadata file.
    pub(super) fn location(&self) -> &str {
        match self {
            Self::At(location) => location,
            Self::Whole(loaded) => &loaded.location,
        }
    }
}

/// What a catalog is kept in.
pub(super) enum Store {
    /// A database: it names the metadata files, which kappa writes.
    Sql(Box<Database>),
    /// A server that writes them.
    Rest(Rest),
}

impl Store {
    /// The kinds of catalogs, by the scheme of their URL.
    pub(super) fn open(io: &Io, url: &str, name: &str) -> Result<Self> {
        match url.split_once("://") {
            Some(("sqlite", path)) => Ok(Self::Sql(Box::new(Database::sqlite(io, &absolute(path)?, name)?))),
            Some(("postgresql" | "postgres", _)) => Ok(Self::Sql(Box::new(Database::postgres(io, url, name)?))),
            Some(("http" | "https", _)) => Ok(Self::Rest(Rest::open(io, url, name)?)),
            _ => {
                let message = format!("catalog {} is not of a kind this release opens", shown_url(url));
                Err(Error::config("unsupported_catalog", message)
                    .hint("use sqlite://PATH, postgresql://USER:PASSWORD@HOST:PORT/DATABASE or https://HOST/PATH"))
            }
        }
    }

    /// Whether kappa writes the metadata files.
    pub(super) fn names_metadata(&self) -> bool {
        matches!(self, Self::Sql(_))
    }

    /// A table, if it is there.
    pub(super) async fn find(&self, name: &TableName) -> Result<Option<Found>> {
        match self {
            Self::Sql(database) => Ok(database.location(name).await?.map(Found::At)),
            Self::Rest(rest) => Ok(rest.load(name).await?.map(|loaded| Found::Whole(Box::new(loaded)))),
        }
    }

    /// The tables, in order: namespaces and names.
    pub(super) async fn list(&self) -> Result<Vec<(String, String)>> {
        match self {
            Self::Sql(database) => database.list().await,
            Self::Rest(rest) => rest.list().await,
        }
    }

    /// Removes a table whose metadata is at `location`; false if it is not.
    pub(super) async fn remove(&self, name: &TableName, location: &str) -> Result<bool> {
        match self {
            Self::Sql(database) => database.remove(name, location).await,
            Self::Rest(rest) => rest.remove(name, location).await,
        }
    }

    /// A view, if it is there.
    pub(super) async fn view(&self, name: &TableName) -> Result<Option<View>> {
        match self {
            Self::Sql(database) => {
                let location = database.view_location(name).await?;
                let read = |location: String| Ok(View { metadata: metadata::read_view(&location, name)?, location });
                location.map(read).transpose()
            }
            Self::Rest(rest) => rest.view(name).await,
        }
    }

    /// Moves all tables, views and the owner's row, or nothing; `Conflict` if the version is not the owner's. A server moves views
    /// after the tables, on their own.
    pub(super) async fn swap(&self, swaps: &[Swap], views: &[ViewSwap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        match self {
            Self::Sql(database) => database.swap(swaps, views, owner).await,
            Self::Rest(rest) => {
                let mut swapped = if swaps.is_empty() { Swapped::Done } else { rest.swap(swaps, owner).await? };
                for view in views {
                    if !matches!(swapped, Swapped::Done) {
                        break;
                    }
                    swapped = rest.swap_view(view).await?;
                }
                Ok(swapped)
            }
        }
    }
}
