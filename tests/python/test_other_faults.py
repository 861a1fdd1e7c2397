"""Clocks that jump, threads that panic, processes that are forked, and ends that are cut short: the tables stay exact."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

import kappa
from conftest import wait_for
from fault_support import DAY_MS, WITHIN, Faults, history, newest

pytestmark = pytest.mark.slow
soak = pytest.mark.soak
HOUR_MS = 3_600_000


@pytest.fixture
def faults(place: Path) -> Iterator[Faults]:
    made = Faults(place)
    yield made
    made.end()


# Clocks.


def test_a_clock_that_jumps_changes_no_result(faults: Faults, place: Path) -> None:
    """By a day, by the hour of a summer time, by a year, back and forth: checkpoints come as before, what is tagged and what is
    newest stays, and nothing that a manifest lists is taken for an orphan."""
    clock = place / "clock"
    clock.write_text("0")
    faults.give(500)
    env = {"KAPPA_CLOCK_OFFSET": str(clock), "TZ": "Europe/Copenhagen"}
    live = faults.start("live", 2, "10ms", env=env)
    faults.until_at_end(live)
    pinned = pin(place)
    rows = kappa.read("t.days", snapshot=pinned).to_dicts()
    for jump in (DAY_MS, -DAY_MS, HOUR_MS, -HOUR_MS, 365 * DAY_MS, 0):
        clock.write_text(str(jump))
        for _ in range(4):
            faults.give(50)
            faults.until_at_end(live)
        faults.check_end(f"the clock is {jump} ms off")
    assert kappa.read("t.days", snapshot=pinned).to_dicts() == rows
    live.drained()
    assert len(history(place, "t.rows")) > 1
    faults.check_end("in the end")


@pytest.mark.parametrize(
    ("died", "again"), [(0, 400), pytest.param(400, 0, marks=soak), pytest.param(400, 800, marks=soak), (0, -400)]
)
def test_a_durable_manifest_is_delivered_whatever_the_clock_says(faults: Faults, place: Path, died: int, again: int) -> None:
    """Its staged files wait for the next process, which has another clock and removes what nothing names."""
    clock = place / "clock"
    clock.write_text(str(died * DAY_MS))
    env = {"KAPPA_CLOCK_OFFSET": str(clock)}
    faults.give(500)
    old = faults.start("live", 2, "10ms", env={**env, "KAPPA_FAILPOINT": "K10:4"})
    while old.poll() is None:
        faults.give(50)
    assert old.returncode == -9
    faults.check("died")
    clock.write_text(str(again * DAY_MS))
    new = faults.start("live", 2, "10ms", env=env)
    for _ in range(4):
        faults.give(50)
        faults.until_at_end(new)
    new.drained()
    faults.check_end("delivered")


def pin(place: Path) -> int:
    """Tags the oldest snapshot, as another tool does. While commits come it may have to be tried again."""
    catalog = SqlCatalog("kappa", uri=f"sqlite:///{place / 'catalog.db'}", warehouse=f"file://{place / 'warehouse'}")
    table = catalog.load_table("t.days")
    oldest = min(table.snapshots(), key=lambda snapshot: snapshot.timestamp_ms)
    table.manage_snapshots().create_tag(oldest.snapshot_id, "pinned").commit()
    return oldest.snapshot_id


# Panics.


# In a worker, in its writer, in the coordinator, in the committer.
@pytest.mark.parametrize(
    "point",
    ["K2:3", "K6:5", "K10:3", "K16:3", *[pytest.param(f"{point}:3", marks=soak) for point in ("K1", "K3", "K8", "K15", "K18")]],
)
def test_a_thread_that_panics_ends_the_job(faults: Faults, point: str) -> None:
    faults.give(1_000)
    live = faults.start("live", 2, "10ms", env={"KAPPA_FAILPOINT": f"{point}:panic"})
    ends_while_fed(faults, live)
    assert live.returncode == 70, live.said()
    said = json.loads(live.said().splitlines()[-1])
    assert (said["event"], said["code"]) == ("error", "internal"), said
    assert "panicked" in said["message"], said
    assert "report" in said["hint"], said
    faults.check("panicked")
    goes_on(faults)


def test_a_panic_while_files_are_merged_is_a_warning(faults: Faults) -> None:
    faults.give(1_000)
    live = faults.start("live", 2, "10ms", env={"KAPPA_FAILPOINT": "C1:1:panic"})
    for _ in range(20):
        faults.give(50)
        faults.until_at_end(live)
    said = live.drained()
    assert "the maintenance of a table panicked" in said
    faults.check_end()
    faults.sweep()


# Python.


def test_nobody_reads_what_the_job_says(faults: Faults) -> None:
    """As of `python job.py 2>&1 | head`."""
    faults.give(1_000)
    words = [sys.executable, *faults.words("live", 2, "10ms")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as live:
        assert live.stderr is not None
        assert b"started" in live.stderr.readline()
        live.stderr.close()
        ends_while_fed(faults, live)
    assert live.returncode == 141
    faults.check("broken pipe")
    goes_on(faults)


FORKS = """
import gc, multiprocessing, os, sys, time
import kappa
from faults import job

tables = {"rows": "t.rows", "days": "t.days"}
options = {"mode": "live", "output_table": tables, "checkpoint_interval": "10ms"}
run = job.start(**options)
while run.status().state != "caught up":
    time.sleep(0.01)

def child():
    global run
    for what in (
        run.stop, lambda: run.wait("1s"), lambda: kappa.read("t.days"), lambda: job.start(**options), lambda: job.explain(),
        lambda: kappa.Log().append("payments", [{"status": "captured"}]),
    ):
        try:
            what()
            print("went on", flush=True)
        except kappa.exceptions.RefusedError as error:
            print(error.code, error.hint, flush=True)
    run.abort()
    del run
    gc.collect()

kind = sys.argv[1]
if kind == "fork":
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(7)  # in order: with all that is done at the end of an interpreter
    print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
elif kind == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(20)
    print("status", process.exitcode, flush=True)
elif kind == "outlived":
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("forked", flush=True)
    time.sleep(60)
sys.stdin.readline()
print(run.stop().outcome, flush=True)
if kind == "fork" and os.fork() == 0:  # after use
    sys.exit(child())
os.wait() if kind == "fork" else None
"""


@contextlib.contextmanager
def forking(faults: Faults, kind: str) -> Iterator[subprocess.Popen[str]]:
    path = faults.path.parent / "forks.py"
    path.write_text(FORKS)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, str(path), kind], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("kind", "status"), [("fork", 7), ("multiprocessing", 0)])
def test_a_child_that_is_forked_is_refused_and_harms_nothing(faults: Faults, kind: str, status: int) -> None:
    faults.give(1_000)
    with forking(faults, kind) as process:
        assert process.stdout is not None
        said = []
        while not said or not said[-1].startswith("status"):
            line = process.stdout.readline()
            assert line, (said, process.communicate())
            said.append(line.strip())
        assert said[-1] == f"status {status}", said
        assert len(said) == 7, said
        assert all(line.startswith("forked ") and "spawn" in line for line in said[:-1]), said
        faults.give(500)
        wait_for(lambda: at_end(faults), "the parent to go on", WITHIN)
        output, errors = process.communicate("end\n", timeout=WITHIN)
    assert process.returncode == 0, errors
    after = output.splitlines()
    assert after[0] == "stopped"
    assert len(after) == (7 if kind == "fork" else 1), after
    assert all(line.startswith("forked ") for line in after[1:]), after
    faults.check_end("the parent")
    goes_on(faults)


def test_a_child_does_not_keep_what_its_parent_had_locked(faults: Faults) -> None:
    faults.give(1_000)
    with forking(faults, "outlived") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        try:
            goes_on(faults)
            assert Path(f"/proc/{child}").exists()
        finally:
            os.kill(int(child), signal.SIGKILL)


def at_end(faults: Faults) -> bool:
    position = newest(faults.place, "t.rows")
    return position is not None and position.position == faults.ends()


# Ends.


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with kappa.testing.temporary(tmp_path_factory.mktemp("drained") / ".kappa") as place:
        made = Faults(place)
        made.give(300)
        yield made
        made.end()


@pytest.mark.parametrize(
    "point",
    [
        "K1", "K3", "K6", "K8", "K10", "K15", "K16", "K19", 0.0, 0.03,
        *[pytest.param(point, marks=soak) for point in ("K2", "K5", "K7", "K9", "K17", "K18", 0.01)],
    ],
)  # fmt: skip
def test_killed_while_it_takes_its_last_checkpoint(drained: Faults, point: str | float) -> None:
    """The only checkpoint is the last: SIGTERM asks for it, and SIGKILL comes at a point of it or at any moment. The next goes on
    from there."""
    drained.start("live", 2, "1h").drained()  # what the one before has left to be delivered is none of this one's
    drained.give(300)
    before = drained.check("before")
    for hit in (1, 2, 3):
        env = {"KAPPA_FAILPOINT": f"{point}:{hit}"} if isinstance(point, str) else {}
        live = drained.start("live", 2, "1h", env=env)
        live.listens()
        live.terminate()
        if isinstance(point, float):
            time.sleep(point * random.random())
            live.kill()
        said = live.ended()
        assert live.returncode == -9, said
        if '"started"' in said:  # and not dead already of the commits that are looked at first
            break
    after = drained.check("killed")
    if isinstance(point, float):
        assert after in (before, drained.ends())
    else:
        assert after == (drained.ends() if point in ("K16", "K17", "K18", "K19") else before)


def test_what_all_these_deaths_left_is_removed(drained: Faults) -> None:
    drained.give(100)
    drained.sweep()


# What follows a fault.


def ends_while_fed(faults: Faults, process: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + WITHIN
    while process.poll() is None:
        assert time.monotonic() < end, "it goes on"
        faults.give(50)
        time.sleep(0.02)


def goes_on(faults: Faults) -> None:
    """The same command again: exact, and nothing is left behind."""
    faults.sweep()
