//! `diff`: two versions are compared, and what was found is kept as a proof. Nothing of them is collected meanwhile.

use std::path::Path;

use super::{leases, proofs};
use crate::error::Result;
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
    let [a, b] = [Subject::load(catalog, checkpoints, names[0])?.table, Subject::load(catalog, checkpoints, names[1])?.table];
    let lease = leases::take(checkpoints, &[&a, &b]);
    failpoint::hit("D1");
    // Who condemns looks at the leases afterwards: one of the two sees the other.
    for name in [a.name(), b.name()] {
        catalog.require(name)?.check_not_condemned()?;
    }
    let mut found = comparing::diff(catalog, checkpoints, [a.name(), b.name()], options, go_on)?;
    // What is found about previews proves nothing of versions.
    if !a.is_preview() && !b.is_preview() {
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
