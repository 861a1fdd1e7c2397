//! A run that is a preview: over a part of the log that was fixed before it, into tables that the next one replaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::outputs::VERSION_PROPERTY;
use super::prepare::Prepared;
use crate::checkpoint::manifest::{PartitionState, SourceState};
use crate::checkpoint::store::remove_directory;
use crate::error::{Error, Result};
use crate::message::{Offset, Partition};
use crate::plan::logical::JobPlan;
use crate::plan::time_zones::ZoneTables;
use crate::protocol::event_time::PartitionTime;
use crate::source::LogSource;
use crate::source::halted::Halted;

/// By topic and partition, from where to where. Several runs have the same, so that they read the same records.
pub type Vectors = BTreeMap<String, BTreeMap<i32, (i64, i64)>>;

/// What a preview reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// Records of an earlier event time are left out; groups from here on are whole. Milliseconds since 1970 UTC.
    pub from_ms: i64,
    /// Of which records.
    pub vectors: Vectors,
    /// The time zones of the version whose plan it runs; none: those of today.
    #[serde(default)]
    pub time_zones: Option<ZoneTables>,
    /// Whether it reads no further than the middle: to be killed there.
    #[serde(default)]
    pub halts: bool,
}

impl Preview {
    /// What it reads of a topic.
    ///
    /// # Errors
    /// An internal error for a topic that was not fixed before.
    pub fn domain(&self, topic: &str, source: &dyn LogSource) -> Result<SourceState> {
        let vector = self.vectors.get(topic).ok_or_else(|| Error::internal(format!("a preview without offsets of {topic}")))?;
        let partition = |(number, (start, end)): (&i32, &(i64, i64))| {
            let state = PartitionState::beginning(Offset(*start), PartitionTime::default());
            (*number, PartitionState { end: Some(Offset(*end)), ..state })
        };
        Ok(SourceState {
            topic: topic.to_owned(),
            topic_id: source.topic_id().to_owned(),
            floor_ms: Some(self.from_ms),
            complete_from_ms: Some(self.from_ms),
            partitions: vector.iter().map(partition).collect(),
        })
    }

    /// The log of a topic as the preview sees it.
    pub(super) fn before(&self, log: Arc<dyn LogSource>, topic: &str) -> Arc<dyn LogSource> {
        if self.halts { Arc::new(Halted { log, middle: self.middle_of(topic) }) } else { log }
    }

    fn middle_of(&self, topic: &str) -> Positions {
        let middle = |(number, (start, end)): (&i32, &(i64, i64))| (Partition(*number), middle(*start, *end));
        self.vectors.get(topic).into_iter().flatten().map(middle).collect()
    }

    /// Where it halts, by the topics of its sources. None if it does not, or if there is so little that the middle is the end.
    pub(super) fn middles<'a>(&self, topics: impl Iterator<Item = &'a str>) -> Option<Vec<Positions>> {
        let has_more = |(start, end): &(i64, i64)| middle(*start, *end).0 < *end;
        let halts = self.halts && self.vectors.values().flat_map(BTreeMap::values).any(has_more);
        halts.then(|| topics.map(|topic| self.middle_of(topic)).collect())
    }

    /// The time zones that a plan is run with.
    pub(super) fn zones(&self, plan: &JobPlan) -> Result<ZoneTables> {
        self.time_zones.clone().map_or_else(|| ZoneTables::of_plan(plan), Ok)
    }
}

/// By partition how far it is read.
pub(super) type Positions = BTreeMap<Partition, Offset>;

/// Whether all that halts stands there.
pub(super) fn stands(middles: &[Positions], positions: &[Positions]) -> bool {
    let is_there = |(middle, positions): (&Positions, &Positions)| {
        middle.iter().all(|(partition, middle)| positions.get(partition).is_some_and(|position| position >= middle))
    };
    middles.len() == positions.len() && middles.iter().zip(positions).all(is_there)
}

/// Halfway between two offsets, and past the first record: what nobody reads makes no checkpoint.
fn middle(start: i64, end: i64) -> Offset {
    Offset(end - (end - start) / 2)
}

impl Prepared {
    /// Takes the tables of earlier previews out of the way. Their files stay for the garbage collector.
    ///
    /// # Errors
    /// `Refused` for a table that is none; `Conflict` if a process writes it.
    pub(super) fn clear_previews(&self) -> Result<()> {
        for name in self.all_tables()? {
            let Some(table) = self.catalog.load(&name)? else { continue };
            if !table.is_preview() {
                return Err(Error::refused("not_a_preview", format!("table {name} is in the way, and no preview made it"))
                    .hint("give the version another --output-table, or drop that table with the catalog's own tools"));
            }
            let dir = table.property(VERSION_PROPERTY).map(|version| self.version_dir(version)).transpose()?;
            let dir = dir.filter(|dir| dir.exists());
            let _lock = dir.as_ref().map(|dir| dir.lock(false)).transpose()?;
            self.catalog.drop_table(&table)?;
            if let Some(dir) = dir {
                remove_directory(dir.root())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_past_the_first_record_and_before_the_last_if_there_are_two() {
        assert_eq!([middle(5, 5), middle(5, 6), middle(5, 7), middle(0, 100)], [Offset(5), Offset(6), Offset(6), Offset(50)]);
    }

    #[test]
    fn it_stands_where_every_partition_is_in_the_middle() {
        let halting = |vectors: &[(i32, (i64, i64))]| {
            let vectors = [("t".to_owned(), vectors.iter().copied().collect())].into();
            Preview { vectors, halts: true, ..Preview::default() }.middles(std::iter::once("t"))
        };
        let middles = halting(&[(0, (0, 10)), (1, (4, 5)), (2, (7, 7))]).unwrap();
        let at = |offsets: [i64; 3]| stands(&middles, &[(0..).map(Partition).zip(offsets.map(Offset)).collect()]);
        assert_eq!([at([5, 5, 7]), at([4, 5, 7]), at([5, 4, 7])], [true, false, false]);
        assert!(!stands(&middles, &[]), "a source that nothing is known of");
        assert_eq!(halting(&[(1, (4, 5)), (2, (7, 7))]), None, "its middle is its end");
    }
}
