"""A real process that dies by SIGKILL at a named point: run again, the table is exactly what DuckDB computes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kappa
from conftest import command
from test_end_to_end import fill, has_table, make_records, oracle, table

# The points of the checkpoint's life, in its order: barrier, acks, state, prepared output, manifest, commit, clean-up.
POINTS = ["K1", "K2", "K3", "K5", "K6", "K7", "K8", "K9", "K10", "K15", "K16", "K17", "K18", "K19", "K20", "K21"]
RECORDS = make_records(40_000, seed=7)


def attempt(script: Path, name: str, workers: int, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return command(
        str(script), "--mode", "reprocess", "--output-table", name, "--parallelism", str(workers), "--checkpoint-interval", "20ms",
        env=env,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(place: Path, script: Callable[..., Path], point: str, seed: int) -> None:
    chance = random.Random(f"{point}-{seed}")
    fill(RECORDS)
    name = "t.x"
    for hit in (chance.choice([1, 2, 3]), 1):  # a run has as many checkpoints as it has time for: the first is always there
        name = f"t.hit_{hit}"
        first = attempt(script(), name, chance.choice([1, 2]), env={"KAPPA_FAILPOINT": f"{point}:{hit}"})
        if first.returncode != 0:
            break
    if first.returncode == 0:
        pytest.skip(f"{point} is not on the way of a reprocess")
    assert first.returncode == -9, first.stderr
    again = attempt(script(), name, chance.choice([1, 2, 3]))
    assert again.returncode in (0, 3), again.stderr  # 3: it had finished when it died
    assert table(name) == oracle(RECORDS), f"status {again.returncode}: {again.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_killed_around_the_last_manifest(place: Path, script: Callable[..., Path], point: str) -> None:
    """One checkpoint, the last: from its manifest on the run counts as finished, and what that lists must be delivered."""
    fill(RECORDS[:5_000])
    words = [str(script()), "--mode", "reprocess", "--output-table", "t.x", "--checkpoint-interval", "1h"]
    command(*words, env={"KAPPA_FAILPOINT": f"{point}:1"})
    again = command(*words)
    assert again.returncode in (0, 3), again.stderr
    assert table("t.x") == oracle(RECORDS[:5_000]), f"status {again.returncode}: {again.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_again_and_again(place: Path, script: Callable[..., Path], seed: int) -> None:
    chance = random.Random(seed)
    fill(RECORDS)
    path = script()
    for _ in range(5):
        words = ["--mode", "reprocess", "--output-table", "t.x", "--checkpoint-interval", "20ms"]
        process = subprocess.Popen(
            [sys.executable, str(path), *words, "--parallelism", str(chance.choice([1, 2, 3]))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(0.05, 1.0))
        process.kill()
        process.wait()
    assert attempt(path, "t.x", 2).returncode in (0, 3)
    assert table("t.x") == oracle(RECORDS)


@pytest.mark.slow
def test_a_live_job_killed_while_records_arrive(place: Path, script: Callable[..., Path]) -> None:
    fill(RECORDS[:10_000])
    words = [sys.executable, str(script()), "--mode", "live", "--output-table", "t.x", "--checkpoint-interval", "50ms"]
    for part in range(1, 4):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(0.4)
        kappa.Log().append("payments", RECORDS[part * 10_000 : (part + 1) * 10_000])
        time.sleep(0.3)
        process.kill()
        process.communicate()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while time.monotonic() < end and not (has_table("t.x") and table("t.x") == oracle(RECORDS)):
        time.sleep(0.2)
    process.terminate()
    assert process.wait(30) in (0, -15)  # -15: stopped before it had begun to listen
    assert table("t.x") == oracle(RECORDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_writer_of_the_log_that_tears_its_tail(place: Path, script: Callable[..., Path], seed: int) -> None:
    fill(RECORDS[:1_000], partitions=1)
    append = "import kappa, sys; kappa.Log().append('payments', [{'status': 'captured', 'amount': 1, 'merchant_id': 'm', 'event_time': 0}] * 5000)"
    died = command("-c", append, env={"KAPPA_FAILPOINT": f"F4:{seed}"})
    if died.returncode == 0:
        pytest.skip(f"F4:{seed} is not on the way of this append")
    assert died.returncode == -9, died.stderr
    fill(RECORDS[1_000:2_000])
    whole = [record.json() for record in kappa.Log().scan("payments")]
    assert [record.offset for record in kappa.Log().scan("payments")] == list(range(len(whole)))
    assert attempt(script(), "t.x", 1).returncode == 0
    assert table("t.x") == oracle(whole)
