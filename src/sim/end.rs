//! What holds at the end of a seed, and the hash of it.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::script::Script;
use crate::support::oracle::Domain;
use crate::support::world::World;

/// Everything is processed, nothing is left over; a hash of all that the seed decides.
pub fn check(script: &Script, world: &World, whole: &Domain) -> String {
    let Script { log, job, .. } = script;
    world.check_end(log, job, whole, "in the end");
    world.check_history(log, job, whole);
    world.assert_tidy("in the end");
    world.sweep();
    world.assert_all_files_are_named("swept");
    world.check_end(log, job, whole, "swept");
    let mut hash = Sha256::new();
    for output in 0..job.outputs.len() {
        let table = job.table(output);
        let (account, letters) = (world.summary(&table, "kappa.account"), world.rows(&format!("{table}__dead_letter")));
        hash.update(format!("{table} {:?} {account:?} {:?} {letters:?}", world.position(&table), world.rows(&table)));
    }
    hash.finalize().iter().take(8).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
