//! Operators, one file each. They know batches, keys and state; not threads, barriers or tables.

pub mod accumulator;
pub mod aggregate;
pub mod container;
pub mod distinct;
pub mod eval;
pub mod exchange;
pub mod expiry;
pub mod filter;
pub mod key_index;
pub mod lookup;
pub mod merge;
pub mod steps;
