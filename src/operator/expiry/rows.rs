//! Where records are read: which of them come too late for their group.

use arrow::array::BooleanArray;

use super::Expiry;
use crate::error::{Error, Result};
use crate::operator::eval::Evaluator;
use crate::operator::steps::Rows;
use crate::plan::lower::AggregateSpec;
use crate::plan::schema::Schema;
use crate::plan::time_zones::ZoneTables;

/// Leaves out rows of groups that have expired.
pub struct ExpiringRows {
    expiry: Expiry,
    /// By column of the group key; only those that the interval depends on.
    keys: Vec<(usize, Evaluator)>,
}

impl ExpiringRows {
    /// Over rows that look like `input`; none for a grouping whose groups do not expire.
    pub fn new(spec: &AggregateSpec, input: &Schema, zones: &ZoneTables) -> Result<Option<Self>> {
        let Some(expiry) = Expiry::new(spec, zones)? else { return Ok(None) };
        let key = |column: usize| {
            let key = spec.keys.get(column).ok_or_else(|| Error::internal("a key without its expression"))?;
            Ok((column, Evaluator::compile(&key.expr, input, zones)?))
        };
        let keys = expiry.ends.columns().map(key).collect::<Result<_>>()?;
        Ok(Some(Self { expiry, keys }))
    }

    /// The rows whose groups had not expired when their records were read.
    pub fn keep(&self, rows: Rows) -> Result<Rows> {
        let Some(watermarks) = &rows.watermarks else { return Err(Error::internal("rows without their watermarks")) };
        // They only rise.
        let Some(greatest) = watermarks.values().last() else { return Ok(rows) };
        let column = |wanted: usize| match self.keys.iter().find(|(column, _)| *column == wanted) {
            Some((_, key)) => key.evaluate(&rows.batch),
            None => Err(Error::internal("a key without its expression")),
        };
        let deadlines = self.expiry.deadlines(watermarks.len(), column)?;
        if deadlines.iter().all(|deadline| greatest < deadline) {
            return Ok(rows);
        }
        let kept: BooleanArray =
            watermarks.values().iter().zip(&deadlines).map(|(now, deadline)| Some(now < deadline)).collect();
        rows.filter(&kept)
    }
}
