//! One version's way of a record: decoded, judged, step by step up to the grouping, as the engine does it.
//!
//! The engine stops working on a record that a filter left out. Here it is followed on, for its key: what was left out of the group
//! is what is asked about. Where a later step fails for such a record its key is not known, and it is of no key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array, make_array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{and, cast, filter_record_batch, not, or, take, take_record_batch};
use arrow::datatypes::DataType as ArrowType;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::cause::Fate;
use super::key::Wanted;
use super::path::{Part, Path, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::message::RecordBlock;
use crate::operator::eval::Evaluator;
use crate::operator::expiry::ExpiringRows;
use crate::operator::steps::{Rows, Steps};
use crate::plan::expr::Expr;
use crate::plan::logical::LatePolicy;
use crate::plan::schema::{Field, Schema};
use crate::protocol::event_time::{PartitionTime, SourceCounts};
use crate::query::diff::columns::{normal, shared_type};
use crate::runtime::decode::{Keep, SourceDecoder};

/// A version's steps, ready to run. One for each thread.
pub struct Lane {
    decoder: SourceDecoder,
    drops_late: bool,
    floor: Option<i64>,
    stages: Vec<Ready>,
    key: Vec<(Evaluator, Wanted)>,
    in_time: Option<ExpiringRows>,
    parts: Vec<(Option<Evaluator>, Option<Evaluator>)>,
    before_grouping: Schema,
}

/// The types of what is shown.
pub struct Types {
    /// The columns before the grouping.
    pub columns: Vec<(String, ArrowType)>,
    /// By part of the row of the key.
    pub parts: Vec<ArrowType>,
}

/// A step, ready to run.
enum Ready {
    Filter(Evaluator),
    Project(Steps),
}

/// What became of the records of a range.
pub struct Judged {
    /// By record of the range.
    pub fates: Vec<Fate>,
    /// By record of the range: whether it is of the key, filters and lateness aside.
    pub is_of_key: Vec<bool>,
    /// Why a record is bad, by its place in the range.
    pub reasons: BTreeMap<usize, String>,
    /// By record of the range, its row among those that were decoded.
    rows: Vec<Option<u32>>,
    /// What was decoded.
    decoded: RecordBatch,
    /// Their event times, milliseconds since 1970 UTC.
    times: Vec<i64>,
    /// By record of the range, its row in `brought`.
    used: Vec<Option<u32>>,
    /// What the used records bring to each part of the row: a value, and whether it counts.
    brought: Vec<(ArrayRef, BooleanArray)>,
}

/// A record after a step: whether the version still has it, and its row.
pub struct State {
    /// Not left out so far.
    pub alive: bool,
    /// None where a step failed for a record that was left out before.
    pub row: Option<RecordBatch>,
}

/// Rows under way.
struct Work {
    batch: RecordBatch,
    /// Which of the decoded rows they are.
    rows: Vec<u32>,
}

impl Work {
    fn filter(&mut self, mask: &BooleanArray) -> Result<()> {
        self.batch = filter_record_batch(&self.batch, mask)?;
        self.rows = mask.values().set_indices().filter_map(|row| self.rows.get(row).copied()).collect();
        Ok(())
    }

    /// Tries something on all rows. Where that fails for rows that were left out before, these go.
    fn settle<T>(&mut self, fates: &[Option<Fate>], try_it: &dyn Fn(&RecordBatch) -> Result<T>) -> Result<T> {
        match try_it(&self.batch) {
            Err(error) if error.kind() == ErrorKind::Data => {
                let is_alive = |row: u32| fates.get(row as usize).is_some_and(Option::is_none);
                let keep = self.rows.iter().enumerate();
                let keep = keep.map(|(at, row)| Some(is_alive(*row) || try_it(&self.batch.slice(at, 1)).is_ok()));
                let keep: BooleanArray = keep.collect();
                self.filter(&keep)?;
                try_it(&self.batch)
            }
            outcome => outcome,
        }
    }
}

impl Lane {
    /// The lane of a version.
    ///
    /// # Errors
    /// A `PlanError`; of a plan that has run there is none.
    pub fn new(path: &Path) -> Result<Self> {
        let decoder = SourceDecoder::new(&path.source, None, Keep { order: true, watermarks: true })?;
        let floor = path.floor_ms.map(|ms| decoder.bounds().from_ms(ms));
        let mut schema = path.source.schema.clone();
        let mut stages = Vec::with_capacity(path.stages.len());
        for stage in &path.stages {
            match stage {
                Stage::Filter(predicate) => {
                    stages.push(Ready::Filter(Evaluator::compile_condition(predicate, &schema, &path.zones)?));
                }
                Stage::Project(step) => {
                    let steps = Steps::compile(std::slice::from_ref(step), &schema, None, &path.zones)?;
                    schema = steps.output().clone();
                    stages.push(Ready::Project(steps));
                }
            }
        }
        let compile = |expr: &Expr| Evaluator::compile(expr, &schema, &path.zones);
        let key = path.key.iter().map(|(name, expr, value)| {
            let evaluator = compile(expr)?;
            let wanted = Wanted::new(name, value.as_deref(), &evaluator.data_type().to_arrow())?;
            Ok((evaluator, wanted))
        });
        let key = key.collect::<Result<_>>()?;
        let part = |part: &Part| {
            let input = part.input.as_ref().map(compile).transpose()?;
            let condition = |expr: &Expr| Evaluator::compile_condition(expr, &schema, &path.zones);
            Ok((input, part.filter.as_ref().map(condition).transpose()?))
        };
        let parts = path.parts.iter().map(part).collect::<Result<_>>()?;
        let in_time = path.aggregate.as_ref().map(|spec| ExpiringRows::new(spec, &schema, &path.zones));
        Ok(Self {
            decoder,
            drops_late: path.late != LatePolicy::Keep,
            floor,
            stages,
            key,
            in_time: in_time.transpose()?.flatten(),
            parts,
            before_grouping: schema,
        })
    }

    /// The types of what is shown.
    pub fn types(&self) -> Types {
        let column = |field: &Field| (field.name.clone(), field.data_type.to_arrow());
        let part = |input: &Option<Evaluator>| input.as_ref().map_or(ArrowType::Boolean, |it| it.data_type().to_arrow());
        Types {
            columns: self.before_grouping.fields.iter().map(column).collect(),
            parts: self.parts.iter().map(|(input, _)| part(input)).collect(),
        }
    }

    /// Judges records `range` of a block, the next of their partition.
    ///
    /// # Errors
    /// A `DataError` where a step fails for a record that nothing left out: the version would have stopped there.
    pub fn judge(&mut self, block: &RecordBlock, range: Range<usize>, time: &mut PartitionTime) -> Result<Judged> {
        let (mut own, start) = (*time, range.start);
        let decoded = self.decoder.decode(block, range.clone(), time, &mut SourceCounts::default())?;
        let place = |offset: i64| {
            let records = block.records.get(range.clone()).unwrap_or_default();
            records.binary_search_by_key(&offset, |record| record.offset).ok()
        };
        let mut judged = Judged::new(block, start..range.end, decoded.rows.batch.clone());
        for dead in decoded.dead {
            let Some(place) = place(dead.offset) else { continue };
            judged.fates[place] = Fate::Bad;
            let column = dead.column.map(|column| format!("column {column}: ")).unwrap_or_default();
            judged.reasons.insert(place, format!("{column}{}", dead.reason));
        }
        let bounds = self.decoder.bounds();
        let (mut fates, mut places) = (Vec::new(), Vec::new());
        let order = decoded.rows.order.as_ref();
        for (row, (at, offset)) in order.iter().flat_map(|(t, o)| t.values().iter().zip(o.values())).enumerate() {
            let late = own.observe(*at, &bounds).late;
            fates.push(match self.floor {
                Some(floor) if *at < floor => Some(Fate::BelowFloor),
                _ if late && self.drops_late => Some(Fate::Late),
                _ => None,
            });
            let place = place(*offset).ok_or_else(|| Error::internal("a row of no record"))?;
            judged.rows[place] = u32::try_from(row).ok();
            judged.times.push(bounds.to_ms(*at));
            places.push(place);
        }
        let mut work = Work { batch: decoded.rows.batch, rows: (0..).take(fates.len()).collect() };
        self.run(&mut work, &mut fates)?;
        let of_key = work.settle(&fates, &|batch| self.of_key(batch))?;
        work.filter(&of_key)?;
        for row in &work.rows {
            let (place, fate) = (places[*row as usize], fates[*row as usize]);
            judged.is_of_key[place] = true;
            judged.fates[place] = fate.unwrap_or(Fate::Expired);
        }
        self.take_used(work, &fates, decoded.rows.watermarks.as_ref(), &places, &mut judged)?;
        // What is of another key was left out of it before, or is in another row.
        for (row, fate) in fates.iter().enumerate().filter_map(|(row, fate)| Some((row, (*fate)?))) {
            judged.fates[places[row]] = fate;
        }
        Ok(judged)
    }

    /// Of the rows of the key, those that are in its row: neither left out nor too late for the group.
    fn take_used(
        &self,
        mut work: Work,
        fates: &[Option<Fate>],
        watermarks: Option<&Int64Array>,
        places: &[usize],
        judged: &mut Judged,
    ) -> Result<()> {
        let alive: BooleanArray = work.rows.iter().map(|row| Some(fates[*row as usize].is_none())).collect();
        work.filter(&alive)?;
        if let Some(in_time) = &self.in_time {
            let numbers = Int64Array::from_iter_values(work.rows.iter().map(|row| i64::from(*row)));
            let then = |row: i64| watermarks.map_or(i64::MIN, |watermarks| watermarks.value(row as usize));
            let watermarks: Int64Array = numbers.values().iter().map(|row| Some(then(*row))).collect();
            let rows = Rows { batch: work.batch, order: Some((numbers.clone(), numbers)), watermarks: Some(watermarks) };
            let kept = in_time.keep(rows)?;
            work.rows = kept.order.iter().flat_map(|(_, rows)| rows.values().iter().map(|row| *row as u32)).collect();
            work.batch = kept.batch;
        }
        for (number, row) in work.rows.iter().enumerate() {
            let place = places[*row as usize];
            judged.fates[place] = Fate::Used;
            judged.used[place] = u32::try_from(number).ok();
        }
        judged.brought = self.brings(&work.batch)?;
        Ok(())
    }
}

impl Judged {
    fn new(block: &RecordBlock, range: Range<usize>, decoded: RecordBatch) -> Self {
        let records = block.records.get(range).unwrap_or_default().len();
        Self {
            fates: vec![Fate::OtherKey; records],
            is_of_key: vec![false; records],
            reasons: BTreeMap::new(),
            rows: vec![None; records],
            decoded,
            times: Vec::new(),
            used: vec![None; records],
            brought: Vec::new(),
        }
    }

    /// The decoded row of a record, in memory of its own, and its event time in milliseconds.
    pub fn row_of(&self, place: usize) -> Result<Option<(RecordBatch, i64)>> {
        let Some(row) = self.rows.get(place).copied().flatten() else { return Ok(None) };
        let time = self.times.get(row as usize).copied().unwrap_or_default();
        Ok(Some((take_record_batch(&self.decoded, &UInt32Array::from(vec![row]))?, time)))
    }
}

/// Of records that both versions use, given by their places in either range: which bring the same values to the same parts.
///
/// `pairs`: the parts that both have, by their numbers.
pub fn bring_the_same((a, b): (&Judged, &Judged), places: &[(usize, usize)], pairs: &[(usize, usize)]) -> Result<BooleanArray> {
    let rows = |judged: &Judged, places: &mut dyn Iterator<Item = usize>| {
        places.map(|place| judged.used.get(place).copied().flatten()).collect::<UInt32Array>()
    };
    let of_a = rows(a, &mut places.iter().map(|(a, _)| *a));
    let of_b = rows(b, &mut places.iter().map(|(_, b)| *b));
    let mut same = BooleanArray::from(vec![true; places.len()]);
    for (part_a, part_b) in pairs {
        let (Some((value_a, counts_a)), Some((value_b, counts_b))) = (a.brought.get(*part_a), b.brought.get(*part_b)) else {
            continue;
        };
        let counts = (take_bools(counts_a, &of_a)?, take_bools(counts_b, &of_b)?);
        let values = (take(value_a, &of_a, None)?, take(value_b, &of_b, None)?);
        let neither = not(&or(&counts.0, &counts.1)?)?;
        let alike = and(&equal(&counts.0, &counts.1)?, &or(&neither, &equal(&values.0, &values.1)?)?)?;
        same = and(&same, &alike)?;
    }
    Ok(same)
}

fn take_bools(values: &BooleanArray, rows: &UInt32Array) -> Result<BooleanArray> {
    Ok(take(values, rows, None)?.as_boolean().clone())
}

/// Which values are the same, null included: as a comparison of tables has it where the types have one in common, else numbers by
/// their value, and the rest by its text.
pub fn equal(a: &dyn Array, b: &dyn Array) -> Result<BooleanArray> {
    let is_comparable = |array: &dyn Array| !array.data_type().is_nested();
    if let Some(common) = shared_type(a.data_type(), b.data_type()).filter(|_| is_comparable(a)) {
        let normal = |array: &dyn Array| normal(&make_array(array.to_data()), &common, "of the rows");
        return Ok(not_distinct(&normal(a)?, &normal(b)?)?);
    }
    let common = if a.data_type().is_numeric() && b.data_type().is_numeric() { ArrowType::Float64 } else { ArrowType::Utf8 };
    let text = |array: &dyn Array| -> Result<ArrayRef> {
        if is_comparable(array) {
            return Ok(cast(array, &common)?);
        }
        let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
        Ok(Arc::new((0..array.len()).map(|row| Some(formatter.value(row).to_string())).collect::<StringArray>()))
    };
    Ok(not_distinct(&text(a)?, &text(b)?)?)
}

impl Lane {
    fn run(&self, work: &mut Work, fates: &mut [Option<Fate>]) -> Result<()> {
        for (number, stage) in self.stages.iter().enumerate() {
            match stage {
                Ready::Filter(condition) => {
                    let mask = work.settle(fates, &|batch| condition.filter_mask(batch))?;
                    for (row, accepted) in work.rows.iter().zip(mask.values().iter()) {
                        if let Some(fate) = fates.get_mut(*row as usize).filter(|fate| fate.is_none() && !accepted) {
                            *fate = Some(Fate::Filtered(number + 1));
                        }
                    }
                }
                Ready::Project(steps) => {
                    work.batch = work.settle(fates, &|batch| {
                        Ok(steps.apply(Rows { batch: batch.clone(), order: None, watermarks: None })?.batch)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn of_key(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let mut mask = BooleanArray::from(vec![true; batch.num_rows()]);
        for (key, wanted) in &self.key {
            mask = and(&mask, &wanted.is(key.evaluate(batch)?.as_ref())?)?;
        }
        Ok(mask)
    }

    /// What rows bring to each part of the row of the key: the value, and whether it counts.
    fn brings(&self, batch: &RecordBatch) -> Result<Vec<(ArrayRef, BooleanArray)>> {
        let all = BooleanArray::from(vec![true; batch.num_rows()]);
        let part = |(input, condition): &(Option<Evaluator>, Option<Evaluator>)| {
            let counts = condition.as_ref().map_or(Ok(all.clone()), |condition| condition.filter_mask(batch))?;
            let value: ArrayRef = match input {
                Some(input) => input.evaluate(batch)?,
                None => Arc::new(counts.clone()),
            };
            Ok((value, counts))
        };
        self.parts.iter().map(part).collect()
    }

    /// The steps of one record, from the topic on.
    pub fn trace(&self, row: RecordBatch, alive: bool) -> Result<Vec<State>> {
        let mut states = vec![State { alive, row: Some(row) }];
        for stage in &self.stages {
            let (alive, row) = match states.last() {
                Some(State { alive, row: Some(row) }) => (*alive, row.clone()),
                _ => {
                    states.push(State { alive: false, row: None });
                    continue;
                }
            };
            let next = match stage {
                Ready::Filter(condition) => condition.filter_mask(&row).map(|mask| (alive && mask.value(0), row)),
                Ready::Project(steps) => {
                    steps.apply(Rows { batch: row, order: None, watermarks: None }).map(|rows| (alive, rows.batch))
                }
            };
            states.push(match next {
                Ok((alive, row)) => State { alive, row: Some(row) },
                Err(error) if error.kind() == ErrorKind::Data && !alive => State { alive, row: None },
                Err(error) => return Err(error),
            });
        }
        Ok(states)
    }

    /// What one row before the grouping brings to each part: null where it does not count, or where that fails.
    pub fn shown_parts(&self, row: &RecordBatch) -> Vec<Option<ArrayRef>> {
        let Ok(brought) = self.brings(row) else { return vec![None; self.parts.len()] };
        brought.into_iter().map(|(value, counts)| counts.value(0).then_some(value)).collect()
    }
}
