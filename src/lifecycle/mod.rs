//! What is done to versions and to the names that show them, one verb a file.

pub mod promote;
pub mod proofs;
pub mod rollback;
pub mod serving;
