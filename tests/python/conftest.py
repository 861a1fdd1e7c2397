"""What the tests share: a temporary place, a job, and the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kappa
from catalog_support import *  # noqa: F403 (its fixtures)
from kafka_support import *  # noqa: F403 (its fixtures)
from kappa import col
from kappa.testing import temporary
from spark_support import *  # noqa: F403 (its fixtures)

SCHEMA = {
    "status": kappa.String,
    "amount": kappa.Int64,
    "merchant_id": kappa.String,
    "event_time": kappa.Timestamp("ms"),
}

SCRIPT = """
import kappa
from kappa import col

job = kappa.Job("distinct-merchants")
payments = job.read(
    "payments",
    schema={"status": kappa.String, "amount": kappa.Int64, "merchant_id": kappa.String,
            "event_time": kappa.Timestamp("ms")},
    event_time="event_time",
    max_out_of_orderness="30s",
    on_bad_record="%(on_bad_record)s",
)
daily = (
    payments.filter((col("status") == "captured") & (col("amount") > %(floor)s))
    .group_by(day=col("event_time").dt.date(time_zone="Asia/Kolkata"))
    .agg(merchants=col("merchant_id").count_distinct(), total=col("amount").sum(), payments=kappa.len())
)
job.write(daily)

if __name__ == "__main__":
    job.main()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an empty `.kappa` of its own."""
    monkeypatch.chdir(tmp_path)
    with temporary(tmp_path / ".kappa") as made:
        yield made


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Writes the demo's job to a file."""

    def write(on_bad_record: str = "fail", floor: int = 0, name: str = "job.py") -> Path:
        path = tmp_path / name
        path.write_text(SCRIPT % {"on_bad_record": on_bad_record, "floor": floor})
        return path

    return write


def payments_stream(job: kappa.Job) -> kappa.Stream:
    """The records that the tests' jobs read."""
    return job.read("payments", schema=SCHEMA, event_time="event_time", max_out_of_orderness="30s")


def daily_job(name: str = "daily") -> kappa.Job:
    """The demo's job."""
    job = kappa.Job(name)
    job.write(
        payments_stream(job)
        .filter(col("status") == "captured")
        .group_by(day=col("event_time").dt.date())
        .agg(merchants=col("merchant_id").count_distinct())
    )
    return job


def command(*words: str, env: dict[str, str] | None = None, input_: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `python …` in the current directory and gives its end."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": "UTC", **(env or {})},
        input=input_,
        timeout=120,
        check=False,
    )


def cli(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs `kappa …`."""
    return command("-m", "kappa", *words, **more)


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout."""
    parsed: dict[str, Any] = json.loads(done.stdout)
    assert set(parsed) == {"schema", "command", "ok", "exit", "data", "warnings", "error"}
    assert parsed["schema"] == 1
    assert parsed["exit"] == done.returncode
    assert parsed["ok"] == (done.returncode == 0)
    return parsed


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not seen within {seconds} s")
        time.sleep(0.05)
