//! Progress: the manifest, where it lies, who decides, and what is kept.

pub mod committer;
pub mod coordinator;
pub mod gc;
pub mod maintenance;
pub mod manifest;
pub mod rendezvous;
pub mod store;
