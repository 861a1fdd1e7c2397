//! Where a preview begins: groups that hold an earlier event time than it asks for are whole only from their first instant on.

use crate::error::Result;
use crate::operator::eval::interval::truncated;
use crate::plan::interval::Truncation;
use crate::plan::time_zones::ZoneTables;

/// Steps back are doubled from an hour on, so often at most: four thousand years.
const DOUBLINGS: u32 = 25;
const HOUR_S: i64 = 3600;

/// The first instant of the group that an instant falls into, by what is done to the event time for the group's key; milliseconds
/// since 1970 UTC.
///
/// # Errors
/// An internal error; it does not happen.
pub fn group_begin(steps: &[Truncation], zones: &ZoneTables, ms: i64) -> Result<i64> {
    if steps.is_empty() {
        return Ok(ms);
    }
    let of = |second: i64| truncated(steps, zones, second.saturating_mul(1000));
    let mut inside = ms.div_euclid(1000);
    let Some(group) = of(inside)? else { return Ok(ms) };
    let is_before = |second: i64| Ok::<_, crate::error::Error>(of(second)?.is_none_or(|of| of < group));
    let mut before = inside;
    for doubling in 0..DOUBLINGS {
        before = inside.saturating_sub(HOUR_S << doubling);
        if is_before(before)? {
            break;
        }
        inside = before;
    }
    while inside - before > 1 {
        let between = before + (inside - before) / 2;
        if is_before(between)? { before = between } else { inside = between }
    }
    Ok(inside.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::plan::expr::Function as F;
    use crate::plan::interval::time_column;
    use crate::plan::testing::*;

    /// The begin of a group by a key that is made of the event time.
    fn begin(key: crate::plan::expr::Expr, at: &str) -> String {
        let plan = job([group(source(), [named("k", key)], [named("n", len())])]);
        let (_, steps) = time_column(&plan.outputs[0].plan, ["k"]).unwrap();
        let zones = ZoneTables::of_plan(&plan).unwrap();
        let ms = DateTime::parse_from_rfc3339(at).unwrap().timestamp_millis();
        let found = group_begin(&steps, &zones, ms).unwrap();
        let value = |ms| truncated(&steps, &zones, ms).unwrap();
        assert!(found <= ms && value(found) == value(ms) && value(found - 1) != value(ms), "{at}: {found}");
        crate::time::format_utc(found)
    }

    fn truncate(every: &str, zone: &str, of: crate::plan::expr::Expr) -> crate::plan::expr::Expr {
        call(F::DtTruncate { every: every.into(), time_zone: zone.into() }, [of])
    }

    #[test]
    fn a_group_begins_where_its_day_hour_or_month_does_in_its_zone() {
        let time = || col("event_time");
        let at = "2026-04-25T11:34:58.123Z";
        for (key, expected) in [
            (dt_date(time(), "UTC"), "2026-04-25T00:00:00Z"),
            (dt_date(time(), "Asia/Kolkata"), "2026-04-24T18:30:00Z"),
            (dt_date(time(), "Pacific/Auckland"), "2026-04-24T12:00:00Z"),
            (truncate("15m", "UTC", time()), "2026-04-25T11:30:00Z"),
            (truncate("1h", "Asia/Kolkata", time()), "2026-04-25T11:30:00Z"),
            (truncate("1w", "UTC", time()), "2026-04-20T00:00:00Z"),
            (truncate("1mo", "UTC", dt_date(time(), "Asia/Kolkata")), "2026-03-31T18:30:00Z"),
            (truncate("1y", "America/New_York", time()), "2026-01-01T05:00:00Z"),
            (truncate("1000y", "UTC", time()), "2000-01-01T00:00:00Z"),
        ] {
            assert_eq!(begin(key.clone(), at), expected, "{key:?}");
        }
    }

    #[test]
    fn a_day_whose_clocks_change_begins_at_its_midnight() {
        let day = |zone| dt_date(col("event_time"), zone);
        assert_eq!(begin(day("Europe/Copenhagen"), "2026-03-29T20:00:00Z"), "2026-03-28T23:00:00Z");
        assert_eq!(begin(day("Europe/Copenhagen"), "2026-10-25T20:00:00Z"), "2026-10-24T22:00:00Z");
        // Midnight itself is skipped: the day begins at 01:00.
        assert_eq!(begin(day("America/Sao_Paulo"), "2018-11-04T12:00:00Z"), "2018-11-04T03:00:00Z");
    }

    #[test]
    fn the_event_time_itself_is_its_own_group() {
        assert_eq!(group_begin(&[], &ZoneTables::default(), 1_234).unwrap(), 1_234);
    }
}
