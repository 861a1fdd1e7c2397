"""The replay certificate: a plan once more over the same records, with other threads and a kill, must give the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from kappa import _kappa, apart, diff_text
from kappa.comparison import Diff
from kappa.exceptions import RefusedError
from kappa.report import RunReport

_INTERVAL_MS = 100  # a checkpoint soon, to be killed after
_PARTED = 12


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
    checkpoints, kills = _second(again, {**options, "parallelism": others}, config, check)
    runs = [
        {"parallelism": workers, "kills": 0, "checkpoints": first.checkpoints, "contents": _contents(settings, new["tables"])},
        {"parallelism": others, "kills": kills, "checkpoints": checkpoints, "contents": _contents(settings, again["tables"])},
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
    again: Mapping[str, Any], options: Mapping[str, Any], config: Mapping[str, Any] | None, check: Callable[[], None]
) -> tuple[int, int]:
    """Two lives of one run: the first halts in the middle of the log, and is killed there. Its checkpoints, and the kills."""
    options = {**options, "output_tables": again["tables"], "checkpoint_interval_ms": _INTERVAL_MS}
    checkpoint = 0
    with apart.running(again["plan"], {**options, "preview": again["preview"], "replace": True}, config) as child:
        for event in child.events():
            check()
            if event["event"] == "report":  # too little to have a middle
                return event["checkpoints"], 0
            if event["event"] == "checkpoint":
                checkpoint = event["checkpoint"]
                child.kill()
                break
    goes_on = {**again["preview"], "halts": False}
    resumed = False
    try:
        with apart.running(again["plan"], {**options, "preview": goes_on, "replace": False}, config) as child:
            for event in child.events():
                check()
                if event["event"] == "started":
                    resumed = event["resumed"]
                elif event["event"] == "report":
                    checkpoint = event["checkpoints"]
    except RefusedError as error:
        if error.code != "finished":  # the checkpoint was its last
            raise
    return checkpoint, int(resumed)


def _contents(settings: _kappa.Settings, tables: Mapping[str, str]) -> dict[str, Any]:
    return {output: json.loads(_kappa.content(settings, table)) for output, table in tables.items()}


def _parted(settings: _kappa.Settings, first: str, second: str) -> list[str]:
    found = Diff(_kappa.diff(settings, first, second, "{}"))
    report = found.to_dict()
    return [diff_text.verdict(report), *diff_text.example_lines(report, found.changed, found.only_in_a, found.only_in_b)]
