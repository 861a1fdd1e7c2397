"""Jobs from the log to the table, by the command line and from Python, against DuckDB over the same records."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest

import kappa
from conftest import cli, command, daily_job, document, payments_stream, wait_for
from kappa import col
from kappa.exceptions import DataError, KappaError, RefusedError
from kappa.testing import assert_replay_safe, run

ORACLE = """
select date '1970-01-01' + cast((event_time + 19800000) // 86400000 as integer) as day,
       count(distinct merchant_id) as merchants, cast(sum(amount) as bigint) as total, count(*) as payments
from records where status = 'captured' and amount > 0 group by 1 order by 1
"""


ARROW = pyarrow.schema(
    [
        ("merchant_id", pyarrow.string()),
        ("status", pyarrow.string()),
        ("amount", pyarrow.int64()),
        ("event_time", pyarrow.int64()),
    ]
)


def make_records(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Out of order, some late, some null, a few large merchants."""
    chance = random.Random(seed)
    start, step = 1_772_303_400_000, 20 * 86_400_000 // count
    records = []
    for i in range(count):
        back = chance.randrange(0, 20_000) if chance.random() < 0.05 else 0
        back = chance.randrange(60_000, 86_400_000) if chance.random() < 0.01 else back
        records.append(
            {
                "payment_id": f"p{i}",
                "merchant_id": None if chance.random() < 0.01 else f"m{int(chance.paretovariate(0.6)) % 500}",
                "status": chance.choice(["captured", "captured", "captured", "failed", None]),
                "amount": None if chance.random() < 0.01 else chance.randrange(-50, 1000),
                "event_time": max(start, start + i * step - back),
            }
        )
    return records


def oracle(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """DuckDB's answer."""
    with duckdb.connect() as db:
        db.register("records", pyarrow.Table.from_pylist(records, schema=ARROW))
        return db.execute(ORACLE).fetchall()


def table(name: str) -> list[tuple[Any, ...]]:
    """A table's rows in the oracle's order."""
    return sorted(tuple(row.values()) for row in kappa.read(name).to_dicts())


def fill(records: list[Any], partitions: int = 3) -> None:
    """Appends to the topic, made if it is not there."""
    log = kappa.Log()
    if not len(log.describe()):
        log.create("payments", partitions=partitions)
    log.append("payments", records)


def arrive(live: kappa.Run, records: list[dict[str, Any]], first: int) -> None:
    """Appends the records from one on in slices, each once the running job has had the one before."""
    for upto in range(first + 500, len(records) + 1, 500):
        fill(records[upto - 500 : upto])
        wait_for(lambda upto=upto: live.status().events == upto, "a slice")  # type: ignore[misc]


def reprocess(script: Path, name: str = "metric.daily", *more: str) -> subprocess.CompletedProcess[str]:
    return command(str(script), "--mode", "reprocess", "--output-table", name, *more)


def test_reprocess_equals_duckdb(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(20_000)
    fill(records)
    done = reprocess(script(), "metric.daily", "--json")
    report = document(done)["data"]["report"]
    assert report["outcome"] == "complete"
    assert report["read"] == 20_000 == report["used"] + report["filtered"]
    assert table("metric.daily") == oracle(records)
    assert "reprocess complete: 20,000 events in" in done.stderr
    assert "starting from offset 0 of payments" in done.stderr


def test_live_goes_on_where_reprocess_stopped_and_stops_cleanly(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(6_000)
    fill(records[:3_000])
    assert reprocess(script()).returncode == 0
    live = live_process(script(), "metric.daily")
    try:
        fill(records[3_000:])
        wait_for(lambda: table("metric.daily") == oracle(records), "the live job's rows")
    finally:
        live.send_signal(signal.SIGTERM)
        _, errors = live.communicate(timeout=30)
    assert live.returncode == 0, errors
    assert "going on from" in errors
    assert table("metric.daily") == oracle(records)


def test_a_live_job_on_a_new_table_starts_at_the_beginning(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(2_000)
    fill(records)
    live = live_process(script(), "metric.daily")
    try:
        wait_for(lambda: table("metric.daily") == oracle(records), "the live job's rows")
    finally:
        live.send_signal(signal.SIGINT)
        live.communicate(timeout=30)
    assert live.returncode == 0


def test_a_finished_reprocess_is_refused_until_it_is_to_be_replaced(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(1_000)
    fill(records)
    assert reprocess(script()).returncode == 0
    again = reprocess(script(), "metric.daily", "--json")
    assert document(again)["exit"] == 3
    assert "--replace" in document(again)["error"]["hint"]
    assert reprocess(script(), "metric.daily", "--replace").returncode == 0
    assert table("metric.daily") == oracle(records)


def test_live_on_a_table_of_another_plan_is_refused(place: Path, script: Callable[..., Path]) -> None:
    fill(make_records(100))
    assert reprocess(script()).returncode == 0
    other = script(floor=10, name="other.py")
    done = command(str(other), "--mode", "live", "--output-table", "metric.daily", "--json")
    assert document(done)["exit"] == 3
    assert document(done)["error"]["hint"]


def test_until_and_from_positions(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(300)
    fill(records, partitions=1)
    assert reprocess(script(), "t.until", "--until", "0:100").returncode == 0
    assert table("t.until") == oracle(records[:100])
    assert reprocess(script(), "t.from", "--from", "0:100").returncode == 0
    assert table("t.from") == oracle(records[100:])


@pytest.mark.parametrize(
    "bad",
    [
        b'{"status": "captured", "amount": 1.9, "merchant_id": "m", "event_time": 1772303400000}',
        b'{"status": "captured", "amount": 1e3, "merchant_id": "m", "event_time": 1772303400000}',
        b'{"status": "captured", "amount": 9223372036854775808, "merchant_id": "m", "event_time": 1772303400000}',
        b'{"status": "captured", "amount": 1, "amount": 2, "merchant_id": "m", "event_time": 1772303400000}',
        b'{"status": "captured", "amount": 1, "merchant_id": "m"}',
        b'{"status": "captured", "amount": 1, "merchant_id": "m", "event_time": 1772303400000',
        b'{"status": "captured", "amount": 1, "merchant_id": "m", "event_time": 1772303400000} x',
        b'{"status": "\xff", "amount": 1, "merchant_id": "m", "event_time": 1772303400000}',
        b"[1]",
        b"null",
    ],
)
def test_a_bad_record_stops_the_job_with_its_place(place: Path, script: Callable[..., Path], bad: bytes) -> None:
    records = make_records(10)
    fill(records, partitions=1)
    kappa.Log().append("payments", [bad])
    done = reprocess(script(), "metric.daily", "--json")
    error = document(done)["error"]
    assert done.returncode == 4
    assert error["context"]["topic"] == "payments"
    assert str(error["context"]["offset"]) == "10"
    # The policy may change on the same version: the run goes on.
    skipped = reprocess(script("skip"), "metric.daily", "--json")
    assert document(skipped)["data"]["report"]["bad"] == 1
    assert table("metric.daily") == oracle(records)


def test_dead_letters_have_a_table_of_their_own(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(50)
    fill(records, partitions=1)
    kappa.Log().append("payments", [b"rubbish"])
    assert reprocess(script("dead_letter")).returncode == 0
    letters = kappa.read("metric.daily__dead_letter").to_dicts()
    assert len(letters) == 1
    assert b"rubbish" in [value if isinstance(value, bytes) else str(value).encode() for value in letters[0].values()]
    assert table("metric.daily") == oracle(records)


def test_several_outputs_of_one_job(place: Path) -> None:
    records = make_records(500)
    fill(records)
    job = kappa.Job("two")
    stream = payments_stream(job)
    job.write(stream.filter(col("status") == "captured").select("merchant_id", "amount"), name="captured")
    job.write(stream.group_by("status").agg(kappa.len()), name="counts")
    report = job.run(mode="reprocess", output_table={"captured": "t.captured", "counts": "t.counts"}, progress=False)
    assert sorted(report.tables) == ["t.captured", "t.counts"]
    captured = sum(1 for r in records if r["status"] == "captured")
    assert len(kappa.read("t.captured")) == captured
    assert {row["status"]: row["len"] for row in kappa.read("t.counts").to_dicts()}["captured"] == captured


def test_an_empty_log_and_an_empty_partition(place: Path, script: Callable[..., Path]) -> None:
    kappa.Log().create("payments", partitions=4)
    assert reprocess(script(), "t.empty").returncode == 0
    assert table("t.empty") == []
    records = make_records(10)
    kappa.Log().append("payments", records, partition=2)
    assert reprocess(script(), "t.some").returncode == 0
    assert table("t.some") == oracle(records)


def test_an_interrupted_reprocess_is_not_a_success_and_resumes(place: Path, script: Callable[..., Path]) -> None:
    records = make_records(100_000)
    fill(records)
    arguments = [str(script()), "--mode", "reprocess", "--output-table", "t.x", "--parallelism", "1"]
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()  # it has started
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode in (0, 130)  # 0 only if it was done before the signal came
    if process.returncode == 130:
        assert command(*arguments, "--parallelism", "2").returncode == 0
    assert table("t.x") == oracle(records)


def test_status_wait_and_stop_from_python(place: Path) -> None:
    fill(make_records(1_000))
    with daily_job().start(mode="live", output_table="t.live") as running:
        wait_for(lambda: running.status().state == "caught up", "the head")
        with pytest.raises(TimeoutError):
            running.wait("50ms")
    report = running.wait()
    assert report.outcome == "stopped"
    assert running.status().state == "finished"


def test_the_error_of_a_run_is_raised_by_run_and_wait(place: Path) -> None:
    fill([b"rubbish"])
    with pytest.raises(DataError) as caught:
        daily_job().run(mode="reprocess", output_table="t.x", progress=False)
    assert caught.value.context["topic"] == "payments"


def test_two_processes_on_one_table_conflict(place: Path, script: Callable[..., Path]) -> None:
    fill(make_records(100))
    live = live_process(script(), "metric.daily")
    try:
        second = command(str(script()), "--mode", "live", "--output-table", "metric.daily", "--json")
        assert document(second)["exit"] == 6
    finally:
        live.send_signal(signal.SIGTERM)
        live.communicate(timeout=30)


def test_head_commits_nothing(place: Path) -> None:
    fill(make_records(500))
    job = kappa.Job("look")
    rows = payments_stream(job).select("amount", "status").head(5)
    assert len(rows) == 5
    assert len(payments_stream(job).group_by("status").agg(kappa.len()).head(2)) == 2
    with pytest.raises(KappaError):
        kappa.read("head")


def test_read_as_of_and_by_snapshot(place: Path) -> None:
    fill(make_records(10))
    daily_job().run(mode="reprocess", output_table="t.x", progress=False)
    now = datetime.now(timezone.utc)
    assert len(kappa.read("t.x", as_of=now)) == len(kappa.read("t.x"))
    with pytest.raises(RefusedError):
        kappa.read("t.x", as_of=datetime(2020, 1, 1, tzinfo=timezone.utc))
    with pytest.raises(KappaError):
        kappa.read("t.x", snapshot=1)
    assert document(cli("read", "t.x", "--json"))["data"]["count"] == len(kappa.read("t.x"))
    assert document(cli("read", "t.nowhere", "--json"))["error"]["message"]


def test_a_missing_topic_is_named(place: Path, script: Callable[..., Path]) -> None:
    done = reprocess(script(), "metric.daily", "--json")
    assert document(done)["exit"] == 2
    assert "payments" in document(done)["error"]["message"]


def test_jobs_over_given_records() -> None:
    records = make_records(200)
    rows = run(daily_job(), {"payments": records}).to_dicts()
    assert sum(row["merchants"] for row in rows) > 0
    job = kappa.Job("safe")
    job.write(payments_stream(job).group_by("merchant_id").agg(kappa.len(), total=col("amount").sum()))
    assert_replay_safe(job, {"payments": make_records(2_000)}, parallelism=(1, 2, 3), kills=2)


def test_json_log_lines_are_objects(place: Path, script: Callable[..., Path]) -> None:
    fill(make_records(100))
    done = reprocess(script(), "metric.daily", "--log-format", "json")
    events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert events[0] == "started"
    assert events[-1] == "complete"


def test_lines_for_machines_end_with_the_error_as_one(place: Path, script: Callable[..., Path]) -> None:
    for format_ in (["--log-format", "json"], ["--log-format=json"]):
        done = reprocess(script(), "metric.daily", *format_)
        assert done.returncode == 2
        last = json.loads(done.stderr.strip().splitlines()[-1])
        assert (last["event"], last["code"]) == ("error", "log.unknown_topic")


def live_process(script: Path, name: str) -> subprocess.Popen[str]:
    """A live job that has started; checkpoints come often."""
    words = [sys.executable, str(script), "--mode", "live", "--output-table", name, "--checkpoint-interval", "200ms"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: process.poll() is not None or has_table(name), "the live job")
    return process


def has_table(name: str) -> bool:
    try:
        kappa.read(name)
    except KappaError:
        return False
    return True


def test_types_make_the_whole_way(place: Path) -> None:
    schema = {
        "at": kappa.Timestamp("us"),
        "d": kappa.Date,
        "n": kappa.Decimal(10, 2),
        "f": kappa.Float64,
        "b": kappa.Boolean,
        "i": kappa.Int32,
        "tags": kappa.List(kappa.String),
        "card": kappa.Struct({"country": kappa.String, "digits": kappa.Int64}),
    }
    text = b'{"at":"2026-03-01T00:00:00.000001Z","d":"2026-03-01","n":12.50,"f":0.1,"b":true,"i":-1,"tags":["x",null],"card":{"country":"DK"}}'
    job = kappa.Job("types")
    job.write(job.read("t", schema=schema, event_time="at"))
    (row,) = run(job, {"t": [text]}).to_dicts()
    assert row["at"] == datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=timezone.utc)
    assert str(row["n"]) == "12.50"
    assert row["tags"] == ["x", None]
    assert row["card"] == {"country": "DK", "digits": None}
    assert row["i"] == -1
    assert row["f"] == 0.1


def test_live_goes_on_after_a_reprocess_until_a_position(place: Path) -> None:
    kappa.Log().create("t")
    kappa.Log().append("t", [{"at": i, "k": i % 2} for i in range(10)])
    job = kappa.Job("until")
    stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "k": kappa.Int64}, event_time="at")
    job.write(stream.group_by("k").agg(n=kappa.len()))
    assert job.run(mode="reprocess", output_table="t", until="0:4", progress=False).read == 4
    with job.start(mode="live", output_table="t") as run:
        for _ in range(200):
            if run.status().state == "caught up":
                break
            with pytest.raises(TimeoutError):
                run.wait("50ms")
    assert run.stop().read == 10
    assert sorted(row["n"] for row in kappa.read("t")) == [5, 5]
    with pytest.raises(RefusedError, match="--until 0:4"):
        job.run(mode="live", output_table="t", until="0:6")
