//! Another tool that changes a table: it writes the next metadata file and moves the catalog to it.

use kappa::table::{Catalog, Io, TableName};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Executor, Row};
use std::path::Path;

/// The property that it sets.
pub const PROPERTY: &str = "touched";

/// Sets a property of a table to something new, and gives that; none if the table is not there or changed meanwhile.
pub fn touch(database: &Path, catalog: &Catalog, table: &str) -> Option<String> {
    let name = TableName::parse(table, "").unwrap();
    let found = catalog.load(&name).unwrap()?;
    let from = found.metadata_location();
    let path = |url: &str| url.trim_start_matches("file://").to_owned();
    // Gone: the job has committed meanwhile, and cleans up after itself.
    let bytes = std::fs::read(path(from)).ok()?;
    let mut metadata: Value = if from.ends_with(".gz.metadata.json") {
        serde_json::from_reader(flate2::read::GzDecoder::new(bytes.as_slice())).unwrap()
    } else {
        serde_json::from_slice(&bytes).unwrap()
    };
    let id = kappa::time::new_uuid().to_string();
    metadata["properties"][PROPERTY] = json!(id);
    let entry = json!({"metadata-file": from, "timestamp-ms": metadata["last-updated-ms"]});
    match metadata["metadata-log"].as_array_mut() {
        Some(log) => log.push(entry),
        None => metadata["metadata-log"] = json!([entry]),
    }
    let to = format!("{}/metadata/99999-{id}.metadata.json", found.location());
    std::fs::write(path(&to), metadata.to_string()).unwrap();
    let moved = Io::new().unwrap().run(async {
        let mut connection = SqliteConnectOptions::new().filename(database).connect().await.unwrap();
        connection.execute("PRAGMA busy_timeout = 30000").await.unwrap();
        let update = "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
                      WHERE metadata_location = ? RETURNING table_name";
        let moved = sqlx::query(update).bind(&to).bind(from).bind(from).fetch_all(&mut connection).await.unwrap();
        moved.first().map(|row| row.get::<String, _>(0))
    });
    if moved.is_none() {
        std::fs::remove_file(path(&to)).unwrap();
    }
    moved.map(|_| id)
}
