//! kappa: from a replayable log to versioned Iceberg tables, exactly once, without a cluster.
//!
//! **The life of a record.** A [`source`] hands over blocks of records with their offsets; [`codec`] decodes the columns
//! that the plan uses straight into Arrow; the [`runtime`] loop stamps lateness and runs the stateless [`operator`]s;
//! aggregates fold the batch by key and send partial results to the key's owner, who merges them into write-back
//! [`state`]. A barrier makes the owner flush what changed and the [`sink`] close its files. The [`checkpoint`]
//! coordinator gathers the acks into a manifest and, once that is durable, commits to the [`table`]s and sends to topics.
//!
//! Modules in reading order; each uses only those below it (`tests/rust/tidy.rs` keeps it so).

#![cfg_attr(test, allow(clippy::print_stdout))]

#[cfg(feature = "python")]
mod python;

pub mod lifecycle;

pub mod job;
pub mod query;

pub mod checkpoint;
pub mod runtime;

pub mod operator;
pub mod sink;
pub mod source;

pub mod broker;
pub mod codec;
pub mod log;
pub mod state;
pub mod table;

pub mod plan;
pub mod protocol;

pub mod config;
pub mod durable;
pub mod error;
pub mod message;
pub mod process;
pub mod time;
