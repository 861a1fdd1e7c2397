"""`Stream.head`: the first rows of a stream, computed by the engine in a temporary place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kappa import _kappa
from kappa.exceptions import ConfigError
from kappa.expr import Node
from kappa.rows import Rows
from kappa.settings import resolve
from kappa.units import Position, position

if TYPE_CHECKING:
    from kappa.stream import Stream


def head(stream: Stream, n: int, *, from_: Position, config: Mapping[str, Any] | None) -> Rows:
    """Reads ever more of the log until there are `n` rows. A grouped result needs the whole log at once."""
    if not isinstance(n, int) or n < 0:
        raise ConfigError(f"head({n!r}): a number of rows is 0 or more", code="invalid_argument")
    topic = _topic(stream._node)
    ends = _ends(topic, config)
    records = None if "aggregate" in json.dumps(stream._node) else max(1000, n)
    while True:
        until = "head" if records is None else _until(ends, records)
        rows = _run(stream, until, position(from_, "from"), config)
        whole = records is None or all(records >= head - start for start, head in ends.values())
        if whole or len(rows) >= n:
            return Rows(rows._native.slice(0, n))
        records = (records or 0) * 16


def _run(stream: Stream, until: str, from_: str, config: Mapping[str, Any] | None) -> Rows:
    plan = json.dumps({"format": 1, "job": stream._job.name, "outputs": [{"plan": stream._node}]})
    options = {
        "mode": "reprocess",
        "output_tables": {"": "head"},
        "from": from_,
        "until": until,
        "parallelism": 1,
        "memory_bytes": 64 << 20,
        "checkpoint_interval_ms": 3_600_000,
    }
    with tempfile.TemporaryDirectory(prefix="kappa-head-") as folder:
        settings = resolve({**(config or {}), **places(Path(folder))})
        _kappa.start(plan, json.dumps(options), settings).report()
        return Rows(_kappa.read(settings, "head", None, None, None))


def places(folder: Path) -> dict[str, str]:
    """Settings by which everything but the log lives in a folder."""
    return {
        "catalog.url": f"sqlite://{folder}/catalog.db",
        "warehouse": f"file://{folder}/warehouse",
        "checkpoints": f"file://{folder}/checkpoints",
    }


def _topic(node: Node) -> str:
    ((kind, detail),) = node.items()
    return str(detail["topic"]) if kind == "read" else _topic(detail["input"])


def _ends(topic: str, config: Mapping[str, Any] | None) -> dict[int, tuple[int, int]]:
    return {partition: (start, end) for partition, start, end in _kappa.extents(resolve(config), topic)}


def _until(ends: dict[int, tuple[int, int]], records: int) -> str:
    return ",".join(f"{partition}:{min(head, start + records)}" for partition, (start, head) in ends.items())
