//! When it is safe: decisions as pure functions, and the named points at which tests crash the process.

pub mod checkpoint;
pub mod delivery;
pub mod event_time;
pub mod failpoint;
pub mod progress;
pub mod version;
