"""The harness of `make bench-kafka` where a mistake would make figures wrong, or leave processes behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

HARNESS = Path(__file__).resolve().parents[2] / "benches" / "kafka"
sys.path.append(str(HARNESS))

from data import verdict  # noqa: E402
from engines import FLINK_ROW, folded  # noqa: E402
from latency import Latency, delays  # noqa: E402
from measure import Run  # noqa: E402
from report import Row, goals  # noqa: E402
from visible import Copies  # noqa: E402

SUPERVISE = [sys.executable, "-I", str(HARNESS / "supervise.py")]
BUSY_ORPHAN = """
import os, time
if os.fork() == 0:
    if os.fork() == 0:
        time.sleep(0.2)  # by now the parent is gone
        held = bytearray(150_000_000)
        while time.process_time() < 0.7: pass
    os._exit(0)
os.wait()
"""
LEAVES_SLEEPER = """
import os, sys
pid = os.fork()
if pid == 0:
    os.setsid()
    os.execvp("sleep", ["sleep", "1000"])
print(pid, flush=True)
"""


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pid: int) -> None:
    until = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < until, f"process {pid} is left behind"
        time.sleep(0.02)


def supervised(tmp_path: Path, timeout: float, words: list[str]) -> tuple[dict, str]:
    command = [*SUPERVISE, str(tmp_path / "usage"), str(timeout), "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return json.loads((tmp_path / "usage").read_text()), done.stdout


def test_what_outlives_the_command_is_measured_too(tmp_path):
    usage, _ = supervised(tmp_path, 30, [sys.executable, "-c", BUSY_ORPHAN])
    assert usage["status"] == 0
    assert 0.65 <= usage["cpu_seconds"] < 3
    assert 150_000_000 <= usage["peak_bytes"] < 400_000_000


def test_what_does_not_end_is_ended(tmp_path):
    usage, out = supervised(tmp_path, 30, [sys.executable, "-c", LEAVES_SLEEPER])
    assert usage["status"] == 0
    wait_until_gone(int(out))


def test_a_command_that_takes_too_long(tmp_path):
    script = LEAVES_SLEEPER + "import time; time.sleep(1000)"
    usage, out = supervised(tmp_path, 1, [sys.executable, "-c", script])
    assert usage["status"] == "timeout"
    assert usage["seconds"] < 20
    wait_until_gone(int(out))


@pytest.mark.parametrize("words", [["false"], ["/no/such/program"]])
def test_a_command_that_fails(tmp_path, words):
    usage, _ = supervised(tmp_path, 30, words)
    assert usage["status"] == {"false": 1}.get(words[0], 127)


def test_nothing_outlives_the_bench(tmp_path):
    script = LEAVES_SLEEPER + "import time; time.sleep(1000)"
    command = [*SUPERVISE, str(tmp_path / "usage"), "60", "--", sys.executable, "-c", script]
    bench = (
        f"import subprocess, time; subprocess.Popen({command!r}, stdout=open({str(tmp_path / 'out')!r}, 'w')); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", bench]) as process:
        until = time.monotonic() + 20
        while not (tmp_path / "out").exists() or not (tmp_path / "out").read_text().endswith("\n"):
            assert time.monotonic() < until
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    wait_until_gone(int((tmp_path / "out").read_text()))


def test_latency_is_until_the_first_look_that_shows_all_of_a_batch():
    sent = [(0, 10, 1.0), (1, 10, 1.1), (0, 20, 2.0), (1, 20, 2.1)]
    seen = [(1.5, {0: 9, 1: 10}), (2.5, {0: 15, 1: 19}), (3.0, {0: 20, 1: 20})]
    assert delays(sent, seen) == pytest.approx([1.5, 0.4, 1.0, 0.9])


def test_changes_are_folded_and_compared():
    printed = "2> +I[2026-03-01, 4]\n2> -U[2026-03-01, 4]\n2> +U[2026-03-01, 6]\n1> +I[2026-03-02, 1]\n1> -D[2026-03-02, 1]\n"
    found = folded((date.fromisoformat(day), int(n), sign == "+") for sign, day, n in FLINK_ROW.findall(printed))
    assert found == {date(2026, 3, 1): 6}
    assert verdict({date(2026, 3, 1): 6}, found) == "exact"
    assert verdict({date(2026, 3, 1): 7}, found) == "WRONG on 1 of 1 days: 2026-03-01 is 6, must be 7"
    assert verdict({date(2026, 3, 1): 6, date(2026, 3, 2): 1}, found).startswith("WRONG on 1 of 2 days")


def ran(seconds: float) -> Run:
    return Run(0, seconds, 1.0, 1.0, 1, 0.0, "", "")


def row(key: str, seconds: list[float], answer: str = "exact", **more) -> Row:
    runs = [ran(each) for each in seconds]
    return Row(key, key, "1", 2, records=1_000_100, start_seconds=1.0, start_records=100, runs=runs, answer=answer, **more)


def test_the_run_in_the_middle_without_start_counts():
    assert row("kappa_10s", [11.0, 3.0, 90.0]).rate == pytest.approx(100_000)
    assert row("kappa_10s", [1.5]).rate == pytest.approx(1_000_100 / 1.5)  # mostly start: nothing is taken off


def test_goals_compare_with_the_fastest_peer_whose_answer_is_right():
    rows = [
        row("raw_a", [3.0]),
        row("raw_b", [5.0]),
        row("kappa_10s", [5.0]),
        row("kappa_1s", [5.4]),
        row("kappa_60s", [5.0]),
        row("flink_sql", [41.0]),
        row("flink_sql_no_split", [20.0], "WRONG on 1 of 2 days"),
        row("flink_datastream", [20.0], failure="no Java"),
    ]
    live = [latency(1_501.0), latency(900.0), latency(900.0, "WRONG: 5 of 6 records")]
    found = [(goal.found, goal.reached) for goal in goals(rows, live)]
    assert found[:4] == [("0.50", True), ("10.00", True), ("–", None), ("9.1%", False)]
    assert found[4:] == [("1501 ms", False), ("900 ms", True), ("–", None)]


def latency(p99_ms: float, answer: str = "exact") -> Latency:
    return Latency("live", "the table", "1s", 1_500.0, 6, 1.0, 6.0, 100.0, p99_ms, p99_ms, looks=1, answer=answer, run=ran(1.0))


def test_copies_come_once_and_in_order():
    def answer(*places: tuple[int, int]) -> str:
        copies = Copies(3)
        copies.take({"partition": partition, "offset": offset} for partition, offset in places)
        return copies.answer()

    assert answer((0, 0), (1, 0), (0, 1)) == "exact"
    assert answer((0, 0), (0, 1)) == "WRONG: 2 of 3 records"
    assert answer((0, 0), (0, 0), (1, 0), (0, 1)) == "WRONG: partition 0: offset 0 came where 1 was next"
    assert answer((0, 0), (1, 0), (0, 2)) == "WRONG: partition 0: offset 2 came where 1 was next"


def test_a_run_that_is_mostly_start_gives_no_verdict():
    found = goals([row("kappa_10s", [5.0]), row("flink_sql", [1.9])], [])[1]
    assert (found.found, found.reached) == ("0.47, on too few records", None)
