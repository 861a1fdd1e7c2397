"""What the tests of topics as outputs share: a job in processes of its own, its input, an oracle, and an independent reader.

The oracle is plain Python over the records that were appended: nothing of the engine's.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, OffsetSpec, ResourceType

import kappa
from admin import Kafka, Record
from conftest import command
from kappa.exceptions import RefusedError
from live_support import again_and_again

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
{more}

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

    def __init__(self, *words: Any, **more: Any) -> None:
        super().__init__(*words, **more)
        self._followed: dict[str, Followed] = {}

    def has(self, topic: str) -> bool:
        return topic in self.admin.list_topics(timeout=WITHIN).topics

    def limit(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(WITHIN)

    def records(self, topic: str, *, committed: bool = True) -> list[Parsed]:
        """All records, once no transaction is open any more: a commit is answered before its markers are written."""
        return [parsed(each) for each in self.read(topic, committed=committed, until_=self.stable_ends(topic))]

    def seen(self, topic: str) -> int:
        """How many committed records have come by now to a reader who goes on from where it was."""
        if topic not in self._followed and self.has(topic):
            self._followed[topic] = Followed(self, topic)
        return self._followed[topic].count() if topic in self._followed else 0

    def close(self) -> None:
        """Ends the readers of `seen`."""
        for followed in self._followed.values():
            followed.consumer.close()

    def marker(self, topic: str) -> Any:
        """The newest marker of a topic."""
        return self.markers(topic)[-1].json

    def markers(self, topic: str) -> list[Record]:
        """The markers of a topic that can be seen now: who died may have left a transaction open."""
        return [each for each in self.read(MARKERS, until_=self.ends(MARKERS)) if each.key == topic.encode()]


class Followed:
    """A topic and a consumer of its committed records."""

    def __init__(self, cluster: Topics, topic: str) -> None:
        own = {"group.id": f"tests-{uuid.uuid4().hex}", "isolation.level": "read_committed", "fetch.wait.max.ms": 20}
        self.consumer = Consumer({**cluster.config, **own, "enable.auto.commit": False, "auto.offset.reset": "error"})
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in cluster.partitions(topic)])
        self.records = 0

    def count(self) -> int:
        """Of all that has come."""
        while messages := self.consumer.consume(10_000, timeout=0.02):
            self.records += sum(message.error() is None for message in messages)
        return self.records


def parsed(record: Record) -> Parsed:
    assert record.partition is not None
    assert record.offset is not None
    return Parsed(None if record.key is None else json.loads(record.key), record.json, record.partition, record.offset)


class Sinks:
    """The job of SCRIPT in processes of its own."""

    def __init__(self, folder: Path, out: Callable[[str], str]) -> None:
        self.rows, self.totals = out("rows"), out("totals")
        self.started: list[subprocess.Popen[str]] = []
        self.path = folder / "sinks.py"
        self.path.write_text(SCRIPT.format(rows=self.rows, totals=self.totals, more=""))
        self.tables = ["table=t.days"]

    def write_also(self, line: str, table: str) -> None:
        """Gives the job another output, and that its table."""
        self.path.write_text(SCRIPT.format(rows=self.rows, totals=self.totals, more=line))
        self.tables.append(table)

    def without_table(self) -> None:
        """Leaves the job only its topics."""
        lines = SCRIPT.format(rows=self.rows, totals=self.totals, more="").splitlines(keepends=True)
        self.path.write_text("".join(line for line in lines if 'name="table"' not in line))
        self.tables = []

    def words(self, mode: str = "reprocess", workers: int = 2, interval: str = "30ms", *more: str) -> list[str]:
        tables = [word for table in self.tables for word in ("--output-table", table)]
        return [str(self.path), "--mode", mode, *tables, "--parallelism", str(workers),
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

    def end(self) -> None:
        """Kills what still runs."""
        for process in self.started:
            if process.returncode is None:  # the others were waited for
                process.kill()
                process.communicate()


class Live:
    """The job as a live run, and the records that it has been given."""

    def __init__(self, cluster: Topics, sinks: Sinks, **env: str) -> None:
        self.cluster, self.sinks = cluster, sinks
        self.records = payments(60_000)
        self.given = 0
        self.give(500)
        cluster.create(sinks.rows)
        self.process = sinks.start("live", 2, env=env)
        self.wait()

    def give(self, count: int) -> None:
        """Appends so many records more."""
        fill(self.records[self.given : self.given + count])
        self.given += count

    def wait(self, within: float = WITHIN) -> None:
        """Until the topic has all that was given."""
        given = self.records[: self.given]
        try:
            wait_for(lambda: self.process.poll() is not None or covers(self.cluster, self.sinks.rows, given), within)
        except AssertionError as error:
            self.process.kill()
            said = self.process.communicate()[1]
            raise AssertionError(f"{error}; the job said\n{said[-4000:]}") from None

    def fed(self, count: int = 100, pause: float = 0.1) -> contextlib.AbstractContextManager[None]:
        """Gives records again and again while the block runs, so that there is always something to commit."""
        return again_and_again(lambda: self.give(count), pause)

    def check(self) -> str:
        """Ends it in order; all outputs hold what was given. What the job has said."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=WITHIN)
        assert self.process.returncode == 0, errors
        check_all(self.cluster, self.sinks.rows, self.sinks.totals, self.records[: self.given])
        return errors


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


def feed(records: list[dict[str, Any]]) -> None:
    """Appends records, little by little."""
    for i in range(0, len(records), 300):
        kappa.Log().append("payments", records[i : i + 300])
        time.sleep(0.02)


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


def middles(found: list[Parsed]) -> set[int]:
    """In a topic of one partition, the offsets that lie between two records of one transaction."""
    return {each.offset for before, each in itertools.pairwise(found) if each.offset == before.offset + 1}


def check_all(cluster: Topics, rows: str, of_totals: str, records: list[dict[str, Any]]) -> None:
    check_rows(cluster.records(rows), records)
    assert folded(cluster.records(of_totals), "merchant") == totals(records)
    assert {str(row["day"]): row["n"] for row in kappa.read("t.days")} == days(records)


def covers(cluster: Topics, topic: str, records: list[dict[str, Any]]) -> bool:
    return cluster.seen(topic) >= sum(each["amount"] != 0 for each in records)


@contextlib.contextmanager
def polled(cluster: Topics, topic: str) -> Iterator[list[int]]:
    """The ends that a reader of committed records sees, again and again."""
    ends: list[int] = []
    over = threading.Event()
    asked = {TopicPartition(topic, 0): OffsetSpec.latest()}

    def poll() -> None:
        while not over.is_set():
            with contextlib.suppress(KafkaException):  # while the broker is away
                answers = cluster.admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=5)
                ends.extend(answer.result(WITHIN).offset for answer in answers.values())
            time.sleep(0.002)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield ends
    finally:
        over.set()
        thread.join()
    assert ends, "the broker was never asked, or never answered: nothing was checked"


def stop(process: subprocess.Popen[str], place: Path) -> None:
    """SIGSTOP, at a moment when it holds no lock of the catalog's: of SQLite's file nobody could take that over."""
    while True:
        process.send_signal(signal.SIGSTOP)
        catalog = sqlite3.connect(place / "catalog.db", isolation_level=None, timeout=0.1)
        with contextlib.closing(catalog), contextlib.suppress(sqlite3.OperationalError):
            catalog.execute("BEGIN IMMEDIATE")
            catalog.execute("ROLLBACK")
            return
        process.send_signal(signal.SIGCONT)
        time.sleep(0.005)


def wait_for(condition: Callable[[], bool], within: float = WITHIN) -> None:
    stop = time.monotonic() + within
    while not condition():
        assert time.monotonic() < stop, f"not within {within:.0f} s"
        time.sleep(0.02)


def events(text: str, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == kind]
