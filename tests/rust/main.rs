//! The whole engine against an independent recomputation: properties, a simulation, crashes of real processes, formats, tidiness.

// A test that cannot go on panics, in helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crash;
mod expiry;
mod formats;
mod fuzz;
mod kafka;
mod properties;
mod refusals;
#[path = "../../src/sim/mod.rs"]
mod sim;
mod support;
mod tidy;
mod two_processes;
