"""`kappa.status`: the versions there are, and how they fare."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kappa import _kappa, diff_text, html, words
from kappa.settings import resolve

_COLUMNS = ("writes", "serves", "job", "mode", "process", "lag", "closed", "checkpoint", "ahead of retention", "rate", "state")


class Status:
    """The versions there are, as `kappa.status` finds them.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> job = kappa.Job("docs")
    >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     _ = kappa.Log().append("t", [{"at": 0}])
    ...     _ = job.run(mode="reprocess", output_table="times", progress=False)
    ...     _ = kappa.Log().append("t", [{"at": 1}, {"at": 2}])
    ...     (version,) = kappa.status().versions
    >>> version["outputs"], version["job"], version["mode"], version["lag"]
    (['default.times'], 'docs', 'finished', 2)
    """

    def __init__(self, report: Mapping[str, Any]) -> None:
        self._report = dict(report)

    @property
    def versions(self) -> list[dict[str, Any]]:
        """By version: what it writes (`outputs`), the names that it `serves`, `job`, `mode`, `process`, `lag`, `closed_ms`,
        `checkpoint` and more; or the `problem` why nothing of that is known. `standby` says why one runs that serves no name:
        `warm`, `catching_up` or `ready`, and what its tables take; `retired` by what it was asked to stop.
        """
        return [dict(version) for version in self._report["versions"]]

    @property
    def warnings(self) -> list[str]:
        """What to look after: versions that are broken, retention that is close, logs and catalogs that do not answer."""
        found = [f"{_name(it)}: {it['problem']}" for it in self.versions if it["problem"] is not None]
        found += [f"{_name(it)}: {warning}" for it in self.versions for warning in it.get("warnings", [])]
        return [*found, *self._report["notes"]]

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it."""
        return dict(self._report)

    def __str__(self) -> str:
        rows = [_row(version, self._report["time_ms"]) for version in self.versions]
        lines = [line.removeprefix("  ") for line in diff_text.grid(_COLUMNS, rows)] or ["no versions"]
        running = [it for it in self.versions if it.get("mode", "finished") != "finished"]
        held = [f"{_name(it)}: closed waits for {it['closed_by']}" for it in running if it["closed_by"] is not None]
        warnings = [f"warning: {words.printable(warning)}" for warning in self.warnings]
        return "\n".join([*lines, *held, *self._beside(), *warnings])

    __repr__ = __str__

    def _beside(self) -> list[str]:
        """What it costs that versions run beside those that serve, and who was asked to stop."""
        beside = [_standby(it, it["standby"]) for it in self.versions if it["standby"] is not None]
        return beside + [_retired(it, it["retired"]) for it in self.versions if it["retired"] is not None]

    def _repr_html_(self) -> str:
        rows = [_row(version, self._report["time_ms"]) for version in self.versions]
        aligns = ["left", *["right"] * (len(_COLUMNS) - 1)]
        table = html.table(_COLUMNS, [""] * len(_COLUMNS), rows, aligns)
        return table + "".join(map(html.note, [*self._beside(), *self.warnings]))


def status(name: str | None = None, *, config: Mapping[str, Any] | None = None) -> Status:
    """The versions there are, or the one that writes the table (or topic, `kafka:TOPIC`) `name`: who runs them, how far they
    are, how close retention has come. It reads only, also while jobs run.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.status()
    no versions
    """
    return Status(json.loads(_kappa.status(resolve(config), name)))


def _name(version: Mapping[str, Any]) -> str:
    return ", ".join(map(words.place, version["outputs"])) or f"version {version['version']}"


def _row(version: Mapping[str, Any], now_ms: int) -> list[str]:
    if "job" not in version:
        return [_name(version), _serves(version), *[""] * (len(_COLUMNS) - 2)]
    return [
        _name(version),
        _serves(version),
        version["job"],
        version["mode"],
        _process(version["process"]),
        "" if version["lag"] is None else f"{version['lag']:,}",
        "" if version["closed_ms"] is None else words.utc(version["closed_ms"]),
        f"{version['checkpoint']:,}, {words.duration(max(0, now_ms - version['checkpoint_ms']) / 1000)} ago",
        _retention(version["topics"]),
        _rate(version),
        words.size(version["state_bytes"]),
    ]


def _serves(version: Mapping[str, Any]) -> str:
    return ", ".join(version["serves"])


def _rate(version: Mapping[str, Any]) -> str:
    rate = version["records_per_second"]
    return "" if rate is None else words.rate(rate, "").removesuffix("/s").strip() + "/s"


def _standby(version: Mapping[str, Any], standby: Mapping[str, Any]) -> str:
    names = ", ".join(standby["names"])
    since = "" if standby["since_ms"] is None else f", which it served until {words.utc(standby['since_ms'])}"
    why = {
        "warm": f"kept warm for a rollback of {names}{since}",
        "catching_up": f"catching up, beside what {names} shows",
        "ready": f"ready to be promoted, beside what {names} shows",
    }[standby["kind"]]
    rate = _rate(version) or "an unknown rate"
    sizes = f"{words.size(version['state_bytes'])} of state, {words.size(standby['table_bytes'])} of tables"
    return f"{_name(version)}: {why}: {_process(version['process'])}, {rate}, {sizes}"


def _retired(version: Mapping[str, Any], retired: Mapping[str, Any]) -> str:
    when = f"{words.utc(retired['at_ms'])}, when {retired['name']} came to show {retired['table']}"
    return f"{_name(version)}: retired since {when}: its job is not to run"


def _process(process: Mapping[str, Any] | None) -> str:
    if process is None or process["is_running"] is False:
        return "none"
    short = str(process["process"]).removeprefix("process ").replace(" on host ", "@")
    return short if process["is_running"] else f"{short}?"


def _retention(topics: Iterable[Mapping[str, Any]]) -> str:
    """Of the topic whose retention is the closest."""
    clocks = [topic["retention"] for topic in topics if topic["retention"] is not None]
    if not clocks:
        return ""
    clock = min(clocks, key=lambda clock: float(clock["share"]))
    ahead = f"{clock['records']:,}" if clock["ms"] is None else words.duration(clock["ms"] / 1000)
    return f"{ahead} ({clock['share']:.0%})"
