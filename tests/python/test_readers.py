"""Other people's readers read kappa's tables: pyiceberg, DuckDB and Polars, deletes honoured."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import kappa
from kappa import col
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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.totals", "t.rows"])
def test_every_reader_gives_the_same_rows(tables: SqlCatalog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    expected = content(name)
    table = tables.load_table(name)
    assert ordered(table.scan().to_arrow()) == expected
    assert len(expected) == len(kappa.read(name))
    by_polars = polars.scan_iceberg(table).collect().to_arrow()
    assert [list(map(str, row)) for row in ordered(by_polars)] == [list(map(str, row)) for row in expected]
    with duckdb.connect() as db:
        for extension in ("avro", "iceberg"):  # from their wheels: nothing is downloaded
            db.execute(f"load '{extension_file(extension)}'")
        rows = db.execute(f"select * from iceberg_scan('{table.metadata_location}')").fetchall()
    assert len(rows) == len(expected)
    numbers = [sorted(v for v in row if isinstance(v, int)) for row in sorted(rows, key=repr)]
    assert sorted(map(repr, numbers)) == sorted(repr(sorted(v for v in row if isinstance(v, int))) for row in expected)


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
