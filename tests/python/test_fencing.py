"""A process that is stopped (SIGSTOP), taken over, and wakes up: it commits nothing, removes nothing, and says who runs the job."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import fault_support
from fault_support import WITHIN, Faults, Process, is_stopped, newest

pytestmark = pytest.mark.slow
soak = pytest.mark.soak
# Where it stops: between checkpoints, before and after the manifest is durable, before, in and after the commit, while old
# checkpoints are removed, while files are merged and removed.
POINTS = [
    "K1:6", "K8:4", "K10:4", "K15:4", "K20:2",
    *[pytest.param(f"{point}:4", marks=soak) for point in ("K2", "K3", "K5", "K6", "K7", "K9", "K16", "K17", "K18")],
    *[pytest.param(f"{point}:1", marks=soak) for point in ("C1", "C2", "C3")],
]  # fmt: skip


@pytest.fixture
def faults(place: Path) -> Iterator[Faults]:
    made = Faults(place)
    yield made
    made.end()


@pytest.mark.parametrize("point", POINTS)
def test_it_is_refused_and_says_who_took_over(faults: Faults, point: str) -> None:
    faults.give(300)
    old = stopped_at(faults, point)
    before = faults.check("stopped")
    new = faults.start("live", 1, "10ms", "--take-over")
    faults.until_at_end(new)
    taken = newest(faults.place, "t.rows")
    assert taken is not None
    assert taken.owner > 1
    for _ in range(6):  # until what the old one had is not even kept any more
        faults.give(100)
        faults.until_at_end(new)
    assert faults.check("taken over") != before
    old.send_signal(signal.SIGCONT)
    faults.give(200)
    errors = old.ended()
    assert old.returncode == 6, errors
    assert f"another process took this version over: {who(new.pid)}" in errors, errors
    faults.give(200)
    faults.until_at_end(new)
    faults.check_end("after the old one woke up")
    new.drained()
    faults.check_end("in the end")
    owners = [snapshot.owner for snapshot in fault_support.history(faults.place, "t.rows")]
    assert owners == sorted(owners)
    faults.sweep()


def test_the_lock_goes_to_the_successor(faults: Faults) -> None:
    """The old one has it until it ends. Nobody gets in without asking before that nor after."""
    faults.give(300)
    old = stopped_at(faults, "K10:4")
    new = faults.start("live", 1, "10ms", "--take-over")
    faults.until_at_end(new)
    assert_locked(faults, new.pid)
    old.kill()
    old.wait()
    faults.give(100)
    faults.until_at_end(new)
    assert_locked(faults, new.pid)
    new.drained()
    faults.check_end("in the end")


def test_one_that_has_nothing_to_do_finds_out_too(faults: Faults) -> None:
    """It has read all there is, and nothing comes that it could publish."""
    faults.give(300)
    old = faults.start("live", 2, "10ms")
    faults.until_at_end(old)
    old.send_signal(signal.SIGSTOP)
    new = faults.start("live", 1, "10ms", "--take-over")
    faults.until_at_end(new)
    old.send_signal(signal.SIGCONT)
    errors = old.ended()
    assert old.returncode == 6, errors
    assert f"another process took this version over: {who(new.pid)}" in errors, errors
    new.drained()
    faults.check_end("in the end")


def stopped_at(faults: Faults, point: str) -> Process:
    """A process that has stopped there, and holds no lock of the catalog's: of SQLite's file nobody could take that over."""
    for _ in range(10):
        old = faults.start("live", 2, "10ms", env={"KAPPA_FAILPOINT": f"{point}:stop"})
        end = time.monotonic() + WITHIN
        while not is_stopped(old):
            assert old.poll() is None, old.said()[-4000:]
            assert time.monotonic() < end, f"{point} was not reached"
            faults.give(100)
        catalog = sqlite3.connect(faults.place / "catalog.db", isolation_level=None, timeout=0.1)
        with contextlib.closing(catalog), contextlib.suppress(sqlite3.OperationalError):
            catalog.execute("BEGIN IMMEDIATE")
            catalog.execute("ROLLBACK")
            return old
        old.kill()
        old.wait()
    raise AssertionError("it always has a lock of the catalog's")


def assert_locked(faults: Faults, by: int) -> None:
    """Who does not ask to take it over is refused, and hears of who runs the job."""
    refused = faults.start("live")
    said = refused.ended()
    assert refused.returncode == 6, said
    assert f"another process runs this version: {who(by)}" in said, said


def who(pid: int) -> str:
    return f"process {pid} on host {socket.gethostname()}, since 20"
