//! When it is safe: decisions as pure functions, the named points at which tests crash the process, and the doors in which a
//! simulation stands.

pub mod certificate;
pub mod chain;
pub mod checkpoint;
pub mod cutover;
pub mod delivery;
pub mod door;
pub mod event_time;
pub mod failpoint;
pub mod gc;
pub mod position;
pub mod progress;
pub mod rendezvous;
pub mod version;
