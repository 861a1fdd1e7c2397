//! What a job is: a tree of logical steps over typed columns. Nothing here knows how it is run.

pub mod expr;
pub mod logical;
pub mod lower;
pub mod schema;
