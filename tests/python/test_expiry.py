"""Groups that expire: against DuckDB, which finds by a window over the log which records come too late for their group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest

import kappa
from conftest import payments_stream, wait_for
from kappa import col
from kappa.exceptions import KappaError, PlanError
from kappa.testing import assert_replay_safe
from test_end_to_end import arrive, fill, make_records, table

HOUR = 3_600_000

# The watermark of a record is that of the records before it in its partition, of whatever status. Hours of Kolkata begin at half
# past of UTC.
ORACLE = """
with placed as (
    select *, max(event_time) over (partition by place order by position rows between unbounded preceding and 1 preceding)
              - 30000 as watermark,
           (event_time + 19800000) // 3600000 * 3600000 - 19800000 as hour
    from records
),
used as (
    select *, coalesce(watermark >= hour + 3600000 + 6 * 3600000, false) as expired from placed where status = 'captured'
)
select make_timestamptz(hour * 1000) as hour, count(distinct merchant_id) as merchants, cast(sum(amount) as bigint) as total,
       count(*) as payments
from used where not expired group by 1
"""
LOST = ORACLE[: ORACLE.rindex("select make")] + "select count(*) filter (expired) from used"

ARROW = pyarrow.schema(
    [
        ("place", pyarrow.int64()),
        ("position", pyarrow.int64()),
        ("merchant_id", pyarrow.string()),
        ("status", pyarrow.string()),
        ("amount", pyarrow.int64()),
        ("event_time", pyarrow.int64()),
    ]
)


def hourly_job(expire_after: str = "6h") -> kappa.Job:
    job = kappa.Job("hourly")
    job.write(
        payments_stream(job)
        .filter(col("status") == "captured")
        .group_by(hour=col("event_time").dt.truncate("1h", time_zone="Asia/Kolkata"))
        .agg(
            merchants=col("merchant_id").count_distinct(),
            total=col("amount").sum(),
            payments=kappa.len(),
            expire_after=expire_after,
        )
    )
    return job


def by_duckdb(sql: str) -> list[tuple[Any, ...]]:
    """The oracle's answer over the log as it lies there."""
    rows = [{**record.json(), "place": record.partition, "position": record.offset} for record in kappa.Log().scan("payments")]
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        db.register("records", pyarrow.Table.from_pylist(rows, schema=ARROW))
        return sorted(tuple(row.values()) for row in db.execute(sql).to_arrow_table().to_pylist())


def test_live_and_reprocess_are_what_duckdb_computes(place: Path) -> None:
    records = make_records(6_000, seed=5)
    fill(records[:1_500])
    live = hourly_job().start(mode="live", output_table="t.live", checkpoint_interval="10ms", parallelism=3)
    with live:
        arrive(live, records, 1_500)
    [(lost,)] = by_duckdb(LOST)
    assert lost > 20
    assert table("t.live") == by_duckdb(ORACLE)
    report = live.wait()
    assert (report.expired, report.read) == (lost, report.used + report.filtered + report.expired)
    assert f"{lost} records whose group had expired are not in the tables" in report.left_out()
    assert f"{lost} expired" in str(report)
    report = hourly_job().run(
        mode="reprocess", output_table="t.again", progress=False, checkpoint_interval="5ms", parallelism=2
    )
    assert (report.outcome, report.expired) == ("complete", lost)
    assert table("t.again") == by_duckdb(ORACLE)
    # With another duration it is another plan.
    assert hourly_job("7h").fingerprint != hourly_job().fingerprint


def test_a_job_whose_groups_expire_is_replay_safe() -> None:
    assert_replay_safe(hourly_job(), {"payments": make_records(2_000, seed=3)})


def test_the_partition_that_is_waited_for_is_named(place: Path) -> None:
    records = [{"status": "captured", "amount": 1, "merchant_id": "m", "event_time": i * HOUR} for i in range(40)]
    log = kappa.Log()
    log.create("payments", partitions=3)
    for partition, part in ((0, records), (1, records[:5]), (2, records)):
        log.append("payments", part, partition=partition)
    with hourly_job().start(mode="live", output_table="t.live", checkpoint_interval="10ms") as run:
        wait_for(lambda: run.status().held_by == "payments/1", "the partition's name")
        assert "expiry waits for payments/1" in str(run.status())
        log.append("payments", records[5:], partition=1)
        wait_for(lambda: run.status().events == 120 and run.status().held_by is None, "the partition to catch up")
        log.append("payments", records[:7], partition=1)
        wait_for(lambda: run.status().events == 127, "late records")
    report = run.wait()
    assert (report.expired, report.held_by, report.closed == report.watermark) == (7, None, True)
    assert [row["payments"] for row in kappa.read("t.live").to_dicts()] == [3] * 40


def test_only_where_a_key_truncates_the_event_time() -> None:
    stream = payments_stream(kappa.Job("j"))
    by_merchant = stream.group_by("merchant_id")
    with pytest.raises(PlanError, match=r"no group key of \(merchant_id\) truncates the event time") as caught:
        by_merchant.agg(n=kappa.len(), expire_after="1d")
    assert caught.value.code == "no_interval"
    assert 'by_merchant.agg(n=kappa.len(), expire_after="1d")' in str(caught.value)
    with pytest.raises(KappaError, match="-1d"):
        by_merchant.agg(n=kappa.len(), expire_after="-1d")
    days = stream.group_by("merchant_id", day=col("event_time").dt.date()).agg(n=kappa.len(), expire_after="2d")
    assert list(days.schema) == ["merchant_id", "day", "n"]
    assert days.group_by("day", "n").agg(merchants=kappa.len(), expire_after="2d").schema["merchants"] == kappa.Int64
    with pytest.raises(PlanError, match="one of the first that is not longer"):
        days.group_by("day", "n").agg(merchants=kappa.len(), expire_after="1d")
