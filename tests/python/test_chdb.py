"""chdb, which is ClickHouse, reads versions and names: before and after a promote, and back in time.

In a process of its own: it brings threads and signal handlers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kappa
from conftest import command
from test_cutover import build_both, make_records

READ = """
import json, sys
sys.path.insert(0, sys.argv[1])
from cutover_readers import by_chdb
place, asked = sys.argv[2], json.loads(sys.argv[3])
rows = lambda name, snapshot: by_chdb(f"{place}/catalog.db", f"file://{place}/warehouse", name)(snapshot)
print(json.dumps([rows(name, snapshot) for name, snapshot in asked]))
"""


def by_chdb(place: Path, *asked: tuple[str, int | None]) -> list[list[tuple[str, ...]]]:
    done = command("-c", READ, str(Path(__file__).parent), str(place), json.dumps(asked))
    assert done.returncode == 0, done.stderr[-2000:]
    return [texts(rows) for rows in json.loads(done.stdout)]


def texts(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row.values())) for row in rows)


def by_kappa(name: str) -> list[tuple[str, ...]]:
    return texts(kappa.read(name).to_dicts())


@pytest.mark.slow
def test_chdb_reads_versions_and_names(place: Path) -> None:
    build_both(make_records(4_000, seed=21), "m.v3")
    old, new = by_kappa("m.v3"), by_kappa("m.v4")
    assert old != new
    assert by_chdb(place, ("m.v3", None), ("m.v4", None), ("m.name", None)) == [old, new, old]
    before = kappa.serving("m.name").names[0]["snapshot_id"]
    after = kappa.promote("m.name", "m.v4", unverified="a test").names[0]["snapshot_id"]
    assert by_chdb(place, ("m.name", None), ("m.name", before), ("m.name", after)) == [new, old, new]
    kappa.rollback("m.name")
    assert by_chdb(place, ("m.name", None), ("m.name", after)) == [old, new]
