//! The SQLite database behind a catalog: the tables that Java's JdbcCatalog and pyiceberg's SqlCatalog open too, and the
//! owners of versions. Every change is a compare-and-swap.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, Sqlite, Transaction};
use tokio::sync::Mutex;

use super::catalog::fenced;
use super::io::Io;
use super::name::TableName;
use crate::durable;
use crate::error::{Error, ErrorKind, Result};
use crate::time;

/// How long to wait for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

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
        owner INTEGER NOT NULL,
        checkpoint INTEGER NOT NULL)",
];

const IS_THE_TABLE: &str = "catalog_name = ? AND table_namespace = ? AND table_name = ?";
const IS_A_TABLE: &str = "(iceberg_type = 'TABLE' OR iceberg_type IS NULL)";

/// One table's move from a metadata file to the next.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) name: TableName,
    pub(super) from: String,
    pub(super) to: String,
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

/// One connection; calls take turns.
pub(super) struct Database {
    connection: Mutex<SqliteConnection>,
    path: PathBuf,
    catalog: String,
}

impl Database {
    /// Opens the database, and creates it with its parent directories on first use.
    pub(super) fn open(io: &Io, path: &Path, catalog: &str) -> Result<Self> {
        if let Some(parent) = path.parent() {
            durable::create_directory(parent)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let mut attempts = 0;
        let connection = loop {
            // Going over to WAL needs an exclusive lock that SQLite's busy timeout does not wait for.
            match io.run(prepare(&options)) {
                Err(error) if is_locked(&error) && attempts < 100 => {
                    std::thread::sleep(time::jitter(Duration::from_millis(50)))
                }
                result => {
                    break result.map_err(|error| database_error(path, "connect", error))?;
                }
            }
            attempts += 1;
        };
        if let Some(parent) = path.parent() {
            durable::sync_directory(parent)?;
        }
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned(), catalog: catalog.to_owned() })
    }

    /// Where a table's metadata is.
    pub(super) async fn location(&self, name: &TableName) -> Result<Option<String>> {
        let mut connection = self.connection.lock().await;
        let query = format!("SELECT metadata_location FROM iceberg_tables WHERE {IS_THE_TABLE} AND {IS_A_TABLE}");
        let row = sqlx::query(&query).bind(&self.catalog).bind(name.namespace()).bind(name.table());
        let row = row.fetch_optional(&mut *connection).await.map_err(self.failed("look up a table"))?;
        Ok(row.and_then(|row| row.get::<Option<String>, _>(0)))
    }

    /// The tables of the catalog, in order.
    pub(super) async fn list(&self) -> Result<Vec<(String, String)>> {
        let mut connection = self.connection.lock().await;
        let query = format!(
            "SELECT table_namespace, table_name FROM iceberg_tables WHERE catalog_name = ? AND {IS_A_TABLE} ORDER BY 1, 2"
        );
        let rows = sqlx::query(&query).bind(&self.catalog).fetch_all(&mut *connection).await;
        let rows = rows.map_err(self.failed("list tables"))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Adds a table and its namespace; false if the name is taken.
    pub(super) async fn insert(&self, name: &TableName, location: &str) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let failed = self.failed("create a table");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let namespace = "INSERT OR IGNORE INTO iceberg_namespace_properties VALUES (?, ?, 'exists', 'true')";
        let namespace = sqlx::query(namespace).bind(&self.catalog).bind(name.namespace());
        namespace.execute(&mut *transaction).await.map_err(failed)?;
        let insert = "INSERT OR IGNORE INTO iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                      previous_metadata_location, iceberg_type) VALUES (?, ?, ?, ?, NULL, 'TABLE')";
        let insert = sqlx::query(insert).bind(&self.catalog).bind(name.namespace()).bind(name.table()).bind(location);
        let inserted = insert.execute(&mut *transaction).await.map_err(failed)?.rows_affected() == 1;
        transaction.commit().await.map_err(failed)?;
        Ok(inserted)
    }

    /// Removes a table that is at `location`; false if it is not.
    pub(super) async fn remove(&self, name: &TableName, location: &str) -> Result<bool> {
        let mut connection = self.connection.lock().await;
        let query = format!("DELETE FROM iceberg_tables WHERE {IS_THE_TABLE} AND metadata_location = ? AND {IS_A_TABLE}");
        let query = sqlx::query(&query).bind(&self.catalog).bind(name.namespace()).bind(name.table()).bind(location);
        let result = query.execute(&mut *connection).await.map_err(self.failed("drop a table"))?;
        Ok(result.rows_affected() == 1)
    }

    /// Makes `owner` the owner of a version, unless a later one is; gives back who owns it now.
    pub(super) async fn claim(&self, version: &str, owner: i64) -> Result<i64> {
        let mut connection = self.connection.lock().await;
        let failed = self.failed("claim a version");
        let claim = "INSERT INTO kappa_owners (version, owner, checkpoint) VALUES (?, ?, 0) \
                     ON CONFLICT (version) DO UPDATE SET owner = max(owner, excluded.owner) RETURNING owner";
        // All rows, so that the statement runs to its end and an error of its commit is seen.
        let rows = sqlx::query(claim).bind(version).bind(owner).fetch_all(&mut *connection).await.map_err(failed)?;
        rows.first().map(|row| row.get(0)).ok_or_else(|| Error::internal("a claim gave back no owner"))
    }

    /// Looks whether a version is this owner's: `Conflict` if it is not.
    pub(super) async fn check_owner(&self, row: &OwnerRow<'_>) -> Result<()> {
        let mut connection = self.connection.lock().await;
        let now = owner_of(&mut connection, row.version).await.map_err(self.failed("look up an owner"))?;
        if now == Some(row.owner) { Ok(()) } else { Err(fenced(row.version, row.owner, now)) }
    }

    /// Moves all tables and the owner's row, or nothing; `Conflict` if the version is not the owner's.
    pub(super) async fn swap(&self, swaps: &[Swap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        let mut connection = self.connection.lock().await;
        let failed = self.failed("commit");
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        if let Some(owner) = owner
            && let Err(error) = self.assert_owner(&mut transaction, owner).await
        {
            transaction.rollback().await.map_err(failed)?;
            return Err(error);
        }
        let update = format!(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
             WHERE {IS_THE_TABLE} AND metadata_location = ? AND {IS_A_TABLE}"
        );
        for swap in swaps {
            let update = sqlx::query(&update).bind(&swap.to).bind(&swap.from).bind(&self.catalog);
            let update = update.bind(swap.name.namespace()).bind(swap.name.table()).bind(&swap.from);
            if update.execute(&mut *transaction).await.map_err(failed)?.rows_affected() != 1 {
                transaction.rollback().await.map_err(failed)?;
                return Ok(Swapped::Lost(swap.name.clone()));
            }
        }
        match transaction.commit().await {
            Ok(()) => Ok(Swapped::Done),
            Err(error) => Ok(Swapped::Unknown(failed(error))),
        }
    }

    async fn assert_owner(&self, transaction: &mut Transaction<'_, Sqlite>, row: &OwnerRow<'_>) -> Result<()> {
        let failed = self.failed("commit");
        let update = sqlx::query("UPDATE kappa_owners SET checkpoint = max(checkpoint, ?) WHERE version = ? AND owner = ?");
        let update = update.bind(row.checkpoint).bind(row.version).bind(row.owner);
        if update.execute(&mut **transaction).await.map_err(failed)?.rows_affected() == 1 {
            return Ok(());
        }
        Err(fenced(row.version, row.owner, owner_of(transaction, row.version).await.map_err(failed)?))
    }

    /// Makes an error of the database one that says what was being done to it.
    fn failed(&self, action: &'static str) -> impl Fn(sqlx::Error) -> Error + Copy {
        move |error| database_error(&self.path, action, error)
    }
}

async fn owner_of(connection: &mut SqliteConnection, version: &str) -> sqlx::Result<Option<i64>> {
    let owner = sqlx::query("SELECT owner FROM kappa_owners WHERE version = ?").bind(version);
    Ok(owner.fetch_optional(connection).await?.map(|row| row.get(0)))
}

async fn prepare(options: &SqliteConnectOptions) -> sqlx::Result<SqliteConnection> {
    let mut connection = options.connect().await?;
    for statement in SCHEMA {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    // A catalog of the older schema has no types: every row is a table.
    let columns = sqlx::query("PRAGMA table_info(iceberg_tables)").fetch_all(&mut connection).await?;
    if !columns.iter().any(|column| column.get::<String, _>("name") == "iceberg_type") {
        sqlx::query("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)").execute(&mut connection).await?;
    }
    Ok(connection)
}

fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse().ok());
    code.is_some_and(is_lock)
}

/// Whether another connection's lock is what a result code of SQLite tells of. The upper bits of one are details.
fn is_lock(code: i32) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    // Another process begins to use the log of a database in WAL mode, or recovers it.
    const PROTOCOL: i32 = 15;
    matches!(code & 0xff, BUSY | LOCKED | PROTOCOL)
}

/// Another writer's lock passes; all else is of the disk, where SQLite is, or of the database.
fn database_error(path: &Path, action: &str, error: sqlx::Error) -> Error {
    let text = error.to_string();
    let message = format!("{action} (catalog {}): {text}", path.display());
    let says = |words: &str| text.contains(words);
    let made = if says("malformed") || says("not a database") {
        Error::corruption("catalog", message)
    } else if is_locked(&error) {
        Error::new(ErrorKind::Unavailable, "catalog", message).hint(
            "another process is in the middle of a transaction; if it is one that was stopped (SIGSTOP), end it with kill -9",
        )
    } else if says("unable to open") {
        Error::disk("catalog", message).hint("see whether its directory can be written and has space")
    } else {
        Error::disk("catalog", message)
    };
    made.source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_a_lock_by_its_code_whatever_the_words() {
        const BUSY_SNAPSHOT: i32 = 5 | 2 << 8;
        const LOCKED_VTAB: i32 = 6 | 2 << 8;
        const IOERR_LOCK: i32 = 10 | 15 << 8;
        assert_eq!([5, BUSY_SNAPSHOT, 6, LOCKED_VTAB, 15].map(is_lock), [true; 5]);
        assert_eq!([1, 8, 10, IOERR_LOCK, 11, 13, 19].map(is_lock), [false; 7]);

        let (io, directory) = (Io::new().unwrap(), tempfile::tempdir().unwrap());
        let options = SqliteConnectOptions::new().filename(directory.path().join("c.db")).create_if_missing(true);
        let (mut one, mut two) = io.run(async {
            let options = options.busy_timeout(Duration::ZERO);
            (options.connect().await.unwrap(), options.connect().await.unwrap())
        });
        let refused = |connection: &mut SqliteConnection, statement: &str| {
            let error = io.run(sqlx::query(statement).execute(connection)).unwrap_err();
            database_error(Path::new("c.db"), "commit", error)
        };
        let statements = [
            "CREATE TABLE locked (a INTEGER)",
            "CREATE TRIGGER t BEFORE INSERT ON locked BEGIN SELECT RAISE(ABORT, 'the row is locked'); END",
            "BEGIN EXCLUSIVE",
        ];
        for statement in statements {
            io.run(sqlx::query(statement).execute(&mut one)).unwrap();
        }
        let of_another = refused(&mut two, "BEGIN IMMEDIATE");
        let of_a_trigger = refused(&mut one, "INSERT INTO locked VALUES (1)");
        assert!(of_a_trigger.to_string().contains("locked"), "{of_a_trigger}");
        assert_eq!((of_another.is_retryable(), of_a_trigger.is_retryable()), (true, false));
    }
}
