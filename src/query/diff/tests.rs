//! The comparison against a simple model of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Field, Float64Type, Int64Type, Schema};
use proptest::prelude::*;

use super::columns::Columns;
use super::compare::{Batches, Input, Limits, Window, compare};
use super::findings::{Counts, Findings};
use super::report::tables;
use crate::error::Result;

#[derive(Clone, Debug)]
struct Row {
    id: Option<i64>,
    name: Option<String>,
    day: Option<i32>,
    float: Option<f64>,
    amount: Option<i128>,
}

/// What tells rows apart, and what is compared, as the model sees it: one zero, one NaN.
type Key = (Option<i64>, Option<String>, Option<i32>);
type Values = (Option<u64>, Option<i128>);

impl Row {
    fn key(&self) -> Key {
        (self.id, self.name.clone(), self.day)
    }

    fn values(&self) -> Values {
        let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { (x + 0.0).to_bits() };
        (self.float.map(bits), self.amount)
    }
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("day", DataType::Date32, true),
        Field::new("float", DataType::Float64, true),
        Field::new("amount", DataType::Decimal128(20, 2), true),
    ]))
}

fn batch(rows: &[Row]) -> RecordBatch {
    let amounts: Decimal128Array = rows.iter().map(|row| row.amount).collect();
    RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.name.clone()).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| row.day).collect::<Date32Array>()),
            Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
            Arc::new(amounts.with_precision_and_scale(20, 2).unwrap()),
        ],
    )
    .unwrap()
}

/// Batches of a few rows: of one part each.
fn input<'a>(rows: &'a [Row], names: &'a [String]) -> Input<'a> {
    let parts: Vec<&[Row]> = rows.chunks(7).collect();
    let open = move |part: usize| {
        let batch = batch(rows.chunks(7).nth(part).unwrap_or_default());
        let places: Vec<usize> = names.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
        Ok(Box::new(std::iter::once(Ok(batch.project(&places)?))) as Batches)
    };
    Input { name: "t".to_owned(), parts: parts.len(), rows: rows.len() as u64, open: Box::new(open) }
}

fn run(a: &[Row], b: &[Row], key: &[&str], tolerance: &[(&str, f64)], limits: Limits) -> Result<(Columns, Findings, u64)> {
    let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
    let tolerance = tolerance.iter().map(|(name, limit)| ((*name).to_owned(), *limit)).collect();
    let columns = Columns::choose(&schema(), &schema(), &key, &tolerance)?;
    let names: Vec<String> = columns.all().map(|column| column.name.clone()).collect();
    let (findings, spilled) = compare(&columns, &[input(a, &names), input(b, &names)], None, limits, &|| Ok(()))?;
    Ok((columns, findings, spilled))
}

const AMPLE: Limits = Limits { memory: 64 << 20, threads: 2, examples: 10_000 };
/// So little that all but the first blocks go to the disk.
const TINY: Limits = Limits { memory: 600, threads: 2, examples: 10_000 };
const KEY: [&str; 3] = ["id", "name", "day"];

/// Rows of both, only in each, changed, the sum of amounts in A.
type Totals = ([u64; 2], [u64; 2], u64, Option<i128>);

/// By column, as (changed, within tolerance), and by day.
#[derive(Debug, Default, PartialEq)]
struct Model {
    counts: Counts,
    columns: [(u64, u64); 2],
    days: BTreeMap<Option<i32>, Totals>,
    changed: Vec<Key>,
}

impl Model {
    fn rows(&mut self, sides: [&[Row]; 2]) {
        (self.counts.rows_a, self.counts.rows_b) = (sides[0].len() as u64, sides[1].len() as u64);
        for (which, rows) in sides.into_iter().enumerate() {
            for row in rows {
                let day = self.days.entry(row.day).or_default();
                day.0[which] += 1;
                if let Some(amount) = row.amount.filter(|_| which == 0) {
                    day.3 = Some(day.3.unwrap_or(0) + amount);
                }
            }
        }
    }

    fn only(&mut self, which: usize, day: Option<i32>, count: u64) {
        *if which == 0 { &mut self.counts.only_in_a } else { &mut self.counts.only_in_b } += count;
        self.days.entry(day).or_default().1[which] += count;
    }

    fn keyed(a: &[Row], b: &[Row], tolerance: f64) -> Self {
        let mut model = Self::default();
        model.rows([a, b]);
        let theirs: BTreeMap<Key, &Row> = b.iter().map(|row| (row.key(), row)).collect();
        let ours: BTreeMap<Key, &Row> = a.iter().map(|row| (row.key(), row)).collect();
        b.iter().filter(|row| !ours.contains_key(&row.key())).for_each(|row| model.only(1, row.day, 1));
        for (key, row) in &ours {
            let Some(other) = theirs.get(key) else {
                model.only(0, row.day, 1);
                continue;
            };
            let (x, y) = (row.values(), other.values());
            let near = row.float.zip(other.float).is_some_and(|(x, y)| (x - y).abs() <= tolerance);
            let float = x.0 != y.0 && !near;
            model.columns[0].0 += u64::from(float);
            model.columns[0].1 += u64::from(x.0 != y.0 && near);
            model.columns[1].0 += u64::from(x.1 != y.1);
            if float || x.1 != y.1 {
                model.counts.changed += 1;
                model.days.entry(row.day).or_default().2 += 1;
                model.changed.push(key.clone());
            } else if x != y {
                model.counts.within_tolerance += 1;
            } else {
                model.counts.same += 1;
            }
        }
        model
    }

    fn multiset(a: &[Row], b: &[Row]) -> Self {
        let mut model = Self::default();
        model.rows([a, b]);
        let mut counts: BTreeMap<(Key, Values), (i64, i64)> = BTreeMap::new();
        a.iter().for_each(|row| counts.entry((row.key(), row.values())).or_default().0 += 1);
        b.iter().for_each(|row| counts.entry((row.key(), row.values())).or_default().1 += 1);
        for (((_, _, day), _), (x, y)) in counts {
            model.counts.same += x.min(y) as u64;
            if x != y {
                model.only(usize::from(x < y), day, x.abs_diff(y));
            }
        }
        model
    }

    /// What was found, in the form of the model.
    fn of(columns: &Columns, findings: Findings) -> Self {
        let mut model = Self { counts: findings.counts, ..Self::default() };
        for (to, from) in model.columns.iter_mut().zip(&findings.columns) {
            *to = (from.changed, from.within_tolerance);
        }
        let tables = tables(columns, findings).unwrap();
        let days = &tables.by_day;
        let count = |name: &str, row| days.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(row) as u64;
        let amounts = days.column_by_name("amount_a").unwrap().as_primitive::<Decimal128Type>();
        let day = days.column_by_name("day").unwrap().as_primitive::<Date32Type>();
        for row in 0..days.num_rows() {
            let (rows, only) = (["rows_a", "rows_b"], ["only_in_a", "only_in_b"]);
            let totals = (
                rows.map(|name| count(name, row)),
                only.map(|name| count(name, row)),
                count("changed", row),
                amounts.is_valid(row).then(|| amounts.value(row)),
            );
            model.days.insert(day.is_valid(row).then(|| day.value(row)), totals);
        }
        if !columns.multiset {
            model.changed = changed_keys(&tables.changed);
        }
        model
    }
}

fn changed_keys(changed: &RecordBatch) -> Vec<Key> {
    let (id, name) = (changed.column(0).as_primitive::<Int64Type>(), changed.column(1).as_string::<i32>());
    let day = changed.column(2).as_primitive::<Date32Type>();
    let key = |row: usize| {
        (
            id.is_valid(row).then(|| id.value(row)),
            name.is_valid(row).then(|| name.value(row).to_owned()),
            day.is_valid(row).then(|| day.value(row)),
        )
    };
    let mut keys: Vec<Key> = (0..changed.num_rows()).map(key).collect();
    keys.sort();
    keys
}

fn row() -> impl Strategy<Value = Row> {
    let float = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(f64::INFINITY),
        Just(1.0),
        Just(1.25),
        Just(1.5),
        any::<f64>()
    ];
    let name = prop_oneof![Just(String::new()), Just("a".to_owned()), Just("ü".repeat(40)), "[ab]{0,2}"];
    use proptest::option::weighted;
    (
        weighted(0.8, -2_i64..3),
        weighted(0.8, name),
        weighted(0.9, 20_000..20_003),
        weighted(0.8, float),
        weighted(0.8, -2_i128..3),
    )
        .prop_map(|(id, name, day, float, amount)| Row { id, name, day, float, amount })
}

fn unique(rows: Vec<Row>) -> Vec<Row> {
    let rows: BTreeMap<Key, Row> = rows.into_iter().map(|row| (row.key(), row)).collect();
    rows.into_values().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn rows_matched_by_key_are_as_in_the_model(
        a in proptest::collection::vec(row(), 0..120),
        b in proptest::collection::vec(row(), 0..120),
        tolerance in prop_oneof![Just(0.0), Just(0.25)],
    ) {
        let (a, b) = (unique(a), unique(b));
        let expected = Model::keyed(&a, &b, tolerance);
        for limits in [AMPLE, TINY] {
            let (columns, findings, spilled) = run(&a, &b, &KEY, &[("float", tolerance)], limits).unwrap();
            prop_assert!(limits != TINY || spilled > 0 || a.len() + b.len() < 20);
            prop_assert_eq!(&Model::of(&columns, findings), &expected);
        }
    }

    #[test]
    fn rows_without_a_key_are_counted_as_in_the_model(
        a in proptest::collection::vec(row(), 0..120),
        b in proptest::collection::vec(row(), 0..120),
        twice in any::<bool>(),
    ) {
        let mut a = a;
        if twice {
            a.extend(a.clone());
            a.extend(b.clone());
        }
        let expected = Model::multiset(&a, &b);
        for limits in [AMPLE, TINY] {
            let (columns, findings, _) = run(&a, &b, &[], &[], limits).unwrap();
            prop_assert_eq!(&Model::of(&columns, findings), &expected);
        }
    }
}

fn plain(id: i64, float: f64) -> Row {
    Row { id: Some(id), name: None, day: Some(20_000 + id as i32), float: Some(float), amount: Some(1) }
}

#[test]
fn a_key_that_comes_twice_is_an_error_in_either_table() {
    let (once, twice) = (vec![plain(1, 0.0)], vec![plain(2, 0.0), plain(1, 0.0), plain(2, 1.0)]);
    for (a, b) in [(&once, &twice), (&twice, &once)] {
        let error = run(a, b, &["id"], &[], AMPLE).err().unwrap();
        assert_eq!(error.code(), "duplicate_key");
        assert!(error.to_string().contains("id=2"), "{error}");
    }
    let both = vec![plain(2, 0.0)];
    assert_eq!(run(&both, &twice, &["id"], &[], AMPLE).err().unwrap().code(), "duplicate_key");
}

#[test]
fn of_many_examples_the_first_by_their_key_are_kept() {
    let a: Vec<Row> = (0..500).map(|id| plain(499 - id, 0.0)).collect();
    let b: Vec<Row> = (0..500).map(|id| plain(id, 1.0)).collect();
    let (columns, findings, _) = run(&a, &b, &["id"], &[], Limits { examples: 3, ..AMPLE }).unwrap();
    assert_eq!(findings.counts.changed, 500);
    assert_eq!(findings.columns[2].largest, Some(1.0));
    let changed = tables(&columns, findings).unwrap().changed;
    assert_eq!(changed.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    let names: Vec<_> = changed.schema().fields().iter().map(|field| field.name().clone()).collect();
    let values = ["name_a", "name_b", "day_a", "day_b", "float_a", "float_b", "amount_a", "amount_b"];
    assert_eq!(names, [&["id"][..], &values].concat());
    assert_eq!(changed.column_by_name("float_b").unwrap().as_primitive::<Float64Type>().values(), &[1.0; 3]);
}

#[test]
fn rows_outside_of_the_window_are_counted_and_not_compared() {
    let a: Vec<Row> = (0..10).map(|id| plain(id, 0.0)).collect();
    let b: Vec<Row> = (2..12).map(|id| plain(id, 0.0)).collect();
    let columns = Columns::choose(&schema(), &schema(), &["id".to_owned(), "day".to_owned()], &BTreeMap::new()).unwrap();
    let names: Vec<String> = columns.all().map(|column| column.name.clone()).collect();
    let window = Window { place: 1, low: Some(20_001), high: Some(20_008) };
    let inputs = [input(&a, &names), input(&b, &names)];
    let (findings, _) = compare(&columns, &inputs, Some(&window), AMPLE, &|| Ok(())).unwrap();
    let counts = Counts { rows_a: 8, rows_b: 7, same: 7, only_in_a: 1, outside_a: 2, outside_b: 3, ..Counts::default() };
    assert_eq!(findings.counts, counts);
}

#[test]
fn the_caller_ends_a_comparison() {
    let rows: Vec<Row> = (0..10).map(|id| plain(id, 0.0)).collect();
    let columns = Columns::choose(&schema(), &schema(), &["id".to_owned()], &BTreeMap::new()).unwrap();
    let names: Vec<String> = columns.all().map(|column| column.name.clone()).collect();
    let stop = || Err(crate::error::Error::refused("interrupted", "interrupted"));
    // Longer than the caller's patience: without end.
    let slow = |_| {
        let batch = batch(&rows);
        let places: Vec<usize> = names.iter().map(|name| batch.schema().index_of(name).unwrap()).collect();
        let batch = batch.project(&places)?;
        Ok(Box::new(std::iter::from_fn(move || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Some(Ok(batch.clone()))
        })) as Batches)
    };
    let inputs = [
        Input { name: "a".to_owned(), parts: 1, rows: 10, open: Box::new(slow) },
        Input { name: "b".to_owned(), parts: 0, rows: 0, open: Box::new(|_| Ok(Box::new(std::iter::empty()) as Batches)) },
    ];
    assert_eq!(compare(&columns, &inputs, None, AMPLE, &stop).err().unwrap().code(), "interrupted");
}

#[test]
fn columns_of_other_types_are_compared_where_no_value_is_lost() {
    use arrow::datatypes::TimeUnit::{Microsecond, Millisecond};
    let schema = |fields: &[(&str, DataType)]| {
        Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Vec<_>>())
    };
    let a = schema(&[
        ("k", DataType::Int32),
        ("t", DataType::Timestamp(Microsecond, Some("UTC".into()))),
        ("d", DataType::Decimal128(10, 2)),
        ("s", DataType::Utf8),
        ("gone", DataType::Int64),
    ]);
    let b = schema(&[
        ("k", DataType::Int64),
        ("t", DataType::Timestamp(Millisecond, None)),
        ("d", DataType::Decimal128(12, 4)),
        ("s", DataType::Int64),
        ("new", DataType::Int64),
    ]);
    let columns = Columns::choose(&a, &b, &["k".to_owned()], &BTreeMap::new()).unwrap();
    let types: Vec<_> = columns.all().map(|column| (column.name.as_str(), column.data_type.clone())).collect();
    let instant = DataType::Timestamp(Microsecond, Some("UTC".into()));
    assert_eq!(types, [("k", DataType::Int64), ("t", instant), ("d", DataType::Decimal128(12, 4))]);
    let differences: Vec<_> = columns.differences.iter().map(|it| (it.column.as_str(), it.compared)).collect();
    assert_eq!(differences, [("k", true), ("t", true), ("d", true), ("s", false), ("gone", false), ("new", false)]);
    for (key, tolerance, code) in [
        ("x", ("d", 1.0), "no_such_key"),
        ("k", ("s", 1.0), "tolerance"),
        ("k", ("k", 1.0), "tolerance"),
        ("k", ("d", -1.0), "tolerance"),
    ] {
        let tolerance = BTreeMap::from([(tolerance.0.to_owned(), tolerance.1)]);
        assert_eq!(Columns::choose(&a, &b, &[key.to_owned()], &tolerance).unwrap_err().code(), code);
    }
}
