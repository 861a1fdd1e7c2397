//! Exact distinct counts, sharded by the value's hash and not by group: a group with few members of its own (today!)
//! must not land on one core.
//!
//! [`LocalDistinct`] runs where records are decoded and forwards each (group, value) the first time it meets it; it is a
//! filter, never truth, and may forget at any time. [`DistinctOwner`] keeps the presence of every value of its key
//! groups and tells the group's owner how many were new.
//!
//! State, in the operator's family, under the value's key group: `d ∥ value` → id (u32), ids from 0;
//! `n` → the next id; `p ∥ group key ∥ id / 65,536 (u16, big endian)` → a container of id % 65,536.

mod local;
mod owner;

pub use local::{EncodedColumn, LocalDistinct};
pub use owner::{DIRTY_CONTAINERS, DistinctOwner};
