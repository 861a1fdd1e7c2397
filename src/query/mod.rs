//! Questions about tables, answered as Arrow.

pub mod content;
pub mod diff;
pub mod read;
