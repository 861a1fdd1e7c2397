//! What is done to versions and to the names that show them, one verb a file.

pub mod compare;
#[cfg(test)]
mod cutover_tests;
pub mod explain;
pub mod gc;
pub mod keep_warm;
pub mod leases;
pub mod plan;
pub mod preview;
pub mod promote;
pub mod proofs;
pub mod rendezvous;
pub mod rollback;
pub mod serving;
pub mod status;
