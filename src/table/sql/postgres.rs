//! A catalog in a PostgreSQL database.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::session::Session;
use super::{SCHEMA, TYPE_COLUMN};
use crate::error::{Error, ErrorKind, Result};
use crate::time;

/// How long a transaction may wait for its own process, and a statement for another writer, which is clearly longer: one that was
/// stopped in the middle of a commit is cut off before its successor gives up.
const TO_GO_ON: &str = "15s";
const TO_LOCK: &str = "30s";
/// How long the server may take to let us in, and to answer anything: longer than it lets a statement wait.
pub(super) const TO_CONNECT: Duration = Duration::from_secs(10);
pub(super) const TO_ANSWER: Duration = Duration::from_secs(60);

/// Where a database is, and how to get in. Shown without the password.
pub(super) struct Server {
    options: PgConnectOptions,
    shown: String,
}

impl Server {
    /// From `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        // The library's error may quote the URL, and the password in it.
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            Error::config("catalog_url", "catalog.url is not the URL of a PostgreSQL database")
                .hint("write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with %XX for characters that URLs give a meaning")
        })?;
        let database = options.get_database().unwrap_or(options.get_username());
        let shown = format!("postgresql://{}@{}:{}/{database}", options.get_username(), options.get_host(), options.get_port());
        let mut options = options
            .options([("lock_timeout", TO_LOCK), ("idle_in_transaction_session_timeout", TO_GO_ON)])
            .disable_statement_logging();
        if options.get_application_name().is_none() {
            options = options.application_name("kappa");
        }
        Ok(Self { options, shown })
    }

    /// Connects, and makes the tables that are not there yet.
    pub(super) async fn connect(&self) -> sqlx::Result<Session> {
        let mut session = Session::Postgres(self.options.connect().await?);
        let columns = "SELECT table_name::text, column_name::text FROM information_schema.columns \
                       WHERE table_schema = ANY (current_schemas(false)) AND table_name IN \
                       ('iceberg_tables', 'iceberg_namespace_properties', 'kappa_owners')";
        let mut found = Vec::new();
        for row in session.rows(columns, &[]).await? {
            found.push((row.text(0)?.unwrap_or_default(), row.text(1)?.unwrap_or_default()));
        }
        // Looked at first: whoever may not make tables may use those that are there.
        let missing = |table: &str| !found.iter().any(|(name, _)| name == table);
        for statement in SCHEMA {
            let table = statement.split_whitespace().nth(5).unwrap_or_default();
            if missing(table) {
                make(&mut session, statement).await?;
            }
        }
        let typed = found.iter().any(|(table, column)| table == "iceberg_tables" && column == "iceberg_type");
        if !typed && !missing("iceberg_tables") {
            make(&mut session, TYPE_COLUMN).await?;
        }
        Ok(session)
    }

    /// An error of the server or of the way to it, with what was being done.
    pub(super) fn failure(&self, action: &str, error: sqlx::Error) -> Error {
        let message = format!("{action} (catalog {}): {error}", self.shown);
        let code = sqlstate(&error).unwrap_or_default();
        let config = |hint: &str| Error::config("catalog", message.clone()).hint(hint);
        let away = || Error::new(ErrorKind::Unavailable, "catalog", message.clone());
        let made = match code.as_str() {
            "28P01" | "28000" => config("check the user and the password in catalog.url (or PGPASSWORD, or ~/.pgpass)"),
            "3D000" => config("make the database with createdb, or name one that is there in catalog.url"),
            "42501" => config("kappa needs to read and change the tables in its schema, and at first to make them"),
            "25006" => {
                away().hint("this server is a standby, which nothing can be written to: name the primary in catalog.url")
            }
            "55P03" => away().hint("another process is in the middle of a transaction (see pg_stat_activity)"),
            _ if is_away(&error) || code.starts_with("53") || is_serialization(&error) => {
                away().hint("see whether the server runs and can be reached from here")
            }
            _ => away().retryable(false),
        };
        made.source(error)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Of several that find a table missing, one makes it: the others find it there. `IF NOT EXISTS` is not enough for two at once.
async fn make(session: &mut Session, statement: &str) -> sqlx::Result<()> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match session.execute(statement, &[]).await {
            Err(error) => match sqlstate(&error).as_deref() {
                Some("42701") => return Ok(()), // the column is there
                Some("23505" | "42P07" | "42710" | "XX000") if attempt < 10 => {
                    tokio::time::sleep(time::jitter(super::PAUSE)).await;
                }
                _ => return Err(error),
            },
            Ok(_) => return Ok(()),
        }
    }
}

fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

/// Whether the server gave the transaction up because of others: nothing of it happened, and again it may.
pub(super) fn is_serialization(error: &sqlx::Error) -> bool {
    // Not the rest of class 40: "statement completion unknown" is one of it.
    matches!(sqlstate(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether the connection is of no use any more, or there is none.
pub(super) fn is_away(error: &sqlx::Error) -> bool {
    match sqlstate(error) {
        // Connection exceptions; the operator's intervention; a transaction that idled.
        Some(code) => code.starts_with("08") || code.starts_with("57") || code == "25P03" || code == "25P04",
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let server = Server::parse("postgresql://anna:s3cret%2F@db.example:5433/lake?sslmode=require").unwrap();
        assert_eq!(format!("{server:?}"), "postgresql://anna@db.example:5433/lake");
        let error = server.failure("commit", sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(error.is_retryable() && !format!("{error:?}").contains("s3cret"), "{error}");
        for wrong in ["postgresql://anna:s3cret@db:notaport/lake", "postgresql://anna:s3cret@/x?sslmode=s3cret"] {
            let error = Server::parse(wrong).unwrap_err();
            assert_eq!(error.code(), "catalog_url");
            assert!(!format!("{error:?} {:?}", std::error::Error::source(&error)).contains("s3cret"), "{error}");
        }
    }
}
