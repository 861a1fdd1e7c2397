//! A catalog behind Iceberg's REST protocol. The server writes the metadata files: a commit is told to it as updates of a state,
//! and what must still hold for them. That no other owner has the version is part of the state: each claim makes an empty
//! snapshot, and who comes with an older state is refused (docs/formats.md).

mod changes;
mod client;
#[cfg(test)]
mod tests;
mod views;

use std::collections::HashSet;
use std::time::Duration;

use iceberg::spec::{FormatVersion, TableMetadata};
use serde_json::{Value, json};

use self::client::{Answer, Http};
use super::catalog::fenced;
use super::io::Io;
use super::metadata::Refs;
use super::name::TableName;
use super::store::{Loaded, OwnerRow, Swap, Swapped};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::failpoint;
use crate::time;

/// The table property that says to whom its version belongs, where no row of a database does.
pub(super) const OWNER_PROPERTY: &str = "kappa.owner";
const VERSION_PROPERTY: &str = "kappa.version";
/// Says of a table that is to be made in which format; it does not become a property.
const FORMAT_PROPERTY: &str = "format-version";

/// Between the levels of a namespace in a path, if the server names nothing else.
const SEPARATOR: &str = "%1F";
const TRANSACTIONS: &str = "POST /v1/{prefix}/transactions/commit";
const VIEWS: &str = "POST /v1/{prefix}/namespaces/{namespace}/views/{view}";
/// How often the making of a table is asked for.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// Namespaces in namespaces that are listed.
const DEPTH: usize = 8;
/// Pages of one list.
const PAGES: usize = 1000;

/// A server and what it can do.
#[derive(Debug)]
pub(super) struct Rest {
    http: Http,
    separator: String,
    /// Whether several tables can be moved together.
    transactions: bool,
    /// Whether it has views.
    views: bool,
}

impl Rest {
    /// Asks the server at `http(s)://…` how it wants to be spoken to about the warehouse `name`.
    pub(super) fn open(io: &Io, url: &str, name: &str) -> Result<Self> {
        let http = Http::new(url)?;
        let config = io.run(http.get("connect", &["v1", "config"], &[("warehouse", name)])).found()?;
        let Some(config) = config.filter(Value::is_object) else {
            return Err(Error::config("catalog", format!("there is no REST catalog with a warehouse {name} at {http:?}"))
                .hint("check catalog.url, which the path /v1/config is added to, and catalog.name"));
        };
        let setting = |key: &str| {
            let of = |part: &str| config.get(part)?.get(key)?.as_str();
            of("overrides").or_else(|| of("defaults"))
        };
        let prefix = setting("prefix").unwrap_or_default().trim_matches('/');
        let endpoints = config.get("endpoints").and_then(Value::as_array);
        let offers = |what: &str| endpoints.is_some_and(|all| all.iter().any(|endpoint| endpoint == what));
        let separator = client::decoded(setting("namespace-separator").unwrap_or(SEPARATOR))?;
        let (transactions, views) = (offers(TRANSACTIONS), offers(VIEWS));
        Ok(Self { http: http.below(&format!("v1/{prefix}")), separator, transactions, views })
    }

    /// A table as it is now.
    pub(super) async fn load(&self, name: &TableName) -> Result<Option<Loaded>> {
        let path = self.table_path(name);
        let answer = self.http.get("look up a table", &refs(&path), &[]).await.found()?;
        answer.map(|answer| loaded(name, answer)).transpose()
    }

    /// The tables of the catalog, in order.
    pub(super) async fn list(&self) -> Result<Vec<(String, String)>> {
        let (mut tables, mut open) = (Vec::new(), self.namespaces(None).await?);
        while let Some(levels) = open.pop() {
            let path = ["namespaces", &levels.join(&self.separator), "tables"];
            for table in self.pages("list tables", &path, &[], "identifiers").await? {
                let table = table.get("name").and_then(Value::as_str).unwrap_or_default();
                tables.push((levels.join("."), table.to_owned()));
            }
            if levels.len() < DEPTH {
                let inside = self.namespaces(Some(&levels)).await?;
                open.extend(inside.into_iter().filter(|inside| inside.len() > levels.len()));
            }
        }
        tables.sort();
        tables.dedup();
        Ok(tables)
    }

    /// Makes a table like this one; none if its name is taken. Asked again it finds what it has made: no two tables have the same
    /// place. One of another format than kappa writes is refused, and goes again.
    pub(super) async fn create(&self, name: &TableName, metadata: &TableMetadata) -> Result<Option<Loaded>> {
        let mut attempt = 1;
        loop {
            match self.attempt_to_create(name, metadata).await {
                Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                    tokio::time::sleep(time::jitter(PAUSE)).await;
                    attempt += 1;
                }
                Ok(Some(made)) if made.metadata.format_version() != FormatVersion::V2 => {
                    self.remove(name, &made.location).await?;
                    return Err(other_format(name, made.metadata.format_version()));
                }
                made => return made,
            }
        }
    }

    async fn attempt_to_create(&self, name: &TableName, metadata: &TableMetadata) -> Result<Option<Loaded>> {
        let levels: Vec<&str> = name.namespace().split('.').collect();
        let namespace = json!({ "namespace": levels, "properties": {} });
        // Where it is there, or may not be made, the next request says what there is to say.
        if let Answer::Unknown(error) = self.http.post("create a namespace", &["namespaces"], &namespace).await {
            return Err(error);
        }
        let mut properties = metadata.properties().clone();
        properties.insert(FORMAT_PROPERTY.to_owned(), "2".to_owned());
        let table = json!({
            "name": name.table(),
            "location": metadata.location(),
            "schema": metadata.current_schema(),
            "properties": properties,
            "stage-create": false,
        });
        let tables = ["namespaces", &levels.join(&self.separator), "tables"];
        let error = match self.http.post("create a table", &tables, &table).await {
            Answer::Ok(answer) => return loaded(name, answer).map(Some),
            Answer::Missing => return Err(no_namespace(name)),
            Answer::Refused(error) => return Err(error),
            Answer::Conflict(_) => None,
            Answer::Unknown(error) => Some(error),
        };
        let there = self.load(name).await?;
        match (there.filter(|there| there.metadata.location() == metadata.location()), error) {
            (Some(ours), _) => Ok(Some(ours)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Removes a table that is at `location`; false if it is not.
    pub(super) async fn remove(&self, name: &TableName, location: &str) -> Result<bool> {
        if self.load(name).await?.is_none_or(|now| now.location != location) {
            return Ok(false);
        }
        let path = self.table_path(name);
        match self.http.delete("drop a table", &refs(&path), &[("purgeRequested", "false")]).await {
            Answer::Ok(_) | Answer::Missing => Ok(true),
            Answer::Unknown(error) => {
                if self.load(name).await?.is_none() {
                    Ok(true)
                } else {
                    Err(error)
                }
            }
            Answer::Conflict(error) | Answer::Refused(error) => Err(error),
        }
    }

    /// Moves all tables, or nothing, where the server can; one after the other where it cannot. `Conflict` if a version is not the
    /// owner's by what its tables said when the commit was built: if that has changed since, so has the table.
    pub(super) async fn swap(&self, swaps: &[Swap], owner: Option<&OwnerRow<'_>>) -> Result<Swapped> {
        if let Some(row) = owner {
            swaps.iter().try_for_each(|swap| check_owner(&swap.base, row))?;
        }
        if self.transactions && swaps.len() > 1 {
            let changes = swaps.iter().map(|swap| self.change(swap)).collect::<Result<Vec<_>>>()?;
            let changes = json!({ "table-changes": changes });
            let answer = self.http.post("commit", &["transactions", "commit"], &changes).await;
            return self.settle(answer, swaps).await;
        }
        for (done, swap) in swaps.iter().enumerate() {
            let path = self.table_path(&swap.name);
            let answer = self.http.post("commit", &refs(&path), &self.change(swap)?).await;
            match self.settle(answer, std::slice::from_ref(swap)).await {
                Ok(Swapped::Done) => failpoint::hit("P3"),
                // Some have moved: the next attempt finds which.
                Ok(Swapped::Lost(name)) if done > 0 => return Ok(Swapped::Unknown(partly(&name))),
                Err(error) if done > 0 => return Ok(Swapped::Unknown(error)),
                other => return other,
            }
        }
        Ok(Swapped::Done)
    }

    /// What an answer to a commit means. A refusal is looked into: something between may have sent the request twice, and the
    /// second was refused because of the first; and not every server moves several tables at once. Nor does each that says so:
    /// Iceberg's own leaves out a table that somebody else has moved just then.
    async fn settle(&self, answer: Answer, swaps: &[Swap]) -> Result<Swapped> {
        let (error, is_final) = match answer {
            Answer::Ok(_) if swaps.len() == 1 => return Ok(Swapped::Done),
            Answer::Ok(_) => (None, false),
            Answer::Unknown(error) => return Ok(Swapped::Unknown(error)),
            Answer::Refused(error) => (Some(error), true),
            Answer::Missing => (None, false),
            Answer::Conflict(error) => (Some(error), false),
        };
        let (mut moved, mut lost, mut changed) = (0, None, false);
        for swap in swaps {
            match self.load(&swap.name).await {
                Err(error) => return Ok(Swapped::Unknown(error)),
                Ok(Some(now)) if has(&now.metadata, swap) => moved += 1,
                Ok(now) => {
                    changed |= now.is_none_or(|now| Some(&now.location) != swap.from.as_ref());
                    lost = lost.or(Some(swap.name.clone()));
                }
            }
        }
        match (lost, error) {
            (None, _) => Ok(Swapped::Done),
            // The server does not take this request, and nothing has happened that would explain it.
            (Some(_), Some(error)) if moved == 0 && is_final && !changed => Err(error),
            (Some(name), _) if moved == 0 => Ok(Swapped::Lost(name)),
            // Of one that is final, what was written stays: some tables name it.
            (Some(_), Some(error)) => Ok(Swapped::Unknown(if is_final { error } else { error.retryable(true) })),
            (Some(name), None) => Ok(Swapped::Unknown(partly(&name))),
        }
    }

    /// One table's part of a commit.
    fn change(&self, swap: &Swap) -> Result<Value> {
        Ok(json!({
            "identifier": { "namespace": swap.name.namespace().split('.').collect::<Vec<_>>(), "name": swap.name.table() },
            "requirements": changes::requirements(&swap.base),
            "updates": changes::updates(&swap.base, &swap.next, &swap.refs)?,
        }))
    }

    async fn namespaces(&self, parent: Option<&[String]>) -> Result<Vec<Vec<String>>> {
        let parent = parent.map(|levels| levels.join(&self.separator));
        let query: Vec<_> = parent.iter().map(|parent| ("parent", parent.as_str())).collect();
        let found = self.pages("list namespaces", &["namespaces"], &query, "namespaces").await?;
        let levels = |namespace: &Value| -> Option<Vec<String>> {
            namespace.as_array()?.iter().map(|level| level.as_str().map(str::to_owned)).collect()
        };
        Ok(found.iter().filter_map(levels).collect())
    }

    /// All pages of a list. A token that was given before leads to what was read before.
    async fn pages(&self, action: &str, path: &[&str], query: &[(&str, &str)], key: &str) -> Result<Vec<Value>> {
        let (mut all, mut token, mut given) = (Vec::new(), String::new(), HashSet::new());
        for _ in 0..PAGES {
            let mut query = query.to_vec();
            if !token.is_empty() {
                query.push(("pageToken", &token));
            }
            let Some(mut page) = self.http.get(action, path, &query).await.found()? else { return Ok(all) };
            if let Some(Value::Array(items)) = page.get_mut(key).map(Value::take) {
                all.extend(items);
            }
            match page.get("next-page-token").and_then(Value::as_str) {
                Some(next) if !next.is_empty() && given.insert(next.to_owned()) => token = next.to_owned(),
                _ => return Ok(all),
            }
        }
        let message = format!("{action} (catalog {:?}): more than {PAGES} pages", self.http);
        Err(Error::new(ErrorKind::Unavailable, "catalog", message)
            .retryable(false)
            .hint("the server's list does not end (next-page-token)"))
    }

    fn table_path(&self, name: &TableName) -> Vec<String> {
        let levels: Vec<&str> = name.namespace().split('.').collect();
        ["namespaces", &levels.join(&self.separator), "tables", name.table()].map(str::to_owned).to_vec()
    }
}

/// `Conflict` if a table of this version belongs to a later owner.
pub(super) fn check_owner(metadata: &TableMetadata, row: &OwnerRow<'_>) -> Result<()> {
    let properties = metadata.properties();
    let ours = properties.get(VERSION_PROPERTY).is_some_and(|version| version == row.version);
    match properties.get(OWNER_PROPERTY).and_then(|owner| owner.parse::<i64>().ok()) {
        Some(now) if ours && now > row.owner => Err(fenced(row.version, row.owner, Some(now))),
        _ => Ok(()),
    }
}

/// Whether a table has the state that a swap was to give it, or had it.
fn has(now: &TableMetadata, swap: &Swap) -> bool {
    let (before, after) = (swap.base.properties(), swap.next.properties());
    let is_set = |(key, value): (&String, &String)| before.get(key) == Some(value) || now.properties().get(key) == Some(value);
    let is_removed = |key: &String| after.contains_key(key) || !now.properties().contains_key(key);
    let made = swap.next.current_snapshot_id().filter(|id| swap.base.snapshot_by_id(*id).is_none());
    let is_made =
        made.map_or_else(|| after.iter().all(is_set) && before.keys().all(is_removed), |id| now.snapshot_by_id(id).is_some());
    now.uuid() == swap.next.uuid() && is_made
}

fn loaded(name: &TableName, mut answer: Value) -> Result<Loaded> {
    #[derive(serde::Deserialize)]
    struct Names {
        #[serde(default)]
        refs: Refs,
    }
    let damaged = |error: serde_json::Error| {
        Error::corruption("table_metadata", format!("the catalog's answer about table {name}: {error}")).source(error)
    };
    let location = answer.get("metadata-location").and_then(Value::as_str).filter(|location| !location.is_empty());
    let location = location.ok_or_else(|| without_location(name))?.to_owned();
    let metadata = answer.get_mut("metadata").map(Value::take).unwrap_or_default();
    let Names { refs } = serde_json::from_value(metadata.clone()).map_err(damaged)?;
    Ok(Loaded { location, metadata: serde_json::from_value(metadata).map_err(damaged)?, refs })
}

/// It tells one state of a table from another.
fn without_location(name: &TableName) -> Error {
    Error::refused("no_metadata_location", format!("the catalog does not say where the metadata of table {name} is"))
        .hint("kappa needs a server that names a table's metadata file (metadata-location) in its answers")
}

fn other_format(name: &TableName, format: FormatVersion) -> Error {
    Error::refused("unsupported_table", format!("the catalog made table {name} in format {format}, kappa writes v2"))
        .hint("let the server make tables as they are asked for (format-version=2); this one was dropped again")
}

fn partly(name: &TableName) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "catalog",
        format!("table {name} was changed by another process, and others moved before it"),
    )
}

fn no_namespace(name: &TableName) -> Error {
    Error::config("catalog", format!("the catalog does not make the namespace {}", name.namespace()))
        .hint("make it there, or use another one")
}

fn refs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}
