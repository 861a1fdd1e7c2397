"""How long a record takes from the producer into the table, live: records come at an even rate, and the catalog is asked all
the time which offsets the table's newest snapshot holds."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

import engines
from data import PARTITIONS, Answer, Kafka, verdict
from environments import say
from measure import Run, Supervised

RATE = 10_000
INTERVAL = "1s"
TICK_SECONDS = 0.01
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
WARM_UP = 1_000
"""Records before the clock runs: kappa has started, and made its table, when they are there."""

Sent = tuple[int, int, float]
"""A batch: its partition, the offset behind it, and when it was handed to the producer."""


@dataclass
class Latency:
    """Milliseconds from produce to visible, over batches of equal size."""

    records: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    snapshots: int
    """Different states of the table that were seen."""
    answer: str
    run: Run


class Table:
    """The newest snapshot of a table, by the SQL catalog and the metadata file that it points to."""

    def __init__(self, folder: Path, name: str) -> None:
        self._catalog = folder / ".kappa" / "catalog.db"
        self._name = name.split(".")
        self._connection: sqlite3.Connection | None = None
        self._location = ""
        self.snapshots = 0

    def offsets(self) -> dict[int, int] | None:
        """The next offset of each partition; none if nothing has changed since the last call, or there is no table yet."""
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(f"{self._catalog.resolve().as_uri()}?mode=ro", uri=True)
            query = "select metadata_location from iceberg_tables where table_namespace = ? and table_name = ?"
            found = self._connection.execute(query, self._name).fetchone()
        except sqlite3.OperationalError:  # it is being made
            return None
        if found is None or found[0] == self._location:
            return None
        self._location = found[0]
        return self._snapshot(json.loads(Path(found[0].removeprefix("file://")).read_text()))

    def _snapshot(self, metadata: dict) -> dict[int, int] | None:
        current = metadata.get("current-snapshot-id")
        for snapshot in metadata.get("snapshots", []):
            if snapshot["snapshot-id"] == current:
                self.snapshots += 1
                ((_, offsets),) = json.loads(snapshot["summary"]["kappa.offsets"]).items()
                return {int(partition): offset for partition, offset in offsets.items()}
        return None

    def close(self) -> None:
        """Lets the catalog go."""
        if self._connection is not None:
            self._connection.close()


class Source:
    """Writes records of a file to the partitions in turn, and remembers when it wrote which."""

    def __init__(self, kafka: Kafka, topic: str, lines: list[bytes]) -> None:
        self._topic, self._lines, self._at = topic, lines, 0
        self._producer = Producer({**kafka.config, "linger.ms": 2, "acks": "all", "enable.idempotence": True})
        self._ends = dict.fromkeys(range(PARTITIONS), 0)
        self.sent: list[Sent] = []

    def send(self, count: int) -> None:
        """The next `count` records, spread evenly."""
        for partition in self._ends:
            records = self._lines[self._at : self._at + count // PARTITIONS]
            self._at += len(records)
            now = time.monotonic()
            stamp = time.time_ns() // 1_000_000
            for record in records:
                self._producer.produce(self._topic, record, partition=partition, timestamp=stamp)
            self._ends[partition] += len(records)
            self.sent.append((partition, self._ends[partition], now))
        self._producer.poll(0)

    def send_evenly(self, count: int, rate: int) -> None:
        """So many records, `rate` a second."""
        began = time.monotonic()
        tick = round(rate * TICK_SECONDS)
        for number in range(count // tick):
            time.sleep(max(0.0, began + number * TICK_SECONDS - time.monotonic()))
            self.send(tick)

    def close(self) -> dict[int, int]:
        """Everything is acknowledged; the ends."""
        if left := self._producer.flush(PATIENCE_SECONDS):
            raise TimeoutError(f"{left} records are not acknowledged")
        return self._ends


def delays(sent: list[Sent], seen: list[tuple[float, dict[int, int]]]) -> list[float]:
    """For each batch the seconds until the first look at the table that showed all of it. Looks are in order of time."""
    found, at = [], dict.fromkeys(range(PARTITIONS), 0)
    for partition, end, when in sent:
        # Batches of a partition are in order: the search goes on where the last one ended.
        while seen[at[partition]][1].get(partition, 0) < end:
            at[partition] += 1
        found.append(seen[at[partition]][0] - when)
    return found


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(kafka: Kafka, broker: int, topic: str, lines: list[bytes], expected: Answer, folder: Path, rate: int) -> Latency:
    """Runs kappa live beside a producer. `lines` are all that will be written; `expected` is their answer."""
    kafka.create(topic, PARTITIONS)
    source = Source(kafka, topic, lines)
    job = engines.job_on(topic, folder)
    words = [
        sys.executable,
        str(job),
        "--mode",
        "live",
        "--output-table",
        engines.TABLE,
        "--parallelism",
        str(engines.PARALLELISM),
    ]
    words += ["--checkpoint-interval", INTERVAL, "--json", "--log-format", "json"]
    table = Table(folder, engines.TABLE)
    limit = PATIENCE_SECONDS * 3 + len(lines) / rate
    with Supervised(words, folder, broker, limit, {"KAPPA_LOG_URL": f"kafka://{kafka.bootstrap}"}) as running:
        source.send(WARM_UP)
        _watch(table, running, dict(source._ends))
        source.sent.clear()
        say(f"  {len(lines) - WARM_UP:,} records at {rate:,} a second")
        began = time.monotonic()
        writer = threading.Thread(target=source.send_evenly, args=(len(lines) - WARM_UP, rate), daemon=True)
        table.snapshots = 0
        writer.start()
        seen = _watch(table, running, {p: len(lines) // PARTITIONS for p in range(PARTITIONS)}, len(lines) / rate)
        writer.join()
        seconds = max(when for _, _, when in source.sent) - began
        ends = source.close()
        running.ask_to_end()
        run = running.wait()
    table.close()
    if run.failure:
        raise engines.UnusableError(run.failure)
    if ends != kafka.ends(topic):
        raise engines.UnusableError(f"{topic} ends at {kafka.ends(topic)}, written were {ends}")
    ordered = sorted(1e3 * delay for delay in delays(source.sent, seen))
    shares = (percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])
    answer = verdict(expected, engines.read_table(folder))
    count = len(lines) - WARM_UP
    return Latency(count, seconds, count / seconds, *shares, snapshots=table.snapshots, answer=answer, run=run)


def _watch(table: Table, running: Supervised, ends: dict[int, int], more: float = 0) -> list[tuple[float, dict[int, int]]]:
    """Looks at the table until it holds everything; each new state with the time when it was seen."""
    seen: list[tuple[float, dict[int, int]]] = []
    until = time.monotonic() + PATIENCE_SECONDS + more
    while True:
        if (offsets := table.offsets()) is not None:
            seen.append((time.monotonic(), offsets))
            if all(offsets.get(partition, 0) >= end for partition, end in ends.items()):
                return seen
        if running.has_ended():
            raise engines.UnusableError(f"kappa live has ended: {running.wait().failure or 'with status 0'}")
        if time.monotonic() > until:
            raise engines.UnusableError(f"the table holds {seen[-1][1] if seen else 'nothing'}, not yet {ends}")
        time.sleep(POLL_SECONDS)
