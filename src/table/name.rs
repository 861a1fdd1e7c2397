//! Names of tables.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// `namespace.table`; the namespace may have several levels. Every level matches `[A-Za-z0-9_-]{1,128}`, and a namespace has at
/// most 255 bytes, so that a name can be part of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableName {
    namespace: String,
    table: String,
}

impl TableName {
    /// Reads `namespace.table`; a name without a namespace goes to `default_namespace`.
    pub fn parse(text: &str, default_namespace: &str) -> Result<Self> {
        let (namespace, table) = text.rsplit_once('.').unwrap_or((default_namespace, text));
        for level in namespace.split('.').chain([table]) {
            check_level(level, text)?;
        }
        if namespace.len() > 255 {
            return Err(Error::config("invalid_table_name", format!("the namespace of {text:?} is longer than 255 bytes"))
                .hint("use fewer or shorter levels: it becomes the name of a directory"));
        }
        Ok(Self { namespace: namespace.to_owned(), table: table.to_owned() })
    }

    /// The namespace, its levels joined by `.`.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The table within its namespace.
    pub fn table(&self) -> &str {
        &self.table
    }
}

fn check_level(level: &str, whole: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=128).contains(&level.len()) && level.bytes().all(plain) {
        return Ok(());
    }
    Err(Error::config("invalid_table_name", format!("{whole:?} is not a table name"))
        .hint("use letters, digits, _ and -, at most 128 a level, as in metric.distinct_merchants_v3; a job's table has at most 115, since its dead letters \
               go to NAME__dead_letter"))
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.table)
    }
}

impl TryFrom<String> for TableName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text, "default")
    }
}

impl From<TableName> for String {
    fn from(name: TableName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_at_the_last_point_and_checked() {
        let name = TableName::parse("a.b.c-1_x", "default").unwrap();
        assert_eq!((name.namespace(), name.table()), ("a.b", "c-1_x"));
        assert_eq!(TableName::parse("t", "metric").unwrap().to_string(), "metric.t");
        let (long, deep) = ("x".repeat(129), format!("{}t", "abc.".repeat(65)));
        assert!(TableName::parse(&deep[8..], "default").is_ok());
        for bad in [
            "", ".", "..", "a.", ".a", "a..b", "a/b", "/a", "../x", "a.b c", "ü", "a.'", "a\0b", "a\n", "\u{ff41}", &long,
            &deep,
        ] {
            assert!(TableName::parse(bad, "default").is_err(), "{bad}");
        }
    }
}
