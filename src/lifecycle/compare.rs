//! `diff`: two versions are compared, and what was found is kept as a proof. Nothing of them is collected meanwhile.

use std::path::Path;
use std::time::Duration;

use super::rendezvous::{Outcome, meet};
use super::{leases, proofs};
use crate::error::{Error, Result};
use crate::protocol::failpoint;
use crate::query::diff::report::Diff;
use crate::query::diff::side::Subject;
use crate::query::diff::{self as comparing, Options};
use crate::table::{Catalog, TableName};

/// Compares two tables. `go_on` is asked now and then whether to.
///
/// # Errors
/// `Refused` if one is condemned; those of [`comparing::diff`].
pub fn diff(
    catalog: &Catalog,
    checkpoints: &Path,
    names: [&TableName; 2],
    options: &Options,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Diff> {
    let load = |name: &TableName| Subject::load(catalog, checkpoints, name);
    let [a, b] = [load(names[0])?, load(names[1])?];
    let lease = leases::take(checkpoints, &[&a.table, &b.table]);
    failpoint::hit("D1");
    // Who condemns looks at the leases afterwards: one of the two sees the other.
    for name in [a.table.name(), b.table.name()] {
        catalog.require(name)?.check_not_condemned()?;
    }
    let met = meet([&a, &b], &load, Duration::from_millis(options.rendezvous_ms), go_on)?;
    let found = comparing::diff(catalog, checkpoints, [a.table.name(), b.table.name()], options, go_on);
    let mut found = found.map_err(|error| not_met(error, &met))?;
    found.report.met = matches!(met, Outcome::Met(_));
    if let Outcome::NotMet(why) = &met {
        found
            .report
            .notes
            .push(format!("compared at a position that both had before: at a new one they did not meet, since {why}"));
    }
    // What is found about previews proves nothing of versions.
    if !a.table.is_preview() && !b.table.is_preview() {
        proofs::note(checkpoints, &mut found.report);
    }
    if let Err(error) = lease {
        found
            .report
            .notes
            .push(format!("nothing kept kappa gc from the tables meanwhile, since no lease could be written: {error}"));
    }
    Ok(found)
}

/// Where there is no position to compare at, it matters why none could be made.
pub fn not_met(error: Error, met: &Outcome) -> Error {
    match met {
        Outcome::NotMet(why) if error.code() == "no_common_position" => {
            error.with("rendezvous", format!("asked to take a checkpoint at one, they did not meet: {why}"))
        }
        _ => error,
    }
}
