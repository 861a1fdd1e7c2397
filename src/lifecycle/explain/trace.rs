//! The steps of two versions beside each other: where a record parts, and what they make of it.

use std::collections::BTreeSet;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::DataType;

use super::cause::{Cause, Fate};
use super::lane::{Lane, State, equal};
use super::path::{Part, Path};
use super::replay::Fates;
use crate::error::Result;
use crate::lifecycle::plan::changes::{Change, Pair, pairs};

/// The step that reads is the first of every plan.
const READ: usize = 0;

/// The steps of two versions beside each other.
pub struct Beside {
    /// Pairs of steps, in order; empty where there is one version.
    pub pairs: Vec<Pair>,
    /// The parts of the row that both have, by their numbers.
    pub parts: Vec<(usize, usize)>,
    /// By version, the columns that are shown of what its steps make.
    pub shown: [Vec<Shown>; 2],
    /// The pair of the first grouping; none for tables of rows.
    grouping: Option<usize>,
}

/// A column that a version's steps make.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// Of the row before the grouping; or what it brings to this part of the row of the key.
    pub part: Option<usize>,
}

impl Beside {
    /// Of the ways of two versions.
    ///
    /// # Errors
    /// An internal error; it does not happen.
    pub fn new(paths: [Option<&Path>; 2]) -> Result<Self> {
        let shown = |path: Option<&Path>| path.map_or(Ok(Vec::new()), shown);
        let shown = [shown(paths[0])?, shown(paths[1])?];
        let [Some(a), Some(b)] = paths else {
            return Ok(Self { pairs: Vec::new(), parts: Vec::new(), shown, grouping: None });
        };
        let pairs = pairs(&a.output, &b.output)?;
        let is_grouping = |step: Option<usize>, path: &Path| step == Some(path.stages.len() + 1) && path.aggregate.is_some();
        let grouping = pairs.iter().position(|pair| is_grouping(pair.before, a) || is_grouping(pair.after, b));
        let both = |(number, part): (usize, &Part)| Some((number, b.parts.iter().position(|other| other.name == part.name)?));
        Ok(Self { parts: a.parts.iter().enumerate().filter_map(both).collect(), pairs, shown, grouping })
    }

    /// What the steps made of a record: by column that is shown.
    pub fn made(&self, side: usize, lane: &Lane, last: Option<&State>) -> Vec<Option<ArrayRef>> {
        let row = last.and_then(|state| state.row.as_ref());
        let parts = row.map(|row| lane.shown_parts(row)).unwrap_or_default();
        let value = |shown: &Shown| match shown.part {
            Some(part) => parts.get(part).cloned().flatten(),
            None => row?.column_by_name(&shown.name).cloned(),
        };
        self.shown[side].iter().map(value).collect()
    }

    /// At which pair of steps a record parts; none where it does not, or where no step has a part in it.
    ///
    /// # Errors
    /// Values cannot be compared.
    pub fn parts_at(&self, fates: &Fates, states: [Option<&[State]>; 2]) -> Result<Option<usize>> {
        match fates.parting() {
            Cause::None | Cause::MissingHistory => return Ok(None),
            Cause::Late if [fates.a, fates.b].contains(&Some(Fate::Expired)) => return Ok(self.grouping),
            Cause::BadRecord | Cause::Late => return Ok((!self.pairs.is_empty()).then_some(READ)),
            Cause::ChangedStep => {}
        }
        let [Some(a), Some(b)] = states else { return Ok(None) };
        let (mut of_a, mut of_b) = (None, None);
        for (number, pair) in self.pairs.iter().enumerate() {
            if Some(number) == self.grouping {
                break;
            }
            of_a = pair.before.and_then(|step| a.get(step)).or(of_a);
            of_b = pair.after.and_then(|step| b.get(step)).or(of_b);
            if let (Some(a), Some(b)) = (of_a, of_b)
                && differ(a, b)?
            {
                return Ok(Some(number));
            }
        }
        Ok(self.grouping.or_else(|| self.pairs.iter().rposition(|pair| !pair.changes.is_empty())))
    }

    /// How the steps of a pair differ, as far as that has to do with a cause; if nothing of it has, all.
    pub fn changes(&self, number: usize, cause: Cause) -> Vec<Change> {
        let changes = self.pairs.get(number).map(|pair| pair.changes.clone()).unwrap_or_default();
        let matters = |change: &Change| match cause {
            Cause::BadRecord => change.what.starts_with("column ") || change.what.starts_with("metadata "),
            Cause::Late => {
                ["late", "max_out_of_orderness", "max_future", "event_time", "expire_after"].contains(&change.what.as_str())
            }
            _ => true,
        };
        let some: Vec<Change> = changes.iter().filter(|change| matters(change)).cloned().collect();
        if some.is_empty() && cause == Cause::ChangedStep { changes } else { some }
    }

    /// The first pair of steps that differ.
    pub fn first_changed(&self) -> Option<usize> {
        self.pairs.iter().position(|pair| !pair.changes.is_empty())
    }
}

/// Whether a record is still there in one of the versions only, or has another value in a column of the same name.
fn differ(a: &State, b: &State) -> Result<bool> {
    if a.alive != b.alive {
        return Ok(true);
    }
    let (Some(a), Some(b)) = (&a.row, &b.row) else { return Ok(false) };
    values_differ(a, b)
}

/// Whether as many rows are others, whatever their order. They are few.
pub fn rows_differ(a: &RecordBatch, b: &RecordBatch) -> Result<bool> {
    let mut left: Vec<RecordBatch> = (0..b.num_rows()).map(|row| b.slice(row, 1)).collect();
    for row in (0..a.num_rows()).map(|row| a.slice(row, 1)) {
        let mut same = None;
        for (place, other) in left.iter().enumerate() {
            if !values_differ(&row, other)? {
                same = Some(place);
                break;
            }
        }
        let Some(place) = same else { return Ok(true) };
        left.swap_remove(place);
    }
    Ok(!left.is_empty())
}

/// Whether two rows have other values in a column of the same name.
pub fn values_differ(a: &RecordBatch, b: &RecordBatch) -> Result<bool> {
    for (field, column) in a.schema().fields().iter().zip(a.columns()) {
        if let Some(other) = b.column_by_name(field.name())
            && !equal(column, other)?.value(0)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The columns that a version's steps make, and what rows bring to the aggregates where that is more than a column.
fn shown(path: &Path) -> Result<Vec<Shown>> {
    let types = Lane::new(path)?.types();
    let made = path.made();
    let of_steps = types.columns.into_iter().filter(|(name, _)| made.contains(name));
    let mut all: Vec<Shown> = of_steps.map(|(name, data_type)| Shown { name, data_type, part: None }).collect();
    let known: BTreeSet<String> = all.iter().map(|shown| shown.name.clone()).collect();
    for (number, (part, data_type)) in path.parts.iter().zip(types.parts).enumerate() {
        if part.is_worth_a_column() && !known.contains(&part.name) {
            all.push(Shown { name: part.name.clone(), data_type, part: Some(number) });
        }
    }
    Ok(all)
}
