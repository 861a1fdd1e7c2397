//! `--align TABLE`: a reprocess that ends where another table is in the log, so that the two can be compared.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::manifest::SourceState;
use crate::error::{Error, Result};
use crate::message::Offset;
use crate::table::{Catalog, Pin, TableName};

/// What the tags on snapshots that others end at begin with.
const TAG: &str = "kappa-align-";
/// As long as snapshots are kept without one, if sparser.
const TAG_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a table is in the log.
pub struct Aligned {
    table: TableName,
    snapshot: i64,
    topics: BTreeMap<String, BTreeMap<i32, Offset>>,
}

impl Aligned {
    /// Where the newest snapshot of a version of that table is.
    ///
    /// # Errors
    /// `Refused` if there is no such table, or if it does not say where it is.
    pub fn with(catalog: &Catalog, name: &TableName) -> Result<Self> {
        let table = catalog.require(name)?;
        let position =
            |snapshot| table.summary(Some(snapshot), "kappa.offsets").and_then(|text| serde_json::from_str(text).ok());
        let found = table.marker().and_then(|(_, snapshot)| Some((snapshot, position(snapshot)?)));
        let (snapshot, topics) = found.ok_or_else(|| {
            Error::refused("no_position", format!("table {name} does not say where it is in the log"))
                .hint("--align takes a table that a job of kappa's has committed to")
        })?;
        Ok(Self { table: name.clone(), snapshot, topics })
    }

    /// Keeps that snapshot for as long as the version is built, and a while longer.
    pub fn pin(&self, catalog: &Catalog, version: &str) -> Result<()> {
        catalog.pin(&self.table, &Pin { snapshot: self.snapshot, prefix: TAG, name: version, age: TAG_AGE })
    }

    /// Ends a domain there.
    ///
    /// # Errors
    /// `Refused` if the domain begins later, or if the log does not reach so far.
    pub fn freeze(&self, domain: &mut SourceState) -> Result<()> {
        let refuse = |code, message: String, hint: &str| Err(Error::refused(code, message).hint(hint));
        let Some(ends) = self.topics.get(&domain.topic) else {
            let message = format!("table {} does not read topic {}", self.table, domain.topic);
            return refuse("other_topics", message, "align with a table of the same topics");
        };
        if let Some((partition, end)) =
            ends.iter().find(|(partition, end)| end.0 > 0 && !domain.partitions.contains_key(*partition))
        {
            let message = format!("table {} has read partition {partition} of topic {} up to {end}", self.table, domain.topic);
            return refuse(
                "partition_gone",
                message,
                "the topic has no such partition: restore it, or compare without --align",
            );
        }
        for (number, partition) in &mut domain.partitions {
            let reached = partition.end.unwrap_or(partition.start);
            let end = ends.get(number).copied().unwrap_or(partition.start);
            if end < partition.start {
                let message =
                    format!("table {} is at {end} of partition {number}, before the start at {}", self.table, partition.start);
                return refuse("align_before_start", message, "start earlier: --from earliest");
            }
            if end > reached {
                let message = format!("table {} is at {end} of partition {number}, and the log ends at {reached}", self.table);
                return refuse("log_truncated", message, "the log lost records that were read: restore it");
            }
            partition.end = Some(end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::manifest::PartitionState;
    use crate::protocol::event_time::PartitionTime;

    fn domain(partitions: &[(i32, i64, i64)]) -> SourceState {
        let state = |(number, start, end): &(i32, i64, i64)| {
            let state = PartitionState::beginning(Offset(*start), PartitionTime::default());
            (*number, PartitionState { end: Some(Offset(*end)), ..state })
        };
        let partitions = partitions.iter().map(state).collect();
        SourceState { topic: "t".into(), topic_id: "i".into(), floor_ms: None, complete_from_ms: None, partitions }
    }

    fn freeze(partitions: &[(i32, i64, i64)]) -> Result<Vec<i64>> {
        let ends = [(0, Offset(5)), (1, Offset(0)), (3, Offset(0))].into();
        let aligned =
            Aligned { table: "m.t".to_owned().try_into().unwrap(), snapshot: 1, topics: [("t".to_owned(), ends)].into() };
        let mut domain = domain(partitions);
        aligned.freeze(&mut domain)?;
        Ok(domain.partitions.values().map(|partition| partition.end.unwrap().0).collect())
    }

    #[test]
    fn a_domain_ends_where_the_table_is() {
        assert_eq!(freeze(&[(0, 0, 9), (1, 0, 9), (2, 4, 9)]).unwrap(), [5, 0, 4]);
        assert_eq!(freeze(&[(0, 5, 5)]).unwrap(), [5]);
    }

    #[test]
    fn an_end_that_cannot_be_reached_is_refused() {
        for (partitions, code) in
            [([(0, 6, 9)], "align_before_start"), ([(0, 0, 4)], "log_truncated"), ([(1, 0, 4)], "partition_gone")]
        {
            assert_eq!(freeze(&partitions).unwrap_err().code(), code);
        }
        let mut other = domain(&[(0, 0, 9)]);
        other.topic = "u".into();
        let aligned = Aligned { table: "m.t".to_owned().try_into().unwrap(), snapshot: 1, topics: BTreeMap::new() };
        assert_eq!(aligned.freeze(&mut other).unwrap_err().code(), "other_topics");
    }
}
