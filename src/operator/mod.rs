<<<<<<< HEAD
//! Operators, one file each. They know batches, keys and state; not threads, barriers or tables.

pub mod accumulator;
pub mod aggregate;
pub mod container;
pub mod distinct;
pub mod eval;
pub mod exchange;
pub mod key_index;
pub mod merge;
pub mod steps;
=======
//! See the crate's map.

pub mod accumulator;
>>>>>>> 1392a50f6e034cd1a281255b3d8020edbdc7241a
