"""A diff of two tables of many rows, beside DuckDB's full outer join of the same Parquet files.

python benches/query/diff.py --rows 10000000 --memory 512MiB
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.types import DateType, DoubleType, LongType, NestedField, StringType

from kappa.testing import temporary

PLACE = Path(__file__).resolve().parent.parent.parent / ".kappa-bench" / "diff"
# Every hundredth row is changed; of every thousand one is in one table only.
ROWS = """
    select user_id, date '2026-01-01' + (user_id % 365)::int as day, 'm' || (hash(user_id) % 5000) as merchant,
        (hash(user_id, 1) % 100000)::bigint + (case when {b} and user_id % 100 = 0 then 7 else 0 end) as amount,
        (hash(user_id, 2) % 1000)::double / 7 as score
    from (select range as user_id from range({low}, {high})) where user_id % 1000 <> {missing}
"""
SCHEMA = Schema(
    NestedField(1, "user_id", LongType()),
    NestedField(2, "day", DateType()),
    NestedField(3, "merchant", StringType()),
    NestedField(4, "amount", LongType()),
    NestedField(5, "score", DoubleType()),
)
JOIN = """
    select count(*) filter (b.user_id is null), count(*) filter (a.user_id is null),
        count(*) filter (a.user_id = b.user_id and (a.day is distinct from b.day or a.merchant is distinct from b.merchant
            or a.amount is distinct from b.amount or a.score is distinct from b.score)),
        sum(a.amount), sum(b.amount)
    from read_parquet([{a}]) a full join read_parquet([{b}]) b on a.user_id = b.user_id
"""
STEP = 1_000_000


def make(place: Path, rows: int) -> dict[str, list[str]]:
    """Two tables with a primary key, written by pyiceberg; by table, its files."""
    (place / "warehouse").mkdir(parents=True)
    catalog = SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")
    catalog.create_namespace("default")
    files = {}
    with duckdb.connect() as db:
        for name, missing in (("a", 1), ("b", 2)):
            key = {"kappa.primary-key": '["user_id"]'}
            table = catalog.create_table(f"default.{name}", SCHEMA, properties=key)
            for low in range(0, rows, STEP):
                query = ROWS.format(b=str(name == "b").lower(), low=low, high=min(rows, low + STEP), missing=missing)
                # The second table has its rows in another order.
                order = " order by hash(user_id)" if name == "b" else ""
                table.append(db.sql(query + order).to_arrow_table().cast(SCHEMA.as_arrow()))
            files[name] = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    return files


def by_duckdb(files: dict[str, list[str]], threads: int) -> tuple[float, tuple[Any, ...]]:
    """Seconds, and what it found."""
    lists = {name: ", ".join(f"'{path}'" for path in paths) for name, paths in files.items()}
    start = time.perf_counter()
    with duckdb.connect(config={"threads": threads}) as db:
        found = db.sql(JOIN.format(**lists)).fetchone()
    assert found is not None
    return time.perf_counter() - start, found[:3]


def by_kappa(memory: str, threads: int) -> tuple[float, tuple[int, ...], float]:
    """Seconds, what it found, and the most memory of a process of its own."""
    code = (
        "import kappa, time, json, re; start = time.perf_counter(); "
        f"found = kappa.diff('a', 'b', memory={memory!r}, parallelism={threads}); c = found.counts; "
        "print(json.dumps([time.perf_counter() - start, c['only_in_a'], c['only_in_b'], c['changed'], "
        "int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1024, "
        "found.to_dict()['spilled_bytes'] / 2**20]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr)
    seconds, only_a, only_b, changed, peak, spilled = json.loads(done.stdout)
    print(f"kappa, {memory}: {seconds:.2f} s, at most {peak:,.0f} MiB, {spilled:,.0f} MiB through the disk", file=sys.stderr)
    return seconds, (only_a, only_b, changed), peak


def main() -> None:
    """Prints a table of Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--memory", nargs="+", default=["4GiB", "512MiB"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    shutil.rmtree(PLACE, ignore_errors=True)
    with temporary(PLACE):
        files = make(PLACE, args.rows)
        duck, ours = [], {memory: [] for memory in args.memory}
        peaks = {}
        for _ in range(args.rounds):
            seconds, expected = by_duckdb(files, args.threads)
            print(f"DuckDB: {seconds:.2f} s", file=sys.stderr)
            duck.append(seconds)
            for memory in args.memory:
                seconds, found, peaks[memory] = by_kappa(memory, args.threads)
                assert found == expected, (found, expected)
                ours[memory].append(seconds)
    shutil.rmtree(PLACE, ignore_errors=True)
    base = statistics.median(duck)
    print(f"| {args.rows:,} against {args.rows:,} rows, {args.threads} threads | seconds | of DuckDB's | peak memory |")
    print("|---|---|---|---|")
    print(f"| DuckDB {duckdb.__version__}, full outer join | {base:.2f} | 1 | |")
    for memory, times in ours.items():
        taken = statistics.median(times)
        print(f"| kappa.diff, --memory {memory} | {taken:.2f} | {taken / base:.2f} | {peaks[memory]:,.0f} MiB |")


if __name__ == "__main__":
    main()
