"""Somebody else's maintenance beside a live job: Spark rewrites data files, delete files and manifests and expires snapshots of
tables that kappa commits to all the while. No row is lost, doubled or revived, and the job goes on."""

from __future__ import annotations

import collections
import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.table import Table

import kappa
from live_support import again_and_again, running
from spark_support import Spark, SparkError
from test_end_to_end import has_table
from test_readers import check_moved_deletes, content, every_reader, open_catalog

SCRIPT = """
import kappa, kappa.run
from kappa import col

# Tables that are not small, so that upserts are made by position deletes; merged by kappa too, or by Spark alone.
original = kappa.run.engine_options
kappa.run.engine_options = lambda job, **more: {**original(job, **more), "tables": {"rewrite_below": 0, "compaction": %(compaction)s}}

job = kappa.Job("maintained")
schema = {"merchant_id": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
payments = job.read("payments", schema=schema, event_time="event_time")
job.write(payments.filter(col("amount") >= 0).select("merchant_id", "amount"), name="rows")
job.write(payments.group_by("merchant_id").agg(kappa.len(), total=col("amount").sum()), name="totals")

if __name__ == "__main__":
    job.main()
"""
TABLES = ("t.rows", "t.totals")
FAR = "TIMESTAMP '2100-01-01 00:00:00'"
PROCEDURES = {
    "rewrite_data_files": "options => map('rewrite-all', 'true', 'partial-progress.enabled', 'false')",
    "rewrite_position_delete_files": "options => map('rewrite-all', 'true')",
    "rewrite_manifests": "use_caching => false",
    "expire_snapshots": f"older_than => {FAR}, retain_last => 1",
}
# Kappa was quicker: another commit, a position delete of a row that was rewritten, a delete file or a manifest that is merged by now.
LOST = ("Cannot commit", "CommitFailed", "Missing required files", "found new", "could not be found in the latest snapshot")


class Feed:
    """Records that arrive while the job runs."""

    def __init__(self) -> None:
        self.sent = 0
        self.merchant: Callable[[int], str] = self.recent
        self._chance = random.Random(5)
        self._arriving = again_and_again(lambda: self.add(20), 0.25)

    def add(self, count: int) -> None:
        numbers = range(self.sent, self.sent + count)
        more = [{"merchant_id": self.merchant(n), "amount": n, "event_time": 1_772_303_400_000 + n} for n in numbers]
        kappa.Log().append("payments", more)
        self.sent += count

    def recent(self, number: int) -> str:
        """Merchants come and go: those of the past change no more. Each commit takes rows of the last ones away."""
        return f"m{number // 20 + self._chance.randrange(20):08}"

    def new(self, number: int) -> str:
        """Each a merchant of its own: no commit takes rows away."""
        return f"n{number:08}"

    def any(self, number: int) -> str:
        """Those of the past too: commits take rows away from whatever files they are in."""
        return f"m{self._chance.randrange(number // 20):08}"

    def __enter__(self) -> Feed:
        self._arriving.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._arriving.__exit__(None, None, None)


def oracle(name: str, ends: dict[str, int]) -> list[tuple[Any, ...]]:
    """What a table holds once the records before these offsets are in it."""
    records = [json.loads(r.value) for r in kappa.Log().scan("payments") if r.offset < ends[str(r.partition)]]
    if name == "t.rows":
        return sorted((record["merchant_id"], record["amount"]) for record in records)
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for record in records:
        found[record["merchant_id"]][0] += 1
        found[record["merchant_id"]][1] += record["amount"]
    return sorted((merchant, *sums) for merchant, sums in found.items())


def said(table: Table, key: str) -> str | None:
    """What the newest commit of kappa's says: other tools' snapshots stand on top of it, and change no row."""
    at = table.current_snapshot()
    while at is not None:
        if at.summary and key in at.summary.additional_properties:
            return at.summary.additional_properties[key]
        at = table.snapshot_by_id(at.parent_snapshot_id) if at.parent_snapshot_id else None
    return None


def checkpoint(place: Path, name: str) -> int:
    """The newest that the table holds."""
    return int(said(open_catalog(place).load_table(name), "kappa.checkpoint") or 0)


def check(place: Path, name: str, spark: Spark) -> None:
    """Every reader gives the rows of the batch computation at the position that the newest commit names."""
    table = open_catalog(place).load_table(name)
    offsets, newest = said(table, "kappa.offsets"), table.current_snapshot()
    assert offsets, "no commit of kappa's is left"
    assert newest
    found = every_reader(place, name, spark, newest.snapshot_id)
    assert sorted(found) == oracle(name, json.loads(offsets)["payments"])


def wait_for(what: str, is_so: Callable[[], bool], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not after {seconds} s: {what}\n{log.read_text()[-3000:]}"
        time.sleep(0.2)


def attempt(spark: Spark, place: Path, name: str, procedure: str) -> list[Any] | None:
    """What a procedure of Spark's has done; none if kappa was quicker, as Spark may say."""
    spark.open(place)
    try:
        (done,) = spark.sql(f"CALL kappa.system.{procedure}(table => '{name}', {PROCEDURES[procedure]})")
    except SparkError as error:
        if not any(text in str(error) for text in LOST):
            raise
        return None
    return done


class Maintained:
    """The tables of a job that runs."""

    def __init__(self, place: Path, spark: Spark, process: subprocess.Popen[bytes], log: Path) -> None:
        self.place, self.spark, self.process, self.log = place, spark, process, log

    def commits(self, name: str, count: int = 2) -> None:
        """The job goes on."""
        before = checkpoint(self.place, name)
        wait_for("commits", lambda: checkpoint(self.place, name) >= before + count, self.log)
        assert self.process.poll() is None, self.log.read_text()[-3000:]

    def by(self, procedure: str, name: str, tries: int) -> list[Any] | None:
        """What the procedure has done once it got through. Whether it did or not, the job goes on, and the rows are right."""
        done, lost = attempt(self.spark, self.place, name, procedure), 0
        while done is None and (lost := lost + 1) < tries:
            done = attempt(self.spark, self.place, name, procedure)
        print(f"{procedure} of {name}: lost {lost} times, then {done}")
        self.commits(name)
        check(self.place, name, self.spark)
        return done


@pytest.mark.soak
def test_spark_maintains_what_a_live_job_writes(
    place: Path, tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    script, log = tmp_path / "job.py", tmp_path / "job.log"
    kappa.Log().create("payments", partitions=2)
    feed = Feed()
    feed.add(2_000)
    with feed:
        # Kappa merges the same files, and each of its commits takes rows away from them: Spark may lose, always.
        script.write_text(SCRIPT.replace("%(compaction)s", "{}"))
        with running(script, log, "--checkpoint-interval", "1s") as process:
            wait_for("tables", lambda: all(has_table(name) for name in TABLES), log)
            wait_for("commits", lambda: checkpoint(place, "t.totals") >= 5, log)
            job = Maintained(place, spark, process, log)
            done = [job.by(procedure, name, tries=3) for name in TABLES for procedure in PROCEDURES]
            assert any(done)
            process.kill()
            process.wait()
        # What somebody does while the job is down, it finds when it comes back, also if no snapshot has a marker any more.
        for name in TABLES:
            for procedure in PROCEDURES:
                assert attempt(spark, place, name, procedure), f"{procedure} of {name}"
            assert said(open_catalog(place).load_table(name), "kappa.checkpoint") is None
        # Spark is the only one who merges. While no commit takes rows away, nothing that it does loses; and then commits do, from
        # the files that it has made.
        script.write_text(SCRIPT.replace("%(compaction)s", "{'fan_in': 1000, 'deleted_share': 1.0}"))
        with running(script, log, "--checkpoint-interval", "1s") as process:
            wait_for("a commit", lambda: all(checkpoint(place, name) for name in TABLES), log)
            job = Maintained(place, spark, process, log)
            for procedure in PROCEDURES:
                for name in TABLES:
                    feed.merchant = feed.any
                    job.commits("t.totals", 3)
                    feed.merchant = feed.new
                    done = job.by(procedure, name, tries=10)
                    assert done, f"{procedure} of {name} lost to commits that take no row away"
                    is_idle = procedure == "rewrite_position_delete_files" and name == "t.rows"
                    assert sum(done) > 0 or is_idle, f"{procedure} of {name} had nothing to do"
            feed.merchant = feed.any
            job.commits("t.totals", 3)
            feed.__exit__()
            wait_for("all records", lambda: len(kappa.read("t.rows")) >= feed.sent, log)
            everything = {str(part): feed.sent for part in range(2)}
            wait_for("all totals", lambda: sorted(content("t.totals")) == oracle("t.totals", everything), log)
    for name in TABLES:
        assert sorted(every_reader(place, name, spark)) == oracle(name, everything)
    assert "warning" not in log.read_text().lower(), log.read_text()


@pytest.mark.soak
def test_spark_reads_deletes_that_a_merge_has_moved(place: Path, monkeypatch: pytest.MonkeyPatch, spark: Spark) -> None:
    check_moved_deletes(place, monkeypatch, spark)
