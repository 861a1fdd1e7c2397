"""`kappa plan`: what a reprocess would read, cost and change, before anything runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from conftest import cli, command, daily_job, document, payments_stream
from kappa import col
from kappa.exceptions import RefusedError

if TYPE_CHECKING:
    from admin import Kafka

START = 1_772_323_200_000


def fill(count: int = 2_000, **more: Any) -> list[dict[str, Any]]:
    records = [
        {"status": "captured", "amount": i % 50, "merchant_id": f"m{i % 9}", "event_time": START + i * 60_000, **more}
        for i in range(count)
    ]
    kappa.Log().create("payments", partitions=3)
    kappa.Log().append("payments", records, key="merchant_id")
    return records


def totals(least: int) -> kappa.Job:
    job = kappa.Job("totals")
    used = payments_stream(job).filter(col("amount") > least)
    job.write(used.group_by(day=col("event_time").dt.date()).agg(n=kappa.len()))
    return job


def test_what_is_read_and_what_it_costs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    scratch = place / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    plan = daily_job().plan()
    assert (plan.verdict, plan.records, plan.findings, plan.changes) == ("fine", 2_000, [], [])
    (topic,) = plan.topics
    described = kappa.Log().describe("payments").to_dicts()
    assert plan.bytes == sum(row["bytes"] for row in described)
    assert [(it["start"], it["end"]) for it in topic["partitions"]] == [(row["earliest"], row["head"]) for row in described]
    assert topic["event_time_ms"] == [START, START + 1_999 * 60_000]
    now = time.time() * 1000
    assert all(now - 60_000 < ms <= now for ms in topic["written_ms"])
    # All of it was written within the last minute, which counts as one.
    assert topic["growth_per_second"] == pytest.approx(2_000 / 60)
    assert plan.records_per_second is not None
    assert plan.headroom == pytest.approx(plan.records_per_second / (2_000 / 60))
    assert plan.seconds == pytest.approx(2_000 / plan.records_per_second)
    assert list(scratch.iterdir()) == []
    assert sorted(it.name for it in place.iterdir()) == ["log", "tmp"], "nothing is committed"


def test_the_plan_is_compared_with_the_version_that_a_table_holds(place: Path) -> None:
    fill()
    totals(0).run(mode="reprocess", output_table="v3", progress=False)
    same = totals(0).plan("v3")
    assert (same.verdict, same.changes) == ("fine", [])
    assert "the plan of default.v3 is the same: nothing changes" in str(same)
    other = totals(5).plan("v3")
    assert other.changes == [{"output": None, "what": "filter", "before": "amount > 0", "after": "amount > 5"}]
    assert "what changes against default.v3:\n  filter: amount > 0 → amount > 5" in str(other)
    with pytest.raises(RefusedError, match="no table"):
        totals(0).plan("v4")


def test_the_screen_and_the_document(place: Path, script: Callable[..., Path]) -> None:
    fill()
    done = cli("plan", str(script()))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("FINE: a reprocess of distinct-merchants takes about ")
    assert len(lines) < 25
    assert max(map(len, lines)) < 130
    assert any("reads" in line and "2,000 records of payments in 3 partitions" in line for line in lines)
    parsed = document(cli("plan", f"{script()}:job", "--json", "--until", "0:5,1:0,2:0", "--parallelism", "1"))
    assert (parsed["command"], parsed["data"]["records"], parsed["data"]["verdict"]) == ("plan", 5, "fine")
    own = document(command(str(script()), "--plan", "--json"))
    assert own["data"]["records"] == 2_000
    assert document(command(str(script()), "--against", "t", "--json"))["error"]["code"] == "usage"
    refused = document(cli("plan", str(script()), "--against", "nothing", "--json"))
    assert (refused["exit"], refused["error"]["code"]) == (3, "no_such_table")
    assert "<table" in daily_job().plan()._repr_html_()


def test_a_record_that_would_stop_it_is_a_warning(place: Path, script: Callable[..., Path]) -> None:
    fill(100)
    kappa.Log().append("payments", [b'{"status": "captured", "amount": "many"}'], partition=1)
    done = cli("plan", str(script()))
    assert done.returncode == 1
    assert done.stdout.startswith("WARNING: a reprocess of distinct-merchants cannot be measured")
    assert "warning[bad_record]: a reprocess would stop: " in done.stdout
    parsed = document(cli("plan", str(script()), "--json"))
    assert (parsed["exit"], parsed["data"]["cost"], len(parsed["warnings"])) == (1, None, 1)
    assert cli("plan", str(script(on_bad_record="skip"))).returncode == 0


def test_a_log_without_records_has_nothing_to_measure(place: Path) -> None:
    kappa.Log().create("payments")
    plan = daily_job().plan()
    assert (plan.records, plan.seconds, plan.headroom, plan.verdict) == (0, None, None, "fine")
    assert str(plan).startswith("FINE: a reprocess of daily has nothing to read")


@pytest.mark.slow
def test_a_topic_of_a_cluster_is_planned_and_what_is_gone_of_it_is_refused(kafka: Kafka, topic: str, place: Path) -> None:
    from admin import row

    at = {"log.url": kafka.url}
    now = int(time.time() * 1000)
    kafka.create(topic, partitions=2)
    kafka.produce(
        topic, [row({"k": i, "t": START + i}, partition=i % 2, timestamp_ms=now - (3_999 - i) * 1_000) for i in range(4_000)]
    )
    job = kappa.Job("cluster")
    stream = job.read(topic, schema={"k": kappa.Int64, "t": kappa.Timestamp("ms")}, event_time="t")
    job.write(stream.group_by(day=col("t").dt.date()).agg(n=kappa.len()))
    job.run(mode="reprocess", output_table="v1", config=at, progress=False)
    groups = kafka.group_offsets("kappa-default.v1", topic)
    plan = job.plan("v1", config=at)
    (read,) = plan.topics
    assert (plan.verdict, plan.records, plan.changes) == ("fine", 4_000, [])
    assert (read["written_ms"], read["event_time_ms"]) == ([now - 3_999_000, now], [START, START + 3_999])
    assert read["growth_per_second"] == pytest.approx(1, rel=0.01)
    assert not read["bytes_exact"]
    assert 4_000 * 10 < read["bytes"] < 4_000 * 100
    assert kafka.group_offsets("kappa-default.v1", topic) == groups, "the sample moves no consumer group"
    kafka.delete_records(topic, {0: 500})
    gone = job.plan("v1", config=at)
    assert (gone.verdict, gone.records, gone.findings[0]["code"]) == ("refused", 3_500, "retention_gap")
