//! Time zones as tables of transitions. A plan stores the table of each zone that it uses, and a version keeps using
//! those: a new time-zone database cannot change an old version in silence.
//!
//! Tables cover 1900 to 2100; an instant outside takes the nearest offset in the table.

use std::collections::BTreeMap;

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::expr::Expr;
use super::logical::{JobPlan, Node};
use super::names::nearest;
use crate::error::{Error, Result};

/// 1900-01-01T00:00:00Z.
const START: i64 = -2_208_988_800;
/// 2101-01-01T00:00:00Z.
const END: i64 = 4_133_980_800;
/// Between two looks at the offset: no zone has two transitions within it that cancel.
const STEP: i64 = 6 * 3600;

/// A time zone: when its offset from UTC changes, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneTable {
    /// The IANA name.
    pub name: String,
    /// (Seconds since 1970 UTC from which on, offset of local time in seconds), rising; at least one. The first also
    /// holds before.
    pub transitions: Vec<(i64, i32)>,
}

impl ZoneTable {
    /// The table of a zone, from the time-zone database that kappa was built with.
    ///
    /// # Errors
    /// A `PlanError` if there is no zone of that name.
    pub fn load(name: &str) -> Result<Self> {
        let zone = find(name)?;
        let mut last = offset_at(zone, START);
        let mut transitions = vec![(START, last)];
        let mut before = START;
        while before < END {
            let after = before + STEP;
            let offset = offset_at(zone, after);
            if offset != last {
                transitions.push((first_with_new_offset(zone, before, after, last), offset));
                last = offset;
            }
            before = after;
        }
        Ok(Self { name: name.to_owned(), transitions })
    }

    /// The position in `transitions` that holds at an instant (seconds since 1970 UTC).
    #[inline]
    pub fn position(&self, utc_seconds: i64) -> usize {
        self.transitions.partition_point(|(from, _)| *from <= utc_seconds).saturating_sub(1)
    }

    /// The offset of local time at an instant, in seconds.
    #[inline]
    pub fn offset(&self, utc_seconds: i64) -> i32 {
        self.transitions.get(self.position(utc_seconds)).map_or(0, |(_, offset)| *offset)
    }

    /// The first instant at which local clocks show this local time (seconds): where it occurs twice the earlier one,
    /// where clocks jump over it the jump.
    pub fn earliest(&self, local_seconds: i64) -> i64 {
        // Offsets are less than a day and a half: a transition further away does not matter.
        let first = self.position(local_seconds.saturating_sub(2 * 86_400));
        let mut best = None;
        for (i, (from, offset)) in self.transitions.iter().enumerate().skip(first) {
            let until = self.transitions.get(i + 1).map_or(i64::MAX, |(until, _)| *until);
            let candidate = local_seconds.saturating_sub(i64::from(*offset));
            if candidate < until {
                best = Some(if i == 0 { candidate } else { candidate.max(*from) });
                break;
            }
        }
        best.unwrap_or(local_seconds)
    }

    /// The first instant from which on local clocks show this local time (seconds) or a later one for good: where clocks are
    /// put back over it, the last time that they reach it.
    pub fn passed(&self, local_seconds: i64) -> i64 {
        // See `earliest`: a stretch that begins later than this is past it as a whole.
        let last = self.position(local_seconds.saturating_add(2 * 86_400));
        let mut until = i64::MAX;
        for (i, (from, offset)) in self.transitions.iter().enumerate().take(last + 1).rev() {
            let offset = i64::from(*offset);
            if i == 0 || from.saturating_add(offset) < local_seconds {
                return until.min(local_seconds.saturating_sub(offset));
            }
            until = *from;
        }
        local_seconds
    }
}

fn offset_at(zone: Tz, utc_seconds: i64) -> i32 {
    DateTime::from_timestamp(utc_seconds, 0)
        .map_or(0, |instant| zone.offset_from_utc_datetime(&instant.naive_utc()).fix().local_minus_utc())
}

/// The first second in (`before`, `after`] whose offset is not `old`.
fn first_with_new_offset(zone: Tz, mut before: i64, mut after: i64, old: i32) -> i64 {
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        if offset_at(zone, middle) == old { before = middle } else { after = middle }
    }
    after
}

fn find(name: &str) -> Result<Tz> {
    name.parse::<Tz>().map_err(|_| {
        let near = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        // `kolkata` is most likely Asia/Kolkata: cities are compared as well as whole names.
        let city = |zone: &'static str| zone.rsplit('/').next().unwrap_or(zone);
        let by_city = || {
            let wanted = nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| city(zone.name())))?;
            chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).find(|zone| city(zone) == wanted)
        };
        let hint = match nearest(name, near).or_else(by_city) {
            Some(near) => format!("did you mean {near:?}?"),
            None => "use a name of the IANA database, such as \"Asia/Kolkata\" or \"UTC\"".to_owned(),
        };
        Error::plan("unknown_time_zone", format!("there is no time zone {name:?}")).hint(hint)
    })
}

/// Checks that there is a zone of that name.
///
/// # Errors
/// A `PlanError` with the nearest name.
pub fn check_name(name: &str) -> Result<()> {
    find(name).map(|_| ())
}

/// The zones that a plan uses, by name. Stored with the version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ZoneTable>", into = "Vec<ZoneTable>")]
pub struct ZoneTables(BTreeMap<String, ZoneTable>);

impl From<Vec<ZoneTable>> for ZoneTables {
    fn from(tables: Vec<ZoneTable>) -> Self {
        Self(tables.into_iter().map(|table| (table.name.clone(), table)).collect())
    }
}

impl From<ZoneTables> for Vec<ZoneTable> {
    fn from(tables: ZoneTables) -> Self {
        tables.0.into_values().collect()
    }
}

impl ZoneTables {
    /// The tables of every zone that a plan uses, from the time-zone database that kappa was built with. For a new
    /// version; an old one uses what it stored.
    ///
    /// # Errors
    /// A `PlanError` for an unknown zone.
    pub fn of_plan(plan: &JobPlan) -> Result<Self> {
        let mut names = Vec::new();
        plan.outputs.iter().for_each(|output| zones_of_node(&output.plan, &mut names));
        Self::load(names)
    }

    /// The tables of these zones.
    ///
    /// # Errors
    /// A `PlanError` for an unknown zone.
    pub fn load<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for name in names {
            if !tables.contains_key(name) {
                tables.insert(name.to_owned(), ZoneTable::load(name)?);
            }
        }
        Ok(Self(tables))
    }

    /// The table of a zone.
    ///
    /// # Errors
    /// An internal error if the plan that these tables were made of does not use it.
    pub fn get(&self, name: &str) -> Result<&ZoneTable> {
        self.0
            .get(name)
            .filter(|table| !table.transitions.is_empty())
            .ok_or_else(|| Error::internal(format!("the plan's time zones do not include {name:?}")))
    }
}

fn zones_of_node<'a>(node: &'a Node, names: &mut Vec<&'a str>) {
    match node {
        Node::Read(_) => {}
        Node::Filter { input, predicate } => {
            zones_of_node(input, names);
            zones_of(predicate, names);
        }
        Node::Select { input, columns } | Node::WithColumns { input, columns } => {
            zones_of_node(input, names);
            columns.iter().for_each(|column| zones_of(&column.expr, names));
        }
        Node::Aggregate { input, keys, aggregates, .. } => {
            zones_of_node(input, names);
            keys.iter().chain(aggregates).for_each(|column| zones_of(&column.expr, names));
        }
    }
}

/// The zones that an expression names.
pub fn zones_of<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::Column(_) | Expr::Literal(_) => {}
        Expr::Call { function, args } => {
            names.extend(function.time_zone());
            args.iter().for_each(|arg| zones_of(arg, names));
        }
        Expr::Cast { input, .. } => zones_of(input, names),
        Expr::Aggregate(aggregate) => {
            aggregate.input.iter().chain(&aggregate.filter).for_each(|part| zones_of(part, names));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_agree_with_the_database_at_every_third_hour() {
        for name in ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Monrovia"] {
            let (table, zone) = (ZoneTable::load(name).unwrap(), find(name).unwrap());
            let mut at = START;
            while at < END {
                assert_eq!(table.offset(at), offset_at(zone, at), "{name} at {at}");
                at += 3 * 3600 - 7;
            }
            for (from, offset) in table.transitions.iter().skip(1) {
                assert_eq!(offset_at(zone, *from), *offset);
                assert_ne!(offset_at(zone, *from - 1), *offset);
            }
        }
    }

    #[test]
    fn the_earliest_instant_of_a_local_time() {
        let new_york = ZoneTable::load("America/New_York").unwrap();
        // 2026-11-01T01:30 local occurs twice; 2026-03-08T02:30 never: clocks jump from 02:00 to 03:00 at 07:00Z.
        assert_eq!(new_york.earliest(1_793_496_600), 1_793_496_600 + 4 * 3600);
        assert_eq!(new_york.earliest(1_772_937_000), 1_772_953_200);
        assert_eq!(new_york.earliest(0), 5 * 3600);
        assert_eq!(ZoneTable::load("UTC").unwrap().earliest(12), 12);
    }

    #[test]
    fn a_local_time_is_passed_for_good() {
        let new_york = ZoneTable::load("America/New_York").unwrap();
        // 2026-11-01: 01:30 comes twice, the second time at 06:30Z; 2026-03-08: 02:30 is jumped over at 07:00Z.
        assert_eq!(new_york.passed(1_793_496_600), 1_793_496_600 + 5 * 3600);
        assert_eq!(new_york.passed(1_772_937_000), 1_772_953_200);
        // Clocks were put back from 00:01 to 23:01 on 2006-10-29: that day begins for good at 03:30Z.
        let saint_johns = ZoneTable::load("America/St_Johns").unwrap();
        let midnight = 1_162_080_000;
        assert_eq!(saint_johns.earliest(midnight), midnight + 2 * 3600 + 1800);
        assert_eq!(saint_johns.passed(midnight), midnight + 3 * 3600 + 1800);
        for (name, local) in [("UTC", 12), ("Asia/Kolkata", 1_793_496_600), ("America/New_York", -3_000_000_000)] {
            let table = ZoneTable::load(name).unwrap();
            assert_eq!(table.passed(local), table.earliest(local), "{name}");
        }
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        let hint = |name: &str| check_name(name).unwrap_err().hint_text().unwrap().to_owned();
        assert_eq!(hint("Asia/Kolkatta"), "did you mean \"Asia/Kolkata\"?");
        assert_eq!(hint("kolkata"), "did you mean \"Asia/Kolkata\"?");
        assert!(hint("Middle Earth").contains("IANA"));
    }

    #[test]
    fn tables_are_stored_as_a_list() {
        let tables = ZoneTables::load(["UTC", "UTC"]).unwrap();
        let json = serde_json::to_string(&tables).unwrap();
        assert_eq!(json, r#"[{"name":"UTC","transitions":[[-2208988800,0]]}]"#);
        assert_eq!(serde_json::from_str::<ZoneTables>(&json).unwrap(), tables);
        assert!(tables.get("Asia/Kolkata").is_err());
    }
}
