//! Time zones against chrono.

use std::sync::OnceLock;

use chrono::{DateTime, Datelike, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;
use crate::plan::expr::Function as F;
use crate::plan::schema::TimeUnit;
use crate::plan::testing::{call, col, schema};

const ZONES: [&str; 7] =
    ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "America/Havana", "America/Sao_Paulo", "Pacific/Apia"];

/// Making a table takes tens of milliseconds: once is enough.
fn tables() -> &'static ZoneTables {
    static TABLES: OnceLock<ZoneTables> = OnceLock::new();
    TABLES.get_or_init(|| ZoneTables::load(ZONES).unwrap())
}

fn run(function: F, unit: TimeUnit, values: &[i64]) -> ArrayRef {
    let schema = schema(&[("t", DataType::Timestamp(unit))]);
    let evaluator = Evaluator::compile(&call(function, [col("t")]), &schema, tables()).unwrap();
    let column = super::super::map::build(values.to_vec(), None, &DataType::Timestamp(unit).to_arrow()).unwrap();
    evaluator.evaluate(&RecordBatch::try_new(schema.to_arrow(), vec![column]).unwrap()).unwrap()
}

fn seconds(array: &ArrayRef) -> Vec<i64> {
    super::super::map::i64s(&Value::rows(array.clone())).unwrap().values.to_vec()
}

fn truncated(every: &str, zone: &str, values: &[i64]) -> Vec<i64> {
    seconds(&run(F::DtTruncate { every: every.into(), time_zone: zone.into() }, TimeUnit::Second, values))
}

/// Near a transition more often than not: that is where the mistakes are.
fn any_instant() -> impl Strategy<Value = (usize, i64)> {
    let near = (0..ZONES.len(), any::<prop::sample::Index>(), -30_000_i64..30_000).prop_map(|(zone, index, around)| {
        let table = tables().get(ZONES[zone]).unwrap();
        let (at, _) = table.transitions[index.index(table.transitions.len())];
        (zone, at + around)
    });
    // 1901 to 2099: inside the tables.
    prop_oneof![2 => near, 1 => (0..ZONES.len(), -2_170_000_000_i64..4_070_000_000)]
}

fn earliest(zone: Tz, mut local: NaiveDateTime) -> i64 {
    loop {
        match zone.from_local_datetime(&local) {
            LocalResult::Single(instant) => return instant.timestamp(),
            LocalResult::Ambiguous(first, _) => return first.timestamp(),
            // In a gap: the first local time that exists.
            LocalResult::None => local += TimeDelta::seconds(1),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn parts_are_chronos((zone, at) in any_instant(), sub in 0_i64..1_000_000_000, unit in 0..4_usize) {
        let name = ZONES[zone];
        let zone: Tz = name.parse().unwrap();
        let unit = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond][unit];
        let value = at * unit.per_second() + sub % unit.per_second();
        let local = zone.from_utc_datetime(&DateTime::from_timestamp(at, 0).unwrap().naive_utc());
        let z = || name.to_owned();
        let days = local.date_naive().signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days();
        let date = run(F::DtDate { time_zone: z() }, unit, &[value]);
        prop_assert_eq!(i64::from(date.as_primitive::<arrow::datatypes::Date32Type>().value(0)), days);
        let parts = [
            (F::DtYear { time_zone: z() }, local.year()),
            (F::DtMonth { time_zone: z() }, local.month() as i32),
            (F::DtDay { time_zone: z() }, local.day() as i32),
            (F::DtHour { time_zone: z() }, local.hour() as i32),
            (F::DtMinute { time_zone: z() }, local.minute() as i32),
            (F::DtSecond { time_zone: z() }, local.second() as i32),
            (F::DtWeekday { time_zone: z() }, local.weekday().number_from_monday() as i32),
        ];
        for (function, expected) in parts {
            let found = run(function.clone(), unit, &[value]);
            prop_assert_eq!(found.as_primitive::<arrow::datatypes::Int32Type>().value(0), expected, "{:?} {}", function, at);
        }
    }

    #[test]
    fn a_day_starts_at_its_earliest_instant((zone, at) in any_instant()) {
        let name = ZONES[zone];
        let zone: Tz = name.parse().unwrap();
        let local = zone.from_utc_datetime(&DateTime::from_timestamp(at, 0).unwrap().naive_utc());
        let day = |day: chrono::NaiveDate| earliest(zone, day.and_hms_opt(0, 0, 0).unwrap());
        let date = local.date_naive();
        prop_assert_eq!(truncated("1d", name, &[at]), [day(date)]);
        prop_assert_eq!(truncated("1mo", name, &[at]), [day(date.with_day(1).unwrap())]);
        prop_assert_eq!(truncated("1y", name, &[at]), [day(date.with_ordinal(1).unwrap())]);
        let monday = date - TimeDelta::days(date.weekday().num_days_from_monday().into());
        prop_assert_eq!(truncated("1w", name, &[at]), [day(monday)]);
    }

    #[test]
    fn an_hour_keeps_its_offset((zone, at) in any_instant(), every in prop::sample::select(vec![("1h", 3600_i64), ("15m", 900), ("10s", 10)])) {
        let name = ZONES[zone];
        let zone: Tz = name.parse().unwrap();
        let found = truncated(every.0, name, &[at])[0];
        let offset = |at: i64| {
            i64::from(zone.offset_from_utc_datetime(&DateTime::from_timestamp(at, 0).unwrap().naive_utc()).fix().local_minus_utc())
        };
        let floor = (at + offset(at)).div_euclid(every.1) * every.1;
        let kept = floor - offset(at);
        // The stretch from there to the row has one offset, or the earliest instant of that local time is meant.
        let whole = (kept..=at).all(|t| offset(t) == offset(at));
        let expected = if whole { kept } else { earliest(zone, DateTime::from_timestamp(floor, 0).unwrap().naive_utc()) };
        prop_assert_eq!(found, expected, "{} {}", name, at);
        prop_assert!(found <= at);
        prop_assert_eq!(truncated(every.0, name, &[found])[0], found, "truncating twice");
    }
}

#[test]
fn days_of_the_change_are_one_group() {
    // Havana 2026-11-01: clocks go from 01:00 back to 00:00, so that midnight occurs twice.
    let (first, second) = (1_793_505_600, 1_793_509_200);
    let rows = [first, first + 1_800, second, second + 1_800, second + 40_000];
    assert_eq!(truncated("1d", "America/Havana", &rows), [first; 5]);
    assert_eq!(truncated("6h", "America/Havana", &rows[..4]), [first; 4]);
    assert_eq!(truncated("1h", "America/Havana", &rows[..4]), [first, first, second, second], "the hour is there twice");
    // New York 2026-03-08: from 02:00 to 03:00. New York 2026-11-01: 01:00 to 02:00 twice.
    assert_eq!(truncated("1h", "America/New_York", &[1_772_953_200 + 60, 1_772_953_200 - 60]), [1_772_953_200, 1_772_949_600]);
    assert_eq!(truncated("2h", "America/New_York", &[1_772_953_200 + 60]), [1_772_953_200]);
}
