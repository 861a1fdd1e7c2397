//! The price of the full run, measured on the preview's where that is like it.

use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::durable::size::bytes_below;
use crate::error::{Error, Result};
use crate::job::events::total_counts;
use crate::lifecycle::plan::judge::Sample;
use crate::lifecycle::plan::sample::Sampled;
use crate::lifecycle::plan::{Options, Plan, plan, plan_by};
use crate::plan::logical::JobPlan;
use crate::query::diff::side::Subject;
use crate::table::scan::Parts;
use crate::table::{Catalog, TableName};

/// A preview that was run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Its tables.
    pub tables: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What the full run would read, cost and change. Where most of what the preview read lay before its window, and was left out, it
/// tells little of what grouping costs: then it is measured as a plan is.
///
/// # Errors
/// As for a plan.
pub fn price(
    job: JobPlan,
    options: &Options,
    measured: &Measured,
    settings: &Settings,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Plan> {
    let (sample, left_out) = sample(measured, settings)?;
    if left_out > sample.records / 2 {
        return plan(job, options, settings, go_on);
    }
    let measure = |_: &JobPlan, _: &_, _| Ok(Sampled { sample, read: Vec::new(), failure: None });
    let mut plan = plan_by(job, options, settings, &measure)?;
    // What was left out leaves its groups out.
    plan.cost.iter_mut().for_each(|cost| cost.exact &= left_out == 0);
    Ok(plan)
}

/// What the preview took, and how many records lay before its window. State and tables are of the others alone: they are
/// stretched to what all would have made.
fn sample(measured: &Measured, settings: &Settings) -> Result<(Sample, u64)> {
    let catalog = Catalog::of(settings)?;
    let checkpoints = Settings::directory("checkpoints", &settings.checkpoints)?;
    let (mut records, mut left_out, mut state_bytes, mut output_bytes) = (0, 0, 0, 0);
    for name in &measured.tables {
        let name = TableName::parse(name, &settings.catalog_namespace)?;
        let subject = Subject::load(&catalog, &checkpoints, &name)?;
        let manifest = subject.manifest.as_ref().ok_or_else(|| Error::internal("a preview without checkpoints"))?;
        let counts = total_counts(manifest);
        (records, left_out) = (counts.read, counts.below_floor);
        let root = checkpoints.join(&manifest.version);
        state_bytes = manifest.state.as_ref().map_or(0, |state| bytes_below(&root.join(state)));
        output_bytes += Parts::plan(catalog.manifests(), &subject.table, None)?.bytes();
    }
    let stretched = |bytes: u64| {
        let used = records - left_out.min(records);
        if used == 0 { bytes } else { (bytes as f64 * records as f64 / used as f64).ceil() as u64 }
    };
    let (state_bytes, output_bytes) = (stretched(state_bytes), stretched(output_bytes));
    Ok((Sample { records, seconds: measured.seconds, state_bytes, output_bytes }, left_out))
}
