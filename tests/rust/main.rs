//! The whole engine against an independent recomputation: properties, crashes of real processes, formats, tidiness.

mod crash;
mod formats;
mod properties;
mod refusals;
mod support;
mod tidy;
mod two_processes;
