//! `status`: the versions there are, who runs them, how far they are and how they fare. Reads only, also while jobs run; what is
//! broken gets a line that says so.
//!
//! [`facts`] is what a version's manifests and files say, [`logs`] where its topics begin and end, [`serving`] which names it serves.

pub mod facts;
pub mod logs;
pub mod serving;

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use uuid::Uuid;

use self::facts::{Facts, facts};
use self::logs::Logs;
use self::serving::{Held, Standby, held};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::store::{VersionDir, file_names};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::protocol::version::TOPIC_SCHEME;
use crate::table::retire::Retired;
use crate::table::{Catalog, TableName};
use crate::time::now_ms;

/// What there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// By the names of what they write.
    pub versions: Vec<VersionStatus>,
    /// What could not be found out.
    pub notes: Vec<String>,
    /// When this was so, milliseconds since 1970 UTC.
    pub time_ms: i64,
}

/// A version.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VersionStatus {
    /// Its identity.
    pub version: String,
    /// The tables that it writes, and topics as `kafka:TOPIC`.
    pub outputs: Vec<String>,
    /// The names that it serves.
    pub serves: Vec<String>,
    /// Why it runs where it serves none.
    pub standby: Option<Standby>,
    /// By what it was asked to stop.
    pub retired: Option<Retired>,
    /// Why nothing more can be said, or why it is of no use.
    pub problem: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub facts: Option<Facts>,
}

/// The versions of the settings' checkpoints and tables; with `name`, the one that writes this table or topic (`kafka:TOPIC`).
///
/// # Errors
/// There is nothing of that name, or the directory of checkpoints cannot be read.
pub fn status(settings: &Settings, name: Option<&str>) -> Result<Status> {
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let wanted = name.map(|name| wanted(name, settings)).transpose()?;
    let mut notes = Vec::new();
    let held = catalog(settings).and_then(|catalog| catalog.as_ref().map(held).transpose()).unwrap_or_else(|error| {
        notes.push(format!("the catalog cannot be asked which tables hold what: {error}"));
        None
    });
    let mut logs = Logs::new(settings);
    let mut versions = Vec::new();
    for directory in file_names(&checkpoints)?.iter().filter(|name| name.parse::<Uuid>().is_ok()) {
        let dir = VersionDir::new(&checkpoints, directory);
        if let Some(found) = version(&dir, directory, wanted.as_deref(), held.as_ref(), &mut logs) {
            versions.push(found);
        }
    }
    let seen: BTreeSet<&str> = versions.iter().map(|it| it.version.as_str()).collect();
    let is_wanted = |tables: &[String]| wanted.as_ref().is_none_or(|wanted| tables.contains(wanted));
    let lost = held.iter().flatten().filter(|(version, it)| !seen.contains(version.as_str()) && is_wanted(&it.names));
    let lost = lost.map(|(version, tables)| {
        VersionStatus::broken(version, tables.names.clone(), format!("its checkpoints are not in {}", checkpoints.display()))
    });
    let lost: Vec<VersionStatus> = lost.collect();
    versions.extend(lost);
    held.iter().for_each(|held| serving::note(&mut versions, held));
    if let (Some(name), true) = (&wanted, versions.is_empty()) {
        return Err(
            Error::refused("no_such_version", format!("no version writes {name}")).hint("kappa status lists those there are")
        );
    }
    versions.sort_by(|a, b| (&a.outputs, &a.version).cmp(&(&b.outputs, &b.version)));
    Ok(Status { versions, notes, time_ms: now_ms() })
}

/// The name as manifests have it.
fn wanted(name: &str, settings: &Settings) -> Result<String> {
    if name.starts_with(TOPIC_SCHEME) {
        return Ok(name.to_owned());
    }
    Ok(TableName::parse(name, &settings.catalog_namespace)?.to_string())
}

/// None where there is none yet: asking would make one.
fn catalog(settings: &Settings) -> Result<Option<Catalog>> {
    if settings.catalog_url.strip_prefix("sqlite://").is_some_and(|path| !Path::new(path).exists()) {
        return Ok(None);
    }
    Catalog::of(settings).map(Some)
}

impl VersionStatus {
    fn broken(version: &str, outputs: Vec<String>, problem: String) -> Self {
        Self { version: version.to_owned(), outputs, problem: Some(problem), ..Self::default() }
    }
}

/// What is known of a version; none if it is not wanted, or gone by now.
fn version(
    dir: &VersionDir,
    version: &str,
    wanted: Option<&str>,
    held: Option<&Held>,
    logs: &mut Logs<'_>,
) -> Option<VersionStatus> {
    let held_by = held.and_then(|held| held.get(version));
    let broken =
        |problem: String| VersionStatus::broken(version, held_by.map(|held| held.names.clone()).unwrap_or_default(), problem);
    let is_wanted = |names: &[String]| wanted.is_none_or(|wanted| names.iter().any(|name| name == wanted));
    let newest = match newest(dir) {
        Ok(Some(newest)) => newest,
        Ok(None) if !dir.exists() => return None,
        Ok(None) => {
            return Some(broken("it has no checkpoint: it is being made, or its process died before".to_owned()))
                .filter(|it| is_wanted(&it.outputs));
        }
        Err(error) => return Some(broken(error.to_string())).filter(|it| is_wanted(&it.outputs)),
    };
    let outputs: Vec<String> = newest.outputs.iter().map(|output| output.table.clone()).collect();
    let facts = is_wanted(&outputs).then(|| facts(dir, &newest, logs))?;
    // Topics are not in the catalog, and where that does not answer nothing is known.
    let lost = outputs.iter().find(|name| {
        !name.starts_with(TOPIC_SCHEME)
            && wanted.is_none_or(|wanted| wanted == *name)
            && held.is_some()
            && !held_by.is_some_and(|held| held.names.contains(name))
    });
    let problem = lost.map(|table| format!("table {table} is gone, or holds another version now"));
    Some(VersionStatus { version: version.to_owned(), outputs, problem, facts: Some(facts), ..VersionStatus::default() })
}

/// The newest manifest. It may be removed between the list and the look: by then there is a newer one.
fn newest(dir: &VersionDir) -> Result<Option<Manifest>> {
    let mut looks = 0;
    loop {
        looks += 1;
        match dir.newest() {
            Err(error) if error.is_of_absent_file() && looks < 5 => {}
            outcome => return Ok(outcome?.map(|sealed| sealed.manifest)),
        }
    }
}
