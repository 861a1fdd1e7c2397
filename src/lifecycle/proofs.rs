//! Proofs: what two versions were compared at, kept beside the checkpoints. A promote asks for one.

use std::path::{Path, PathBuf};

use crate::checkpoint::store::file_names;
use crate::durable::create_directory;
use crate::error::{Error, Result};
use crate::protocol::cutover::{Proof, Side};
use crate::query::diff::{report::Report, side};
use crate::table::files::write_durable;
use crate::time::new_ordered_uuid;

const FORMAT: u32 = 1;
const ENDING: &str = ".json";
/// Proofs that are kept. The names say which they were turned on, whether those are here or not.
const MOST: usize = 1000;

fn directory(checkpoints: &Path) -> PathBuf {
    checkpoints.join("proofs")
}

/// Keeps what was found, and notes it in the report; a comparison is one also where that cannot be kept.
pub fn note(checkpoints: &Path, report: &mut Report) {
    match keep(checkpoints, report) {
        Ok(proof) => report.proof = proof,
        Err(error) => report.notes.push(format!("this is no proof for a promote, since it could not be kept: {error}")),
    }
}

/// Keeps what was found about two versions; none if it is no proof: tables that are not kappa's, or that were not at one position.
///
/// # Errors
/// Those of the disk.
fn keep(checkpoints: &Path, report: &Report) -> Result<Option<String>> {
    let (Some(a), Some(b)) = (side_of(&report.a), side_of(&report.b)) else { return Ok(None) };
    if !report.same_position {
        return Ok(None);
    }
    let id = new_ordered_uuid().to_string();
    let proof = Proof { format: FORMAT, id: id.clone(), made_ms: report.made_ms, a, b, differs: report.differs };
    let text = serde_json::to_vec(&proof).map_err(|error| Error::internal(format!("write a proof: {error}")))?;
    let directory = directory(checkpoints);
    create_directory(&directory)?;
    write_durable(&directory.join(format!("{id}{ENDING}")), &text)?;
    forget_old(&directory)?;
    Ok(Some(id))
}

/// What a side is bound to, where all of that is known.
pub fn side_of(side: &side::Side) -> Option<Side> {
    Some(Side {
        table: side.table.clone(),
        uuid: side.uuid.clone(),
        version: side.version.clone()?,
        fingerprint: side.fingerprint.clone()?,
        timeline: side.timeline.clone()?,
        domain: side.domain.clone()?,
        checkpoint: side.checkpoint?,
    })
}

/// All that are kept. One that cannot be read proves nothing.
///
/// # Errors
/// Those of the disk.
pub fn all(checkpoints: &Path) -> Result<Vec<Proof>> {
    let directory = directory(checkpoints);
    let read = |name: &String| {
        let text = std::fs::read(directory.join(name)).ok()?;
        serde_json::from_slice(&text).ok().filter(|proof: &Proof| proof.format == FORMAT)
    };
    let names = file_names(&directory)?;
    Ok(names.iter().filter(|name| name.ends_with(ENDING)).filter_map(read).collect())
}

/// Their names are in the order in which they were made.
fn forget_old(directory: &Path) -> Result<()> {
    let mut names = file_names(directory)?;
    names.sort_unstable();
    for name in names.iter().take(names.len().saturating_sub(MOST)) {
        let _ = std::fs::remove_file(directory.join(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_kept_and_what_is_none_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(all(place.path()).unwrap(), []);
        let proof = Proof { format: FORMAT, id: "p".into(), made_ms: 5, a: Side::default(), b: Side::default(), differs: true };
        let directory = directory(place.path());
        create_directory(&directory).unwrap();
        for (name, text) in [
            ("p.json", serde_json::to_string(&proof).unwrap()),
            ("q.json", "{".to_owned()),
            ("r.json", serde_json::to_string(&Proof { format: 2, ..proof.clone() }).unwrap()),
            ("s.tmp", serde_json::to_string(&proof).unwrap()),
        ] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        assert_eq!(all(place.path()).unwrap(), [proof]);
    }
}
