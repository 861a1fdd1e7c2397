"""A table that got a commit a second for hours, in compressed time: what a commit costs, what the metadata weighs, and what a
scan costs beside one of a table with the same rows that was written at once.

python benches/table/age.py --commits 10000
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.table import StaticTable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / ".kappa-bench" / "table"
TEST = "sink::iceberg::age_tests::measure_age"
ROUNDS = 15


def grow(commits: int) -> list[tuple[str, dict[str, Any]]]:
    """Makes the tables by the committer itself, and gives what it says of them."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    words = [str(ROOT / "tools" / "cargo.sh"), "test", "--release", "--lib", "--", "--exact", "--ignored", "--nocapture", TEST]
    env = {**os.environ, "KAPPA_AGE": str(commits), "TMPDIR": str(PLACE)}
    said = []
    with subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            kind, _, document = line.partition(" ")
            if kind in ("AGE", "FRESH"):
                said.append((kind, json.loads(document)))
                print(line, end="", file=sys.stderr)
    if child.returncode != 0:
        sys.exit("the tables were not made")
    return said


def by_duckdb() -> Callable[[str], int]:
    """A reader that has not seen the table before; the extensions are those of the wheels."""

    def read(metadata: str) -> int:
        with duckdb.connect() as db:
            for name in ("avro", "iceberg"):
                folder = Path(str(importlib.import_module(f"duckdb_extension_{name}").__file__)).parent
                (path,) = folder.glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension")
                db.execute(f"load '{path}'")
            found = db.execute(f"select count(*), max(k), sum(n) from iceberg_scan('{metadata}')").fetchone()
        return int(found[0]) if found else 0

    return read


def by_pyiceberg(metadata: str) -> int:
    """Plans and reads all columns."""
    return int(StaticTable.from_metadata(metadata).scan().to_arrow().num_rows)


def scans(old: str, fresh: str) -> list[tuple[str, float, float]]:
    """By reader, the median milliseconds of both, in turns."""
    found = []
    for name, read in (("DuckDB", by_duckdb()), ("pyiceberg", by_pyiceberg)):
        times: dict[str, list[float]] = {old: [], fresh: []}
        rows = {}
        for _ in range(ROUNDS):
            for metadata in (old, fresh):
                start = time.perf_counter()
                rows[metadata] = read(metadata)
                times[metadata].append((time.perf_counter() - start) * 1000)
        assert rows[old] == rows[fresh], rows
        found.append((name, statistics.median(times[old]), statistics.median(times[fresh])))
    return found


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=10_000)
    said = grow(parser.parse_args().commits)
    print("| table | commits | a commit | metadata file | its JSON | snapshots | files |\n|---|---|---|---|---|---|---|")
    for kind, it in said:
        if kind == "AGE":
            sizes = f"{it['metadata_bytes'] / 1e3:,.0f} kB | {it['json_bytes'] / 1e3:,.0f} kB"
            print(f"| {it['table']} | {it['commits']:,} | {it['commit_ms']:.1f} ms | {sizes} |", end="")
            print(f" {it['snapshots']:,} | {it['files']:,} |")
    print("\n| table | reader | scan | scan of a fresh one | ratio |\n|---|---|---|---|---|")
    for kind, fresh in said:
        if kind == "FRESH":
            (*_, old) = [it for what, it in said if what == "AGE" and it["table"] == fresh["table"]]
            for reader, a, b in scans(old["metadata"], fresh["metadata"]):
                print(f"| {fresh['table']} | {reader} | {a:.0f} ms | {b:.0f} ms | {a / b:.2f} |")


if __name__ == "__main__":
    main()
