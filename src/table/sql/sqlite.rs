//! A catalog in a SQLite file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Row as _};

use super::session::Session;
use super::{SCHEMA, TYPE_COLUMN};
use crate::durable;
use crate::error::{Error, ErrorKind, Result};
use crate::table::io::Io;
use crate::time;

/// How long to wait for another writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the file, and creates it with its parent directories on first use.
pub(super) fn open(io: &Io, path: &Path) -> Result<Session> {
    if let Some(parent) = path.parent() {
        durable::create_directory(parent)?;
    }
    let mut attempts = 0;
    let session = loop {
        // Going over to WAL needs an exclusive lock that SQLite's busy timeout does not wait for.
        match io.run(connect(path)) {
            Err(error) if is_locked(&error) && attempts < 100 => std::thread::sleep(time::jitter(Duration::from_millis(50))),
            result => break result.map_err(|error| failure(path, "connect", error))?,
        }
        attempts += 1;
    };
    if let Some(parent) = path.parent() {
        durable::sync_directory(parent)?;
    }
    Ok(session)
}

/// A database in a file, and the log that the connection to it writes to.
pub(super) struct Database {
    pub(super) path: PathBuf,
    log: Mutex<Option<FileId>>,
}

/// Device and number. A file that is open keeps its own also when it is removed.
type FileId = (u64, u64);

impl Database {
    /// One to which there is a connection.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), log: Mutex::new(log_of(path)) }
    }

    /// The error, where the log was removed while the connection has it open: what was committed last may be in it.
    ///
    /// A process in which two SQLite libraries have one database open, kappa's and Python's say, has no locks between the two: the
    /// one that closes its last connection takes the log for its own to remove. What the other writes then goes into a file that
    /// nobody else will ever see ("How To Corrupt An SQLite Database File", 2.2.1). A new connection would share what the old ones
    /// of the process have in memory, so the process ends; the next one finds out what is committed.
    pub(super) fn cut_off(&self) -> Option<Error> {
        let now = log_of(&self.path);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.is_none() {
            *log = now;
        }
        if *log == now {
            return None;
        }
        let message = format!("the log of the catalog {} was removed while it was in use", self.path.display());
        let error = Error::new(ErrorKind::Unavailable, "catalog_cut_off", message).retryable(false);
        Some(error.hint(
            "another SQLite library in this process has closed it, pyiceberg's say. Start the process again: nothing is lost; and use \
             the two in processes of their own, or a catalog in PostgreSQL",
        ))
    }
}

/// The log of a database, if it is there.
fn log_of(path: &Path) -> Option<FileId> {
    let mut path = path.as_os_str().to_owned();
    path.push("-wal");
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

async fn connect(path: &Path) -> sqlx::Result<Session> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    for statement in SCHEMA {
        sqlx::query(statement).execute(&mut connection).await?;
    }
    // A catalog of the older schema has no types: every row is a table.
    let columns = sqlx::query("PRAGMA table_info(iceberg_tables)").fetch_all(&mut connection).await?;
    if !columns.iter().any(|column| column.get::<String, _>("name") == "iceberg_type") {
        sqlx::query(TYPE_COLUMN).execute(&mut connection).await?;
    }
    Ok(Session::Sqlite(connection))
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
pub(super) fn failure(path: &Path, action: &str, error: sqlx::Error) -> Error {
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
    use sqlx::sqlite::SqliteConnection;

    use super::super::{End, Outcome};
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
            failure(Path::new("c.db"), "commit", error)
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

    #[test]
    fn a_log_that_is_removed_under_the_connection_ends_it() {
        let (io, directory) = (Io::new().unwrap(), tempfile::tempdir().unwrap());
        let path = directory.path().join("c.db");
        let database = super::super::Database::sqlite(&io, &path, "kappa").unwrap();
        assert_eq!(io.run(database.claim("v", 1)).unwrap(), 1);
        let cut = async |session: &mut Session| {
            session.execute("UPDATE kappa_owners SET owner = 3", &[]).await?;
            let _ = std::fs::remove_file(directory.path().join("c.db-wal"));
            Ok(End::Commit(()))
        };
        let Ok(Outcome::Unknown(error)) = io.run(database.transact("commit", cut)) else { panic!() };
        assert_eq!((error.code(), error.is_retryable()), ("catalog_cut_off", false));
        let error = io.run(database.ask("look", async |_| Ok(()))).unwrap_err();
        assert_eq!(error.code(), "catalog_cut_off", "what it would see is not what others do");
    }
}
