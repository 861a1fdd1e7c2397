"""`kappa.diff`: two tables compared, at one position of the log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kappa import _kappa, diff_html, diff_text
from kappa.explanation import Explanation, explain
from kappa.rows import Rows
from kappa.settings import resolve
from kappa.units import Duration, duration_ms, size_bytes

_IN_DOCUMENT = 20


class _Native(Protocol):
    """A comparison as the engine makes it."""

    def report(self) -> str: ...
    def changed(self) -> _kappa.Rows: ...
    def only_in_a(self) -> _kappa.Rows: ...
    def only_in_b(self) -> _kappa.Rows: ...
    def by_day(self) -> _kappa.Rows: ...


class Diff:
    """What differs between two tables, as `kappa.diff` finds it. It is true where they differ. `changed`, `only_in_a` and
    `only_in_b` hold examples, the first by their key; `by_day` the totals. All are Arrow. In a notebook it shows itself with
    plots.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("payments")
    ...     _ = kappa.Log().append("payments", [{"at": 0, "amount": 5}, {"at": 86_400_000, "amount": 7}])
    ...     for table, least in (("v1", 0), ("v2", 6)):
    ...         job = kappa.Job("totals")
    ...         read = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
    ...         used = kappa.col("amount").filter(kappa.col("amount") > least)
    ...         job.write(read.group_by(day=kappa.col("at").dt.date()).agg(n=used.count()))
    ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
    ...     diff = kappa.diff("v1", "v2")
    >>> diff.changed.to_dicts()
    [{'day': datetime.date(1970, 1, 1), 'n_a': 1, 'n_b': 0}]
    """

    def __init__(self, native: _Native, config: Mapping[str, Any] | None = None) -> None:
        self._native = native
        self._config = config
        self._report: dict[str, Any] = json.loads(native.report())

    @property
    def differs(self) -> bool:
        """Whether anything differs: a column, or a row beyond its tolerance."""
        return bool(self._report["differs"])

    def __bool__(self) -> bool:
        return self.differs

    @property
    def proof(self) -> str | None:
        """Under which this is kept for `kappa.promote`; none if it is of other than two versions at one position of the log."""
        proof: str | None = self._report["proof"]
        return proof

    @property
    def counts(self) -> dict[str, int]:
        """How many rows: `rows_a`, `rows_b`, `same`, `within_tolerance`, `changed`, `only_in_a`, `only_in_b`, and those that
        were not compared, because their groups are not whole: `outside_a`, `outside_b`.
        """
        return dict(self._report["counts"])

    @property
    def columns(self) -> list[dict[str, Any]]:
        """By column that is not of the key: in how many rows it differs, and the greatest distance of two numbers."""
        return [dict(column) for column in self._report["columns"]]

    @property
    def schema(self) -> list[dict[str, Any]]:
        """The columns that are not the same in both tables, with their types."""
        return [dict(difference) for difference in self._report["schema"]]

    @property
    def changed(self) -> Rows:
        """Rows of the same key that differ: the key, then each column as `NAME_a` and `NAME_b`."""
        return Rows(self._native.changed())

    @property
    def only_in_a(self) -> Rows:
        """Rows of the first table that the second has not."""
        return Rows(self._native.only_in_a())

    @property
    def only_in_b(self) -> Rows:
        """Rows of the second table that the first has not."""
        return Rows(self._native.only_in_b())

    @property
    def by_day(self) -> Rows:
        """For each day (by UTC, where the column is a time): rows, what differs, and the sums of numbers in both tables."""
        return Rows(self._native.by_day())

    def explain(self, key: object, *, examples: int = 1000, parallelism: int | None = None) -> Explanation:
        """Why the row of a key is not the same: replays the log, as far as both versions had read it, through the plans of
        both, and shows the records of the key with the step at which they part. `key`: the values of the primary key, as a
        mapping, a tuple or, of one column, the value; of tables without one any columns. Of each pair of fates the first
        `examples` records are kept; counts are of all.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     _ = kappa.Log().append("t", [{"at": 0}, {"at": 60_000}, {"at": 0}])
        ...     for table, late in (("v1", "keep"), ("v2", "drop")):
        ...         job = kappa.Job("docs")
        ...         read = job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at", late=late)
        ...         job.write(read.group_by(day=kappa.col("at").dt.date()).agg(n=kappa.len()))
        ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
        ...     found = kappa.diff("v1", "v2").explain({"day": "1970-01-01"})
        >>> found.cause, found.step, found.parted["late"]
        ('late', ['late: keep → drop'], 1)
        """
        a, b = self._report["a"], self._report["b"]
        return explain(
            a["table"],
            b["table"],
            key,
            snapshots=(a["snapshot_id"], b["snapshot_id"]),
            examples=examples,
            parallelism=parallelism,
            config=self._config,
        )

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it: of the examples the first 20."""
        examples = {"changed": self.changed, "only_in_a": self.only_in_a, "only_in_b": self.only_in_b}
        rows = {name: rows.first(_IN_DOCUMENT) for name, rows in examples.items()}
        return {**self._report, "examples": rows, "by_day": self.by_day.to_dicts()}

    def __str__(self) -> str:
        return diff_text.summary(self._report, self.changed, self.only_in_a, self.only_in_b, self.by_day)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return diff_html.fragment(self._report, self.changed, self.only_in_a, self.only_in_b, self.by_day)

    def to_html(self) -> str:
        """A whole page, for a file."""
        return diff_html.page(self._report, self._repr_html_())


def diff(
    a: str,
    b: str,
    *,
    tolerance: Mapping[str, float] | None = None,
    key: Sequence[str] | None = None,
    examples: int = 1000,
    memory: str | int = "512MiB",
    parallelism: int | None = None,
    rendezvous: Duration = "30s",
    config: Mapping[str, Any] | None = None,
) -> Diff:
    """Compares two tables. Versions of kappa's are compared at the newest position of the log that both have a snapshot of;
    those that run are asked to take a checkpoint at one, and waited for as long as `rendezvous` (`"0s"`: they are not asked);
    with a table that is not kappa's, the rows up to where ours has come in event time. Rows are matched by the primary key, or
    by `key`; tables without one (`key=[]`) are compared as multisets of rows. Numbers that differ by no more than their
    column's `tolerance` are the same. What does not fit in `memory` goes through a file in `TMPDIR`.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     for table in ("v1", "v2"):
    ...         job = kappa.Job("docs")
    ...         job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
    ...     kappa.diff("v1", "v2").differs
    False
    """
    options = {
        "tolerance": dict(tolerance or {}),
        "key": None if key is None else list(key),
        "examples": examples,
        "memory_bytes": size_bytes(memory, "memory"),
        "threads": parallelism,
        "rendezvous_ms": duration_ms(rendezvous, "rendezvous"),
    }
    return Diff(_kappa.diff(resolve(config), a, b, json.dumps(options)), config)
