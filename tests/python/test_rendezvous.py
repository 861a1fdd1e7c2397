"""Two versions that run are compared at one position of the log: real processes, and records that come all the time."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from conftest import cli, wait_for
from kappa import col
from kappa.exceptions import RefusedError
from live_support import again_and_again

if TYPE_CHECKING:
    from admin import Kafka

pytestmark = pytest.mark.slow

JOB = """
import kappa

job = kappa.Job("counted")
read = job.read("t", schema={"k": kappa.Int64, "at": kappa.Timestamp("ms")}, event_time="at", max_out_of_orderness="1h")
job.write(read.group_by("k").agg(n=kappa.len(), last=kappa.col("at").max()))

if __name__ == "__main__":
    job.main()
"""
PARTITIONS = 3


class Live:
    """A live version in a process of its own."""

    def __init__(self, script: Path, table: str, interval: str) -> None:
        self.table = table
        self._command = [
            sys.executable,
            str(script),
            "--mode",
            "live",
            "--output-table",
            table,
            "--checkpoint-interval",
            interval,
        ]
        self._log = (script.parent / f"{table}.log").open("ab")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=self._log)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(60)
        self._log.close()


@pytest.fixture
def script(place: Path, tmp_path: Path) -> Path:
    path = tmp_path / "job.py"
    path.write_text(JOB)
    kappa.Log().create("t", partitions=PARTITIONS)
    return path


@contextmanager
def records() -> Iterator[None]:
    """Come all the time, to all partitions."""
    number = itertools.count()

    def append() -> None:
        kappa.Log().append("t", [{"k": i % 7, "at": 1_000 * i} for i in itertools.islice(number, 50)])

    append()
    with again_and_again(append, 0.02):
        yield


@contextmanager
def two(script: Path, *, a: str = "700ms", b: str = "1100ms") -> Iterator[tuple[Live, Live]]:
    """Two versions that have committed."""
    versions = Live(script, "a", a), Live(script, "b", b)
    try:
        wait_for(
            lambda: {"default.a", "default.b"} <= set(_tables()) and len(kappa.read("a")) > 0 < len(kappa.read("b")), "rows"
        )
        yield versions
    finally:
        for version in versions:
            version.stop()


def _tables() -> list[str]:
    from kappa import _kappa
    from kappa.settings import resolve

    return list(_kappa.tables(resolve(None)))


def payloads(until: dict[str, int]) -> Counter[int]:
    """How many records of each key lie before a position."""
    counted: Counter[int] = Counter()
    for record in kappa.Log().scan("t"):
        if record.offset < until[str(record.partition)]:
            counted[json.loads(record.value or b"")["k"]] += 1
    return counted


def apart() -> None:
    """Waits until the two are not at one position any more, where they need not be asked."""

    def newest(table: str) -> object:
        return kappa.diff(table, table, rendezvous="0s").to_dict()["a"]["offsets"]

    wait_for(lambda: newest("a") != newest("b"), "two positions")


def files(place: Path) -> list[Path]:
    return [path for path in place.glob("checkpoints/*/rendezvous/*") if path.is_file()]


def test_two_live_versions_meet_at_one_position_while_records_come(script: Path, place: Path) -> None:
    with records(), two(script):
        seen = []
        for _ in range(4):
            found = kappa.diff("a", "b")
            report = found.to_dict()
            assert report["met"], report["notes"]
            assert not found.differs
            assert report["a"]["offsets"] == report["b"]["offsets"]
            position = report["a"]["offsets"]["t"]
            seen.append(sum(position.values()))
            rows = kappa.read("a", snapshot=report["a"]["snapshot_id"])
            assert {row["k"]: row["n"] for row in rows} == dict(payloads(position))
            assert "where they were asked to take a checkpoint" in str(found)
            apart()
        assert seen == sorted(set(seen)), "each time they meet further on"
        assert files(place) == []
        # They go on.
        wait_for(lambda: sum(row["n"] for row in kappa.read("a")) > seen[-1], "rows behind the position")


def test_a_version_that_stands_is_met_at_one_of_its_snapshots(script: Path, place: Path) -> None:
    def append(count: int) -> None:
        kappa.Log().append("t", [{"k": i % 7, "at": i} for i in range(count)])

    def rows(table: str) -> int:
        return sum(row["n"] for row in kappa.read(table)) if f"default.{table}" in _tables() else 0

    append(1_500)
    late = Live(script, "b", "200ms")
    wait_for(lambda: rows("b") == 1_500, "rows")
    os.kill(late.process.pid, signal.SIGSTOP)
    append(1_500)
    ahead = Live(script, "a", "200ms")
    wait_for(lambda: rows("a") == 3_000, "rows")
    ahead.stop()
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = pool.submit(kappa.diff, "a", "b")
            wait_for(lambda: any(place.glob("checkpoints/*/rendezvous/*.request")), "a request")
            os.kill(late.process.pid, signal.SIGCONT)
            found = asked.result(60)
        report = found.to_dict()
        assert report["met"], report["notes"]
        assert not found.differs
        assert report["a"]["offsets"]["t"] == report["b"]["offsets"]["t"] == {"0": 1_000, "1": 1_000, "2": 1_000}
        append(300)
        wait_for(lambda: sum(row["n"] for row in kappa.read("b")) > 3_000, "b to go past a")
        past = kappa.diff("a", "b", rendezvous="5s").to_dict()
        assert not past["met"]
        assert past["a"]["offsets"] == report["a"]["offsets"]
        why = "default.a does not run, and the other is past all of its snapshots"
        assert any(why in note for note in past["notes"])
    finally:
        late.stop()


def test_a_process_that_does_not_answer_is_named_within_the_limit(script: Path, place: Path) -> None:
    with records(), two(script) as (_, b):
        found = kappa.diff("a", "b")
        assert found.to_dict()["met"]
        os.kill(b.process.pid, signal.SIGSTOP)
        apart()
        began = time.monotonic()
        done = cli("diff", "a", "b", "--rendezvous", "2s", "--json")
        assert time.monotonic() - began < 15
        (note,) = [note for note in json.loads(done.stdout)["data"]["notes"] if "did not meet" in note]
        assert f"default.b (process {b.process.pid} on host" in note
        assert "default.a" not in note
        assert "within 2 s" in note
        assert files(place) == []
        # The other one does not wait for it.
        before = sum(row["n"] for row in kappa.read("a"))
        wait_for(lambda: sum(row["n"] for row in kappa.read("a")) > before + 100, "rows of the one that runs")
        os.kill(b.process.pid, signal.SIGCONT)
        apart()
        assert kappa.diff("a", "b").to_dict()["met"]


@pytest.mark.parametrize("state", ["request", "held"])
def test_a_version_that_is_killed_there_loses_and_doubles_nothing(script: Path, place: Path, state: str) -> None:
    with records(), two(script) as (_, b):
        outcome: list[Any] = []

        def compare() -> None:
            try:
                outcome.append(kappa.diff("a", "b", rendezvous="25s"))
            except RefusedError as error:
                outcome.append(error)

        thread = threading.Thread(target=compare)
        thread.start()
        wanted = "*.request" if state == "request" else "*.answer"
        wait_for(lambda: any(place.glob(f"checkpoints/*/rendezvous/{wanted}")) or bool(outcome), "the rendezvous", 20)
        b.process.kill()
        b.process.wait()
        b.start()
        thread.join(60)
        assert isinstance(outcome[0], kappa.Diff), outcome
        assert not outcome[0].differs
        apart()
        again = kappa.diff("a", "b")
        assert again.to_dict()["met"], again.to_dict()["notes"]
        assert not again.differs
    for version in ("a", "b"):
        settled = cli("diff", version, version, "--json")
        offsets = json.loads(settled.stdout)["data"]["a"]["offsets"]["t"]
        assert {row["k"]: row["n"] for row in kappa.read(version)} == dict(payloads(offsets))
    assert files(place) == []


@pytest.mark.parametrize("point", ["D2", "D3"])
def test_who_asks_may_die_and_leaves_nothing_that_hurts(script: Path, place: Path, point: str) -> None:
    with records(), two(script) as (a, b):
        apart()
        # It has asked; it has said where to meet.
        died = cli("diff", "a", "b", "--rendezvous", "300s", env={"KAPPA_FAILPOINT": point})
        assert died.returncode == -signal.SIGKILL
        assert files(place) != []
        # It is seen that nobody asks any more, long before the request is over.
        wait_for(lambda: files(place) == [], "requests and answers to go", 10)
        before = {version.table: sum(row["n"] for row in kappa.read(version.table)) for version in (a, b)}
        for table, rows in before.items():
            wait_for(lambda: sum(row["n"] for row in kappa.read(table)) > rows + 100, f"rows of {table}", 10)  # noqa: B023
        apart()
        assert kappa.diff("a", "b").to_dict()["met"]


def test_a_process_that_asked_and_died_while_one_held_does_not_keep_it(script: Path, place: Path) -> None:
    with records(), two(script, a="200ms") as (_, b):
        os.kill(b.process.pid, signal.SIGSTOP)
        apart()
        asking = subprocess.Popen([sys.executable, "-m", "kappa", "diff", "a", "b", "--rendezvous", "300s"])
        wait_for(lambda: any(place.glob("checkpoints/*/rendezvous/*.answer")), "one of them to hold", 20)
        before = sum(row["n"] for row in kappa.read("a"))
        asking.kill()
        asking.wait()
        wait_for(lambda: sum(row["n"] for row in kappa.read("a")) > before + 100, "rows of the one that held", 10)
        os.kill(b.process.pid, signal.SIGCONT)
        wait_for(lambda: files(place) == [], "requests and answers to go", 10)


def test_a_process_that_asked_and_hangs_keeps_nobody_for_long(script: Path, place: Path) -> None:
    with records(), two(script):
        apart()
        command = [sys.executable, "-m", "kappa", "diff", "a", "b", "--rendezvous", "300s", "--json"]
        armed = {**os.environ, "KAPPA_FAILPOINT": "D2:1:stop"}
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, env=armed)
        try:
            wait_for(lambda: len(list(place.glob("checkpoints/*/rendezvous/*.answer"))) == 2, "both to hold", 20)
            before = {table: sum(row["n"] for row in kappa.read(table)) for table in ("a", "b")}
            for table, rows in before.items():
                wait_for(lambda: sum(row["n"] for row in kappa.read(table)) > rows + 100, f"rows of {table}", 20)  # noqa: B023
            # Others can meet meanwhile.
            apart()
            assert kappa.diff("a", "b").to_dict()["met"]
            apart()
        finally:
            os.kill(asking.pid, signal.SIGCONT)
        # It begins again.
        said, _ = asking.communicate(timeout=60)
        assert json.loads(said)["data"]["met"], said
        assert files(place) == []


def test_where_nobody_can_be_asked_a_position_that_both_had_is_taken(script: Path, place: Path) -> None:
    with records(), two(script) as (_, b):
        assert kappa.diff("a", "b").to_dict()["met"]
        # So that they stay apart.
        os.kill(b.process.pid, signal.SIGSTOP)
        apart()
        for folder in place.glob("checkpoints/*/rendezvous"):
            folder.rmdir()
            folder.write_text("")
        found = kappa.diff("a", "b")
        report = found.to_dict()
        assert not report["met"]
        assert not found.differs
        assert any("they could not be asked" in note for note in report["notes"]), report["notes"]


def test_a_version_that_ends_is_not_waited_for(script: Path, place: Path) -> None:
    with records(), two(script) as (_, b):
        assert kappa.diff("a", "b").to_dict()["met"]
        os.kill(b.process.pid, signal.SIGSTOP)
        apart()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            asked = pool.submit(kappa.diff, "a", "b", rendezvous="300s")
            wait_for(lambda: any(place.glob("checkpoints/*/rendezvous/*.answer")), "one of them to hold", 20)
            b.process.kill()
            b.process.wait()
            report = asked.result(60).to_dict()
        why = "default.b does not run, and the other is past all of its snapshots"
        assert any(why in note for note in report["notes"]), report["notes"]


def test_a_version_that_has_ended_at_the_place_is_met_there(script: Path, place: Path) -> None:
    def append() -> None:
        kappa.Log().append("t", [{"k": i % 7, "at": i} for i in range(1_500)])

    def rows(table: str) -> int:
        return sum(row["n"] for row in kappa.read(table))

    def answers(state: str) -> int:
        return sum(f'"{state}"' in path.read_text() for path in place.glob("checkpoints/*/rendezvous/*.answer"))

    append()
    with two(script) as (a, b):
        wait_for(lambda: rows("a") == rows("b") == 1_500, "rows")
        os.kill(a.process.pid, signal.SIGSTOP)
        append()
        wait_for(lambda: rows("b") == 3_000, "rows")
        command = [sys.executable, "-m", "kappa", "diff", "a", "b", "--rendezvous", "300s", "--json"]
        armed = {**os.environ, "KAPPA_FAILPOINT": "D2:1:stop"}
        asking = subprocess.Popen(command, stdout=subprocess.PIPE, env=armed)
        try:
            wait_for(lambda: answers("held") == 1, "b to hold", 20)
            os.kill(a.process.pid, signal.SIGCONT)
            wait_for(lambda: answers("held") == 2, "both to hold", 20)
            os.kill(b.process.pid, signal.SIGSTOP)
        finally:
            os.kill(asking.pid, signal.SIGCONT)
        # It holds where they meet, and dies before it says so.
        wait_for(lambda: answers("reached") == 1, "a to come there", 20)
        b.process.kill()
        b.process.wait()
        said, _ = asking.communicate(timeout=30)
        report = json.loads(said)["data"]
        assert report["met"], report["notes"]
        assert report["a"]["offsets"]["t"] == report["b"]["offsets"]["t"] == {"0": 1_000, "1": 1_000, "2": 1_000}


def test_versions_of_a_cluster_meet_between_markers_of_transactions(kafka: Kafka, topic: str, place: Path) -> None:
    from admin import row

    at = {"log.url": kafka.url}
    kafka.create(topic, partitions=2)
    numbers = itertools.count()

    def transaction() -> None:
        number = next(numbers)
        some = [row({"k": i % 3, "at": 1_000 * number + i}, partition=i % 2) for i in range(10)]
        kafka.transaction(topic, some, commit=number % 3 != 2)

    def counted() -> kappa.Job:
        job = kappa.Job("counted")
        read = job.read(topic, schema={"k": kappa.Int64, "at": kappa.Timestamp("ms")}, event_time="at")
        job.write(read.group_by("k").agg(n=kappa.len(), last=col("at").max()))
        return job

    def run(table: str, interval: str) -> kappa.Run:
        return counted().start(mode="live", output_table=table, checkpoint_interval=interval, config=at)

    transaction()
    with again_and_again(transaction, 0.01), run("a", "300ms"), run("b", "500ms"):
        wait_for(
            lambda: {"default.a", "default.b"} <= set(_tables()) and len(kappa.read("a")) > 0 < len(kappa.read("b")), "rows"
        )
        for _ in range(3):
            found = kappa.diff("a", "b", config=at)
            report = found.to_dict()
            assert report["same_position"]
            assert not [note for note in report["notes"] if "did not meet" in note]
            assert not found.differs
            assert report["a"]["offsets"] == report["b"]["offsets"]
            apart()
