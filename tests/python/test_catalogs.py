"""A job on each kind of catalog: SQLite, PostgreSQL, and REST, which a server of somebody else's keeps."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import kappa
from catalog_support import Place
from conftest import command
from servers import PASSWORD
from test_crash import attempt
from test_end_to_end import fill, has_table, make_records, oracle, table

RECORDS = make_records(12_000, seed=11)


def live(script: Path, name: str) -> subprocess.Popen[str]:
    words = ["--mode", "live", "--output-table", name, "--checkpoint-interval", "50ms"]
    return subprocess.Popen([sys.executable, str(script), *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(name: str, expected: object, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not (has_table(name) and table(name) == expected):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, f"{name} is not what it should be"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_live_job_that_is_killed_goes_on(catalog: Place, script: Callable[..., Path]) -> None:
    """Killed while it commits and run again, the table is what DuckDB computes; pyiceberg reads the same by its own catalog."""
    name = f"{catalog.namespace}.daily"
    fill(RECORDS[:4_000])
    for part in (2, 3):
        process = live(script(), name)
        wait_for(name, oracle(RECORDS[: (part - 1) * 4_000]), process)
        kappa.Log().append("payments", RECORDS[(part - 1) * 4_000 : part * 4_000])
        time.sleep(0.1)
        process.kill()
        process.communicate()
    process = live(script(), name)
    wait_for(name, oracle(RECORDS), process)
    process.terminate()
    process.communicate(timeout=60)
    with catalog.by_pyiceberg() as opened:
        seen = opened.load_table(name)
        rows = {row["day"]: row["payments"] for row in seen.scan().to_arrow().to_pylist()}
    assert rows == {row["day"]: row["payments"] for row in kappa.read(name).to_dicts()}
    assert seen.properties["kappa.primary-key"] == '["day"]'
    owners = {
        snapshot.summary["kappa.owner"]
        for snapshot in seen.snapshots()
        if "kappa.owner" in snapshot.summary.additional_properties
    }
    assert len(owners) > 1, "no process took over"


@pytest.mark.slow
@pytest.mark.parametrize("point", ["K15", "K16", "K21"])
def test_a_job_that_dies_around_a_commit(catalog: Place, script: Callable[..., Path], point: str) -> None:
    name = f"{catalog.namespace}.daily"
    fill(RECORDS)
    command(
        str(script()), "--mode", "reprocess", "--output-table", name, "--checkpoint-interval", "20ms",
        env={"KAPPA_FAILPOINT": f"{point}:1"},
    )  # fmt: skip
    again = attempt(script(), name, 2)
    assert again.returncode in (0, 3), again.stderr
    assert table(name) == oracle(RECORDS)


def test_a_server_that_is_not_there(place: Path, script: Callable[..., Path]) -> None:
    """The error names the server, says what to do, and not the secret."""
    fill(RECORDS[:10])
    for url in ("postgresql://anna:s3cret@127.0.0.1:1/lake", "http://token:s3cret@127.0.0.1:1/catalog"):
        done = command(str(script()), "--mode", "reprocess", "--output-table", "t.x", env={"KAPPA_CATALOG_URL": url})
        assert done.returncode == 5, done.stderr
        assert "127.0.0.1:1" in done.stderr
        assert "see whether the server runs" in done.stderr
        assert "s3cret" not in done.stderr + done.stdout


def test_a_wrong_password(postgres: object, place: Path, script: Callable[..., Path]) -> None:
    fill(RECORDS[:10])
    url = f"postgresql://kappa:wr0ng@127.0.0.1:{postgres.port}/postgres"  # type: ignore[attr-defined]
    done = command(str(script()), "--mode", "reprocess", "--output-table", "t.x", env={"KAPPA_CATALOG_URL": url})
    assert done.returncode == 2, done.stderr
    assert "check the user and the password" in done.stderr
    assert "wr0ng" not in done.stderr + done.stdout
    assert PASSWORD not in done.stderr
