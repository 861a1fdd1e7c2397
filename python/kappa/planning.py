"""`Job.plan`: what a reprocess would read, cost and change, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from kappa import _kappa, html, words
from kappa.settings import resolve
from kappa.units import Position, position, size_bytes

if TYPE_CHECKING:
    from kappa.job import Job

_PARTITIONS = 4
_CHANGES = 12
_MARKS = {"fine": "FINE", "warning": "WARNING", "refused": "REFUSED"}


class Plan:
    """What a reprocess would do, as `Job.plan` finds it.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> job = kappa.Job("docs")
    >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    >>> job.write(stream.group_by("x").agg(rows=kappa.len()))
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     _ = kappa.Log().append("t", [{"at": i, "x": i % 3} for i in range(100)])
    ...     plan = job.plan()
    >>> plan.records, plan.verdict, plan.changes
    (100, 'fine', [])
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = dict(report)

    @property
    def verdict(self) -> Literal["fine", "warning", "refused"]:
        """`fine`, `warning`: something to decide about, or `refused`: it would not do what is wanted of it."""
        found: Literal["fine", "warning", "refused"] = self._report["verdict"]
        return found

    @property
    def records(self) -> int:
        """How many records would be read."""
        return int(self._report["records"])

    @property
    def bytes(self) -> int | None:
        """How many bytes of the log; of a cluster about, without its compression."""
        found = [topic["bytes"] for topic in self._report["topics"]]
        return None if None in found else sum(found)

    @property
    def topics(self) -> list[dict[str, Any]]:
        """By topic: partitions with their offsets, records, bytes, times, and how fast it grows."""
        return [dict(topic) for topic in self._report["topics"]]

    @property
    def records_per_second(self) -> float | None:
        """How fast the sample was read; `None` if there was nothing to read, or a record stopped it."""
        cost = self._report["cost"]
        return None if cost is None else float(cost["records_per_second"])

    @property
    def seconds(self) -> float | None:
        """How long a reprocess takes, by the sample."""
        cost = self._report["cost"]
        return None if cost is None else float(cost["seconds"])

    @property
    def headroom(self) -> float | None:
        """How many times faster than it grows the log is read; `None` if nothing is written to it, or that is not known."""
        found = self._report["headroom"]
        return None if found is None else float(found)

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What changes against the version of the table: of which step what, before and after. Empty without `against`."""
        against = self._report["against"]
        return [] if against is None else [dict(change) for change in against["changes"]]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What to know of: `level` (`info`, `warning`, `refused`), `code`, `message` and `hint`; the worst first."""
        return [dict(finding) for finding in self._report["findings"]]

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it."""
        return dict(self._report)

    def __str__(self) -> str:
        facts = list(_facts(self._report))
        width = max(len(name) for name, _ in facts) + 2
        blocks = [
            [_headline(self._report)],
            [f"  {name:<{width}}{value}" for name, value in facts],
            list(_changes(self._report)),
            [f"{finding['level']}[{finding['code']}]: {_sentence(finding)}" for finding in self.findings],
        ]
        return "\n\n".join("\n".join(block) for block in blocks if block)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        notes = [*_changes(self._report), *(f"{it['level']}: {_sentence(it)}" for it in self.findings)]
        return html.pairs(_headline(self._report), _facts(self._report)) + "".join(map(html.note, notes))


def plan(
    job: Job,
    *,
    against: str | None,
    from_: Position | None,
    until: Position | None,
    parallelism: int | None,
    memory: str | int,
    config: Mapping[str, Any] | None,
) -> Plan:
    """Asks the log and the catalog, and runs a sample."""
    options = {
        "against": against,
        "from": None if from_ is None else position(from_, "from"),
        "until": None if until is None else position(until, "until"),
        "parallelism": parallelism,
        "memory_bytes": size_bytes(memory, "memory"),
    }
    return Plan(json.loads(_kappa.plan(resolve(config), job.to_json(), json.dumps(options))))


def _headline(report: Mapping[str, Any]) -> str:
    cost = report["cost"]
    takes = "has nothing to read" if not report["records"] else "cannot be measured"
    if cost is not None:
        takes = f"takes about {words.duration(cost['seconds'])}"
    return f"{_MARKS[report['verdict']]}: a reprocess of {report['job']} {takes}"


def _facts(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for topic in report["topics"]:
        yield from _topic(topic)
    yield from price(report)
    against = report["against"]
    if against is not None:
        state = f", its state is {words.size(against['state_bytes'])}" if against["state_bytes"] else ""
        since = f"checkpoint {against['checkpoint']:,} from {against['from']}{state}"
        yield "against", f"{against['table']} (job {against['job']}, {since})"


def _topic(topic: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    about = "" if topic["bytes_exact"] else "about "
    size = "" if topic["bytes"] is None else f", {about}{words.size(topic['bytes'])}"
    partitions = topic["partitions"]
    where = words.count(len(partitions), "partition")
    yield "reads", f"{words.count(topic['records'], 'record')} of {topic['topic']} in {where}{size}"
    if len(partitions) <= _PARTITIONS:
        yield "offsets", "  ".join(f"{it['partition']}: {it['start']:,} to {it['end']:,}" for it in partitions)
    for name, key in (("written", "written_ms"), ("event time", "event_time_ms")):
        if topic[key] is not None:
            yield name, f"{words.utc(topic[key][0])} to {words.utc(topic[key][1])}"


def price(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What it costs, and how fast the log grows against it."""
    yield from _cost(report)
    growth, headroom = report["growth_per_second"], report["headroom"]
    if growth is None:
        yield "log grows", "not at all"
    else:
        yield "log grows", f"by {words.rate(growth)}" + ("" if headroom is None else f": it is read {_times(headroom)} as fast")


def _cost(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    cost, sample, free = report["cost"], report["sample"], report["free_bytes"]
    if cost is None:
        return
    measured = f"{words.count(sample['records'], 'record')} in {words.duration(sample['seconds'])}"
    yield "rate", f"{words.rate(cost['records_per_second'])}, measured on {measured}"
    yield "takes", words.duration(cost["seconds"])
    bound = "" if cost["exact"] else "at most "
    room = "" if free is None else f" ({words.size(free)} free)"
    yield "writes", f"{bound}{words.size(cost['output_bytes'])} of tables and {words.size(cost['state_bytes'])} of state{room}"


def _times(headroom: float) -> str:
    """`2.3 times`, `1,200 times`.

    >>> _times(2.34), _times(1200.4)
    ('2.3 times', '1,200 times')
    """
    return f"{headroom:.1f} times" if headroom < 10 else f"{headroom:,.0f} times"


def _changes(report: Mapping[str, Any]) -> Iterable[str]:
    against = report["against"]
    if against is None:
        return
    if against["same"]:
        yield f"the plan of {against['table']} is the same: nothing changes"
        return
    changes = against["in_words"]
    yield f"what changes against {against['table']}:"
    yield from (f"  {words.printable(change)}" for change in changes[:_CHANGES])
    if len(changes) > _CHANGES:
        yield f"  and {len(changes) - _CHANGES} more"


def _sentence(finding: Mapping[str, Any]) -> str:
    return f"{finding['message']}; {finding['hint']}" if finding["hint"] else str(finding["message"])
