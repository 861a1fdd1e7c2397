"""Topics as outputs, read by librdkafka through `confluent-kafka` as any consumer of committed records reads them.

The oracle is plain Python over the records that were appended: nothing of the engine's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import kappa
from conftest import command
from kappa import col
from kappa.exceptions import ConfigError, DataError, PlanError, RefusedError

confluent_kafka = pytest.importorskip("confluent_kafka", reason="NOT CHECKED against Apache Kafka: no confluent-kafka")
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # noqa: E402

from admin import Kafka, Record, row  # noqa: E402

WITHIN = 60.0
MARKERS = "__kappa_commits"
SCRIPT = """
import kappa
from kappa import col

job = kappa.Job("sinks")
rows = job.read(
    "payments",
    schema={{"id": kappa.Int64, "merchant": kappa.String, "amount": kappa.Int64, "at": kappa.Timestamp("ms")}},
    event_time="at",
    metadata={{"part": "partition", "off": "offset"}},
)
job.write(rows.filter(col("amount") != 0), name="rows", to=kappa.KafkaTopic("{rows}", key="merchant"))
totals = rows.group_by("merchant").agg(total=col("amount").sum(), n=kappa.len()).filter(col("total") > 0)
job.write(totals, name="totals", to=kappa.KafkaTopic("{totals}"))
job.write(rows.group_by(day=col("at").dt.date()).agg(n=kappa.len()), name="table")

if __name__ == "__main__":
    job.main()
"""


class Parsed(NamedTuple):
    """A record whose key and value are JSON."""

    key: Any
    value: Any
    partition: int
    offset: int


class Topics(Kafka):
    """What the sink has written, as an independent reader of the broker sees it."""

    def has(self, topic: str) -> bool:
        return topic in self.admin.list_topics(timeout=WITHIN).topics

    def limit(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(WITHIN)

    def records(self, topic: str, *, committed: bool = True, settled: bool = True) -> list[Parsed]:
        """All records, once no transaction is open any more: a commit is answered before its markers are written. What can be
        read now, if not `settled`."""
        ends = self.stable_ends(topic) if settled else self.ends(topic)
        return [parsed(each) for each in self.read(topic, committed=committed, until_=ends)]

    def marker(self, topic: str) -> dict[str, Any]:
        """The newest marker of a topic."""
        found: dict[str, Any] = [each.json for each in self.read(MARKERS) if each.key == topic.encode()][-1]
        return found


def parsed(record: Record) -> Parsed:
    assert record.partition is not None
    assert record.offset is not None
    return Parsed(None if record.key is None else json.loads(record.key), record.json, record.partition, record.offset)


@pytest.fixture
def sink(kafka: Kafka, place: Path, monkeypatch: pytest.MonkeyPatch) -> Topics:
    monkeypatch.setenv("KAPPA_SINK_URL", kafka.url)
    return Topics(kafka.bootstrap, cluster=kafka.cluster)


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Callable[[str], str]:
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-")
    run = uuid.uuid4().hex[:8]
    return lambda which: f"sink-{name}-{run}-{which}"


@pytest.fixture
def sinks(tmp_path: Path, out: Callable[[str], str]) -> Iterator[Sinks]:
    made = Sinks(tmp_path, out)
    yield made
    for process in made.started:
        if process.returncode is None:  # the others were waited for
            process.kill()
            process.communicate()


def payments(count: int, seed: int = 1, start: int = 0) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    amounts = [chance.choice([-300, -20, 0, 5, 40, 100]) for _ in range(count)]
    return [
        {"id": start + i, "merchant": f'm{chance.randrange(50)} "ü\n', "amount": amount, "at": 1_777_000_000_000 + 60_000 * i}
        for i, amount in enumerate(amounts)
    ]


def fill(records: list[dict[str, Any]], partitions: int = 3) -> None:
    with contextlib.suppress(RefusedError):  # it is there
        kappa.Log().create("payments", partitions=partitions)
    for i in range(0, len(records), 1000):
        kappa.Log().append("payments", records[i : i + 1000])


def stream_of(job: kappa.Job) -> kappa.Stream:
    schema = {"id": kappa.Int64, "merchant": kappa.String, "amount": kappa.Int64, "at": kappa.Timestamp("ms")}
    return job.read("payments", schema=schema, event_time="at")


def totals(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for record in records:
        sums[record["merchant"]][0] += record["amount"]
        sums[record["merchant"]][1] += 1
    return {m: {"merchant": m, "total": total, "n": n} for m, (total, n) in sums.items() if total > 0}


def days(records: list[dict[str, Any]]) -> Counter[str]:
    return Counter(time.strftime("%Y-%m-%d", time.gmtime(record["at"] / 1000)) for record in records)


def folded(records: list[Parsed], key: str) -> dict[str, Any]:
    """What a reader has who keeps the newest record of each key."""
    newest: dict[str, Any] = {}
    for record in records:
        assert list(record.key) == [key]
        newest[record.key[key]] = record.value
    return {name: value for name, value in newest.items() if value is not None}


def check_rows(found: list[Parsed], records: list[dict[str, Any]]) -> None:
    """Each record exactly once, with its key, and those of one source partition in their order."""
    wanted = Counter((each["id"], each["merchant"], each["amount"]) for each in records if each["amount"] != 0)
    got = Counter((each.value["id"], each.value["merchant"], each.value["amount"]) for each in found)
    assert got == wanted, f"missing {list((wanted - got).items())[:5]}, too many {list((got - wanted).items())[:5]}"
    assert all(each.key == {"merchant": each.value["merchant"]} for each in found)
    last: dict[tuple[int, int], int] = defaultdict(lambda: -1)
    for each in found:
        place = (each.partition, each.value["part"])
        assert each.value["off"] > last[place]
        last[place] = each.value["off"]


def transactions(found: list[Parsed]) -> list[int]:
    """How many records each committed transaction has put into a topic of one partition: behind each lies its marker."""
    lengths: list[int] = []
    for before, each in zip([None, *found], found, strict=False):
        if before is not None and each.offset == before.offset + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def check_all(cluster: Topics, rows: str, of_totals: str, records: list[dict[str, Any]]) -> None:
    check_rows(cluster.records(rows), records)
    assert folded(cluster.records(of_totals), "merchant") == totals(records)
    assert {str(row["day"]): row["n"] for row in kappa.read("t.days")} == days(records)


class Sinks:
    """The job of SCRIPT in processes of its own."""

    def __init__(self, folder: Path, out: Callable[[str], str]) -> None:
        self.rows, self.totals = out("rows"), out("totals")
        self.started: list[subprocess.Popen[str]] = []
        self.path = folder / "sinks.py"
        self.path.write_text(SCRIPT.format(rows=self.rows, totals=self.totals))

    def words(self, mode: str = "reprocess", workers: int = 2, interval: str = "30ms", *more: str) -> list[str]:
        return [str(self.path), "--mode", mode, "--output-table", "table=t.days", "--parallelism", str(workers),
                "--checkpoint-interval", interval, "--log-format", "json", *more]  # fmt: skip

    def run(self, *words: Any, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return command(*self.words(*words), env=env)

    def start(self, *words: Any, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *self.words(*words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.started.append(process)
        return process


def events(text: str, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == kind]


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


def feed(records: list[dict[str, Any]]) -> None:
    """Appends records, little by little."""
    for i in range(0, len(records), 300):
        kappa.Log().append("payments", records[i : i + 300])
        time.sleep(0.02)


def middles(found: list[Parsed]) -> set[int]:
    """In a topic of one partition, the offsets that lie between two records of one transaction."""
    return {each.offset for before, each in itertools.pairwise(found) if each.offset == before.offset + 1}


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
        wait_for(lambda part=part: sink.has(sinks.rows) and covers(sink, sinks.rows, records[: (part + 1) * 2000]))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 0, errors
        check_all(sink, sinks.rows, sinks.totals, records[: (part + 1) * 2000])
    assert sink.marker(sinks.rows)["owner"] == 3


def covers(cluster: Topics, topic: str, records: list[dict[str, Any]]) -> bool:
    return len(cluster.records(topic, settled=False)) >= sum(each["amount"] != 0 for each in records)


def wait_for(condition: Callable[[], bool], within: float = WITHIN) -> None:
    stop = time.monotonic() + within
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.05)


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
def test_of_two_jobs_that_want_a_topic_one_gets_it(sink: Topics, tmp_path: Path, out: Callable[[str], str]) -> None:
    records = payments(1000)
    fill(records)
    folders = [tmp_path / name for name in "ab"]
    sink.create(out("rows"))
    processes = []
    for folder in folders:
        folder.mkdir()
        both = Sinks(folder, out)
        env = {"KAPPA_CHECKPOINTS": f"file://{folder}/c", "KAPPA_CATALOG_URL": f"sqlite://{folder}/k.db"}
        processes.append(both.start("reprocess", 1, env=env))
    ends = [(process.communicate(timeout=WITHIN)[1], process.returncode) for process in processes]
    assert sorted(code for _, code in ends)[0] == 0, ends
    assert sorted(code for _, code in ends)[1] in (3, 6), ends
    check_rows(sink.records(both.rows), records)


# Crashes.

# Of V3, the claim of a topic, there are two.
POINTS = ["K5", "K6", "K8", "K10", "K11", "K12", "K13", "K14", "K15", "K16", "K17", "K18", "K19", "K20"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak), pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(sink: Topics, sinks: Sinks, point: str, seed: int) -> None:
    """Each record exactly once, and who polls meanwhile never sees a part of a checkpoint."""
    chance = random.Random(f"{point}-{seed}")
    records = payments(9_000, seed)
    fill(records[:1_000])
    sink.create(sinks.rows)
    feeder = threading.Thread(target=feed, args=[records[1_000:]])
    with polled(sink, sinks.rows) as ends:
        first = sinks.start("live", chance.choice([1, 2]), env={"KAPPA_FAILPOINT": f"{point}:{seed}"})
        wait_for(lambda: first.poll() is not None or covers(sink, sinks.rows, records[:1_000]))
        feeder.start()
        _, errors = first.communicate(timeout=WITHIN)
        assert first.returncode == -9, errors
        feeder.join()
        again = sinks.start("live", chance.choice([1, 2, 3]))
        wait_for(lambda: again.poll() is not None or (sink.has(sinks.rows) and covers(sink, sinks.rows, records)))
        again.send_signal(signal.SIGTERM)
        _, more = again.communicate(timeout=WITHIN)
        assert again.returncode == 0, more
    check_all(sink, sinks.rows, sinks.totals, records)
    found = sink.records(sinks.rows)
    confirmed = len(events(errors, "checkpoint")) + len(events(more, "checkpoint"))
    assert len(transactions(found)) <= confirmed + 5, "a checkpoint is in more than one transaction"
    assert not middles(found) & set(ends), "a reader of committed records came to the middle of a checkpoint"


@contextlib.contextmanager
def polled(cluster: Topics, topic: str) -> Iterator[list[int]]:
    """The ends that a reader of committed records sees, again and again."""
    ends: list[int] = []
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            ends.append(cluster.ends(topic)[0])
            time.sleep(0.002)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield ends
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("point", ["V3:1", "V3:2", "V2:1", "K21:1", "K21:3"])
def test_killed_while_topics_are_claimed(sink: Topics, sinks: Sinks, point: str) -> None:
    records = payments(2_000)
    fill(records)
    sinks.run(env={"KAPPA_FAILPOINT": point if point.startswith("V") else "V2:1"})
    assert sinks.run(env={"KAPPA_FAILPOINT": point}).returncode in (0, -9)
    done = sinks.run()
    assert done.returncode in (0, 3), done.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_killed_at_any_moment_again_and_again(sink: Topics, sinks: Sinks, seed: int) -> None:
    chance = random.Random(seed)
    records = payments(15_000, seed)
    fill(records)
    for _ in range(6):
        process = sinks.start("reprocess", chance.choice([1, 2, 3]))
        time.sleep(chance.uniform(0.3, 1.5))
        process.kill()
        process.communicate()
    last = sinks.run("reprocess", 2)
    assert last.returncode in (0, 3), last.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["K11", "K12", "K14", "K17"])
def test_killed_during_recovery_too(sink: Topics, sinks: Sinks, point: str) -> None:
    records = payments(5_000)
    fill(records)
    assert sinks.run("reprocess", 2, "1h", env={"KAPPA_FAILPOINT": "K10"}).returncode == -9
    for _ in range(3):
        assert sinks.run("reprocess", 1, "1h", env={"KAPPA_FAILPOINT": point}).returncode in (-9, 3)
    again = sinks.run("reprocess", 2, "1h")
    assert again.returncode in (0, 3), again.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.03, 0.1, 0.2])
def test_a_process_that_was_taken_over_finds_out(sink: Topics, sinks: Sinks, moment: float) -> None:
    records = payments(9_000)
    fill(records[:3_000])
    old = sinks.start("live", 2, "10ms")
    wait_for(lambda: sink.has(sinks.rows) and covers(sink, sinks.rows, records[:3_000]))
    feeder = threading.Thread(target=feed, args=[records[3_000:6_000]])
    feeder.start()
    time.sleep(moment)
    old.send_signal(signal.SIGSTOP)
    feeder.join()
    new = sinks.start("live", 2, "10ms", "--take-over")
    wait_for(lambda: covers(sink, sinks.rows, records[:6_000]))
    old.send_signal(signal.SIGCONT)
    fill(records[6_000:])
    _, errors = old.communicate(timeout=WITHIN)
    assert old.returncode == 6, errors
    assert "took this version over" in errors
    wait_for(lambda: covers(sink, sinks.rows, records))
    new.send_signal(signal.SIGTERM)
    _, errors = new.communicate(timeout=WITHIN)
    assert new.returncode == 0, errors
    check_all(sink, sinks.rows, sinks.totals, records)
