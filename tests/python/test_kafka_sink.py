"""Topics as outputs, read by librdkafka through `confluent-kafka` as any consumer of committed records reads them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import kappa
from kappa import col
from kappa.exceptions import ConfigError, DataError, PlanError, RefusedError

pytest.importorskip("confluent_kafka", reason="NOT CHECKED against Apache Kafka: no confluent-kafka")
from admin import row
from sink_support import (
    WITHIN,
    Sinks,
    Topics,
    check_all,
    check_rows,
    covers,
    events,
    feed,
    fill,
    folded,
    middles,
    payments,
    polled,
    stream_of,
    totals,
    transactions,
    wait_for,
)

# What can be said without a cluster.


def test_a_topic_is_part_of_the_plan_and_not_of_its_fingerprint() -> None:
    def job(to: kappa.KafkaTopic | None) -> kappa.Job:
        made = kappa.Job("docs")
        made.write(stream_of(made), to=to)
        return made

    topic = kappa.KafkaTopic("rows", key=["merchant", "id"])
    assert repr(topic) == "KafkaTopic(\"rows\", key=['merchant', 'id'])"
    assert "append to topic rows, key (merchant, id)" in job(topic).explain()
    assert job(topic).fingerprint == job(None).fingerprint
    with pytest.raises(PlanError, match="merchnt"):
        job(kappa.KafkaTopic("rows", key="merchnt")).explain()
    with pytest.raises(PlanError, match="read and written"):
        job(kappa.KafkaTopic("payments")).explain()
    with pytest.raises(PlanError, match="KafkaTopic"):
        job("rows")  # type: ignore[arg-type]


def test_without_a_cluster_it_says_what_to_set(place: Path) -> None:
    fill(payments(1))
    job = kappa.Job("docs")
    job.write(stream_of(job), to=kappa.KafkaTopic("rows"))
    with pytest.raises(ConfigError, match=r"sink\.url"):
        job.run(mode="reprocess", progress=False)
    with pytest.raises(ConfigError, match="topics only"):
        job.run(mode="reprocess", output_table="t.x", progress=False)


def test_in_tests_of_jobs_a_topic_is_a_table() -> None:
    job = kappa.Job("docs")
    job.write(stream_of(job).group_by("merchant").agg(n=kappa.len()), to=kappa.KafkaTopic("rows"))
    from kappa.testing import run

    assert run(job, {"payments": [{"merchant": "m", "at": 1}] * 3}).to_dicts() == [{"merchant": "m", "n": 3}]


# Results.


def test_all_sinks_have_the_same_records(sink: Topics, sinks: Sinks) -> None:
    records = payments(20_000)
    fill(records)
    sink.create(sinks.rows)
    done = sinks.run()
    assert done.returncode == 0, done.stderr
    check_all(sink, sinks.rows, sinks.totals, records)
    started, complete = events(done.stderr, "started")[0], events(done.stderr, "complete")[0]
    assert started["tables"] == [f"kafka:{sinks.rows}", f"kafka:{sinks.totals}", "t.days"]
    counts = {table["table"]: table["rows"] for table in complete["tables"]}
    assert counts[f"kafka:{sinks.rows}"] == len(sink.records(sinks.rows))
    assert counts[f"kafka:{sinks.totals}"] == len(sink.records(sinks.totals))
    marker = sink.marker(sinks.rows)
    assert (marker["format"], marker["job"], marker["owner"]) == (1, "sinks", 1)


def test_a_checkpoint_is_one_transaction(sink: Topics, sinks: Sinks) -> None:
    """Two workers stage a file each: readers see both or none."""
    records = payments(6_000)
    sink.create(sinks.rows)
    fill(records[:500])
    process = sinks.start("live", 2)
    with polled(sink, sinks.rows) as ends:
        wait_for(lambda: covers(sink, sinks.rows, records[:500]))
        feed(records[500:])
        wait_for(lambda: covers(sink, sinks.rows, records))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=WITHIN)
    check_all(sink, sinks.rows, sinks.totals, records)
    found = sink.records(sinks.rows)
    assert len(transactions(found)) > 3
    assert len(transactions(found)) <= len(events(errors, "checkpoint"))
    assert not middles(found) & set(ends), "a reader of committed records came to the middle of a checkpoint"
    assert len(set(ends)) > 3


def test_only_topics_and_every_type_of_value(sink: Topics, out: Callable[[str], str]) -> None:
    kappa.Log().create("typed", partitions=1)
    kappa.Log().append("typed", [
        {"at": 0, "f": 0.1, "d": "12.30", "l": [1, None], "s": {"a": "x\"y", "b": None}, "day": "2026-04-25", "ok": True},
        {"at": 1_777_117_130_250},
    ])  # fmt: skip
    schema = {"at": kappa.Timestamp("ms"), "f": kappa.Float64, "d": kappa.Decimal(10, 2), "l": kappa.List(kappa.Int64),
              "s": kappa.Struct({"a": kappa.String, "b": kappa.Int32}), "day": kappa.Date, "ok": kappa.Boolean}  # fmt: skip
    job = kappa.Job("typed")
    job.write(job.read("typed", schema=schema, event_time="at"), to=kappa.KafkaTopic(out("a")))
    report = job.run(mode="reprocess", progress=False)
    assert report.tables == {f"kafka:{out('a')}": 2}
    first, second = sink.records(out("a"))
    assert first.key is None
    assert first.value == {"at": "1970-01-01T00:00:00.000Z", "f": 0.1, "d": 12.3, "l": [1, None],
                           "s": {"a": "x\"y", "b": None}, "day": "2026-04-25", "ok": True}  # fmt: skip
    assert second.value == {"at": "2026-04-25T11:38:50.250Z", **dict.fromkeys(["f", "d", "l", "s", "day", "ok"])}
    assert f"topic {out('a')}" in str(report)
    with pytest.raises(RefusedError, match="complete"):
        job.run(mode="reprocess", progress=False)


def test_from_a_topic_to_a_topic(sink: Topics, out: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAPPA_SINK_URL")
    monkeypatch.setenv("KAPPA_LOG_URL", sink.url)
    sink.create(out("in"), 2)
    sink.produce(out("in"), [row({"at": i, "x": i}, partition=0) for i in range(1000)])
    job = kappa.Job("copy")
    stream = job.read(out("in"), schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    job.write(stream.select(x=col("x") * 2), to=kappa.KafkaTopic(out("out")))
    job.run(mode="reprocess", progress=False)
    assert sorted(each.value["x"] for each in sink.records(out("out"))) == [2 * i for i in range(1000)]


def test_live_goes_on_where_it_stopped(sink: Topics, sinks: Sinks) -> None:
    records = payments(6_000)
    for part in range(3):
        fill(records[part * 2000 : (part + 1) * 2000])
        process = sinks.start("live", part + 1)
        wait_for(lambda part=part: covers(sink, sinks.rows, records[: (part + 1) * 2000]))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 0, errors
        check_all(sink, sinks.rows, sinks.totals, records[: (part + 1) * 2000])
    assert sink.marker(sinks.rows)["owner"] == 3


# Refusals.


def test_what_a_topic_holds_is_not_repeated(sink: Topics, out: Callable[[str], str], place: Path) -> None:
    fill(payments(100))

    def job(topic: str, least: int = 0) -> kappa.Job:
        made = kappa.Job("again")
        made.write(stream_of(made).filter(col("amount") > least), to=kappa.KafkaTopic(topic, key="merchant"))
        return made

    job(out("a")).run(mode="reprocess", progress=False)
    held = sink.records(out("a"))
    with pytest.raises(RefusedError, match="is complete") as refused:
        job(out("a")).run(mode="reprocess", progress=False)
    assert "choose new topics" in str(refused.value)
    with pytest.raises(RefusedError, match="another plan"):
        job(out("a"), 5).run(mode="reprocess", progress=False)
    with pytest.raises(RefusedError, match="cannot take back"):
        job(out("a")).run(mode="reprocess", replace=True, progress=False)
    with pytest.raises(RefusedError, match="cannot take back"):
        job(out("a"), 5).run(mode="reprocess", replace=True, force=True, progress=False)
    other_key = kappa.Job("again")
    other_key.write(stream_of(other_key).filter(col("amount") > 0), to=kappa.KafkaTopic(out("a"), key="id"))
    with pytest.raises(RefusedError, match="was begun with the key"):
        other_key.run(mode="live", progress=False)
    (place / "checkpoints").rename(place / "elsewhere")
    with pytest.raises(RefusedError, match="are not in"):
        job(out("a")).run(mode="reprocess", progress=False)
    assert sink.records(out("a")) == held


def test_records_of_others_are_left_alone(sink: Topics, out: Callable[[str], str]) -> None:
    fill(payments(100))
    sink.create(out("a"))
    sink.produce(out("a"), [row({"mine": 1}, partition=0)])
    job = kappa.Job("foreign")
    job.write(stream_of(job), to=kappa.KafkaTopic(out("a")))
    with pytest.raises(RefusedError, match="--force"):
        job.run(mode="reprocess", progress=False)
    assert len(sink.records(out("a"))) == 1
    job.run(mode="reprocess", force=True, progress=False)
    assert len(sink.records(out("a"))) == 101


def test_a_topic_that_was_made_again_is_another(sink: Topics, out: Callable[[str], str]) -> None:
    fill(payments(100))

    def job(name: str = "remade") -> kappa.Job:
        made = kappa.Job(name)
        made.write(stream_of(made), name="a", to=kappa.KafkaTopic(out("a")))
        made.write(stream_of(made), name="t") if name == "both" else None
        return made

    job().run(mode="reprocess", progress=False)
    sink.delete(out("a"))
    sink.create(out("a"))
    # Nothing is in it, and the marker is of the one that was deleted: a new version begins.
    assert job().run(mode="reprocess", progress=False).read == 100
    assert len(sink.records(out("a"))) == 100


def test_a_version_does_not_go_on_in_a_topic_that_was_made_again(sink: Topics, sinks: Sinks) -> None:
    fill(payments(1000))
    assert sinks.run().returncode == 0
    sink.delete(sinks.rows)
    sink.create(sinks.rows)
    again = sinks.run("live")
    assert again.returncode == 3, again.stderr
    assert "topic_recreated" in again.stderr
    assert sink.records(sinks.rows) == []


def test_a_record_that_does_not_fit_is_not_delivered(sink: Topics, out: Callable[[str], str]) -> None:
    sink.create(out("a"), 1, {"max.message.bytes": "2000"})
    kappa.Log().create("payments", partitions=1)
    kappa.Log().append("payments", [{"id": 1, "merchant": "x" * 100, "at": 0}, {"id": 2, "merchant": "y" * 3000, "at": 0}])
    job = kappa.Job("large")
    job.write(stream_of(job), to=kappa.KafkaTopic(out("a"), key="id"))
    with pytest.raises(DataError, match=r"takes at most .*max\.message\.bytes") as error:
        job.run(mode="reprocess", progress=False)
    assert '{"id":2}' in str(error.value)
    assert sink.records(out("a"), committed=False) == []
    sink.limit(out("a"), "max.message.bytes", "20000")
    job.run(mode="reprocess", progress=False)
    assert [each.value["id"] for each in sink.records(out("a"))] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [False, True], ids=["same order", "opposite orders"])
def test_of_two_jobs_that_want_the_same_topics_one_gets_all(
    sink: Topics, tmp_path: Path, out: Callable[[str], str], swapped: bool
) -> None:
    records = payments(1000)
    fill(records)
    sink.create(out("rows"))
    sink.create(out("totals"))
    jobs, processes = [], []
    for name, other in (("a", {}), ("b", {"rows": "totals", "totals": "rows"} if swapped else {})):
        folder = tmp_path / name
        folder.mkdir()
        jobs.append(Sinks(folder, lambda topic, other=other: out(other.get(topic, topic))))
        env = {"KAPPA_CHECKPOINTS": f"file://{folder}/c", "KAPPA_CATALOG_URL": f"sqlite://{folder}/k.db"}
        processes.append(jobs[-1].start("reprocess", 1, env=env))
    ends = [(process.communicate(timeout=WITHIN)[1], process.returncode) for process in processes]
    codes = [code for _, code in ends]
    assert sorted(codes) in ([0, 3], [0, 6]), ends
    winner = jobs[codes.index(0)]
    check_rows(sink.records(winner.rows), records)
    assert folded(sink.records(winner.totals), "merchant") == totals(records)
