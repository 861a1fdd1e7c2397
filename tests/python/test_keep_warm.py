"""The version that a name leaves: its process goes on, or is asked to stop; started again it says so."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import kappa
from catalog_support import Place
from conftest import command, document, wait_for
from kappa.exceptions import RefusedError
from test_cutover import build, fill, positive, table, totals
from test_end_to_end import make_records

RECORDS = make_records(3_000, seed=21)
JOB = "import sys; from test_cutover import totals; totals(int(sys.argv.pop(1))).main()"
PATH = {"PYTHONPATH": os.pathsep.join(sys.path)}


def words(name: str, floor: int, *more: str) -> list[str]:
    return ["-c", JOB, str(floor), "--mode", "live", "--output-table", name, "--checkpoint-interval", "50ms", *more]


@contextmanager
def live(name: str, floor: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """The live job of a version, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, *words(name, floor, *more)], stderr=subprocess.PIPE, text=True, env={**os.environ, **PATH}
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_version_that_nobody_keeps_is_asked_to_stop(catalog: Place) -> None:
    n = catalog.namespace
    name, v3, v4 = f"{n}.name", f"{n}.v3", f"{n}.v4"
    fill(RECORDS[:1_000])
    build(v3, 200)
    build(v4)
    kappa.promote(name, v3)
    new = totals(0).start(mode="live", output_table=v4, checkpoint_interval="50ms")
    try:
        with live(v3, 200) as old:
            fill(RECORDS[1_000:2_000])
            wait_for(lambda: sum(row[2] for row in table(v3)) == positive(2_000, 200), "the old version runs")
            wait_for(lambda: sum(row[2] for row in table(v4)) == positive(2_000, 0), "and the new one")
            promotion = kappa.promote(name, v4, unverified="a test", accept=["lag"], keep_warm=False)
            assert f"process {old.pid} on host" in str(promotion)
            assert f"which keeps {v3} up to date, is asked to stop" in str(promotion)
            said = old.communicate(timeout=30)[1]
            assert old.returncode == 0, said
            assert f"retired: {name} shows {v4} since" in said
            assert f"Back again: kappa rollback {name}" in said
            assert "live stopped" in said
        assert table(name) == table(v4)
        # Its supervisor starts it again.
        again = command(*words(v3, 200), env=PATH)
        assert again.returncode == 3, again.stderr
        assert f"table {v3} is retired: {name} shows {v4} since" in again.stderr
        assert f"kappa rollback {name} makes it serve again" in again.stderr
        # A rollback lifts that, and says how far it is behind.
        fill(RECORDS[2_000:])
        wait_for(lambda: sum(row[2] for row in table(v4)) == positive(3_000, 0), "the new version goes on")
        (note,) = kappa.rollback(name).names[0]["notes"]
        assert note.startswith(f"no process runs {v3} since it was retired at 20")
        assert f", 1000 records behind {v4}: {name} stays there until its job is started again" in note
        assert table(name) == table(v3)
        with live(v3, 200):
            wait_for(lambda: sum(row[2] for row in table(name)) == positive(3_000, 200), "the name goes on")
    finally:
        new.stop()


def test_a_version_that_is_started_all_the_same(place: object) -> None:
    fill(RECORDS[:1_000])
    build("m.v3", 200)
    build("m.v4")
    kappa.promote("m.name", "m.v3")
    promotion = kappa.promote("m.name", "m.v4", unverified="a test", keep_warm=False)
    assert "no process runs m.v3; who starts it again is refused, until kappa rollback m.name or --force" in str(promotion)
    with pytest.raises(RefusedError, match=r"table m.v3 is retired"):
        totals(200).start(mode="live", output_table="m.v3")
    with totals(200).start(mode="live", output_table="m.v3", force=True, checkpoint_interval="50ms") as run:
        fill(RECORDS[1_000:2_000])
        wait_for(lambda: sum(row[2] for row in table("m.v3")) == positive(2_000, 200), "it runs")
        with pytest.raises(TimeoutError):
            run.wait(timeout="3s")
    totals(200).start(mode="live", output_table="m.v3").stop()


def test_what_another_name_shows_is_kept(place: object) -> None:
    fill(RECORDS[:1_000])
    build("m.v3", 200)
    build("m.v4")
    kappa.promote({"m.name": "m.v3", "m.other": "m.v3"})
    words = ["promote", "m.name", "m.v4", "--unverified", "a test", "--no-keep-warm", "--json"]
    said = document(command("-m", "kappa", *words))["data"]["names"][0]["notes"]
    assert "m.v3 is kept warm all the same: its version shows in m.other too" in said
    totals(200).start(mode="live", output_table="m.v3").stop()
    # Both at once, and back.
    kappa.promote({"m.name": "m.v3", "m.other": "m.v4"}, unverified="a test", keep_warm=False)
    totals(200).start(mode="live", output_table="m.v3").stop()
    kappa.promote({"m.name": "m.v4", "m.other": "m.v4"}, unverified="a test", keep_warm=False)
    with pytest.raises(RefusedError, match="is retired"):
        totals(200).start(mode="live", output_table="m.v3")


def test_what_it_costs_that_versions_run_beside_the_one_that_serves(place: object) -> None:
    fill(RECORDS)
    build("m.v3", 200)
    build("m.v4")
    kappa.promote("m.name", "m.v3")
    old = totals(200).start(mode="live", output_table="m.v3", checkpoint_interval="50ms")
    new = totals().start(mode="live", output_table="m.v4", checkpoint_interval="50ms")
    newest = totals(100).start(mode="reprocess", output_table="m.v5", checkpoint_interval="50ms", max_bytes_per_second="5KB")
    try:
        wait_for(lambda: [it["outputs"] for it in kappa.status().versions] == [["m.v3"], ["m.v4"], ["m.v5"]], "all run")
        wait_for(lambda: all("job" in it for it in kappa.status().versions), "and have checkpoints")
        assert costs() == {"m.v4": ("ready", ["m.name"]), "m.v5": ("catching_up", ["m.name"])}
        kappa.promote("m.name", "m.v4", unverified="a test", accept=["lag"])
        assert costs() == {"m.v3": ("warm", ["m.name"]), "m.v5": ("catching_up", ["m.name"])}
        status = kappa.status()
        (warm,) = [it for it in status.versions if it["outputs"] == ["m.v3"]]
        assert warm["standby"]["since_ms"] == kappa.serving("m.name").names[0]["turns"][-1]["at_ms"]
        assert warm["standby"]["table_bytes"] > 1_000
        text = str(status)
        assert [line.split()[:2] for line in text.splitlines()[:3]] == [
            ["writes", "serves"],
            ["m.v3", "totals"],
            ["m.v4", "m.name"],
        ]
        assert "m.v3: kept warm for a rollback of m.name, which it served until 20" in text
        assert f": {os.getpid()}@" in text
        assert "of tables" in text
        assert "m.v5: catching up, beside what m.name shows: " in status._repr_html_()
        assert costs("m.v5") == {"m.v5": ("catching_up", ["m.name"])}
    finally:
        for run in (old, new, newest):
            run.stop()
    assert costs() == {}, "nobody pays for what does not run"
    kappa.promote("m.name", "m.v3", unverified="a test", keep_warm=False)
    assert "m.v4: retired since 20" in str(kappa.status())


def costs(name: str | None = None) -> dict[str, tuple[str, list[str]]]:
    found = [it for it in kappa.status(name).versions if it["standby"]]
    return {it["outputs"][0]: (it["standby"]["kind"], it["standby"]["names"]) for it in found}
