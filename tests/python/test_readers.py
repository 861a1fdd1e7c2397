"""Other people's readers read kappa's tables: pyiceberg, DuckDB and Polars, deletes honoured."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import duckdb
import polars
import pyarrow.parquet
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

import kappa
import kappa.run
from kappa import col
from spark_support import Spark
from test_end_to_end import fill, make_records


@pytest.fixture
def tables(place: Path) -> SqlCatalog:
    """An upsert table of several commits and an append table, opened by pyiceberg's own SQL catalog."""
    fill(make_records(4_000))
    job = kappa.Job("readers")
    stream = job.read(
        "payments",
        schema={
            "status": kappa.String,
            "amount": kappa.Int64,
            "merchant_id": kappa.String,
            "event_time": kappa.Timestamp("ms"),
        },
        event_time="event_time",
    )
    job.write(stream.group_by("merchant_id").agg(kappa.len(), total=col("amount").sum()), name="totals")
    job.write(stream.filter(col("amount") > 0), name="rows")
    targets = {"totals": "t.totals", "rows": "t.rows"}
    job.run(mode="reprocess", output_table=targets, progress=False, checkpoint_interval="20ms")
    with job.start(mode="live", output_table=targets, checkpoint_interval="20ms") as run:
        fill(make_records(4_000, seed=2))
        while run.status().events < 4_000:
            pass
    return open_catalog(place)


def open_catalog(place: Path) -> SqlCatalog:
    return SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")


def extension_file(name: str) -> Path:
    package = importlib.import_module(f"duckdb_extension_{name}")
    (path,) = Path(str(package.__file__)).parent.glob(f"extensions/v{duckdb.__version__}/{name}.duckdb_extension")
    return path


def content(name: str) -> list[tuple[Any, ...]]:
    return ordered(kappa.read(name).to_arrow())


def ordered(table: Any) -> list[tuple[Any, ...]]:
    """Rows without an order of their own, sorted."""
    return sorted((tuple(row.values()) for row in table.to_pylist()), key=repr)


def every_reader(place: Path, name: str, spark: Spark | None, snapshot: int | None = None) -> list[tuple[Any, ...]]:
    """What pyiceberg, Polars, DuckDB and, if it is there, Spark read is the same, and what kappa reads, which reads the newest
    snapshot; by default that is the one."""
    catalog = open_catalog(place)
    table = catalog.load_table(name)
    # kappa has a SQLite library of its own: no two of them have the file open in one process.
    catalog.engine.dispose()
    expected = ordered(table.scan(snapshot_id=snapshot).to_arrow())
    if snapshot is None:
        assert content(name) == expected
        assert len(expected) == len(kappa.read(name))
    texts = [list(map(str, row)) for row in expected]
    by_polars = polars.scan_iceberg(table, snapshot_id=snapshot).collect().to_arrow()
    assert [list(map(str, row)) for row in ordered(by_polars)] == texts
    with duckdb.connect() as db:
        for extension in ("avro", "iceberg"):  # from their wheels: nothing is downloaded
            db.execute(f"load '{extension_file(extension)}'")
        which = "" if snapshot is None else f", snapshot_from_id={snapshot}"
        rows = db.execute(f"select * from iceberg_scan('{table.metadata_location}'{which})").fetchall()
    assert sorted(map(numbers, rows)) == sorted(map(numbers, expected))
    if spark is not None:
        spark.open(place)
        which = "" if snapshot is None else f" version as of {snapshot}"
        assert sorted(map(numbers, spark.sql(f"select * from kappa.{name}{which}"))) == sorted(map(numbers, expected))
    return expected


def numbers(row: Any) -> str:
    """The integers of a row: engines give times and decimals in types of their own."""
    return repr(sorted(value for value in row if isinstance(value, int)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.totals", "t.rows"])
def test_every_reader_gives_the_same_rows(tables: SqlCatalog, place: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    every_reader(place, name, None)


@pytest.mark.slow
def test_the_summary_accounts_for_every_record(tables: SqlCatalog) -> None:
    snapshot = tables.load_table("t.totals").current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    found = snapshot.summary.additional_properties
    for key in (
        "kappa.job",
        "kappa.version",
        "kappa.timeline",
        "kappa.checkpoint",
        "kappa.manifest",
        "kappa.owner",
        "kappa.offsets",
    ):
        assert key in found


def with_moved_deletes(table: Table) -> Snapshot | None:
    """A merge during which a commit deleted rows that it was reading: they are deleted in the file that it has made."""
    for snapshot in reversed(table.metadata.snapshots):
        if not snapshot.summary or snapshot.summary.additional_properties.get("kappa.compaction") != "true":
            continue
        entries = [entry for manifest in snapshot.manifests(table.io) for entry in manifest.fetch_manifest_entry(table.io)]
        added = [entry.data_file for entry in entries if entry.snapshot_id == snapshot.snapshot_id and entry.status == 1]
        made = {file.file_path for file in added if file.content == DataFileContent.DATA}
        for file in added:
            if file.content == DataFileContent.POSITION_DELETES:
                deleted = pyarrow.parquet.read_table(file.file_path.removeprefix("file://"))
                if made & set(deleted["file_path"].to_pylist()):
                    return snapshot
    return None


def check_moved_deletes(place: Path, monkeypatch: pytest.MonkeyPatch, spark: Spark | None) -> None:
    """Commits and merges, until a merge has moved deletes: every reader gives the same rows before and after it, and at the end."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    options = kappa.run.engine_options
    tables = {"rewrite_below": 0, "merge_deletes_at": 1_000_000, "compaction": {"fan_in": 2}}
    monkeypatch.setattr(kappa.run, "engine_options", lambda *job, **more: {**options(*job, **more), "tables": tables})
    records = [{"user": i * 7_919 % 5_000, "n": i, "at": i} for i in range(60_000)]
    kappa.Log().create("visits", partitions=2)
    job = kappa.Job("moved")
    schema = {"user": kappa.Int64, "n": kappa.Int64, "at": kappa.Timestamp("ms")}
    visits = job.read("visits", schema=schema, event_time="at")
    job.write(visits.group_by("user").agg(kappa.len(), last=col("n").max()))
    found, given = None, 0
    with job.start(mode="live", output_table="t.moved", checkpoint_interval="1ms") as run:
        while given < len(records) and found is None:
            kappa.Log().append("visits", records[given : given + 600])
            given += 600
            time.sleep(0.03)
            if given % 6_000 == 0:
                found = with_moved_deletes(open_catalog(place).load_table("t.moved"))
        while run.status().events < given:
            time.sleep(0.01)
    assert found is not None, "no commit came during a merge"
    merged = every_reader(place, "t.moved", spark, found.snapshot_id)
    assert merged == every_reader(place, "t.moved", spark, found.parent_snapshot_id)
    assert sum(row[1] for row in every_reader(place, "t.moved", spark)) == given


@pytest.mark.slow
def test_deletes_that_a_merge_has_moved(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_moved_deletes(place, monkeypatch, None)
