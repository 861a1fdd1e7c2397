"""Checkpoint after checkpoint: no file, no descriptor and no memory is left behind."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import kappa
from live_support import again_and_again, running
from test_end_to_end import make_records
from test_readers import open_catalog

SCRIPT = """
import kappa, kappa.run
from kappa import col

# Snapshots are forgotten after seconds instead of an hour, and what a process left is removed by the next without a day's grace.
SECONDS = lambda seconds: {"secs": seconds, "nanos": 0}
original = kappa.run.engine_options
tables = {"retention": {"all": SECONDS(%(seconds)d), "hourly": SECONDS(0)}, "orphan_grace": SECONDS(0)}
kappa.run.engine_options = lambda job, **more: {**original(job, **more), "tables": tables}

job = kappa.Job("leaks")
schema = {"merchant_id": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
payments = job.read("payments", schema=schema, event_time="event_time")
job.write(payments.filter(col("amount") > 0), name="rows")
job.write(payments.group_by("merchant_id").agg(kappa.len(), people=col("amount").count_distinct()), name="totals")

if __name__ == "__main__":
    job.main()
"""
TABLES = ("t.rows", "t.totals")


@contextmanager
def live(folder: Path, forget_after: int, interval: str) -> Iterator[subprocess.Popen[bytes]]:
    script, log = folder / "job.py", folder / "job.log"
    script.write_text(SCRIPT % {"seconds": forget_after})
    with running(script, log, "--memory", "64MiB", "--checkpoint-interval", interval, "--parallelism", "2") as process:
        yield process
    assert process.returncode == 0, log.read_text()[-3000:]


def arriving() -> AbstractContextManager[None]:
    """Records that come as long as it takes."""
    records = make_records(20_000)
    turns = itertools.cycle(range(0, len(records), 20))

    def feed() -> None:
        first = next(turns)
        kappa.Log().append("payments", records[first : first + 20])

    return again_and_again(feed, 0.005)


def delivered(place: Path) -> int:
    """The newest checkpoint in the tables."""
    with sqlite3.connect(f"file:{place}/catalog.db?mode=ro", uri=True) as db:
        try:
            found = db.execute("select max(checkpoint) from kappa_owners").fetchone()[0]
        except sqlite3.OperationalError:  # the job has not made it yet
            found = None
    return int(found or 0)


def reach(place: Path, checkpoint: int, process: subprocess.Popen[bytes], log: Path) -> None:
    while not (place / "catalog.db").exists() or delivered(place) < checkpoint:
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.02)


def descriptors(process: subprocess.Popen[bytes]) -> int:
    """What stays open between the moments at which files are written."""
    counts = []
    for _ in range(50):
        counts.append(len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
        time.sleep(0.01)
    return min(counts)


def memory(process: subprocess.Popen[bytes]) -> int:
    """MiB in use: the least of some looks, as descriptors."""
    found = []
    for _ in range(20):
        status = Path(f"/proc/{process.pid}/status").read_text()
        found.append(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")))
        time.sleep(0.01)
    return min(found) // 1024


def named(place: Path, name: str) -> set[Path]:
    """Every file that the table's metadata names."""
    table = open_catalog(place).load_table(name)
    urls = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    for snapshot in table.metadata.snapshots:
        urls.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            urls.add(manifest.manifest_path)
            urls |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return {Path(url.removeprefix("file://")) for url in urls}


def check(place: Path, folder: Path, checkpoints: int) -> None:
    kappa.Log().create("payments", partitions=2)
    log = folder / "job.log"
    with arriving(), live(folder, 2, "1ms") as process:
        reach(place, checkpoints // 4, process, log)
        before = (descriptors(process), memory(process))
        first = delivered(place)
        reach(place, checkpoints, process, log)
        after = (descriptors(process), memory(process))
        count = delivered(place) - first
    print(f"{count} checkpoints: descriptors and MiB {before}, then {after}")
    assert after[0] <= before[0] + 24  # RocksDB's tables come and go
    assert after[1] <= before[1] + 48
    # The next process removes what this one could not finish. It forgets nothing itself.
    with live(folder, 3600, "20ms") as process:
        with arriving():
            reach(place, delivered(place) + 10, process, log)
        last = 0
        while last < delivered(place):  # until nothing comes any more
            last = delivered(place)
            time.sleep(1.5)
    (version,) = (place / "checkpoints").iterdir()
    # The newest checkpoints list files that go with them.
    kept = "".join(path.read_text() for path in (version / "manifests").iterdir())
    for name in TABLES:
        table = Path(open_catalog(place).load_table(name).location().removeprefix("file://"))
        there = {path for path in table.rglob("*") if path.is_file()}
        left = [path for path in there - named(place, name) if path.name not in kept]
        assert not left, sorted(left)
        assert len(there) < 1_000
    files = sorted(str(path.relative_to(version)) for path in version.rglob("*") if path.is_file())
    manifests = [path for path in files if path.startswith("manifests/")]
    states = list((version / "state").iterdir())
    assert len(manifests) <= 3, manifests
    assert len(states) <= 2, states
    assert not [path for path in files if path.startswith(("work/", "outbox/"))], files
    assert len(files) < 100, files


@pytest.mark.slow
def test_hundreds_of_checkpoints_leave_nothing_behind(place: Path, tmp_path: Path) -> None:
    check(place, tmp_path, 400)


@pytest.mark.soak
def test_ten_thousand_checkpoints_leave_nothing_behind(place: Path, tmp_path: Path) -> None:
    check(place, tmp_path, 10_000)
