//! Where noted rows are by now. What is noted of a key is a part and a row of it, and that stays while merges move the row: they
//! keep the order of rows and leave some out, so an offset and a bitmap for each part say where all of its rows went.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use roaring::RoaringTreemap;

use super::places::inconsistent;
use crate::error::Result;
use crate::table::maintenance::{Input, Rewritten};

/// Of a part of which less than one row in so many is left, the bitmap is larger than they are worth.
const WORN: u64 = 16;

/// What is noted of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) part: u32,
    pub(super) row: u32,
}

impl From<u64> for Place {
    fn from(value: u64) -> Self {
        Self { part: (value >> 32) as u32, row: value as u32 }
    }
}

impl From<Place> for u64 {
    fn from(place: Place) -> Self {
        Self::from(place.part) << 32 | Self::from(place.row)
    }
}

/// The parts of a table. Those of one file lie one after the other in it.
#[derive(Default)]
pub(super) struct Parts {
    parts: BTreeMap<u32, Part>,
    next: u32,
}

/// Rows that were noted together, in their order.
struct Part {
    /// The file that they are in by now.
    path: Arc<str>,
    /// Where they begin in it.
    first: u64,
    /// How many were noted.
    rows: u64,
    /// Those of them that merges have left out.
    gone: RoaringTreemap,
}

/// Neighbours in a file of which little is left.
pub(super) struct Worn {
    /// Where they begin.
    pub(super) first: u64,
    /// How many rows are left of them.
    pub(super) rows: u64,
    pub(super) parts: Vec<u32>,
}

impl Part {
    fn left(&self) -> u64 {
        self.rows.saturating_sub(self.gone.len())
    }

    fn is_worn(&self, few: u64) -> bool {
        self.left() <= few.max(self.rows / WORN)
    }

    /// Takes in that its file was merged.
    fn merge(&mut self, input: &Input, output: &Arc<str>) -> Result<()> {
        let (first, left) = (self.first, self.left());
        let mut deleted = input.deleted.iter();
        deleted.advance_to(first);
        let (mut gone, mut before) = (self.gone.iter().peekable(), 0);
        // The place among those that were left is that among all, less those that are gone before it.
        let rows = deleted.map(|place| place - first).take_while(|place| *place < left).map(|place| {
            while gone.next_if(|gone| *gone <= place + before).is_some() {
                before += 1;
            }
            place + before
        });
        let rows = RoaringTreemap::from_sorted_iter(rows).map_err(|_| inconsistent())?;
        self.gone |= rows;
        self.gone.optimize();
        (self.path, self.first) = (output.clone(), input.place(first));
        Ok(())
    }
}

impl Parts {
    /// A new part, of rows that lie in a file from a position on.
    pub(super) fn add(&mut self, path: &str, first: u64, rows: u64) -> u32 {
        let number = self.next;
        self.next += 1;
        self.parts.insert(number, Part { path: Arc::from(path), first, rows, gone: RoaringTreemap::new() });
        number
    }

    /// The file and the position of a row.
    pub(super) fn find(&self, place: Place) -> Result<(&str, u64)> {
        let (part, row) = (self.parts.get(&place.part).ok_or_else(inconsistent)?, u64::from(place.row));
        if row >= part.rows || part.gone.contains(row) {
            return Err(inconsistent());
        }
        Ok((&part.path, part.first + row - part.gone.rank(row)))
    }

    /// Forgets the parts of a file of which no row is left.
    pub(super) fn forget_file(&mut self, path: &str) {
        self.parts.retain(|_, part| *part.path != *path);
    }

    /// Forgets some parts.
    pub(super) fn forget(&mut self, numbers: &[u32]) {
        self.parts.retain(|number, _| !numbers.contains(number));
    }

    /// Takes in that files were merged.
    pub(super) fn merge(&mut self, rewritten: &Rewritten) -> Result<()> {
        let inputs = rewritten.files().iter().map(|input| (&*input.path, input)).collect();
        self.merge_files(&inputs, &Arc::from(rewritten.output().unwrap_or_default()))
    }

    fn merge_files(&mut self, inputs: &HashMap<&str, &Input>, output: &Arc<str>) -> Result<()> {
        for part in self.parts.values_mut() {
            if let Some(input) = inputs.get(&*part.path) {
                part.merge(input, output)?;
            }
        }
        self.parts.retain(|_, part| part.left() > 0);
        Ok(())
    }

    /// The neighbours in a file of which little is left, `few` rows or less each. So the number of parts is bounded by that of the rows, and
    /// the bytes of their bitmaps too.
    pub(super) fn worn(&self, path: &str, few: u64) -> Vec<Worn> {
        let mut parts: Vec<(u32, &Part)> = self.parts.iter().map(|(number, part)| (*number, part)).collect();
        parts.retain(|(_, part)| *part.path == *path);
        parts.sort_unstable_by_key(|(_, part)| part.first);
        let runs = parts.chunk_by(|(_, a), (_, b)| a.is_worn(few) && b.is_worn(few));
        // One alone, of which nothing is gone, is as it would be.
        let is_worth_it = |run: &&[(u32, &Part)]| {
            run.iter().all(|(_, part)| part.is_worn(few))
                && (run.len() > 1 || run.iter().any(|(_, part)| !part.gone.is_empty()))
        };
        let worn = |run: &[(u32, &Part)]| Worn {
            first: run.first().map_or(0, |(_, part)| part.first),
            rows: run.iter().map(|(_, part)| part.left()).sum(),
            parts: run.iter().map(|(number, _)| *number).collect(),
        };
        runs.filter(is_worth_it).map(worn).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Files with the numbers of their rows, and which are deleted; what is noted of those that are not.
    #[derive(Default)]
    struct Model {
        files: BTreeMap<String, Vec<(u64, bool)>>,
        noted: HashMap<u64, Place>,
        parts: Parts,
        made: u64,
    }

    impl Model {
        fn add(&mut self, rows: u64) {
            let path = format!("file-{}", self.made);
            let part = self.parts.add(&path, 0, rows);
            self.noted.extend((0..rows).map(|row| (self.made + row, Place { part, row: row as u32 })));
            self.files.insert(path, (0..rows).map(|row| (self.made + row, false)).collect());
            self.made += rows;
        }

        fn delete(&mut self, which: impl Fn(u64) -> bool) {
            for (row, deleted) in self.files.values_mut().flatten().filter(|(row, _)| which(*row)) {
                *deleted = true;
                self.noted.remove(row);
            }
        }

        /// Merges some files; `meanwhile` goes on between the two halves.
        fn merge(&mut self, some: impl Fn(&str) -> bool, few: u64, meanwhile: impl FnOnce(&mut Self)) {
            let before: Vec<(String, Vec<(u64, bool)>)> =
                self.files.iter().filter(|(path, _)| some(path)).map(|(path, rows)| (path.clone(), rows.clone())).collect();
            let (mut inputs, mut left) = (Vec::new(), Vec::new());
            for (path, rows) in before {
                let deleted = rows.iter().zip(0..).filter(|((_, deleted), _)| *deleted).map(|(_, row)| row).collect();
                inputs.push(Input { path, deleted, first: left.len() as u64 });
                left.extend(rows.into_iter().filter(|(_, deleted)| !deleted).map(|(row, _)| row));
            }
            meanwhile(self);
            inputs.iter().for_each(|input| drop(self.files.remove(&input.path)));
            let output: Arc<str> = if left.is_empty() { "".into() } else { format!("merged-{}", self.made).into() };
            self.made += 1;
            self.parts.merge_files(&inputs.iter().map(|input| (&*input.path, input)).collect(), &output).unwrap();
            if !left.is_empty() {
                let rows = left.into_iter().map(|row| (row, !self.noted.contains_key(&row)));
                self.files.insert(output.to_string(), rows.collect());
            }
            self.note_again(&output, few);
        }

        fn note_again(&mut self, path: &str, few: u64) {
            for run in self.parts.worn(path, few) {
                let part = self.parts.add(path, run.first, run.rows);
                for place in self.noted.values_mut().filter(|place| run.parts.contains(&place.part)) {
                    let (_, row) = self.parts.find(*place).unwrap();
                    *place = Place { part, row: (row - run.first) as u32 };
                }
                self.parts.forget(&run.parts);
            }
        }

        fn check(&self) {
            for (path, rows) in &self.files {
                for ((row, deleted), at) in rows.iter().zip(0..) {
                    let found = self.noted.get(row).map(|place| self.parts.find(*place).unwrap());
                    assert_eq!(found, (!deleted).then_some((path.as_str(), at)), "row {row}");
                }
                let mut parts: Vec<&Part> = self.parts.parts.values().filter(|part| *part.path == **path).collect();
                parts.sort_by_key(|part| part.first);
                let end = parts.into_iter().fold(0, |end, part| (part.first == end).then_some(end + part.left()).unwrap());
                assert_eq!(end, rows.len() as u64, "the parts of {path} are all of its rows");
            }
        }
    }

    proptest! {
        #[test]
        fn rows_are_where_merges_have_put_them(
            seed in any::<u64>(), few in 0_u64..20, steps in proptest::collection::vec((0_u64..40, 0_u64..9, 0_u64..9, 1_u64..9), 1..40),
        ) {
            let mut model = Model::default();
            let hash = |what: u64, step: u64| (what ^ step << 40 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            for (step, (rows, deleted, meanwhile, merged)) in steps.into_iter().enumerate() {
                let step = step as u64;
                model.add(rows);
                model.delete(|row| hash(row, step) % 20 < deleted);
                model.check();
                let some = |path: &str| hash(path.len() as u64 + u64::from(path.as_bytes()[path.len() - 1]), step) % merged < 3;
                model.merge(some, few, |model| model.delete(|row| hash(row, step) % 20 < meanwhile));
                model.check();
            }
        }
    }

    #[test]
    fn parts_do_not_become_many() {
        let mut model = Model::default();
        for step in 0..300 {
            model.add(100);
            // Of each file some rows stay for ever, others go after a while.
            model.delete(|row| row + 5000 < step * 100 && row % 50 > 0 || row + 500 < step * 100 && row % 2 > 0);
            if step % 8 == 7 {
                model.merge(|_| true, 40, |_| ());
            }
        }
        model.check();
        let left = model.noted.len() as u64;
        assert!(model.parts.parts.len() as u64 <= 2 * left / 40 + 10, "{} parts of {left} rows", model.parts.parts.len());
    }

    #[test]
    fn a_row_that_a_merge_left_out_is_no_place() {
        let mut parts = Parts::default();
        let part = parts.add("a", 0, 3);
        let input = Input { path: "a".into(), deleted: RoaringTreemap::from_iter([1]), first: 7 };
        parts.merge_files(&HashMap::from([("a", &input)]), &"b".into()).unwrap();
        let found = [0, 1, 2, 3].map(|row| parts.find(Place { part, row }).map(|(path, at)| (path.to_owned(), at)).ok());
        assert_eq!(found, [Some(("b".into(), 7)), None, Some(("b".into(), 8)), None]);
        assert!(parts.find(Place { part: part + 1, row: 0 }).is_err());
    }
}
