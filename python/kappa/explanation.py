"""`Diff.explain`: the records of one key, through both versions."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Literal

from kappa import _kappa, explanation_text, words
from kappa.exceptions import ConfigError
from kappa.rows import Rows
from kappa.settings import resolve
from kappa.units import Duration, duration_ms

_IN_DOCUMENT = 20
_AT_ONCE = 2.0
_PERIOD = 0.5
_LINES = 10.0


class Explanation:
    """Why the row of a key is not the same in two tables, as `Diff.explain` finds it: the records of the key, what became of
    each in either version, and the step at which the two part. It is true where the rows differ. In a notebook it shows itself
    as tables.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("payments")
    ...     _ = kappa.Log().append("payments", [{"at": 0, "amount": 5}, {"at": 1, "amount": 7}])
    ...     for table, least in (("v1", 0), ("v2", 6)):
    ...         job = kappa.Job("totals")
    ...         read = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
    ...         used = read.filter(kappa.col("amount") > least)
    ...         job.write(used.group_by(day=kappa.col("at").dt.date()).agg(n=kappa.len()))
    ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
    ...     found = kappa.diff("v1", "v2").explain("1970-01-01")
    >>> found.cause, found.step
    ('changed_step', ['filter: amount > 0 → amount > 6'])
    >>> [(row["offset"], row["fate_a"], row["fate_b"]) for row in found.records]
    [(0, 'used', 'filtered'), (1, 'used', 'used')]
    """

    def __init__(self, native: _kappa.Explanation) -> None:
        self._native = native
        self._report: dict[str, Any] = json.loads(native.report())

    @property
    def differs(self) -> bool:
        """Whether the rows of the key differ."""
        return bool(self._report["differs"])

    def __bool__(self) -> bool:
        return self.differs

    @property
    def key(self) -> dict[str, str | None]:
        """The key: columns and values, as text."""
        return dict(self._report["key"])

    @property
    def cause(self) -> Literal["changed_step", "late", "bad_record", "missing_history", "none"]:
        """Why: a step that is not the same, or records that came too late for one, that one could not decode, that one has not
        read. Where the rows are the same: `none`.
        """
        found: Literal["changed_step", "late", "bad_record", "missing_history", "none"] = self._report["cause"]
        return found

    @property
    def step(self) -> list[str]:
        """The first step at which records part: what of it is not the same, before and after. Empty where that is no step's
        doing.
        """
        step = self._report["step"]
        return [] if step is None else list(step["in_words"])

    @property
    def parted(self) -> dict[str, int]:
        """How many records of the key count in one version otherwise than in the other, by why."""
        return dict(self._report["parted"])

    @property
    def fates(self) -> list[dict[str, Any]]:
        """How many records of the key had which fates in the two versions: `a`, `b`, `records`, and which filter it was."""
        return [dict(fate) for fate in self._report["fates"]]

    @property
    def records(self) -> Rows:
        """Records of the key, of each pair of fates the first: partition, offset, event time, what became of each, the columns
        that the plans use, and what their steps made of them.
        """
        return Rows(self._native.records())

    @property
    def row_a(self) -> Rows:
        """The row of the key in the first table; none if it has no such row."""
        return Rows(self._native.row_a())

    @property
    def row_b(self) -> Rows:
        """The row of the key in the second table."""
        return Rows(self._native.row_b())

    @property
    def notes(self) -> list[str]:
        """What to know of: records that are gone from the log, tables that are not kappa's."""
        return list(self._report["notes"])

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it: of the records the first 20."""
        records = self._native.records().to_dicts(0, _IN_DOCUMENT)
        rows = {"row_a": self.row_a.to_dicts(), "row_b": self.row_b.to_dicts()}
        return {**self._report, "key": self.key, "records": records, **rows}

    def __str__(self) -> str:
        return explanation_text.summary(self._report, self.records, self.row_a, self.row_b)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return explanation_text.fragment(self._report, self.records, self.row_a, self.row_b)

    def to_html(self) -> str:
        """A whole page, for a file."""
        return explanation_text.page(self._report, self._repr_html_())


def explain(
    a: str,
    b: str,
    key: object,
    *,
    snapshots: Sequence[int | None] | None = None,
    examples: int = 1000,
    parallelism: int | None = None,
    rendezvous: Duration = "0s",
    progress: bool = True,
    config: Mapping[str, Any] | None = None,
) -> Explanation:
    """Replays the records of a key. `snapshots`: those that were compared; else those that a comparison would take now."""
    if examples < 0:
        raise ConfigError(f"examples={examples}: a number of records is 0 or more", code="invalid_argument")
    options = {
        "key": _asked(key),
        "snapshots": None if snapshots is None else list(snapshots),
        "examples": examples,
        "threads": parallelism,
        "rendezvous_ms": duration_ms(rendezvous, "rendezvous"),
    }
    line = _Line() if progress else None
    try:
        return Explanation(_kappa.explain_key(resolve(config), a, b, json.dumps(options), line))
    finally:
        if line is not None:
            line.close()


def _asked(key: object) -> str | list[str | None] | dict[str, str | None]:
    """A key as the engine takes it.

    >>> _asked({"day": date(2026, 3, 3), "currency": None}), _asked((1, "DKK")), _asked("day=2026-03-03"), _asked(7)
    ({'day': '2026-03-03', 'currency': None}, ['1', 'DKK'], 'day=2026-03-03', ['7'])
    """
    if isinstance(key, str):
        return key
    if isinstance(key, Mapping):
        return {str(name): _text(value) for name, value in key.items()}
    return [_text(value) for value in (key if isinstance(key, tuple | list) else (key,))]


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ConfigError(f"{value!r} has no time zone", code="invalid_argument", hint="give it one, for example UTC")
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int | float | Decimal):
        return str(value)
    raise ConfigError(f"{value!r} is no value of a key", code="invalid_argument")


class _Line:
    """How far a long replay is: on a terminal in place, else a line now and then. A short one says nothing."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._in_place = sys.stderr.isatty()
        self._open = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began < _AT_ONCE or now - self._said < (_PERIOD if self._in_place else _LINES):
            return
        self._said = now
        left = (now - self._began) * (total - done) / done if done else None
        time_left = "" if left is None else f", about {words.duration(max(1, round(left)))} left"
        text = f"replayed {done:,} of {words.count(total, 'record')}{time_left}"
        self._open = self._in_place
        print(f"\r\x1b[K{text}" if self._in_place else text, end="" if self._in_place else "\n", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the screen tidy."""
        if self._open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
