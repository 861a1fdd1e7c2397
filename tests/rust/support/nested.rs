//! The recomputation of the job with two groupings: rows to users, users to groups, each in one go.

use std::collections::{BTreeMap, BTreeSet};

use super::data::Row;
use super::fsum::fsum;
use super::jobs::NESTED_LIMIT;
use super::oracle::{Multiset, Used, cells, counted, float, number, text};

/// A row of the first grouping.
struct User {
    rows: i64,
    n: Option<i128>,
    d: Option<i128>,
    f: Option<f64>,
    last: Option<i32>,
    values: usize,
}

type Key = (Option<String>, Option<i32>, i64);

pub fn nested(used: &[&Used<'_>]) -> Multiset {
    let mut users: BTreeMap<(Option<String>, String), Vec<&Used<'_>>> = BTreeMap::new();
    for used in used {
        users.entry((used.row.k.clone(), used.row.s.clone().unwrap())).or_default().push(used);
    }
    let mut groups: BTreeMap<Key, Vec<User>> = BTreeMap::new();
    for ((k, _), rows) in users {
        let user = user(rows);
        if user.rows % 4 != 2 {
            groups.entry((k, user.last, user.rows / 5)).or_default().push(user);
        }
    }
    groups.retain(|_, users| users.iter().map(|user| user.rows).sum::<i64>() <= NESTED_LIMIT);
    groups.into_iter().map(|(key, users)| row_of(&key, &users)).fold(Multiset::new(), counted)
}

fn user(mut used: Vec<&Used<'_>>) -> User {
    used.sort_by_key(|used| (used.row.t, used.partition, used.offset));
    let rows: Vec<&Row> = used.iter().map(|used| used.row).collect();
    let sum = |values: Vec<i128>| (!values.is_empty()).then(|| values.iter().sum());
    let f: Vec<f64> = rows.iter().filter_map(|row| row.f).collect();
    User {
        rows: rows.len() as i64,
        n: sum(rows.iter().filter_map(|row| row.n).map(i128::from).collect()),
        d: sum(rows.iter().filter_map(|row| row.d).collect()),
        f: (!f.is_empty()).then(|| fsum(&f)),
        last: rows.last().unwrap().g,
        values: rows.iter().filter_map(|row| row.n).collect::<BTreeSet<_>>().len(),
    }
}

fn row_of(key: &Key, users: &[User]) -> String {
    let n: Vec<i128> = users.iter().filter_map(|user| user.n).collect();
    let d: Vec<i128> = users.iter().filter_map(|user| user.d).collect();
    let f: Vec<f64> = users.iter().filter_map(|user| user.f).collect();
    let ratio: Vec<f64> = users.iter().filter_map(|user| Some(user.f? / user.n?.rem_euclid(2) as f64)).collect();
    let rows: i64 = users.iter().map(|user| user.rows).sum();
    let sum = |values: &[i128]| (!values.is_empty()).then(|| values.iter().sum::<i128>());
    let mean = |values: &[i128], unit: i128| sum(values).map(|sum| sum as f64 / (values.len() as i128 * unit) as f64);
    cells(&[
        text(key.0.as_ref()),
        number(key.1),
        key.2.to_string(),
        users.len().to_string(),
        rows.to_string(),
        n.len().to_string(),
        number(sum(&n)),
        float(mean(&n, 1)),
        number(sum(&d)),
        float(mean(&d, 100)),
        float(float_sum(&f)),
        float(float_sum(&f).map(|sum| sum / f.len() as f64)),
        float(float_sum(&ratio)),
        float(float_sum(&ratio).map(|sum| sum / ratio.len() as f64)),
        users.iter().map(|user| user.values).sum::<usize>().to_string(),
        users.iter().filter(|user| user.rows % 2 == 1).count().to_string(),
        float(sum(&n).map(|sum| sum as f64 / users.len() as f64)),
        (1_000 / users.len()).to_string(),
    ])
}

/// The exact sum, rounded once; what is not finite decides where there is any.
fn float_sum(values: &[f64]) -> Option<f64> {
    let has = |wanted: f64| values.contains(&wanted);
    let special = match (values.iter().any(|value| value.is_nan()), has(f64::INFINITY), has(f64::NEG_INFINITY)) {
        (true, _, _) | (_, true, true) => Some(f64::NAN),
        (_, true, _) => Some(f64::INFINITY),
        (_, _, true) => Some(f64::NEG_INFINITY),
        _ => None,
    };
    (!values.is_empty()).then(|| special.unwrap_or_else(|| fsum(values)))
}
