//! One connection to a SQL database of either kind: the statements are the same for both.

use std::borrow::Cow;

use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Executor as _, Postgres, Row as _, Sqlite};

/// What stands in for a `?` of a statement.
#[derive(Clone, Copy, Debug)]
pub(in crate::table) enum Value<'a> {
    Text(&'a str),
    Integer(i64),
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(text: &'a String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

/// A row of an answer.
pub(in crate::table) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column of text, by its number.
    pub(in crate::table) fn text(&self, column: usize) -> sqlx::Result<Option<String>> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }

    /// A column of integers, by its number.
    pub(in crate::table) fn integer(&self, column: usize) -> sqlx::Result<i64> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// A connection.
pub(in crate::table) enum Session {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Session {
    /// Runs a statement; how many rows it changed.
    pub(in crate::table) async fn execute(&mut self, statement: &str, values: &[Value<'_>]) -> sqlx::Result<u64> {
        match self {
            Self::Sqlite(connection) => Ok(for_sqlite(statement, values).execute(connection).await?.rows_affected()),
            Self::Postgres(connection) => {
                let numbered = numbered(statement);
                Ok(for_postgres(&numbered, values).execute(connection).await?.rows_affected())
            }
        }
    }

    /// Runs a statement to its end, so that an error of its commit is seen too; all its rows.
    pub(in crate::table) async fn rows(&mut self, statement: &str, values: &[Value<'_>]) -> sqlx::Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let rows = for_sqlite(statement, values).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let numbered = numbered(statement);
                let rows = for_postgres(&numbered, values).fetch_all(connection).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Begins a transaction which is going to write.
    pub(super) async fn begin(&mut self) -> sqlx::Result<()> {
        self.control(match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            // Whatever the server's default: a compare-and-swap waits for the one before it, and then sees what that has done.
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        })
        .await
    }

    /// Ends a transaction.
    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        self.control("COMMIT").await
    }

    /// Ends a transaction as if it had not been.
    pub(super) async fn roll_back(&mut self) -> sqlx::Result<()> {
        self.control("ROLLBACK").await
    }

    /// One message and its answer: what is prepared takes two.
    async fn control(&mut self, statement: &'static str) -> sqlx::Result<()> {
        match self {
            Self::Sqlite(connection) => connection.execute(statement).await.map(drop),
            Self::Postgres(connection) => connection.execute(statement).await.map(drop),
        }
    }
}

fn for_sqlite<'q>(statement: &'q str, values: &[Value<'q>]) -> Query<'q, Sqlite, SqliteArguments<'q>> {
    values.iter().fold(sqlx::query(statement), |query, value| match *value {
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
    })
}

fn for_postgres<'q>(statement: &'q str, values: &[Value<'q>]) -> Query<'q, Postgres, PgArguments> {
    values.iter().fold(sqlx::query(statement), |query, value| match *value {
        Value::Text(text) => query.bind(text),
        Value::Integer(number) => query.bind(number),
    })
}

/// The statement with `$1`, `$2`, … for its question marks: none of ours has one in a text.
fn numbered(statement: &str) -> Cow<'_, str> {
    if !statement.contains('?') {
        return Cow::Borrowed(statement);
    }
    let mut parts = statement.split('?');
    let mut numbered = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        numbered.push_str(&format!("${}{part}", index + 1));
    }
    Cow::Owned(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_numbered() {
        assert_eq!(numbered("UPDATE t SET a = ? WHERE b = ? AND c = ?"), "UPDATE t SET a = $1 WHERE b = $2 AND c = $3");
        assert_eq!(numbered("SELECT 1"), "SELECT 1");
    }
}
