"""Running jobs: the options, a run in the background, and waiting for one with interrupts handled."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kappa import _kappa, progress, words
from kappa.exceptions import ConfigError
from kappa.report import RunReport
from kappa.settings import resolve
from kappa.units import Duration, Position, duration_ms, position, size_bytes

if TYPE_CHECKING:
    from kappa.job import Job

Mode: TypeAlias = Literal["live", "reprocess"]
Event: TypeAlias = dict[str, Any]

_POLL_MS = 100
_MOST_WORKERS = 1024  # one for each key group
_running: weakref.WeakSet[Run] = weakref.WeakSet()


@dataclass(frozen=True)
class RunStatus:
    """Where a run is.

    >>> RunStatus(state="running", events=10).events
    10
    """

    state: Literal["starting", "running", "caught up", "finished"] = "starting"
    events: int = 0
    rate: float = 0.0
    fraction: float | None = None
    seconds_left: float | None = None
    lag: int | None = None
    retention: float | None = None
    event_time: datetime | None = None
    watermark: datetime | None = None
    held_by: str | None = None
    checkpoint: int | None = None

    def after(self, event: Event) -> RunStatus:
        """The status once an event of the engine is known."""
        kind = event["event"]
        if kind == "started":
            return replace(self, state="running")
        if kind == "progress":
            return replace(
                self,
                state="running" if self.state == "starting" else self.state,
                events=event["events"],
                rate=event["rate"],
                fraction=event["fraction"],
                seconds_left=event["seconds_left"],
                lag=event["lag"],
                retention=event["retention"],
                event_time=words.instant(event["event_time_ms"]),
                watermark=words.instant(event["watermark_ms"]),
                held_by=event.get("held_by"),
            )
        if kind == "checkpoint":
            return replace(self, checkpoint=event["checkpoint"])
        if kind == "caught_up":
            return replace(self, state="caught up", lag=0)
        if kind == "complete":
            return replace(self, state="finished", events=event["events"])
        return self

    def __str__(self) -> str:
        parts = [self.state, words.count(self.events, "event"), words.rate(self.rate)]
        if self.fraction is not None:
            parts.append(f"{self.fraction:.0%}")
        if self.lag is not None:
            parts.append(f"{words.count(self.lag, 'event')} behind")
        if self.retention is not None:
            parts.append(f"retention {self.retention:.0%} away")
        if self.held_by is not None:
            parts.append(f"expiry waits for {self.held_by}")
        return ", ".join(parts)


class Run:
    """A job that runs in the background. Made by `Job.start`; as a context manager it stops the job at the end.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     job = kappa.Job("docs")
    ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...     with job.start(mode="live", output_table="times") as run:
    ...         state = run.status().state
    ...     run.stop().outcome
    'stopped'
    """

    def __init__(self, native: _kappa.Run) -> None:
        self._native = native
        self._events: deque[Event] = deque(maxlen=1000)
        self._status = RunStatus()
        self._news = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._pump, name="kappa-events", daemon=True)
        self._thread.start()
        _running.add(self)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._native.is_finished():
            self.stop()

    def __repr__(self) -> str:
        return f"Run({self.status()})"

    def status(self) -> RunStatus:
        """Where the run is."""
        return self._status

    def wait(self, timeout: Duration | None = None) -> RunReport:
        """Waits for the end of the run and gives its report; raises the job's error if it failed, `TimeoutError` if it
        goes on after `timeout`."""
        seconds = None if timeout is None else duration_ms(timeout, "timeout") / 1000
        self._thread.join(seconds)
        if self._thread.is_alive():
            raise TimeoutError(f"the job goes on: {self._status}")
        return self._report()

    def stop(self) -> RunReport:
        """Takes a last checkpoint, ends the job and gives its report. A later run goes on from there."""
        self.request_stop()
        return self.wait()

    def request_stop(self) -> None:
        """Asks for a last checkpoint and the end, without waiting."""
        self._native.request_stop()

    def abort(self) -> None:
        """Ends the job at once, without a checkpoint. A later run goes on from the last one; nothing is lost."""
        self._native.abort()

    def follow(self, show: progress.Renderer) -> RunReport:
        """Waits like `wait`, and shows events as they come."""
        while self._thread.is_alive():
            self._news.wait(_POLL_MS / 1000)
            self._news.clear()
            self._show(show)
        self._show(show)
        return self._report()

    def _report(self) -> RunReport:
        return RunReport.from_json(self._native.report())

    def _show(self, show: progress.Renderer) -> None:
        while self._events:
            show.event(self._events.popleft())

    def _pump(self) -> None:
        while not self._closing:
            text = self._native.next_event(_POLL_MS)
            if text is not None:
                event: Event = json.loads(text)
                self._status = self._status.after(event)
                self._events.append(event)
                self._news.set()
            elif self._native.is_finished():
                break
        self._status = replace(self._status, state="finished")


_libc: ctypes.CDLL | None = None  # once a job has run


def _in_child() -> None:
    """After a fork: what the parent has locked ends with the parent. At its exit the child would wait for RocksDB's threads,
    which it does not have, and crash; it leaves before that, with its status."""
    _kappa.after_fork()
    if _libc is not None and hasattr(_libc, "on_exit"):
        _libc.on_exit(_libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


@atexit.register
def _leave() -> None:  # a thread that still waits inside the engine while the interpreter goes away would crash it
    for run in list(_running):
        run._closing = True
    for run in list(_running):
        run._thread.join(1.0)


def start(job: Job, *, config: Mapping[str, Any] | None, **arguments: Any) -> Run:
    """Starts a job with the arguments of `Job.run`."""
    options = engine_options(job, **arguments)
    return start_plan(job.to_json(), options, resolve(config))


def start_plan(plan: str, options: Mapping[str, Any], settings: _kappa.Settings) -> Run:
    """Starts a plan with the engine's options."""
    global _libc
    _libc = _libc or ctypes.CDLL(None)
    return Run(_kappa.start(plan, json.dumps(options), settings))


def engine_options(
    job: Job,
    *,
    mode: Mode,
    output_table: str | Mapping[str, str] | None,
    from_: Position | None,
    until: Position | None,
    align: str | None = None,
    parallelism: int | None,
    memory: str | int,
    checkpoint_interval: Duration,
    max_bytes_per_second: str | int | None = None,
    **flags: bool,
) -> dict[str, Any]:
    """The arguments of `Job.run` as the engine takes them."""
    if mode not in ("live", "reprocess"):
        raise ConfigError(f"mode {mode!r} is not understood", code="invalid_argument", hint='"live" or "reprocess"')
    whole = isinstance(parallelism, int) and not isinstance(parallelism, bool)
    if parallelism is not None and not (whole and 1 <= parallelism <= _MOST_WORKERS):
        hint = f"a whole number, 1 to {_MOST_WORKERS}"
        raise ConfigError(f"parallelism {parallelism!r} is not possible", code="invalid_argument", hint=hint)
    return {
        "mode": mode,
        "output_tables": _tables(job, output_table),
        "from": None if from_ is None else position(from_, "from"),
        "until": None if until is None else position(until, "until"),
        "align": align,
        "parallelism": parallelism,
        "memory_bytes": size_bytes(memory, "memory"),
        "checkpoint_interval_ms": duration_ms(checkpoint_interval, "checkpoint_interval"),
        "max_bytes_per_second": None
        if max_bytes_per_second is None
        else size_bytes(max_bytes_per_second, "max_bytes_per_second"),
        **flags,
    }


def _tables(job: Job, output_table: str | Mapping[str, str] | None) -> dict[str, str]:
    outputs = job._table_outputs
    needed = "--output-table " + " --output-table ".join(f"{name}=TABLE" if name else "TABLE" for name in outputs)
    if output_table is None:
        if outputs:
            raise ConfigError("output_table is missing", code="usage", hint=needed)
        return {}
    if isinstance(output_table, str):
        if not outputs:
            hint = "leave --output-table out"
            raise ConfigError(f"job {job.name!r} writes topics only, and no table", code="invalid_argument", hint=hint)
        if len(outputs) > 1:
            raise ConfigError(
                f"job {job.name!r} has {len(outputs)} outputs and needs a table for each", code="invalid_argument", hint=needed
            )
        return {outputs[0]: output_table}
    given: object = output_table
    if not isinstance(given, Mapping):
        hint = 'a name such as "metric.distinct_merchants_v4", or {output: table}'
        raise ConfigError(f"output_table {output_table!r} is not understood", code="invalid_argument", hint=hint)
    tables = dict(output_table)
    if sorted(tables) != sorted(outputs):
        which = "the outputs of job" if len(outputs) == len(job.outputs) else "the outputs without a topic of job"
        raise ConfigError(
            f"tables are given for {sorted(tables)}, but {which} {job.name!r} are {sorted(outputs)}", code="invalid_argument"
        )
    return tables


class Waiting:
    """Waits for one run after the other, with progress shown. An interrupt raises `KeyboardInterrupt` by itself."""

    def __init__(self, progress: bool | None) -> None:
        self._progress = progress

    def follow(self, run: Run) -> RunReport:
        """To its end."""
        return run_to_end(run, progress=self._progress)

    def check(self) -> None:
        """Nothing to look after."""


def run_to_end(run: Run, *, progress: bool | None) -> RunReport:
    """Waits for a run with progress shown. The first interrupt takes a last checkpoint, the second ends at once."""
    show = chosen(progress)
    interrupted = False
    while True:
        try:
            report = run.follow(show)
            break
        except KeyboardInterrupt:
            if interrupted:
                run.abort()
                raise
            interrupted = True
            run.request_stop()
            show.notice("interrupted: taking a last checkpoint (interrupt again to end at once; nothing is lost)")
        finally:
            show.close()
    if interrupted and report.outcome != "complete":
        raise KeyboardInterrupt
    return report


def chosen(wanted: bool | None) -> progress.Renderer:
    """The renderer for `progress=`: a notebook's, a terminal's bar, or none."""
    if wanted is False:
        return progress.Silent()
    if progress.in_notebook():
        return progress.Notebook()
    if progress.on_terminal():
        return progress.Bar()
    return progress.Lines() if wanted else progress.Silent()
