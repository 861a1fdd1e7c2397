//! Questions about tables, answered as Arrow.

pub mod diff;
pub mod read;
