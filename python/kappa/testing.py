"""For the tests of your jobs: a temporary place, a job over given records, and proof that a job is safe to replay.

    >>> import kappa
    >>> from kappa.testing import run
    >>> job = kappa.Job("totals")
    >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    >>> job.write(stream.group_by(day=kappa.col("at").dt.date()).agg(total=kappa.col("x").sum()))
    >>> run(job, {"t": [{"at": 0, "x": 1}, {"at": 1, "x": 2}]}).to_dicts()
    [{'day': datetime.date(1970, 1, 1), 'total': 3}]

Under pytest, the fixture `temporary_kappa` is there without an import: each test gets a `.kappa` of its own.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kappa import _kappa
from kappa.exceptions import KappaError
from kappa.head import places
from kappa.job import Job
from kappa.log import Log
from kappa.records import RecordLike
from kappa.rows import Rows
from kappa.run import engine_options
from kappa.settings import resolve
from kappa.tables import read

__all__ = ["assert_replay_safe", "run", "temporary"]

_VARIABLES = {
    "log.url": "KAPPA_LOG_URL",
    "catalog.url": "KAPPA_CATALOG_URL",
    "warehouse": "KAPPA_WAREHOUSE",
    "checkpoints": "KAPPA_CHECKPOINTS",
}
_CHILD = """
import json, sys
from kappa import _kappa, exceptions
from kappa.settings import resolve
plan, options, config = json.load(sys.stdin)
try:
    _kappa.start(plan, json.dumps(options), resolve(config)).report()
except exceptions.RefusedError as error:  # the run before was done when it was killed
    sys.exit(f"refused: {error}")
"""


@contextmanager
def temporary(folder: str | os.PathLike[str] | None = None) -> Iterator[Path]:
    """Everything of kappa lives in a temporary folder, or in `folder`, for as long as the block lasts, also for processes
    that are started in it.

    >>> import kappa
    >>> with temporary() as place:
    ...     kappa.Log().create("payments")
    ...     (place / "log").is_dir()
    True
    """
    with tempfile.TemporaryDirectory(prefix="kappa-") as made:
        place = Path(made if folder is None else folder).resolve()
        before = {name: os.environ.get(name) for name in _VARIABLES.values()}
        os.environ.update({_VARIABLES[key]: value for key, value in _everything(place).items()})
        try:
            yield place
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def run(job: Job, records: Mapping[str, Iterable[RecordLike]], *, parallelism: int = 1, output: str | None = None) -> Rows:
    """Runs a job over records by topic, in a temporary place, and gives the rows of its output (of the one named, if the
    job has several). What goes to a topic goes to a table here: no cluster is needed."""
    with tempfile.TemporaryDirectory(prefix="kappa-") as folder:
        config = _everything(Path(folder))
        _fill(config, records)
        options = _options(job, parallelism)
        _kappa.start(_plan(job), json.dumps(options), resolve(config)).report()
        return read(options["output_tables"][output or job.outputs[0] or ""], config=config)


def assert_replay_safe(
    job: Job,
    records: Mapping[str, Iterable[RecordLike]],
    *,
    parallelism: Sequence[int] = (1, 2, 4),
    kills: int = 3,
    seed: int = 0,
) -> None:
    """Fails unless the job gives the same rows at every parallelism, and when its process is killed (SIGKILL) and started
    again `kills` times.

    >>> import kappa
    >>> job = kappa.Job("totals")
    >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    >>> job.write(stream.group_by("x").agg(rows=kappa.len()))
    >>> assert_replay_safe(job, {"t": [{"at": i, "x": i % 3} for i in range(100)]}, parallelism=(1, 2), kills=1)
    """
    given = {topic: list(values) for topic, values in records.items()}
    with tempfile.TemporaryDirectory(prefix="kappa-") as folder:
        log = {"log.url": _everything(Path(folder))["log.url"]}
        _fill({**_everything(Path(folder) / "made"), **log}, given)
        expected: dict[str, list[str]] | None = None
        started = time.monotonic()
        for workers in parallelism:
            config = {**places(_made(Path(folder) / f"parallelism-{workers}")), **log}
            _kappa.start(_plan(job), json.dumps(_options(job, workers)), resolve(config)).report()
            found = _content(job, config)
            expected = expected if expected is not None else found
            _same(expected, found, f"parallelism {workers} instead of {parallelism[0]}")
        one_run = max(0.05, (time.monotonic() - started) / len(parallelism))
        config = {**places(_made(Path(folder) / "killed")), **log}
        chance = random.Random(seed)
        for _ in range(kills):
            _child(job, config, chance.choice(parallelism), kill_after=chance.uniform(0, one_run + 0.3))
        refused = _child(job, config, parallelism[-1], kill_after=None)
        _same(expected or {}, _content(job, config), f"{kills} kills{refused}")


def _everything(folder: Path) -> dict[str, str]:
    return {"log.url": f"file://{folder}/log", **places(folder)}


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fill(config: Mapping[str, str], records: Mapping[str, Iterable[RecordLike]]) -> None:
    log = Log(config=config)
    for topic, values in records.items():
        log.create(topic, partitions=2)
        log.append(topic, values)


def _plan(job: Job) -> str:
    """The job's plan, with tables for all outputs."""
    plan = json.loads(job.to_json())
    for output in plan["outputs"]:
        output.pop("to", None)
    return json.dumps(plan)


def _options(job: Job, parallelism: int) -> dict[str, Any]:
    tables = {name or "": f"output_{i}" for i, name in enumerate(job.outputs)}
    options = engine_options(
        job,
        mode="reprocess",
        output_table={name: tables[name] for name in job._table_outputs},
        from_=None,
        until="head",
        parallelism=parallelism,
        memory="64MiB",
        checkpoint_interval="100ms",
    )
    return {**options, "output_tables": tables}


def _content(job: Job, config: Mapping[str, str]) -> dict[str, list[str]]:
    tables = {name or f"output_{i}": f"output_{i}" for i, name in enumerate(job.outputs)}
    return {name: sorted(repr(row) for row in read(table, config=config)) for name, table in tables.items()}


def _same(expected: dict[str, list[str]], found: dict[str, list[str]], change: str) -> None:
    for name, rows in expected.items():
        missing = [row for row in rows if row not in found[name]]
        extra = [row for row in found[name] if row not in rows]
        if missing or extra or len(rows) != len(found[name]):
            raise AssertionError(
                f"{name} differs with {change}: {len(rows)} rows before, {len(found[name])} now\n"
                + "\n".join([f"- {row}" for row in missing[:5]] + [f"+ {row}" for row in extra[:5]])
            )


def _child(job: Job, config: Mapping[str, str], parallelism: int, *, kill_after: float | None) -> str:
    """Runs the job in a process of its own. A refusal is given back: after a kill the job may have been done already."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    payload = json.dumps([_plan(job), _options(job, parallelism), dict(config)])
    try:
        _, errors = child.communicate(payload, timeout=kill_after)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return ""
    if errors.startswith("refused: "):
        return f" ({errors.strip()})"
    if child.returncode != 0:
        raise KappaError(f"a run failed: {errors.strip().splitlines()[-1] if errors.strip() else child.returncode}")
    return ""
