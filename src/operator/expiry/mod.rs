//! Groups that expire: what is kept of them goes once no record of them can come any more, and a record that would come
//! too late for its group is left out where it is read.
//!
//! A group expires at `closed` ≥ E + d: E is the end of its interval, d `expire_after`. A record is left out where the
//! watermark of its own partition is at E + d: then `closed` may be. That watermark is a function of the partition alone,
//! and never behind `closed`; so whether state is still there changes nothing, and neither does when it goes.
//!
//! **Slices.** Intervals whose ends fall into the same slice of time share an operator of their own ([`Slices`]) and a
//! namespace in the store, dictionaries of distinct values included. What is over goes as a whole: caches by dropping the
//! operator, the store by one range for each key group. Nothing is looked for, and nothing is left.

mod groups;
mod rows;
mod slices;
mod split;
mod values;

use arrow::array::ArrayRef;

pub use groups::Groups;
pub use rows::ExpiringRows;
pub use slices::Place;
pub use values::Values;

use super::eval::interval::IntervalEnds;
use super::exchange::Strings;
use crate::error::{Error, Result};
use crate::plan::lower::AggregateSpec;
use crate::plan::time_zones::ZoneTables;
use crate::state::encoding::KeyEncoder;

/// When the groups of a grouping expire.
#[derive(Clone, Debug)]
pub struct Expiry {
    ends: IntervalEnds,
    encoder: KeyEncoder,
    after_ms: i64,
    slice_ms: i64,
}

impl Expiry {
    /// Of a grouping whose groups expire.
    pub fn new(spec: &AggregateSpec, zones: &ZoneTables) -> Result<Option<Self>> {
        let Some(expiry) = &spec.expiry else { return Ok(None) };
        Ok(Some(Self {
            ends: IntervalEnds::new(expiry, &spec.key_types, zones)?,
            encoder: KeyEncoder::new(&spec.key_types)?,
            after_ms: expiry.after_ms,
            slice_ms: expiry.slice_ms(),
        }))
    }

    /// For each group when it expires, by its interval's end.
    fn deadlines(&self, rows: usize, column: impl Fn(usize) -> Result<ArrayRef>) -> Result<Vec<i64>> {
        let mut ends = self.ends.of(rows, column)?;
        ends.iter_mut().for_each(|end| *end = end.saturating_add(self.after_ms));
        Ok(ends)
    }

    /// For each group key the slice of its state: it ends with the interval, or a little later.
    fn slices(&self, keys: &Strings) -> Result<Vec<i64>> {
        let keys: Vec<&[u8]> = (0..keys.len()).map(|i| keys.get(i)).collect();
        let columns = self.encoder.decode(&keys)?;
        let column = |i: usize| columns.get(i).cloned().ok_or_else(|| Error::internal("a key without its time"));
        let ends = self.ends.of(keys.len(), column)?;
        Ok(ends.into_iter().map(|end| -(-i128::from(end)).div_euclid(i128::from(self.slice_ms)) as i64).collect())
    }

    /// The last slice of which all groups have expired.
    fn last_expired(&self, closed_ms: i64) -> i64 {
        closed_ms.saturating_sub(self.after_ms).div_euclid(self.slice_ms)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
