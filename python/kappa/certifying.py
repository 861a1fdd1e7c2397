"""The replay certificate: a plan once more over the same records, with other threads and a kill, must give the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kappa import _kappa, apart, diff_text
from kappa.comparison import Diff
from kappa.exceptions import ConflictError, KappaError
from kappa.report import RunReport

_INTERVAL_MS = 100  # a checkpoint soon after it stands in the middle
_PARTED = 12


@contextmanager
def unreplaced(settings: _kappa.Settings, made: Mapping[str, str]) -> Iterator[None]:
    """While something is done with tables: raises where, at its end, one does not hold the version that `made` has for it. What
    is looked up by name is of another preview then."""

    def check() -> None:
        for table, version in made.items():
            if _kappa.version_in(settings, table) != version:
                hint = "try again, one preview of a table after the other"
                raise ConflictError(f"another preview replaced {table}", code="preview_replaced", hint=hint, retryable=True)

    try:
        yield
    except KappaError:
        check()  # it may be the reason
        raise
    check()


def certify(
    scope: Mapping[str, Any],
    first: RunReport,
    options: Mapping[str, Any],
    settings: _kappa.Settings,
    config: Mapping[str, Any] | None,
    check: Callable[[], None],
) -> dict[str, Any]:
    """Runs the plan of a preview once more, and keeps what became of it. `first` and `options` are of the first run; `check`
    raises where the user wants it to end."""
    new, again = scope["new"], scope["again"]
    workers = options["parallelism"]
    others = 1 if workers > 1 else 2
    second, kills = _second(again, {**options, "parallelism": others}, settings, config, check)
    made = dict.fromkeys(new["tables"].values(), first.version)
    with unreplaced(settings, {**made, **dict.fromkeys(again["tables"].values(), second["version"])}):
        runs = [
            _certified(workers, 0, first.checkpoints, settings, new["tables"]),
            _certified(others, kills, second["checkpoints"], settings, again["tables"]),
        ]
        parted = [
            line
            for output, content in runs[0]["contents"].items()
            if runs[1]["contents"][output] != content
            for line in _parted(settings, new["tables"][output], again["tables"][output])
        ]
    certificate = {
        "job": new["plan"]["job"],
        "from_ms": scope["from_ms"],
        "vectors": new["preview"]["vectors"],
        "runs": runs,
        "parted": parted[:_PARTED],
    }
    kept: dict[str, Any] = json.loads(_kappa.certify(settings, json.dumps(new["plan"]), json.dumps(certificate)))
    return kept


def _second(
    again: Mapping[str, Any],
    options: Mapping[str, Any],
    settings: _kappa.Settings,
    config: Mapping[str, Any] | None,
    check: Callable[[], None],
) -> tuple[dict[str, Any], int]:
    """Two lives of one run: the first halts in the middle of the log, and is killed there. The run's report, and the kills."""
    options = {**options, "output_tables": again["tables"], "checkpoint_interval_ms": _INTERVAL_MS}
    made: dict[str, str] = {}
    with apart.running(again["plan"], {**options, "preview": again["preview"], "replace": True}, config) as child:
        for event in child.events():
            check()
            if event["event"] == "report":  # too little to have a middle
                return event, 0
            if event["event"] == "halted":  # and that is durable
                # While it lives nobody replaces them.
                made = {table: str(_kappa.version_in(settings, table)) for table in again["tables"].values()}
                child.kill()
                break
    goes_on = {**again["preview"], "halts": False}
    with (
        unreplaced(settings, made),
        apart.running(again["plan"], {**options, "preview": goes_on, "replace": False}, config) as child,
    ):
        for event in child.events():
            check()
            if event["event"] == "report":
                return event, 1
    raise AssertionError("events end with a report, or raise")


def _certified(
    parallelism: int, kills: int, checkpoints: int, settings: _kappa.Settings, tables: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "parallelism": parallelism,
        "kills": kills,
        "checkpoints": checkpoints,
        "contents": _contents(settings, tables),
    }


def _contents(settings: _kappa.Settings, tables: Mapping[str, str]) -> dict[str, Any]:
    return {output: json.loads(_kappa.content(settings, table)) for output, table in tables.items()}


def _parted(settings: _kappa.Settings, first: str, second: str) -> list[str]:
    found = Diff(_kappa.diff(settings, first, second, "{}"))
    report = found.to_dict()
    return [diff_text.verdict(report), *diff_text.example_lines(report, found.changed, found.only_in_a, found.only_in_b)]
