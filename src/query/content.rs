//! What a table holds as one hash: of the multiset of its rows, whatever their order and the files that they are in.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::diff::columns::Columns;
use super::diff::compare::in_threads;
use super::diff::encode::Encoder;
use crate::error::{Error, Result};
use crate::protocol::certificate::Content;
use crate::table::scan::{Part, Parts};
use crate::table::{Catalog, TableName};

/// The content of a table as it is now, read by `threads`. `go_on` is asked now and then whether to.
///
/// # Errors
/// `Refused` if there is no such table; those of reading it.
pub fn content(catalog: &Catalog, name: &TableName, threads: usize, go_on: &dyn Fn() -> Result<()>) -> Result<Content> {
    let table = catalog.require(name)?;
    let scan = Parts::plan(catalog.manifests(), &table, None)?;
    let schema = scan.schema();
    let columns = Columns::choose(&schema, &schema, &[], &Default::default())?;
    if !columns.differences.is_empty() {
        return Err(Error::internal(format!("table {name} has columns that cannot be hashed")));
    }
    let names: Vec<String> = columns.all().map(|column| column.name.clone()).collect();
    let parts = scan.parts()?;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut sum = Sum::default();
        while let Some(part) = parts.get(next.fetch_add(1, SeqCst)).filter(|_| !stop.load(SeqCst)) {
            sum.add(&of_part(&scan, part, &columns, &names, &stop)?);
        }
        Ok(sum)
    };
    let mut whole = Sum::default();
    in_threads(threads.max(1), &stop, go_on, &work)?.iter().for_each(|sum| whole.add(sum));
    // The names of columns are a part of what a table holds.
    let mut named = Xxh3::new();
    names.iter().for_each(|name| named.update(format!("{name:?},").as_bytes()));
    Ok(Content { rows: whole.rows, hash: format!("{:032x}", whole.hash.wrapping_add(named.digest128())) })
}

fn of_part(scan: &Parts, part: &Part, columns: &Columns, names: &[String], stop: &AtomicBool) -> Result<Sum> {
    let encoder = Encoder::new(columns)?;
    let mut sum = Sum::default();
    for batch in scan.open(part, names)? {
        if stop.load(SeqCst) {
            break;
        }
        let batch = batch?;
        let encoded = encoder.encode(&encoder.normal(batch.columns())?)?;
        (0..batch.num_rows()).for_each(|row| sum.push(encoded.row(row).0.as_ref()));
    }
    Ok(sum)
}

/// Sums do not depend on the order, and know how often a row is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hash: u128,
}

impl Sum {
    fn push(&mut self, row: &[u8]) {
        self.rows += 1;
        self.hash = self.hash.wrapping_add(xxh3_128(row));
    }

    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.hash = self.hash.wrapping_add(other.hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&str]) -> Sum {
        let mut sum = Sum::default();
        rows.iter().for_each(|row| sum.push(row.as_bytes()));
        sum
    }

    #[test]
    fn rows_are_summed_in_any_order_and_counted() {
        assert_eq!(sum(&["a", "b", "a"]), sum(&["b", "a", "a"]));
        let mut parts = sum(&["b"]);
        parts.add(&sum(&["a", "a"]));
        assert_eq!(parts, sum(&["a", "b", "a"]));
        assert_ne!(sum(&["a", "a"]).hash, sum(&["b", "b"]).hash, "pairs do not cancel");
        assert_ne!(sum(&["a", "b"]).hash, sum(&["ab"]).hash);
    }
}
