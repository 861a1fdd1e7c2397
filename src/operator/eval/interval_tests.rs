use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMillisecondArray};

use super::*;
use crate::operator::eval::Evaluator;
use crate::plan::expr::{Expr, Function as F};
use crate::plan::interval::expiry_of;
use crate::plan::testing::*;

const ZONES: [&str; 8] = [
    "UTC",
    "Asia/Kolkata",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "America/Sao_Paulo",
    "Africa/Monrovia",
];

fn truncated(every: &str, zone: &str, of: Expr) -> Expr {
    call(F::DtTruncate { every: every.into(), time_zone: zone.into() }, [of])
}

/// By key, the last of the instants given (milliseconds) that it is made of, and the end that is computed.
fn ends(key: &Expr, instants: &[i64], tables: &ZoneTables) -> BTreeMap<i64, (i64, i64)> {
    let schema = schema(&[("event_time", MS)]);
    let evaluator = Evaluator::compile(key, &schema, tables).unwrap();
    let spec = expiry_of(&source(), &[named("k", key.clone())], 0).unwrap();
    let (data_type, _) = crate::plan::typing::type_of(key, &schema).unwrap();
    let of = IntervalEnds::new(&spec, &[data_type.unwrap()], tables).unwrap();
    let column = Arc::new(TimestampMillisecondArray::from(instants.to_vec()).with_timezone("UTC"));
    let keys = evaluator.evaluate(&RecordBatch::try_new(schema.to_arrow(), vec![column]).unwrap()).unwrap();
    let computed = of.of(instants.len(), |_| Ok(keys.clone())).unwrap();
    let mut found = BTreeMap::new();
    for ((instant, key), end) in instants.iter().zip(values(&keys).unwrap()).zip(computed) {
        assert_eq!(super::truncated(&spec.keys[0].steps, tables, *instant).unwrap(), Some(key), "{instant}");
        let last = found.entry(key).or_insert((*instant, end));
        assert!(last.1 == end && end > *instant, "{key}: {instant} lies behind {end}");
        last.0 = last.0.max(*instant);
    }
    found
}

/// Every half minute around a moment (Liberia's clocks were 44 and a half minutes behind), and the last millisecond before it.
fn around(seconds: i64) -> Vec<i64> {
    let halves = (-4320..4320).map(|i| (seconds + i * 30) * 1000);
    halves.flat_map(|ms| [ms - 1, ms]).collect()
}

fn tables() -> ZoneTables {
    ZoneTables::load(ZONES).unwrap()
}

#[test]
fn no_instant_lies_behind_the_end_of_its_interval_and_the_last_one_lies_before_it() {
    let moments = [
        1_772_953_200, // New York, clocks put forward, 2026
        1_793_512_800, // New York, put back, 2026
        1_775_314_800, // Lord Howe, put back by half an hour, 2026
        1_791_041_400, // Lord Howe, put forward
        1_162_089_060, // St. John's, put back over midnight, 2006
        1_325_239_200, // Apia skips a day, 2011
        1_540_695_600, // Sao Paulo skips midnight, 2018
        1_550_368_800, // and has 23:00 twice, 2019
        0,
        -5_000_400,
    ];
    let tables = tables();
    for (zone, moment) in ZONES.iter().flat_map(|zone| moments.map(|moment| (*zone, moment))) {
        let instants = around(moment);
        let keys = ["15m", "30m", "1h", "2h", "6h", "1d", "2d", "1w", "1mo", "1y"]
            .map(|every| truncated(every, zone, col("event_time")))
            .into_iter()
            .chain([dt_date(col("event_time"), zone)]);
        for key in keys {
            let found = ends(&key, &instants, &tables);
            for (value, (last, end)) in &found {
                // Whole intervals in the middle end where the next record would be of another.
                let whole = found.keys().next() != Some(value) && *last != instants[instants.len() - 1];
                assert!(!whole || *end == last + 1, "{key} around {moment}: {value} ends at {end}, not {}", last + 1);
            }
        }
    }
}

#[test]
fn what_is_truncated_twice_ends_with_the_longer_interval() {
    let (instants, tables) = (around(1_793_512_800), tables());
    let ends = |key: &Expr| ends(key, &instants, &tables);
    let zone = "America/New_York";
    let day = || dt_date(col("event_time"), zone);
    let hour = || truncated("1h", "UTC", col("event_time"));
    let pairs = [
        (dt_date(hour(), "UTC"), dt_date(col("event_time"), "UTC")),
        (dt_date(hour(), zone), day()),
        (truncated("1d", zone, truncated("6h", zone, col("event_time"))), truncated("1d", zone, col("event_time"))),
        (cast(truncated("1d", zone, cast(col("event_time"), US, true)), MS, true), truncated("1d", zone, col("event_time"))),
        (dt_date(truncated("1w", zone, day()), "UTC"), truncated("1w", zone, day())),
    ];
    for (twice, once) in pairs {
        assert_eq!(ends(&twice), ends(&once), "{twice}");
    }
    // Days of one zone cut into weeks: until the week's last day is over there.
    let weeks = ends(&truncated("1w", "UTC", day()));
    let local = ends(&truncated("1w", zone, col("event_time")));
    assert_eq!(weeks.values().collect::<Vec<_>>(), local.values().collect::<Vec<_>>());
    // Hours of half-hour zones lie across hours of UTC.
    let across = ends(&truncated("1d", "Asia/Kolkata", hour()));
    assert!(across.values().all(|(last, end)| end > last && end % 3_600_000 == 0));
}

#[test]
fn of_several_intervals_the_first_to_end_counts() {
    let zones = ZoneTables::load(["UTC"]).unwrap();
    let keys = [named("s", col("status")), named("day", dt_date(col("event_time"), "UTC"))];
    let keys = [&keys[..], &[named("hour", truncated("1h", "UTC", col("event_time")))]].concat();
    let spec = expiry_of(&source(), &keys, 0).unwrap();
    let of = IntervalEnds::new(&spec, &[DataType::String, DataType::Date, MS], &zones).unwrap();
    assert_eq!(of.columns().collect::<Vec<_>>(), [1, 2]);
    let hour: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![82_800_000, 3_600_000]));
    let day: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![0, 0]));
    let found = of.of(2, |column| Ok(if column == 1 { day.clone() } else { hour.clone() })).unwrap();
    assert_eq!(found, [86_400_000, 7_200_000]);
}
