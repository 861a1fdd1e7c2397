"""What a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from kappa import html, words


@dataclass(frozen=True)
class RunReport:
    """What a run did. `read` counts the records of this run; each is exactly one of `used`, `filtered`, `late` (dropped
    or dead-lettered), `bad` and `below_floor`.

    >>> report = RunReport(job="daily", tables=["default.daily"], mode="reprocess", outcome="complete", read=10, used=9,
    ...     filtered=1, late=0, bad=0, below_floor=0, seconds=2.5, watermark=None, checkpoints=3)
    >>> report.used
    9
    """

    job: str
    tables: list[str]
    mode: str
    outcome: Literal["complete", "stopped", "interrupted"]
    read: int
    used: int
    filtered: int
    late: int
    bad: int
    below_floor: int
    seconds: float
    watermark: datetime | None
    checkpoints: int
    version: str = ""
    position: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> RunReport:
        """From the engine's own report."""
        data: dict[str, Any] = json.loads(text)
        ms = data.pop("watermark_ms", None)
        data["watermark"] = None if ms is None else datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in data.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, as the `--json` document holds it."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["watermark"] = None if self.watermark is None else self.watermark.isoformat().replace("+00:00", "Z")
        return data

    def _lines(self) -> list[tuple[str, str]]:
        left_out = {"filtered": self.filtered, "late": self.late, "bad": self.bad, "below the floor": self.below_floor}
        account = ", ".join([f"{self.used:,} used", *(f"{n:,} {name}" for name, n in left_out.items() if n)])
        speed = f", {words.rate(self.read / self.seconds)}" if self.seconds > 0 and self.read else ""
        watermark = "none" if self.watermark is None else self.watermark.isoformat().replace("+00:00", "Z")
        return [
            ("tables", ", ".join(self.tables)),
            ("outcome", self.outcome),
            ("read", f"{words.count(self.read, 'event')}: {account}"),
            ("time", f"{words.duration(self.seconds)}{speed}"),
            ("watermark", watermark),
            ("checkpoints", f"{self.checkpoints:,}"),
        ]

    def __str__(self) -> str:
        lines = self._lines()
        return "\n".join([f"{self.job} ({self.mode})", *(f"  {name:<12}{value}" for name, value in lines)])

    def _repr_html_(self) -> str:
        return html.pairs(f"{self.job} ({self.mode})", self._lines())
