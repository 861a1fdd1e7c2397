"""The log: topics of records, appended and read."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any

from kappa import _kappa
from kappa.exceptions import ConfigError
from kappa.records import RecordLike, encoded, key_of
from kappa.rows import Rows
from kappa.settings import resolve
from kappa.units import Duration, Position, duration_ms, position

_CHUNK = 10_000


@dataclass(frozen=True)
class Record:
    """A record of the log as it is stored.

    >>> Record(partition=0, offset=7, timestamp_ms=0, key=None, value=b'{"x": 1}').json()
    {'x': 1}
    """

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)

    def json(self) -> Any:
        """The value, decoded from JSON; `None` for a null value."""
        return None if self.value is None else json.loads(self.value)


class Log:
    """The log that jobs read: of the settings, or at a URL of your own.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     log = kappa.Log()
    ...     log.create("payments", partitions=2)
    ...     log.append("payments", [{"id": 1}, {"id": 2}, {"id": 3}], partition=0)
    ...     [record.json()["id"] for record in log.scan("payments")]
    3
    [1, 2, 3]
    """

    def __init__(self, url: str | None = None, *, config: Mapping[str, Any] | None = None) -> None:
        overrides = {**(config or {}), "log.url": url} if url is not None else config
        self._native = _kappa.Log(resolve(overrides))

    def create(self, topic: str, *, partitions: int = 1, retention: Duration | None = None) -> None:
        """Makes a topic. Records older than `retention` may be removed; by default all are kept.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments", partitions=4, retention="90d")
        """
        self._native.create(topic, partitions, None if retention is None else duration_ms(retention, "retention"))

    def append(self, topic: str, records: Iterable[RecordLike], *, key: str | None = None, partition: int | None = None) -> int:
        """Appends records, durably, and says how many. Mappings are written as JSON.

        `key` names the field whose value becomes the record's key: equal keys go to one partition, in order. Without a key
        records go round robin, or all to `partition`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments", partitions=4)
        ...     kappa.Log().append("payments", [{"id": 1, "merchant": "m-1"}], key="merchant")
        1
        """
        if isinstance(records, str | bytes | Mapping):
            records = [records]
        total = 0
        remaining = iter(records)
        with closing(self._native.writer(topic, partition)) as writer:
            while chunk := list(islice(remaining, _CHUNK)):
                values = [encoded(record) for record in chunk]
                writer.append(values, None if key is None else [key_of(record, key) for record in chunk])
                total += len(values)
            writer.flush()
        return total

    def append_file(
        self, topic: str, path: str | os.PathLike[str], *, key: str | None = None, partition: int | None = None
    ) -> int:
        """Appends a file of JSON lines, at the speed of the disk; `"-"` is standard input.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary() as place:
        ...     kappa.Log().create("payments")
        ...     written = (place / "payments.jsonl").write_text('{"id": 1}\\n{"id": 2}\\n')
        ...     kappa.Log().append_file("payments", place / "payments.jsonl")
        2
        """
        return self._append_file(topic, path, key, partition)[0]

    def _append_file(self, topic: str, path: str | os.PathLike[str], key: str | None, partition: int | None) -> tuple[int, int]:
        """How many records were appended, and how many of them have no key although one was asked for."""
        if os.fspath(path) != "-" and not os.path.exists(path):
            raise ConfigError(f"there is no file {os.fspath(path)}", code="file_not_found")
        if os.path.isdir(path):
            raise ConfigError(f"{os.fspath(path)} is a directory, not a file of JSON lines", code="file_not_found")
        with closing(self._native.writer(topic, partition)) as writer:
            return writer.append_file(None if os.fspath(path) == "-" else os.fspath(path), key)

    def scan(self, topic: str, *, from_: Position = "earliest", until: Position = "head") -> Iterator[Record]:
        """The records between two positions, partition by partition.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments")
        ...     list(kappa.Log().scan("payments"))
        []
        """
        earliest, head = self._ends(topic)
        start = {**earliest, **self._offsets(topic, position(from_, "from"), earliest, head)}
        end = {**head, **self._offsets(topic, position(until, "until"), earliest, head)}
        native = self._native.scan(topic, [(p, max(start[p], earliest[p]), min(end[p], head[p])) for p in earliest])
        while batch := native.next_batch():
            yield from (Record(*record) for record in batch)

    def tail(self, topic: str, n: int = 10) -> list[Record]:
        """The last records over all partitions, by their timestamps.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments")
        ...     appended = kappa.Log().append("payments", [{"id": i} for i in range(5)])
        ...     [record.json() for record in kappa.Log().tail("payments", 2)]
        [{'id': 3}, {'id': 4}]
        """
        if n < 0:
            raise ConfigError(f"tail of {n} records: a number of records is 0 or more", code="invalid_argument")
        return [Record(*record) for record in self._native.tail(topic, n)]

    def describe(self, topic: str | None = None) -> Rows:
        """The partitions of a topic, or of all: their offsets and sizes.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments", partitions=4)
        ...     len(kappa.Log().describe("payments"))
        4
        """
        return Rows(self._native.describe(topic))

    def _ends(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        rows = self.describe(topic).to_dicts()
        return {row["partition"]: row["earliest"] for row in rows}, {row["partition"]: row["head"] for row in rows}

    def _offsets(self, topic: str, place: str, earliest: dict[int, int], head: dict[int, int]) -> dict[int, int]:
        """The offset of each partition at a position in its text form."""
        if place in ("earliest", "head"):
            return earliest if place == "earliest" else head
        if re.fullmatch(r"[\d:,]+", place):
            offsets = {int(partition): int(offset) for partition, offset in (pair.split(":") for pair in place.split(","))}
            if unknown := sorted(set(offsets) - set(head)):
                raise ConfigError(f"topic {topic} has no partition {unknown[0]}", code="unknown_partition")
            return offsets
        if place[-1] == "Z":
            moment = int(datetime.fromisoformat(place[:-1] + "+00:00").timestamp() * 1000)
        else:
            moment = int(time.time() * 1000) - duration_ms(place, "position")
        return {partition: self._native.offset_at(topic, partition, moment) for partition in head}
