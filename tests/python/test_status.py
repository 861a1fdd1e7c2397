"""`kappa status`: the versions there are, who runs them, and how they fare."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from conftest import cli, daily_job, document, wait_for
from kappa import col
from kappa.exceptions import RefusedError

if TYPE_CHECKING:
    from admin import Kafka

START = 1_772_323_200_000


def append(count: int, first: int = 0) -> None:
    kappa.Log().append(
        "payments",
        [
            {"status": "captured", "amount": 1, "merchant_id": f"m{i % 9}", "event_time": START + i * 1_000}
            for i in range(first, first + count)
        ],
        key="merchant_id",
    )


def only(name: str | None = None) -> dict[str, Any]:
    (version,) = kappa.status(name).versions
    return version


def test_a_version_that_is_finished(place: Path) -> None:
    assert kappa.status().versions == []
    assert list(place.glob("*")) == [], "looking makes nothing"
    kappa.Log().create("payments", partitions=3)
    append(1_000)
    report = daily_job().run(mode="reprocess", output_table="daily", progress=False)
    append(50, first=1_000)
    found = only()
    assert (found["outputs"], found["job"], found["mode"], found["problem"]) == (["default.daily"], "daily", "finished", None)
    assert (found["lag"], found["checkpoint"], found["warnings"]) == (50, report.checkpoints, [])
    assert found["process"]["is_running"] is False, "this process made it, and is there, but does not run it"
    (topic,) = found["topics"]
    assert {str(partition): offset for partition, offset in report.position["payments"].items()} == topic["position"]
    assert found["state_bytes"] >= found["checkpoint_bytes"] > 0
    assert time.time() * 1000 - 60_000 < found["checkpoint_ms"] <= time.time() * 1000
    done = cli("status")
    assert done.returncode == 0, done.stderr
    assert "default.daily" in done.stdout
    assert "finished" in done.stdout
    assert "<table" in kappa.status()._repr_html_()


def test_a_version_that_runs(place: Path) -> None:
    kappa.Log().create("payments", partitions=3)
    append(1_000)
    with daily_job().start(mode="live", output_table="daily", checkpoint_interval="50ms") as run:
        wait_for(lambda: only().get("lag") == 0, "all of it")
        found = only()
        assert (found["mode"], found["process"]["is_running"]) == ("live", True)
        assert found["process"]["process"].startswith(f"process {os.getpid()} on host ")
        for first in (1_000, 1_100):
            append(100, first)
            wait_for(lambda: only()["lag"] == 0, "the new records")
        assert only()["records_per_second"] > 0
        line = cli("status").stdout.splitlines()[1]
        assert f" {os.getpid()}@" in line
        # Some partition has the newest event time, the others are behind it.
        closed_by = only()["closed_by"]
        assert re.fullmatch(r"payments/\d", closed_by)
        assert f"closed waits for {closed_by}" in cli("status").stdout
        run.stop()
    assert only()["process"]["is_running"] is False


def test_looking_is_in_nobodys_way(place: Path) -> None:
    kappa.Log().create("payments")
    append(100)
    over = threading.Event()
    failed: list[BaseException] = []

    def look() -> None:
        while not over.is_set():
            try:
                kappa.status()
            except BaseException as error:
                failed.append(error)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for first in range(100, 800, 100):
            append(100, first)
            daily_job().start(mode="live", output_table="daily", checkpoint_interval="10ms").stop()
    finally:
        over.set()
        looking.join()
    assert failed == []


def test_broken_versions_get_a_line_and_the_others_theirs(place: Path, tmp_path: Path) -> None:
    kappa.Log().create("payments")
    append(100)
    for table in ("sound", "damaged", "lost", "moved"):
        daily_job(table).run(mode="reprocess", output_table=table, progress=False)
    by_table = {
        it["outputs"][0].removeprefix("default."): place / "checkpoints" / it["version"] for it in kappa.status().versions
    }
    manifest = max((by_table["damaged"] / "manifests").glob("*.manifest"))
    manifest.write_bytes(manifest.read_bytes()[:-10])
    shutil.rmtree(by_table["lost"])
    # A version whose table holds another one now.
    shutil.copytree(by_table["moved"], tmp_path / "kept")
    daily_job("moved").run(mode="reprocess", output_table="moved", replace=True, progress=False)
    shutil.copytree(tmp_path / "kept", by_table["moved"])
    problems = {it["version"]: (it["outputs"], it["problem"]) for it in kappa.status().versions}
    outputs, problem = problems[by_table["damaged"].name]
    assert outputs == ["default.damaged"]
    assert "a manifest is damaged" in problem
    outputs, problem = problems[by_table["lost"].name]
    assert outputs == ["default.lost"]
    assert problem == f"its checkpoints are not in {place / 'checkpoints'}"
    assert problems[by_table["moved"].name][1] == "table default.moved is gone, or holds another version now"
    assert problems[by_table["sound"].name][1] is None
    assert len(problems) == 5
    parsed = document(cli("status", "--json"))
    assert (parsed["exit"], len(parsed["warnings"])) == (1, 3)
    assert document(cli("status", "sound", "--json"))["exit"] == 0
    assert cli("status").stdout.count("warning: ") == 3
    assert only("damaged")["problem"] == problems[by_table["damaged"].name][1]
    unknown = document(cli("status", "nothing", "--json"))
    assert (unknown["exit"], unknown["error"]["code"]) == (3, "no_such_version")


def test_a_topic_or_catalog_that_is_not_there_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kappa.Log().create("payments")
    append(10)
    daily_job().run(mode="reprocess", output_table="daily", progress=False)
    shutil.move(place / "log", place / "elsewhere")
    found = only()
    assert (found["lag"], found["checkpoint"]) == (None, found["checkpoint"])
    assert "there is no topic payments" in found["warnings"][0]
    shutil.move(place / "elsewhere", place / "log")
    monkeypatch.setenv("KAPPA_CATALOG_URL", "oracle://nowhere")
    status = kappa.status()
    assert status.versions[0]["lag"] == 0
    assert status.warnings[0].startswith("the catalog cannot be asked which tables hold what")


def test_watch_looks_again_until_it_is_interrupted(place: Path) -> None:
    assert document(cli("status", "--watch", "--json"))["error"]["code"] == "usage"
    watching = subprocess.Popen([sys.executable, "-m", "kappa", "status", "--watch"], stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    assert [watching.stdout.readline() for _ in range(2)] == ["no versions\n"] * 2
    watching.send_signal(signal.SIGINT)
    assert watching.wait(30) == 0
    watching.stdout.close()


@pytest.mark.slow
def test_a_topic_of_a_cluster_whose_retention_comes_close(kafka: Kafka, topic: str, place: Path) -> None:
    from admin import row

    at = {"log.url": kafka.url}
    kafka.create(topic, partitions=2)

    def records(first: int, count: int) -> list[Any]:
        return [row({"t": START + i}, partition=i % 2, timestamp_ms=START + i * 1_000) for i in range(first, first + count)]

    kafka.produce(topic, records(0, 1_000))
    job = kappa.Job("cluster")
    stream = job.read(topic, schema={"t": kappa.Timestamp("ms")}, event_time="t")
    job.write(stream.group_by(day=col("t").dt.date()).agg(n=kappa.len()))
    with job.start(mode="live", output_table="v1", config=at, checkpoint_interval="50ms") as run:
        wait_for(lambda: [it.get("lag") for it in kappa.status(config=at).versions] == [0], "all of it")
        run.stop()
    kafka.produce(topic, records(1_000, 3_000))
    (found,) = kappa.status(config=at).versions
    (read,) = found["topics"]
    assert (found["lag"], found["warnings"], read["retention"]["records"]) == (3_000, [], 500)
    assert read["retention"]["ms"] == 1_000_000
    kafka.delete_records(topic, {0: 400})
    status = kappa.status(config=at)
    (clock,) = [it["retention"] for it in status.versions[0]["topics"]]
    assert (clock["partition"], clock["records"], clock["is_close"]) == (0, 100, True)
    assert f"retention is close: partition 0 of topic {topic} is read 100 records" in status.warnings[0]
    kafka.delete_records(topic, {0: 600})
    assert "100 records of partition 0" in kappa.status("v1", config=at).warnings[0]


def test_an_unknown_name_is_refused(place: Path) -> None:
    with pytest.raises(RefusedError, match="no version writes"):
        kappa.status("daily")
