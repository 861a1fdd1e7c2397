//! The plans that a preview runs: the new one, and that of a version, as it is stored with it; and the tables that they make.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Options;
use crate::checkpoint::manifest::Manifest;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::job::preview::{Preview, Vectors};
use crate::lifecycle::plan::version_of;
use crate::lifecycle::serving;
use crate::plan::fingerprint::fingerprint;
use crate::plan::interval::{Truncation, time_column};
use crate::plan::logical::JobPlan;
use crate::plan::lower::{Lowered, SourceSpec, lower};
use crate::plan::time_zones::ZoneTables;
use crate::protocol::version::TOPIC_SCHEME;
use crate::table::marker::VERSION;
use crate::table::{Catalog, TableName};

const ENDING: &str = "__preview";
/// Where both would have one name, that of the old one.
const BEFORE: &str = "__before__preview";
/// Of the second run of the new plan.
const AGAIN: &str = "__again__preview";

/// A plan and how it is run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Side {
    /// What it is a preview of: by output the table, or the topic as `kafka:TOPIC`.
    pub of: BTreeMap<String, String>,
    /// Of a version, how it was found: the name that shows it, or its table.
    pub found_by: Option<String>,
    /// Of the plan.
    pub fingerprint: String,
    /// The plan. What would go to a topic goes to a table.
    pub plan: JobPlan,
    /// By output, the preview's table.
    pub tables: BTreeMap<String, String>,
    /// What is read.
    pub preview: Preview,
    #[serde(skip)]
    lowered: Lowered,
    #[serde(skip)]
    zones: ZoneTables,
}

impl Side {
    fn new(mut plan: JobPlan, of: BTreeMap<String, String>, ending: &str, settings: &Settings) -> Result<Self> {
        plan.outputs.iter_mut().for_each(|output| output.to = None);
        let table = |(output, of): (&String, &String)| Ok((output.clone(), format!("{}{ending}", as_table(of, settings)?)));
        Ok(Self {
            tables: of.iter().map(table).collect::<Result<_>>()?,
            of,
            found_by: None,
            fingerprint: fingerprint(&plan)?,
            lowered: lower(&plan)?,
            zones: ZoneTables::of_plan(&plan)?,
            plan,
            preview: Preview::default(),
        })
    }

    /// The topics that it reads.
    pub fn sources(&self) -> impl Iterator<Item = SourceSpec> {
        self.lowered.sources.iter().cloned()
    }

    /// The time zones that it is run with.
    pub fn zones(&self) -> &ZoneTables {
        &self.zones
    }

    /// By grouped output, what is done to the event time for a key of its groups. Of one whose keys have no time, that is noted.
    pub fn groups(&self, notes: &mut Vec<String>) -> Result<Vec<Vec<Truncation>>> {
        let mut groups = Vec::new();
        for (output, pipeline) in self.plan.outputs.iter().zip(&self.lowered.pipelines) {
            if pipeline.aggregate.is_none() {
                continue;
            }
            match time_column(&output.plan, pipeline.primary_key.iter().map(String::as_str)) {
                Some((_, steps)) => groups.push(steps),
                None => {
                    let name = output.name.as_deref().unwrap_or_default();
                    let (of, keys) = (self.of.get(name).map_or(name, String::as_str), pipeline.primary_key.join(", "));
                    notes.push(format!(
                        "no key of {of} ({keys}) is an event time: each of its groups holds the window's records alone, and none \
                         is known to be whole"
                    ));
                }
            }
        }
        Ok(groups)
    }

    /// Reads these records.
    pub fn read(&mut self, from_ms: i64, vectors: &Vectors) {
        let reads = |topic: &String| self.lowered.sources.iter().any(|spec| spec.read.topic == *topic);
        let vectors = vectors.iter().filter(|(topic, _)| reads(topic)).map(|(topic, it)| (topic.clone(), it.clone())).collect();
        self.preview = Preview { from_ms, vectors, time_zones: self.preview.time_zones.take(), halts: false };
    }

    /// The same once more, into tables of its own, and halting in the middle.
    pub fn again(&self) -> Self {
        let again = |table: &String| format!("{}{AGAIN}", table.trim_end_matches(ENDING));
        Self {
            tables: self.tables.iter().map(|(output, table)| (output.clone(), again(table))).collect(),
            preview: Preview { halts: true, ..self.preview.clone() },
            ..self.clone()
        }
    }
}

/// The table by which the preview of a table or topic is called.
fn as_table(of: &str, settings: &Settings) -> Result<TableName> {
    let Some(topic) = of.strip_prefix(TOPIC_SCHEME) else { return TableName::parse(of, &settings.catalog_namespace) };
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    TableName::parse(&topic.chars().map(plain).collect::<String>(), &settings.catalog_namespace)
}

/// The new plan.
///
/// # Errors
/// The plan is not valid, or an output has no table.
pub fn new_side(plan: JobPlan, tables: &BTreeMap<String, String>, settings: &Settings) -> Result<Side> {
    let mut of = BTreeMap::new();
    for output in &plan.outputs {
        let name = output.name.clone().unwrap_or_default();
        let place = match &output.to {
            Some(to) => format!("{TOPIC_SCHEME}{}", to.topic),
            None => {
                let table = tables.get(&name).ok_or_else(|| {
                    Error::config("no_output_table", format!("no table is named for output {name:?}"))
                        .hint("give --output-table TABLE, or NAME=TABLE for each output")
                })?;
                TableName::parse(table, &settings.catalog_namespace)?.to_string()
            }
        };
        of.insert(name, place);
    }
    Side::new(plan, of, ENDING, settings)
}

/// By output of the new plan, the tables that are compared: of the old plan, and of the new. What is not, is noted.
pub fn pairs(new: &Side, old: &Side, notes: &mut Vec<String>) -> Vec<(String, [String; 2])> {
    let topics = |side: &Side| side.preview.vectors.keys().cloned().collect::<Vec<_>>();
    if topics(new) != topics(old) {
        let (ours, theirs) = (topics(new).join(", "), topics(old).join(", "));
        notes.push(format!("the new plan reads {ours}, and the old one {theirs}: they cannot be compared"));
        return Vec::new();
    }
    let only = || old.tables.values().next().filter(|_| old.tables.len() == 1 && new.tables.len() == 1);
    let mut pairs = Vec::new();
    for (output, table) in &new.tables {
        match old.tables.get(output).or_else(only) {
            Some(old) => pairs.push((output.clone(), [old.clone(), table.clone()])),
            None => notes.push(format!("output {output:?} is new: there is nothing to compare it with")),
        }
    }
    pairs
}

/// A version that was found.
pub struct Found {
    by: String,
    manifest: Manifest,
}

/// The plan of a version, as it is stored with it.
///
/// # Errors
/// Those of the plan.
pub fn old_side(found: Found, new: &Side, settings: &Settings) -> Result<Side> {
    let Found { by, manifest } = found;
    let of = manifest.outputs.iter().map(|output| (output.name.clone().unwrap_or_default(), output.table.clone()));
    let of: BTreeMap<String, String> = of.collect();
    let shares = of.values().any(|of| new.of.values().any(|new| new == of));
    let side = Side::new(manifest.plan, of, if shares { BEFORE } else { ENDING }, settings)?;
    Ok(Side {
        found_by: Some(by),
        zones: manifest.time_zones.clone(),
        preview: Preview { time_zones: Some(manifest.time_zones), ..side.preview },
        ..side
    })
}

/// The version to compare with: the one that is named; else the one of this job that a name shows; else the one in the output's
/// table. None if there is none, which is noted.
///
/// # Errors
/// There is none of the name that is given, or it is a preview; those of the catalog.
pub fn against(
    job: &JobPlan,
    options: &Options,
    catalog: &Catalog,
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Result<Option<Found>> {
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let find = |by: String| {
        let name = TableName::parse(&by, &settings.catalog_namespace)?;
        if catalog.require(&name)?.is_preview() {
            return Err(Error::refused("is_a_preview", format!("table {name} is a preview itself"))
                .hint("compare with the name that dashboards read, or with the table of a version"));
        }
        let (name, manifest) = version_of(&by, &checkpoints, settings)?;
        Ok(Some(Found { by: name.to_string(), manifest }))
    };
    if let Some(by) = &options.against {
        return find(by.clone());
    }
    let shown = shown(job, catalog)?;
    if let [name] = shown.as_slice() {
        return find(name.clone());
    }
    for table in options.output_tables.values() {
        let name = TableName::parse(table, &settings.catalog_namespace)?;
        let is_version = |table: &crate::table::Table| table.property(VERSION).is_some() && !table.is_preview();
        if catalog.load(&name)?.is_some_and(|table| is_version(&table)) {
            return find(table.clone());
        }
    }
    notes.push(if shown.is_empty() {
        format!("no name shows a version of {}: there is nothing to compare with (--against NAME)", job.job)
    } else {
        format!("{} show versions of {}: say which to compare with (--against NAME)", shown.join(", "), job.job)
    });
    Ok(None)
}

/// Names that show versions of a job, one for each version.
fn shown(job: &JobPlan, catalog: &Catalog) -> Result<Vec<String>> {
    let (mut names, mut versions) = (Vec::new(), Vec::new());
    for name in serving::list(catalog)? {
        let is_of_job = name.turns.last().is_some_and(|turn| turn.job.as_deref() == Some(&job.job));
        if name.is_there && is_of_job && !versions.contains(&name.version) {
            versions.push(name.version);
            names.push(name.name);
        }
    }
    Ok(names)
}
