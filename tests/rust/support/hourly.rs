//! The recomputation of the jobs whose groups expire: which records come too late, and what the others make.

use std::collections::{BTreeMap, BTreeSet};

use super::data::Row;
use super::jobs::{EXPIRE_AFTER, Output};
use super::oracle::{Multiset, Used, cells, counted, micros, number, text};

/// Kolkata is five and a half hours ahead all year.
const OFFSET: i64 = 19_800_000;
const HOUR: i64 = 3_600_000;

fn hour_of(row: &Row) -> i64 {
    (row.t + OFFSET).div_euclid(HOUR) * HOUR - OFFSET
}

/// Whether a record comes when its group is gone.
pub fn is_expired(output: Output, used: &Used<'_>) -> bool {
    let expires = matches!(output, Output::Hourly | Output::HourlyNested);
    expires && used.watermark.is_some_and(|watermark| watermark >= hour_of(used.row) + HOUR + EXPIRE_AFTER)
}

struct Group {
    rows: usize,
    users: usize,
    n: i128,
    last: Option<String>,
}

fn groups(used: &[&Used<'_>]) -> BTreeMap<(Option<String>, i64), Group> {
    let mut groups: BTreeMap<(Option<String>, i64), Vec<&Used<'_>>> = BTreeMap::new();
    used.iter().for_each(|used| groups.entry((used.row.k.clone(), hour_of(used.row))).or_default().push(used));
    let group = |mut used: Vec<&Used<'_>>| {
        used.sort_by_key(|used| (used.row.t, used.partition, used.offset));
        Group {
            rows: used.len(),
            users: used.iter().filter_map(|used| used.row.s.as_ref()).collect::<BTreeSet<_>>().len(),
            n: used.iter().filter_map(|used| used.row.n).map(i128::from).sum(),
            last: used.last().and_then(|used| used.row.s.clone()),
        }
    };
    groups.into_iter().map(|(key, used)| (key, group(used))).collect()
}

pub fn hourly(used: &[&Used<'_>]) -> Multiset {
    let row = |((k, hour), group): ((Option<String>, i64), Group)| {
        cells(&[
            text(k.as_ref()),
            micros(hour),
            group.rows.to_string(),
            group.users.to_string(),
            number(Some(group.n)),
            text(group.last.as_ref()),
        ])
    };
    groups(used).into_iter().map(row).fold(Multiset::new(), counted)
}

pub fn by_day(used: &[&Used<'_>]) -> Multiset {
    let mut days: BTreeMap<(i64, usize), Vec<usize>> = BTreeMap::new();
    for ((_, hour), group) in groups(used) {
        days.entry(((hour + OFFSET).div_euclid(24 * HOUR), group.users)).or_default().push(group.rows);
    }
    let row = |((day, users), rows): ((i64, usize), Vec<usize>)| {
        cells(&[day.to_string(), users.to_string(), rows.len().to_string(), rows.iter().sum::<usize>().to_string()])
    };
    days.into_iter().map(row).fold(Multiset::new(), counted)
}
