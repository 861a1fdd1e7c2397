"""`Job.preview`: a new plan over the last hours of the log, beside the plan that serves, and the price of the full run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from kappa import _kappa, diff_html, html, preview_text
from kappa.certifying import certify as certifying
from kappa.certifying import unreplaced
from kappa.comparison import Diff
from kappa.exceptions import DataError, RefusedError
from kappa.planning import Plan
from kappa.report import RunReport
from kappa.rows import Rows
from kappa.run import Run, engine_options, start_plan
from kappa.settings import resolve
from kappa.units import Duration, duration_ms

if TYPE_CHECKING:
    from kappa.job import Job


class Follower(Protocol):
    """Who waits for the runs of a preview, and may want it to end."""

    def follow(self, run: Run) -> RunReport:
        """Waits for the end of a run; raises `KeyboardInterrupt` if it was interrupted."""

    def check(self) -> None:
        """Raises `KeyboardInterrupt` if it is to end."""


class Preview(Diff):
    """What a new plan would change, as `Job.preview` finds it: a `Diff` of the old plan's rows (a) and the new one's (b) over
    the last hours of the log, with the `price` of the full run. Nothing was promoted. Where there was nothing to compare with,
    `compared` is false, and nothing differs.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> def totals(least):
    ...     job = kappa.Job("totals")
    ...     read = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    ...     used = read.filter(kappa.col("x") > least)
    ...     job.write(used.group_by(day=kappa.col("at").dt.date()).agg(rows=kappa.len()))
    ...     return job
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     _ = kappa.Log().append("t", [{"at": i * 3_600_000, "x": i % 3} for i in range(72)])
    ...     _ = totals(0).run(mode="reprocess", output_table="v1", progress=False)
    ...     _ = kappa.promote("name", "v1")
    ...     preview = totals(1).preview("24h", output_table="v2", progress=False)
    >>> [(row["day"].day, row["rows_a"], row["rows_b"]) for row in preview.changed.to_dicts()]
    [(2, 16, 8), (3, 16, 8)]
    >>> preview.tables, preview.price.records
    ({'': 'default.v2__preview'}, 72)
    """

    def __init__(self, found: Mapping[str, Any], diffs: Mapping[str, Diff], rows: Rows) -> None:
        self._found, self._diffs = dict(found), dict(diffs)
        shown = next((diff for diff in diffs.values() if diff), next(iter(diffs.values()), None))
        if shown is None:
            super().__init__(_Nothing(found, rows))
        else:
            super().__init__(shown._native, shown._config)

    @property
    def differs(self) -> bool:
        """Whether any output differs."""
        return any(self._diffs.values()) or bool(self._found["unlike"])

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare with."""
        return bool(self._diffs)

    @property
    def diffs(self) -> dict[str, Diff]:
        """By output what differs; the preview itself is that of the first which does."""
        return dict(self._diffs)

    @property
    def price(self) -> Plan:
        """What the full run would read, cost and change, by what this one took."""
        return Plan(self._found["price"])

    @property
    def certificate(self) -> dict[str, Any] | None:
        """With `certify`: whether two runs gave the same rows (`passed`), how they were made (`runs`), and where they part
        (`parted`)."""
        found: dict[str, Any] | None = self._found["certificate"]
        return found

    @property
    def tables(self) -> dict[str, str]:
        """By output the table with the new plan's rows. The next preview replaces it."""
        return dict(self._found["tables"])

    @property
    def window(self) -> dict[str, int]:
        """The event times that were looked at, milliseconds since 1970 UTC: `from_ms`, from which on groups are whole, and
        `until_ms`."""
        return {name: self._found[name] for name in ("from_ms", "until_ms")}

    @property
    def vectors(self) -> dict[str, dict[int, tuple[int, int]]]:
        """By topic and partition, from which offset to which all runs have read."""
        topics = self._found["vectors"].items()
        return {topic: {int(number): (span[0], span[1]) for number, span in spans.items()} for topic, spans in topics}

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it."""
        return {**self._found, "compared": self.compared, "differs": self.differs, "diffs": self._documents()}

    def _documents(self) -> dict[str, Any]:
        return {output: diff.to_dict() for output, diff in self._diffs.items()}

    def summary(self, script: str | None = None) -> str:
        """As it is printed; with the name of the script, what to type next is a command."""
        return preview_text.summary(self._found, self._diffs, script)

    def __str__(self) -> str:
        return self.summary()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = [html.pairs(preview_text.headline(self._found, self._diffs), preview_text.facts(self._found))]
        parts += [diff._repr_html_() for diff in self._diffs.values()]
        parts.append(html.pairs("The full run", preview_text.price(self._found["price"])))
        lines = [*preview_text.notes(self._found, None), *preview_text.closing(self._found, None)]
        return "".join(parts) + "".join(map(html.note, lines))

    def to_html(self) -> str:
        """A whole page, for a file."""
        return diff_html.page(self._report, self._repr_html_())


class _Nothing:
    """The comparison that could not be made."""

    def __init__(self, found: Mapping[str, Any], rows: Rows) -> None:
        self._found, self._rows = found, rows

    def report(self) -> str:
        table = next(iter(self._found["tables"].values()), "")
        named = {"a": {"table": "nothing"}, "b": {"table": table}, "made_ms": self._found["until_ms"]}
        lists: dict[str, Any] = {"columns": [], "schema": [], "notes": [], "key": [], "numbers": []}
        return json.dumps({**named, **lists, "differs": False, "proof": None, "counts": {}})

    def changed(self) -> _kappa.Rows:
        return self._rows._native.slice(0, 0)

    only_in_a = only_in_b = by_day = changed


def preview(
    job: Job,
    last: Duration,
    *,
    output_table: str | Mapping[str, str] | None,
    against: str | None,
    certify: bool,
    allow_gaps: bool,
    parallelism: int | None,
    memory: str | int,
    config: Mapping[str, Any] | None,
    follower: Follower,
) -> Preview:
    """Runs both plans, compares, and prices the full run."""
    settings = resolve(config)
    options = engine_options(
        job,
        mode="reprocess",
        output_table=output_table,
        from_=None,
        until=None,
        parallelism=(os.cpu_count() or 1) if parallelism is None else parallelism,
        memory=memory,
        checkpoint_interval="10s",
    )
    asked = {
        "last_ms": duration_ms(last, "last"),
        "output_tables": options["output_tables"],
        "against": against,
        "certify": certify,
        "allow_gaps": allow_gaps,
    }
    scope = json.loads(_kappa.preview(settings, job.to_json(), json.dumps(asked)))
    new = _run(scope["new"], options, settings, follower)
    runs = {"new": _ran(scope["new"], new)}
    made = dict.fromkeys(scope["new"]["tables"].values(), new.version)
    diffs: dict[str, Diff] = {}
    unlike: list[str] = []
    if scope["old"] is not None and scope["pairs"]:
        try:
            old = _run(scope["old"], options, settings, follower)
        except DataError as error:  # the new plan may be the cure
            unlike = [f"the old plan stops, and there is nothing to compare with: {error}"]
        else:
            runs["old"] = _ran(scope["old"], old)
            with unreplaced(settings, {**made, **dict.fromkeys(scope["old"]["tables"].values(), old.version)}):
                diffs, unlike = _compare(scope, settings)
    certificate = certifying(scope, new, options, settings, config, follower.check) if certify else None
    document = json.dumps(scope["new"]["plan"])
    priced = {
        "against": None if scope["old"] is None else scope["old"]["found_by"],
        "from": None,
        "until": None,
        "parallelism": parallelism,
        "memory_bytes": options["memory_bytes"],
    }
    measured = {"tables": list(scope["new"]["tables"].values()), "seconds": new.seconds}
    with unreplaced(settings, made):
        price = json.loads(_kappa.price(settings, document, json.dumps(priced), json.dumps(measured)))
    found = {
        "job": job.name,
        "fingerprint": scope["new"]["fingerprint"],
        **{name: scope[name] for name in ("last_ms", "from_ms", "until_ms", "margin_ms", "vectors", "records")},
        "tables": scope["new"]["tables"],
        "of": {"new": scope["new"]["of"], "old": {} if scope["old"] is None else scope["old"]["of"]},
        "runs": runs,
        "price": price,
        "certificate": certificate,
        "unlike": unlike,
        "notes": [*scope["notes"], *unlike],
    }
    rows = Rows(_kappa.read(settings, next(iter(scope["new"]["tables"].values())), None, None, None))
    return Preview(found, diffs, rows)


def _run(side: Mapping[str, Any], options: Mapping[str, Any], settings: _kappa.Settings, follower: Follower) -> RunReport:
    given = {**options, "output_tables": side["tables"], "preview": side["preview"], "replace": True}
    follower.check()
    return follower.follow(start_plan(json.dumps(side["plan"]), given, settings))


def _ran(side: Mapping[str, Any], report: RunReport) -> dict[str, Any]:
    return {"tables": dict(report.tables), "seconds": report.seconds, "found_by": side["found_by"], "read": report.read}


def _compare(scope: Mapping[str, Any], settings: _kappa.Settings) -> tuple[dict[str, Diff], list[str]]:
    """By output what differs; and of those that cannot be compared, why."""
    diffs: dict[str, Diff] = {}
    unlike = []
    for output, (old, new) in scope["pairs"]:
        try:
            diffs[output] = Diff(_kappa.diff(settings, old, new, "{}"))
        except RefusedError as error:  # other keys, no column in common
            unlike.append(f"{old} and {new} cannot be compared: {error.message}")
    return diffs, unlike
