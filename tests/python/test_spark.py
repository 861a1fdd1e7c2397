"""Somebody else's maintenance beside a live job: Spark rewrites data files, delete files and manifests and expires snapshots of
tables that kappa commits to all the while. No row is lost, doubled or revived, and the job goes on."""

from __future__ import annotations

import collections
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog.sql import SqlCatalog

import kappa
from live_support import again_and_again, running
from spark_support import Spark, SparkError
from test_end_to_end import has_table
from test_readers import check_moved_deletes, content, every_reader

SCRIPT = """
import kappa, kappa.run
from kappa import col

# Tables that are not small, so that upserts are made by position deletes; merged by kappa too, or by Spark alone.
original = kappa.run.engine_options
kappa.run.engine_options = lambda job, **more: {**original(job, **more), "tables": {"rewrite_below": 0, "compaction": %(compaction)s}}

job = kappa.Job("maintained")
schema = {"merchant_id": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
payments = job.read("payments", schema=schema, event_time="event_time")
job.write(payments.filter(col("amount") >= 0), name="rows")
job.write(payments.group_by("merchant_id").agg(kappa.len(), total=col("amount").sum()), name="totals")

if __name__ == "__main__":
    job.main()
"""
TABLES = ("t.rows", "t.totals")
REWRITES = {
    "rewrite_data_files": "options => map('rewrite-all', 'true', 'partial-progress.enabled', 'false')",
    "rewrite_position_delete_files": "options => map('rewrite-all', 'true')",
    "rewrite_manifests": "use_caching => false",
}
LOST = ("Cannot commit", "CommitFailed", "Missing required files", "found new", "ValidationException", "has been modified")


class Feed:
    """Records that arrive while the job runs. Merchants come and go: those of the past change no more."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._chance = random.Random(5)
        self._arriving = again_and_again(lambda: self.add(20), 0.25)

    def add(self, count: int) -> None:
        first = len(self.records)
        more = [
            {"merchant_id": self._merchant(number), "amount": number, "event_time": 1_772_303_400_000 + number}
            for number in range(first, first + count)
        ]
        kappa.Log().append("payments", more)
        self.records += more

    def _merchant(self, number: int) -> str:
        return f"m{number // 20 + self._chance.randrange(20):08}"

    def __enter__(self) -> Feed:
        self._arriving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._arriving.__exit__(None, None, None)

    def totals(self) -> list[tuple[Any, ...]]:
        found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
        for record in self.records:
            found[record["merchant_id"]][0] += 1
            found[record["merchant_id"]][1] += record["amount"]
        return sorted((merchant, *sums) for merchant, sums in found.items())


def snapshots(place: Path, name: str) -> list[Any]:
    table = SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse").load_table(name)
    return list(table.metadata.snapshots)


def checkpoint(place: Path, name: str) -> int:
    """The newest that the table holds."""
    found = [s.summary.additional_properties.get("kappa.checkpoint") for s in snapshots(place, name) if s.summary]
    return max(int(number) for number in found if number is not None) if any(found) else 0


def wait_for(what: str, is_so: Any, log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not after {seconds} s: {what}\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def attempt(spark: Spark, place: Path, call: str) -> bool:
    """Whether a call of Spark's went through; that kappa was quicker, it may say."""
    spark.open(place)
    try:
        spark.sql(f"CALL kappa.system.{call}")
    except SparkError as error:
        if not any(text in str(error) for text in LOST):
            raise
        print(f"{call}: {error}"[:500])
        return False
    return True


def maintain(spark: Spark, place: Path, process: subprocess.Popen[bytes], log: Path, must: bool) -> int:
    """Each procedure until it goes through, on both tables; how many did. That it does must be where kappa does not merge too."""
    went_through = 0
    for name in TABLES:
        for procedure, arguments in REWRITES.items():
            if must and (name, procedure) == ("t.totals", "rewrite_data_files"):
                # Files that change every second are never Spark's; those of the past are.
                arguments += ", where => 'merchant_id < \"m00000050\"'"
            before = checkpoint(place, name)
            tries = range(20 if must else 3)
            done = any(attempt(spark, place, f"{procedure}(table => '{name}', {arguments})") for _ in tries)
            assert done or not must, f"{procedure} of {name} lost {len(tries)} times"
            went_through += done
            wait_for(f"a commit after {procedure}", lambda: checkpoint(place, name) > before + 1, log)  # noqa: B023
            assert process.poll() is None, log.read_text()[-3000:]
        now = "TIMESTAMP '2100-01-01 00:00:00'"
        before = checkpoint(place, name)
        expire = f"expire_snapshots(table => '{name}', older_than => {now}, retain_last => 1)"
        assert any(attempt(spark, place, expire) for _ in range(20))
        wait_for("a commit after expire_snapshots", lambda: checkpoint(place, name) > before + 1, log)  # noqa: B023
    return went_through


@pytest.mark.soak
def test_spark_maintains_what_a_live_job_writes(
    place: Path, tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    script, log = tmp_path / "job.py", tmp_path / "job.log"
    script.write_text(SCRIPT.replace("%(compaction)s", "{}"))
    kappa.Log().create("payments", partitions=2)
    feed = Feed()
    feed.add(2_000)
    with feed:
        with running(script, log, "--checkpoint-interval", "1s") as process:
            wait_for("tables", lambda: all(has_table(name) for name in TABLES), log)
            wait_for("commits", lambda: checkpoint(place, "t.totals") >= 5, log)
            assert maintain(spark, place, process, log, must=False) > 0
            process.kill()
            process.wait()
        # What somebody does while the job is down, it finds when it comes back.
        for name in TABLES:
            assert attempt(spark, place, f"rewrite_data_files(table => '{name}', options => map('rewrite-all', 'true'))")
            assert attempt(spark, place, f"expire_snapshots(table => '{name}', older_than => TIMESTAMP '2100-01-01 00:00:00')")
            assert not any("kappa.checkpoint" in s.summary.additional_properties for s in snapshots(place, name))
        script.write_text(SCRIPT.replace("%(compaction)s", "{'fan_in': 1000, 'deleted_share': 1.0}"))
        with running(script, log, "--checkpoint-interval", "1s") as process:
            maintain(spark, place, process, log, must=True)
            feed.__exit__()
            wait_for("all records", lambda: len(kappa.read("t.rows")) >= len(feed.records), log)
            wait_for("all totals", lambda: content("t.totals") == feed.totals(), log)
    amounts = sorted(row["amount"] for row in kappa.read("t.rows").to_arrow().to_pylist())
    assert amounts == [record["amount"] for record in feed.records]
    for name in TABLES:
        every_reader(place, name, spark)
    assert "warning" not in log.read_text().lower(), log.read_text()


@pytest.mark.soak
def test_spark_reads_deletes_that_a_merge_has_moved(place: Path, monkeypatch: pytest.MonkeyPatch, spark: Spark) -> None:
    check_moved_deletes(place, monkeypatch, spark)
