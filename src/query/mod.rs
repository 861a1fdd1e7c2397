//! Questions about tables, answered as Arrow.

pub mod read;
