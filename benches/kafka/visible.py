"""What a live job has made visible: a table's newest snapshot, or what a reader of committed records of a topic has read."""

from __future__ import annotations

import gzip
import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

import engines
from data import PARTITIONS, Answer, Kafka, verdict

Offsets = dict[int, int]
"""The next offset of each partition of the source that is not visible yet."""


class Output(ABC):
    """Where a live job writes."""

    key: str
    where: str
    """In words: visible where?"""
    interval: str
    """Of checkpoints."""
    limit_ms: float
    """What must be reached, at the 99th percentile."""

    @abstractmethod
    def words(self, topic: str, folder: Path) -> list[str]:
        """The script that reads the topic into this output, and its options."""

    @abstractmethod
    def look(self) -> Offsets | None:
        """What is visible now; none if nothing has changed since the last look."""

    @abstractmethod
    def answer(self) -> str:
        """In words, whether what has come is right, when the job has ended."""

    @abstractmethod
    def close(self) -> None:
        """Lets what it looks at go."""


class TableOutput(Output):
    """The example's table, by the SQL catalog and the metadata file that it points to."""

    key, where, interval, limit_ms = "live_table", "the Iceberg table", "1s", 1500.0

    def __init__(self, folder: Path, expected: Answer) -> None:
        self._folder, self._expected = folder, expected
        self._connection: sqlite3.Connection | None = None
        self._location = ""

    def words(self, topic: str, folder: Path) -> list[str]:
        return [str(engines.job_on(topic, folder)), "--output-table", engines.TABLE]

    def look(self) -> Offsets | None:
        try:
            if self._connection is None:
                catalog = (self._folder / ".kappa" / "catalog.db").resolve()
                self._connection = sqlite3.connect(f"{catalog.as_uri()}?mode=ro", uri=True)
            query = "select metadata_location from iceberg_tables where table_namespace = ? and table_name = ?"
            found = self._connection.execute(query, engines.TABLE.split(".")).fetchone()
        except sqlite3.OperationalError:  # it is being made
            return None
        if found is None or found[0] == self._location:
            return None
        self._location = found[0]
        content = Path(found[0].removeprefix("file://")).read_bytes()
        metadata = json.loads(gzip.decompress(content) if self._location.endswith(".gz.metadata.json") else content)
        current = metadata.get("current-snapshot-id")
        for snapshot in metadata.get("snapshots", []):
            if snapshot["snapshot-id"] == current:
                ((_, offsets),) = json.loads(snapshot["summary"]["kappa.offsets"]).items()
                return {int(partition): offset for partition, offset in offsets.items()}
        return None

    def answer(self) -> str:
        return verdict(self._expected, engines.read_table(self._folder))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class TopicOutput(Output):
    """A topic of one partition, to which the payments are copied with the places where they lay: those of a partition are to
    come in their order, each once."""

    key, where, interval, limit_ms = "live_topic", "the topic, to readers of committed records", "100ms", 400.0

    def __init__(self, kafka: Kafka, topic: str, records: int) -> None:
        self._topic, self._copies = topic, Copies(records)
        kafka.create(topic, 1)
        self._consumer = Consumer({**kafka.config, "group.id": topic, "isolation.level": "read_committed",
                                   "fetch.wait.max.ms": 10, "enable.auto.commit": False})  # fmt: skip
        self._consumer.assign([TopicPartition(topic, 0, 0)])

    def words(self, topic: str, folder: Path) -> list[str]:
        folder.mkdir(parents=True, exist_ok=True)
        return [str(engines.HERE / "jobs" / "kappa_copy.py"), topic, self._topic]

    def look(self) -> Offsets | None:
        found = [message for message in self._consumer.consume(10_000, timeout=0) if message.error() is None]
        self._copies.take(json.loads(message.value()) for message in found)
        return dict(self._copies.offsets) if found else None

    def answer(self) -> str:
        self.look()
        return self._copies.answer()

    def close(self) -> None:
        self._consumer.close()


class Copies:
    """What has come of so many records that were to come."""

    def __init__(self, records: int) -> None:
        self.offsets: Offsets = dict.fromkeys(range(PARTITIONS), 0)
        self._records, self._wrong = records, ""

    def take(self, rows: Iterable[dict]) -> None:
        """Counts rows that have come, in order."""
        for row in rows:
            partition, offset = row["partition"], row["offset"]
            if offset != self.offsets[partition] and not self._wrong:
                self._wrong = f"partition {partition}: offset {offset} came where {self.offsets[partition]} was next"
            self.offsets[partition] = offset + 1

    def answer(self) -> str:
        """In words, whether each came once and in its order."""
        came = sum(self.offsets.values())
        if self._wrong or came != self._records:
            return f"WRONG: {self._wrong or f'{came:,} of {self._records:,} records'}"
        return "exact"
