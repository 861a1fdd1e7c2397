//! The SQL database behind a catalog: the tables that Java's JdbcCatalog and pyiceberg's SqlCatalog open too, and the
//! owners of versions. Every change is a compare-and-swap.

mod postgres;
mod session;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;

use self::postgres::Server;
pub(super) use self::session::{Row, Session, Value};
use super::catalog::fenced;
use super::io::Io;
use super::name::TableName;
use super::store::{OwnerRow, Swap, Swapped, ViewSwap};
use crate::error::{Error, Result};
use crate::protocol::failpoint;
use crate::time;

const SCHEMA: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS iceberg_tables (
        catalog_name VARCHAR(255) NOT NULL,
        table_namespace VARCHAR(255) NOT NULL,
        table_name VARCHAR(255) NOT NULL,
        metadata_location VARCHAR(1000),
        previous_metadata_location VARCHAR(1000),
        iceberg_type VARCHAR(5),
        PRIMARY KEY (catalog_name, table_namespace, table_name))",
    "CREATE TABLE IF NOT EXISTS iceberg_namespace_properties (
        catalog_name VARCHAR(255) NOT NULL,
        namespace VARCHAR(255) NOT NULL,
        property_key VARCHAR(255) NOT NULL,
        property_value VARCHAR(1000) NOT NULL,
        PRIMARY KEY (catalog_name, namespace, property_key))",
    "CREATE TABLE IF NOT EXISTS kappa_owners (
        version TEXT NOT NULL PRIMARY KEY,
        owner BIGINT NOT NULL,
        checkpoint BIGINT NOT NULL)",
];
const TYPE_COLUMN: &str = "ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)";

const IS_THE_TABLE: &str = "catalog_name = ? AND table_namespace = ? AND table_name = ?";
const IS_A_TABLE: &str = "(iceberg_type = 'TABLE' OR iceberg_type IS NULL)";
const IS_A_VIEW: &str = "iceberg_type = 'VIEW'";

/// How often a transaction is begun again that the database gave up because of others.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// One connection; calls take turns. One to a server is made again where it was lost.
pub(super) struct Database {
    session: Mutex<Option<Session>>,
    place: Place,
    catalog: String,
}

enum Place {
    File(sqlite::Database),
    Server(Box<Server>),
}

/// How the body of a transaction ends it.
pub(super) enum End<T> {
    Commit(T),
    Rollback(T),
}

/// What is known of a transaction.
pub(super) enum Outcome<T> {
    /// It ended as its body wanted.
    Known(T),
    /// The commit was sent and its reply is an error.
    Unknown(Error),
}

/// Where an attempt failed.
enum Failed {
    /// Before the commit was sent: nothing happened.
    Before(sqlx::Error),
    AtCommit(sqlx::Error),
}

impl Database {
    /// Opens the database in a file, and creates it with its parent directories on first use.
    pub(super) fn sqlite(io: &Io, path: &Path, catalog: &str) -> Result<Self> {
        let session = Mutex::new(Some(sqlite::open(io, path)?));
        Ok(Self { session, place: Place::File(sqlite::Database::new(path)), catalog: catalog.to_owned() })
    }

    /// Opens the database at `postgresql://…`, and makes the catalog's tables on first use.
    pub(super) fn postgres(io: &Io, url: &str, catalog: &str) -> Result<Self> {
        let place = Place::Server(Box::new(Server::parse(url)?));
        let database = Self { session: Mutex::new(None), place, catalog: catalog.to_owned() };
        io.run(database.ask("connect", async |_| Ok(())))?;
        Ok(database)
    }

    /// The catalog's name in the tables.
    pub(super) fn catalog(&self) -> &str {
        &self.catalog
    }

    /// Where a table's metadata is.
    pub(super) async fn location(&self, name: &TableName) -> Result<Option<String>> {
        self.location_of(name, IS_A_TABLE).await
    }

    /// Where a view's metadata is.
    pub(super) async fn view_location(&self, name: &TableName) -> Result<Option<String>> {
        self.location_of(name, IS_A_VIEW).await
    }

    async fn location_of(&self, name: &TableName, kind: &str) -> Result<Option<String>> {
        let query = format!("SELECT metadata_location FROM iceberg_tables WHERE {IS_THE_TABLE} AND {kind}");
        let values = self.the_table(name);
        self.ask("look up a table", async |session| match session.rows(&query, &values).await?.first() {
            Some(row) => row.text(0),
            None => Ok(None),
        })
        .await
    }

    /// The tables of the catalog, in order.
    pub(super) async fn list(&self) -> Result<Vec<(String, String)>> {
        let query = format!("SELECT table_namespace, table_name FROM iceberg_tables WHERE catalog_name = ? AND {IS_A_TABLE}");
        let names = |row: &Row| Ok((row.text(0)?.unwrap_or_default(), row.text(1)?.unwrap_or_default()));
        let listed = self.ask("list tables", async |session| {
            session.rows(&query, &[self.catalog().into()]).await?.iter().map(names).collect::<sqlx::Result<Vec<_>>>()
        });
        let mut tables = listed.await?;
        // Not by the database, whose order depends on its language.
        tables.sort();
        Ok(tables)
    }

    /// Adds a table and its namespace; false if the name is taken.
    pub(super) async fn insert(&self, name: &TableName, location: &str) -> Result<bool> {
        let body = async |session: &mut Session| Ok(End::Commit(self.add_row(session, name, location, "TABLE").await?));
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.transact("create a table", &body).await? {
                Outcome::Known(true) => return Ok(true),
                // No two tables have the same place: it is there from an attempt whose reply was lost.
                Outcome::Known(false) => return Ok(self.location(name).await?.as_deref() == Some(location)),
                Outcome::Unknown(error) if attempt == ATTEMPTS || !error.is_retryable() => return Err(error),
                Outcome::Unknown(_) => tokio::time::sleep(time::jitter(PAUSE)).await,
            }
        }
    }

    /// Removes a table that is at `location`; false if it is not.
    pub(super) async fn remove(&self, name: &TableName, location: &str) -> Result<bool> {
        let query = format!("DELETE FROM iceberg_tables WHERE {IS_THE_TABLE} AND {IS_A_TABLE} AND metadata_location = ?");
        let [catalog, space, table] = self.the_table(name);
        let values = [catalog, space, table, location.into()];
        let body = async |session: &mut Session| Ok(End::Commit(session.execute(&query, &values).await? == 1));
        match self.transact("drop a table", &body).await? {
            Outcome::Known(removed) => Ok(removed),
            Outcome::Unknown(error) if !error.is_retryable() => Err(error),
            // Gone it is what was asked for, whoever did it.
            Outcome::Unknown(error) => match self.location(name).await?.as_deref() {
                None => Ok(true),
                Some(now) if now == location => Err(error),
                Some(_) => Ok(false),
            },
        }
    }

    /// Makes `owner` the owner of a version, unless a later one is; gives back who owns it now.
    pub(super) async fn claim(&self, version: &str, owner: i64) -> Result<i64> {
        let claim = "INSERT INTO kappa_owners (version, owner, checkpoint) VALUES (?, ?, 0) ON CONFLICT (version) DO UPDATE \
                     SET owner = CASE WHEN kappa_owners.owner < excluded.owner THEN excluded.owner \
                     ELSE kappa_owners.owner END RETURNING owner";
        let values = [version.into(), owner.into()];
        // Once more does no harm.
        let claimed = self.ask("claim a version", async |session| {
            session.rows(claim, &values).await?.first().map(|row| row.integer(0)).transpose()
        });
        claimed.await?.ok_or_else(|| Error::internal("a claim gave back no owner"))
    }

    /// Looks whether a version is this owner's: `Conflict` if it is not.
    pub(super) async fn check_owner(&self, row: &OwnerRow<'_>) -> Result<()> {
        let now = self.ask("look up an owner", async |session| owner_of(session, row.version).await).await?;
        if now == Some(row.owner) { Ok(()) } else { Err(fenced(row.version, row.owner, now)) }
    }

    /// Moves all tables, views and the owner's row, or nothing; `Conflict` if the version is not the owner's.
    pub(super) async fn swap(&self, swaps: &[Swap], views: &[ViewSwap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        // In one order, whoever does it: two transactions that want the same tables do not wait for each other.
        let tables = swaps.iter().map(|swap| (&swap.name, &swap.from, &swap.to, "TABLE"));
        let views = views.iter().map(|swap| (&swap.name, &swap.from, &swap.to, "VIEW"));
        let mut swaps: Vec<_> = tables.chain(views).collect();
        swaps.sort_unstable();
        let body = async |session: &mut Session| {
            if let Some(row) = owner
                && let Err(now) = assert_owner(session, row).await?
            {
                return Ok(End::Rollback(Err(fenced(row.version, row.owner, now))));
            }
            for (name, from, to, kind) in &swaps {
                if !self.move_row(session, name, from.as_deref(), to, kind).await? {
                    return Ok(End::Rollback(Ok(Swapped::Lost((*name).clone()))));
                }
                failpoint::hit("P3");
            }
            Ok(End::Commit(Ok(Swapped::Done)))
        };
        match self.transact("commit", &body).await? {
            Outcome::Known(swapped) => swapped,
            Outcome::Unknown(error) => Ok(Swapped::Unknown(error)),
        }
    }

    /// Adds a table or view and its namespace inside a transaction; false if the name is taken.
    async fn add_row(&self, session: &mut Session, name: &TableName, location: &str, kind: &str) -> sqlx::Result<bool> {
        let namespace = "INSERT INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true') ON CONFLICT DO NOTHING";
        let insert = "INSERT INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                      previous_metadata_location, iceberg_type) VALUES (?, ?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING";
        let [catalog, space, table] = self.the_table(name);
        session.execute(namespace, &[catalog, space]).await?;
        Ok(session.execute(insert, &[catalog, space, table, location.into(), kind.into()]).await? == 1)
    }

    /// Moves one table or view inside a transaction; false if it is not where it was.
    async fn move_row(
        &self,
        session: &mut Session,
        name: &TableName,
        from: Option<&str>,
        to: &str,
        kind: &str,
    ) -> sqlx::Result<bool> {
        let Some(from) = from else { return self.add_row(session, name, to, kind).await };
        let is_of_kind = if kind == "VIEW" { IS_A_VIEW } else { IS_A_TABLE };
        let update = format!(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
             WHERE {IS_THE_TABLE} AND {is_of_kind} AND metadata_location = ?"
        );
        let [catalog, space, table] = self.the_table(name);
        let (from, to) = (Value::from(from), Value::from(to));
        Ok(session.execute(&update, &[to, from, catalog, space, table, from]).await? == 1)
    }

    fn the_table<'a>(&'a self, name: &'a TableName) -> [Value<'a>; 3] {
        [self.catalog.as_str().into(), name.namespace().into(), name.table().into()]
    }

    /// Runs what may be run twice without harm; over a new connection, if the old one turns out to be lost.
    pub(super) async fn ask<T>(&self, action: &str, body: impl AsyncFn(&mut Session) -> sqlx::Result<T>) -> Result<T> {
        let mut held = self.session.lock().await;
        self.cut_off().map_or(Ok(()), Err)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let asked = async {
                let session = self.connected(&mut held).await?;
                self.within(body(session)).await
            };
            match asked.await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.failed(&mut held, action, error, attempt)?,
            }
        }
    }

    /// Runs a transaction that writes. One that the database gave up because of others is begun again, and so is one whose
    /// connection was lost before the commit was sent: nothing of it has happened.
    pub(super) async fn transact<T>(
        &self,
        action: &str,
        body: impl AsyncFn(&mut Session) -> sqlx::Result<End<T>>,
    ) -> Result<Outcome<T>> {
        let mut held = self.session.lock().await;
        self.cut_off().map_or(Ok(()), Err)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.attempt(&mut held, &body).await {
                Ok(value) => return Ok(self.cut_off().map_or(Outcome::Known(value), Outcome::Unknown)),
                Err(Failed::AtCommit(error)) if !postgres::is_serialization(&error) => {
                    self.forget(&mut held);
                    return Ok(Outcome::Unknown(self.failure(action, error)));
                }
                Err(Failed::AtCommit(error) | Failed::Before(error)) => self.failed(&mut held, action, error, attempt)?,
            }
            tokio::time::sleep(time::jitter(PAUSE)).await;
        }
    }

    /// The error where a file's log was removed under the connection.
    fn cut_off(&self) -> Option<Error> {
        match &self.place {
            Place::File(file) => file.cut_off(),
            Place::Server(_) => None,
        }
    }

    async fn attempt<T>(
        &self,
        held: &mut Option<Session>,
        body: impl AsyncFn(&mut Session) -> sqlx::Result<End<T>>,
    ) -> Result<T, Failed> {
        let session = self.connected(held).await.map_err(Failed::Before)?;
        self.within(session.begin()).await.map_err(Failed::Before)?;
        let ended = match self.within(body(session)).await {
            Ok(End::Commit(value)) => match self.within(session.commit()).await {
                Ok(_) => return Ok(value),
                Err(error) => Err(Failed::AtCommit(error)),
            },
            Ok(End::Rollback(value)) => {
                return self.within(session.roll_back()).await.map(|_| value).map_err(Failed::Before);
            }
            Err(error) => Err(Failed::Before(error)),
        };
        if let Place::File(_) = self.place {
            // It may be open still, or not: a server's goes with its connection.
            let _ = session.roll_back().await;
        }
        ended
    }

    /// Whether to go on after an error before which, or of which, nothing has happened; the error if not.
    fn failed(&self, held: &mut Option<Session>, action: &str, error: sqlx::Error, attempt: u32) -> Result<()> {
        self.forget(held);
        let again = match self.place {
            Place::File(_) => false,
            // A connection that was lost long ago is noticed only now; a server that is away is the caller's to wait for.
            Place::Server(_) if postgres::is_away(&error) => attempt == 1,
            Place::Server(_) => postgres::is_serialization(&error) && attempt < ATTEMPTS,
        };
        if again { Ok(()) } else { Err(self.failure(action, error)) }
    }

    /// Gives up a connection to a server after an error: what state it is in is not worth knowing.
    fn forget(&self, held: &mut Option<Session>) {
        if matches!(self.place, Place::Server(_)) {
            *held = None;
        }
    }

    async fn connected<'a>(&self, held: &'a mut Option<Session>) -> sqlx::Result<&'a mut Session> {
        if held.is_none()
            && let Place::Server(server) = &self.place
        {
            *held = Some(limited(postgres::TO_CONNECT, server.connect()).await?);
        }
        held.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// A server that answers nothing is as good as away.
    async fn within<T>(&self, answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        match self.place {
            Place::File(_) => answer.await,
            Place::Server(_) => limited(postgres::TO_ANSWER, answer).await,
        }
    }

    /// Makes an error of the database one that says what was being done to it.
    fn failure(&self, action: &str, error: sqlx::Error) -> Error {
        match &self.place {
            Place::File(file) => sqlite::failure(&file.path, action, error),
            Place::Server(server) => server.failure(action, error),
        }
    }
}

async fn limited<T>(limit: Duration, answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let silent = |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer from the server"));
    tokio::time::timeout(limit, answer).await.map_err(silent)?
}

/// Moves the owner's row inside a transaction; the owner that there is, if it is another.
pub(super) async fn assert_owner(session: &mut Session, row: &OwnerRow<'_>) -> sqlx::Result<Result<(), Option<i64>>> {
    let update = "UPDATE kappa_owners SET checkpoint = CASE WHEN checkpoint < ? THEN ? ELSE checkpoint END \
                  WHERE version = ? AND owner = ?";
    let checkpoint = Value::from(row.checkpoint);
    if session.execute(update, &[checkpoint, checkpoint, row.version.into(), row.owner.into()]).await? == 1 {
        return Ok(Ok(()));
    }
    Ok(Err(owner_of(session, row.version).await?))
}

async fn owner_of(session: &mut Session, version: &str) -> sqlx::Result<Option<i64>> {
    let rows = session.rows("SELECT owner FROM kappa_owners WHERE version = ?", &[version.into()]).await?;
    rows.first().map(|row| row.integer(0)).transpose()
}

/// The URL of a schema that is there for one test alone.
#[cfg(test)]
pub(crate) fn fresh_schema(url: &str) -> String {
    let name = format!("test_{}", time::new_uuid().simple());
    let io = Io::new().unwrap();
    let database = Database::postgres(&io, url, "none").unwrap();
    let statement = format!("CREATE SCHEMA {name}");
    io.run(database.ask("make a schema", async |session| session.execute(&statement, &[]).await)).unwrap();
    format!("{url}?options[search_path]={name}")
}
