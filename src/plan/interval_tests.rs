use super::*;
use crate::plan::expr::Function as F;
use crate::plan::schema::TimeUnit;
use crate::plan::testing::*;

fn hour(of: Expr) -> Expr {
    call(F::DtTruncate { every: "1h".into(), time_zone: "UTC".into() }, [of])
}

fn steps(input: &Node, key: Expr) -> Option<usize> {
    let found = expiry_of(input, &[named("s", col("status")), named("k", key)], 7).ok()?;
    assert_eq!((found.after_ms, found.keys[0].column, found.keys.len()), (7, 1, 1));
    Some(found.keys[0].steps.len())
}

#[test]
fn keys_that_truncate_the_event_time_are_found_through_the_steps_before() {
    let time = || col("event_time");
    let day = || dt_date(time(), "Asia/Kolkata");
    assert_eq!(steps(&source(), day()), Some(1));
    assert_eq!(steps(&source(), dt_date(hour(time()), "UTC")), Some(2));
    assert_eq!(steps(&source(), dt_date(day(), "UTC")), Some(1), "a date stays what it is");
    assert_eq!(steps(&source(), hour(cast(time(), US, true))), Some(1));
    let renamed = select(filter(source(), captured()), [named("status", col("status")), named("at", time())]);
    assert_eq!(steps(&renamed, hour(col("at"))), Some(1));
    let added = with_columns(source(), [named("hour", hour(time()))]);
    assert_eq!(steps(&added, col("hour")), Some(1));
    assert_eq!(steps(&added, dt_date(col("hour"), "UTC")), Some(2));
}

#[test]
fn other_keys_are_not() {
    let other = with_columns(source(), [named("event_time", cast(col("amount"), MS, true))]);
    for (input, key) in [
        (source(), col("event_time")),
        (source(), col("amount")),
        (source(), call(F::DtYear { time_zone: "UTC".into() }, [col("event_time")])),
        (source(), cast(dt_date(col("event_time"), "UTC"), DataType::String, true)),
        (source(), hour(cast(col("event_time"), DataType::Timestamp(TimeUnit::Second), false))),
        (source(), call(F::Coalesce, [dt_date(col("event_time"), "UTC")])),
        (other, hour(col("event_time"))),
    ] {
        assert_eq!(steps(&input, key.clone()), None, "{key}");
    }
    let error = expiry_of(&source(), &[named("status", col("status")), named("x", col("amount"))], 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expire_after, but no group key of (status, x) truncates the event time \"event_time\"; state can only go when no record \
         of its group is to come: add a key such as day=col(\"event_time\").dt.date() or \
         hour=col(\"event_time\").dt.truncate(\"1h\"), or leave expire_after out"
    );
    let day = [named("day", dt_date(col("event_time"), "UTC"))];
    assert_eq!(expiry_of(&source(), &day, -1).unwrap_err().code(), "invalid_duration");
}

#[test]
fn a_second_grouping_expires_after_the_first() {
    let second = |first: Node, after: i64| {
        let key = call(F::DtTruncate { every: "1mo".into(), time_zone: "UTC".into() }, [col("day")]);
        expiry_of(&first, &[named("month", key)], after)
    };
    assert_eq!(second(expiring(merchants(), 5), 5).unwrap().keys[0].steps.len(), 2);
    for first in [merchants(), expiring(merchants(), 6)] {
        assert_eq!(second(first, 5).unwrap_err().code(), "first_grouping_lasts_longer");
    }
    let by_count = expiry_of(&expiring(merchants(), 5), &[named("n", col("merchants"))], 5);
    assert_eq!(by_count.unwrap_err().code(), "no_interval");
}

#[test]
fn slices_are_a_part_of_the_time_that_groups_last() {
    let slice = |after_ms| ExpirySpec { after_ms, keys: Vec::new() }.slice_ms();
    assert_eq!((slice(0), slice(7 * 86_400_000)), (60_000, 37_800_000));
}
