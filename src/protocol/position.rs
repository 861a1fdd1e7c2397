//! At which position of the log two tables can be compared: facts of their snapshots in, decision out.

use std::collections::{BTreeMap, HashMap};

use crate::error::{Error, Result};

/// By topic and partition, the next record that is not in the table.
pub type Position = BTreeMap<String, BTreeMap<i32, i64>>;

/// What a kept snapshot of a table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// Which.
    pub snapshot: i64,
    /// Where its version was.
    pub position: Position,
}

/// A table that is to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub table: String,
    /// Its snapshots that have a position, the newest first.
    pub snapshots: Vec<KeptSnapshot>,
}

/// The newest snapshots of two tables that are at one position of the log.
///
/// # Errors
/// `Refused` where there are none, with what to do.
pub fn newest_common(a: &Kept, b: &Kept) -> Result<(i64, i64)> {
    let (Some(newest_a), Some(newest_b)) = (a.snapshots.first(), b.snapshots.first()) else {
        let table = if a.snapshots.is_empty() { &a.table } else { &b.table };
        return Err(Error::refused(
            "no_position",
            format!("table {table} has nothing yet: no checkpoint of its version is in it"),
        )
        .hint("run its job until it has committed, then compare"));
    };
    let topics = |position: &Position| position.keys().cloned().collect::<Vec<_>>();
    let (of_a, of_b) = (topics(&newest_a.position), topics(&newest_b.position));
    if of_a != of_b {
        let message = format!("table {} reads {}, and table {} reads {}", a.table, of_a.join(", "), b.table, of_b.join(", "));
        return Err(Error::refused("other_topics", message)
            .hint("they have no position of the log in common: compare versions that read the same topics"));
    }
    let mut theirs: HashMap<Position, i64> = HashMap::new();
    for of_b in &b.snapshots {
        theirs.entry(normal(&of_b.position)).or_insert(of_b.snapshot);
    }
    let mut both = a.snapshots.iter().filter_map(|of_a| Some((of_a.snapshot, *theirs.get(&normal(&of_a.position))?)));
    if let Some(newest) = both.next() {
        return Ok(newest);
    }
    // Whoever is behind can be brought to where the other is; of two that are apart, the second.
    let (behind, ahead) = if is_behind(&newest_a.position, &newest_b.position) { (a, b) } else { (b, a) };
    Err(Error::refused(
        "no_common_position",
        format!("tables {} and {} have no snapshot at one position of the log", a.table, b.table),
    )
    .with("a", described(&newest_a.position))
    .with("b", described(&newest_b.position))
    .hint(format!(
        "build one to where the other stands: python JOB.py --mode reprocess --align {} --output-table {}, with --replace if \
             that one may go, or another name",
        ahead.table, behind.table
    )))
}

/// A partition that is not there is one of which nothing was read.
pub fn normal(position: &Position) -> Position {
    let mut position = position.clone();
    position.values_mut().for_each(|partitions| partitions.retain(|_, offset| *offset != 0));
    position
}

/// Whether a position is nowhere further than another.
pub fn is_behind(a: &Position, b: &Position) -> bool {
    let at = |topic: &String, partition: &i32| b.get(topic).and_then(|of| of.get(partition)).copied().unwrap_or(0);
    a.iter().all(|(topic, partitions)| partitions.iter().all(|(partition, offset)| *offset <= at(topic, partition)))
}

/// `payments 0:5,1:7`: as `--until` takes it for one topic.
pub fn described(position: &Position) -> String {
    let topic = |(topic, partitions): (&String, &BTreeMap<i32, i64>)| {
        let offsets: Vec<_> = partitions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
        format!("{topic} {}", offsets.join(","))
    };
    position.iter().map(topic).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(table: &str, snapshots: &[(i64, &[i64])]) -> Kept {
        let position = |offsets: &[i64]| [("t".to_owned(), (0..).zip(offsets.iter().copied()).collect())].into();
        let snapshot = |(snapshot, offsets): &(i64, &[i64])| KeptSnapshot { snapshot: *snapshot, position: position(offsets) };
        Kept { table: table.to_owned(), snapshots: snapshots.iter().map(snapshot).collect() }
    }

    #[test]
    fn the_newest_position_that_both_have_is_taken() {
        let a = kept("a", &[(13, &[9, 9]), (12, &[5, 5]), (11, &[2, 0])]);
        let b = kept("b", &[(23, &[5, 6]), (22, &[5, 5]), (21, &[5, 5]), (20, &[2])]);
        assert_eq!(newest_common(&a, &b).unwrap(), (12, 22));
        assert_eq!(newest_common(&b, &a).unwrap(), (22, 12));
        let old = kept("a", &[(11, &[2, 0])]);
        assert_eq!(newest_common(&old, &b).unwrap(), (11, 20), "nothing was read of a partition that is not there");
    }

    #[test]
    fn tables_without_a_common_position_are_refused_with_the_way_forward() {
        let (a, b) = (kept("a", &[(1, &[4, 4])]), kept("b", &[(2, &[3, 4])]));
        for (a, b) in [(&a, &b), (&b, &a)] {
            let error = newest_common(a, b).unwrap_err();
            assert_eq!(error.code(), "no_common_position");
            assert!(error.hint_text().unwrap().contains("--align a --output-table b"), "{error}");
        }
        assert_eq!(newest_common(&a, &kept("b", &[])).unwrap_err().code(), "no_position");
        let mut other = kept("c", &[(1, &[4, 4])]);
        other.snapshots[0].position = [("u".to_owned(), BTreeMap::new())].into();
        assert_eq!(newest_common(&a, &other).unwrap_err().code(), "other_topics");
    }
}
