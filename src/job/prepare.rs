//! Checks a job and opens what it needs: the log, the catalog, and where each output goes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::options::RunOptions;
use super::preview::Positions;
use crate::broker::ClientOptions;
use crate::checkpoint::manifest::Mode;
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::plan::fingerprint::fingerprint;
use crate::plan::logical::{JobPlan, MetadataKind, Output};
use crate::plan::lower::Lowered;
use crate::protocol::door::Door;
use crate::protocol::version::TOPIC_SCHEME;
use crate::sink::dead_letter;
use crate::sink::kafka::Topic;
use crate::source::{self, LogSource, Reading};
use crate::table::{Catalog, TableName};
use crate::time::format_utc;

/// Where an output goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// To this table.
    Table(TableName),
    /// To this topic.
    Topic(Topic),
}

impl Target {
    /// The table, if it is one.
    pub fn table(&self) -> Option<&TableName> {
        match self {
            Self::Table(name) => Some(name),
            Self::Topic(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => name.fmt(f),
            Self::Topic(topic) => write!(f, "{TOPIC_SCHEME}{}", topic.name()),
        }
    }
}

/// A job that is about to run.
pub struct Prepared {
    /// The plan as it was given.
    pub plan: JobPlan,
    /// What the runtime sets up.
    pub lowered: Lowered,
    /// Where tables are.
    pub catalog: Catalog,
    /// By source.
    pub sources: Vec<Arc<dyn LogSource>>,
    /// By output, where it goes.
    pub targets: Vec<Target>,
    /// The table at whose position in the log a reprocess ends.
    pub align: Option<TableName>,
    /// Of the plan.
    pub fingerprint: String,
    /// Where versions keep their progress.
    pub checkpoints: PathBuf,
    /// Of a preview, what the property of its tables says.
    pub(super) preview: Option<String>,
    /// Of a preview that halts in the middle, where that is, by source.
    pub(super) middles: Option<Vec<Positions>>,
    /// Between the job and what outlives it.
    pub(super) door: Door,
}

impl Prepared {
    /// Whether it is a preview.
    pub fn is_preview(&self) -> bool {
        self.preview.is_some()
    }

    /// The same job behind a door. Sources are traits: whoever wants a door before them puts it there.
    pub fn behind(self, door: Door) -> Self {
        Self { catalog: self.catalog.behind(door.clone()), door, ..self }
    }
}

/// Checks a plan and opens what it needs.
pub fn prepare(plan: JobPlan, options: &RunOptions, settings: &Settings) -> Result<Prepared> {
    let lowered = crate::plan::lower::lower(&plan)?;
    let fingerprint = fingerprint(&plan)?;
    check_output_names(&plan, options)?;
    let targets: Vec<Target> =
        plan.outputs.iter().map(|output| target(&plan, output, options, settings)).collect::<Result<_>>()?;
    check_distinct(&targets.iter().filter_map(Target::table).collect::<Vec<_>>())?;
    let align = options.align.as_deref().map(|text| TableName::parse(text, &settings.catalog_namespace)).transpose()?;
    check_align(options)?;
    let catalog = Catalog::of(settings)?.with_settings(options.tables.clone());
    let sources = lowered
        .sources
        .iter()
        .map(|spec| {
            let headers = spec.read.metadata.iter().any(|column| column.kind == MetadataKind::Headers);
            let log = source::open(&spec.read.topic, settings, Reading { threads: options.threads(), headers })?;
            Ok(options.preview.as_ref().map_or(log.clone(), |preview| preview.before(log, &spec.read.topic)))
        })
        .collect::<Result<_>>()?;
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let preview = options.preview.as_ref().map(|preview| format_utc(preview.from_ms));
    let topics = lowered.sources.iter().map(|spec| spec.read.topic.as_str());
    let middles = options.preview.as_ref().and_then(|preview| preview.middles(topics));
    let door = Door::default();
    Ok(Prepared { plan, lowered, catalog, sources, targets, align, fingerprint, checkpoints, preview, middles, door })
}

/// One end is named at most, and by a run that has one.
fn check_align(options: &RunOptions) -> Result<()> {
    let refuse = |message: &str, hint: &str| Err(Error::config("align", message).hint(hint));
    if options.align.is_none() {
        Ok(())
    } else if options.until.is_some() {
        refuse("--until and --align name two ends", "give one of them")
    } else if options.mode == Mode::Live {
        refuse("--align is for a reprocess: a live run has no end", "leave it out, or give --mode reprocess")
    } else {
        Ok(())
    }
}

/// Tables are given to outputs that are there, and that go to none of the topics.
fn check_output_names(plan: &JobPlan, options: &RunOptions) -> Result<()> {
    for name in options.output_tables.keys() {
        let of_this_name = |output: &&Output| output.name.as_deref().unwrap_or_default() == name;
        let only = || plan.outputs.first().filter(|_| name.is_empty());
        match plan.outputs.iter().find(of_this_name).or_else(only) {
            None => {
                let known: Vec<_> = plan.outputs.iter().filter_map(|output| output.name.clone()).collect();
                return Err(Error::config("unknown_output", format!("the job has no output named {name:?}")).hint(
                    if known.is_empty() {
                        "its output has no name: give --output-table TABLE".to_owned()
                    } else {
                        format!("its outputs are {}", known.join(", "))
                    },
                ));
            }
            Some(Output { to: Some(to), .. }) if !name.is_empty() || plan.outputs.len() == 1 => {
                let message = format!("a table is named for output {name:?}, which goes to topic {}", to.topic);
                return Err(Error::config("output_is_a_topic", message).hint("leave --output-table out for it"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn target(plan: &JobPlan, output: &Output, options: &RunOptions, settings: &Settings) -> Result<Target> {
    if let Some(to) = &output.to {
        let cluster = ClientOptions::new(settings.sink_cluster()?, &settings.kafka)?;
        return Ok(Target::Topic(Topic::new(cluster, &to.topic)));
    }
    let name = output.name.clone().unwrap_or_default();
    let alone = plan.outputs.len() == 1;
    let table = options.output_tables.get(&name).or_else(|| options.output_tables.get("").filter(|_| alone));
    let table = table.ok_or_else(|| {
        Error::config("no_output_table", format!("no table is named for output {name:?}")).hint(if alone {
            "give --output-table TABLE".to_owned()
        } else {
            format!("give --output-table {name}=TABLE")
        })
    })?;
    Ok(Target::Table(TableName::parse(table, &settings.catalog_namespace)?))
}

/// Each output has a table of its own, and none is where another's dead letters go.
fn check_distinct(tables: &[&TableName]) -> Result<()> {
    let distinct: std::collections::BTreeSet<_> = tables.iter().collect();
    if distinct.len() < tables.len() {
        return Err(Error::config("same_table_twice", "two outputs of the job are given the same table")
            .hint("give each output its own table"));
    }
    let names: Vec<_> = tables.iter().map(ToString::to_string).collect();
    match names.iter().find(|name| names.contains(&dead_letter::table_name(name))) {
        None => Ok(()),
        Some(name) => {
            let message = format!("two outputs of the job use the table {}", dead_letter::table_name(name));
            Err(Error::config("same_table_twice", message)
                .hint(format!("it holds the dead letters of {name}: give the other output another table")))
        }
    }
}
