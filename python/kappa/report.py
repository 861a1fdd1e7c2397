"""What a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from kappa import html, words


@dataclass(frozen=True)
class RunReport:
    """What a run did. `tables` maps each table to its rows, and each topic (`kafka:NAME`) to the records written to it so
    far. Counts are of all records since the version's start, `events` of this run alone; `late` counts late records whether
    they were used or dropped, `expired` those that came when their group had expired. Where groups expire, `closed` is how far
    all partitions have come, and `held_by` the partition that they wait for, as `TOPIC/PARTITION`. `peak_memory_bytes` is
    the most that the process had, `memory` the most that each part of it which `--memory` bounds had at any checkpoint, in
    bytes.

    >>> report = RunReport(job="daily", tables={"default.daily": 56}, mode="reprocess", outcome="complete", read=10, used=9,
    ...     filtered=1, late=0, bad=0, below_floor=0, events=10, seconds=2.5, watermark=None, checkpoints=3)
    >>> report.used
    9
    """

    job: str
    tables: Mapping[str, int]
    mode: str
    outcome: Literal["complete", "stopped", "interrupted"]
    read: int
    used: int
    filtered: int
    late: int
    bad: int
    below_floor: int
    events: int
    seconds: float
    watermark: datetime | None
    checkpoints: int
    version: str = ""
    position: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lost: int = 0
    expired: int = 0
    closed: datetime | None = None
    held_by: str | None = None
    peak_memory_bytes: int = 0
    memory: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> RunReport:
        """From the engine's own report."""
        data: dict[str, Any] = json.loads(text)
        ms = data.pop("watermark_ms", None)
        data["tables"] = {table["table"]: table["rows"] for table in data["tables"]}
        data["watermark"] = words.instant(ms)
        data["closed"] = words.instant(data.pop("closed_ms", None))
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in data.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, as the `--json` document holds it."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("watermark", "closed"):
            data[name] = _text(data[name])
        return data

    def left_out(self) -> list[str]:
        """What a person should know of: records that are in the log but not in the tables, whatever the plan's filters.

        >>> RunReport(job="daily", tables={}, mode="live", outcome="stopped", read=9, used=6, filtered=0, late=0, bad=3,
        ...     below_floor=0, events=9, seconds=1.0, watermark=None, checkpoints=1).left_out()
        ['3 bad records are not in the tables']
        """
        gone = "record that was deleted before it was read"
        counts = (
            (self.bad, "bad record"),
            (self.below_floor, "record below --from's time"),
            (self.expired, "record whose group had expired"),
            (self.lost, gone),
        )
        forms = [(n, what, what.replace("record", "records")) for n, what in counts if n]
        return [f"{words.count(n, one, many)} {'is' if n == 1 else 'are'} not in the tables" for n, one, many in forms]

    def _lines(self) -> list[tuple[str, str]]:
        others = {"filtered": self.filtered, "bad": self.bad, "below the floor": self.below_floor}
        others["expired"] = self.expired
        others["late and left out"] = self.read - self.used - sum(others.values())
        account = ", ".join([f"{self.used:,} used", *(f"{n:,} {name}" for name, n in others.items() if n)])
        speed = f", {words.rate(self.events / self.seconds)}" if self.seconds > 0 and self.events else ""
        held = f"{_text(self.closed) or 'none'}, held by {self.held_by}"
        return [
            *((words.place(table), words.count(rows, words.rows_of(table))) for table, rows in self.tables.items()),
            ("outcome", self.outcome),
            ("read", f"{words.count(self.read, 'event')}: {account}"),
            *([("lost", f"{words.count(self.lost, 'event')} deleted before it was read")] if self.lost else []),
            ("late", words.count(self.late, "event")),
            ("this run", f"{words.count(self.events, 'event')} in {words.duration(self.seconds)}{speed}"),
            ("watermark", _text(self.watermark) or "none"),
            *([("closed", held)] if self.held_by else []),
            ("checkpoints", f"{self.checkpoints:,}"),
            *([("peak memory", self._memory())] if self.peak_memory_bytes else []),
        ]

    def _memory(self) -> str:
        names = {"rocksdb": "RocksDB"}
        parts = [f"{names.get(name, name.replace('_', ' '))} {words.size(held)}" for name, held in self.memory.items() if held]
        shares = f"; at checkpoints up to {', '.join(parts)}" if parts else ""
        return words.size(self.peak_memory_bytes) + shares

    def __str__(self) -> str:
        lines = self._lines()
        width = max(len(name) for name, _ in lines) + 2
        return "\n".join([f"{self.job} ({self.mode})", *(f"  {name:<{width}}{value}" for name, value in lines)])

    def _repr_html_(self) -> str:
        return html.pairs(f"{self.job} ({self.mode})", self._lines())


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
