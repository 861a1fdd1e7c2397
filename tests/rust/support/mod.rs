//! What the tests stand on: a folder with a log and a catalog, random logs, jobs, and the oracle.

pub mod child;
pub mod cluster;
pub mod data;
pub mod foreign;
pub mod fsum;
pub mod generate;
pub mod hourly;
pub mod jobs;
pub mod leftovers;
pub mod nested;
pub mod oracle;
pub mod world;
