"""The log: topics of records, appended and read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, BinaryIO, TypeAlias

from kappa import _kappa
from kappa.exceptions import DataError
from kappa.rows import Rows
from kappa.settings import resolve
from kappa.units import Duration, Position, duration_ms, position

RecordLike: TypeAlias = Mapping[str, Any] | bytes | str

_CHUNK = 10_000
_BLOCK = 4 << 20


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
        while chunk := list(islice(remaining, _CHUNK)):
            values = [_encoded(record) for record in chunk]
            keys = None if key is None else [_key(record, key) for record in chunk]
            total += self._native.append(topic, values, keys, partition)
        return total

    def append_lines(self, topic: str, lines: BinaryIO, *, key: str | None = None, partition: int | None = None) -> int:
        """Appends a file of JSON lines, in large blocks.

        >>> import io, kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments")
        ...     kappa.Log().append_lines("payments", io.BytesIO(b'{"id": 1}\\n{"id": 2}\\n'))
        2
        """
        total, rest = 0, b""
        while block := lines.read(_BLOCK):
            whole, newline, tail = block.rpartition(b"\n")
            if not newline:
                rest += block
                continue
            total += self._native.append_lines(topic, rest + whole, key, partition)
            rest = tail
        return total + (self._native.append_lines(topic, rest, key, partition) if rest.strip() else 0)

    def scan(self, topic: str, *, from_: Position = "earliest", until: Position = "head") -> Iterator[Record]:
        """The records between two positions, partition by partition.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments")
        ...     list(kappa.Log().scan("payments"))
        []
        """
        native = self._native.scan(topic, position(from_, "from"), position(until, "until"))
        while batch := native.next_batch():
            for partition, offset, timestamp_ms, key, value, headers in batch:
                yield Record(partition, offset, timestamp_ms, key, value, headers)

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


def _encoded(record: RecordLike) -> bytes:
    if isinstance(record, bytes):
        return record
    if isinstance(record, str):
        return record.encode()
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise DataError(f"{value!r} has no time zone", code="naive_datetime", hint="datetime(…, tzinfo=timezone.utc)")
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise DataError(f"{value!r} ({type(value).__name__}) cannot be written as JSON", code="invalid_record")


def _key(record: RecordLike, name: str) -> bytes | None:
    fields = record if isinstance(record, Mapping) else json.loads(record)
    if not isinstance(fields, Mapping) or name not in fields:
        raise DataError(f"a record has no field {name!r} to be its key", code="missing_key", context={"field": name})
    value = fields[name]
    if value is None:
        return None
    return value.encode() if isinstance(value, str) else json.dumps(value, default=_plain).encode()
