//! What a job is: a tree of logical steps over typed columns. Nothing here knows how it is run.
//!
//! [`logical`] and [`expr`] are what Python hands over; [`validate`] and [`typing`] check it; [`fingerprint`] names it;
//! [`lower`] turns it into what the runtime sets up; [`explain`] and [`replay`] tell its author about it.

pub mod expr;
pub mod logical;
pub mod schema;

pub mod decimal;
pub mod interval;
pub mod literal;
pub mod time_zones;
pub mod truncate;

pub mod topics;
pub mod typing;
pub mod validate;

pub mod fingerprint;
pub mod lower;

pub mod explain;
pub mod replay;

pub mod display;
#[cfg(test)]
mod json_tests;
pub mod names;
#[cfg(test)]
pub(crate) mod testing;
