"""A name shows a version whose column is of another type than before: its id is another one, and every reader reads before and after."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

import kappa
from catalog_support import Place
from conftest import wait_for
from kappa import col
from kappa.exceptions import RefusedError
from test_end_to_end import fill, make_records
from test_readers import extension_file, ordered

RECORDS = make_records(2_000, seed=3)


def totals(total: kappa.Expr, job_name: str = "totals") -> kappa.Job:
    """A metric whose column is of the type of `total`."""
    job = kappa.Job(job_name)
    schema = {"status": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
    read = job.read("payments", schema=schema, event_time="event_time", max_out_of_orderness="1d")
    job.write(read.group_by(day=col("event_time").dt.date()).agg(n=kappa.len(), total=total), name="daily")
    return job


SUM, MEAN = col("amount").sum(), col("amount").mean()


def build(table: str, job: kappa.Job) -> None:
    job.run(mode="reprocess", output_table={"daily": table}, progress=False)


def ids(catalog: Place, table: str) -> dict[str, int]:
    with catalog.by_pyiceberg() as opened:
        return {field.name: field.field_id for field in opened.load_table(table).schema().fields}


def by_others(catalog: Place, name: str, snapshot: int | None = None) -> list[tuple[Any, ...]]:
    """What pyiceberg and DuckDB read, which is the same."""
    with catalog.by_pyiceberg() as opened:
        table = opened.load_table(name)
        found = ordered(table.scan(snapshot_id=snapshot).to_arrow())
        location = table.metadata_location
    with duckdb.connect() as db:
        for extension in ("avro", "iceberg"):
            db.execute(f"load '{extension_file(extension)}'")
        which = "" if snapshot is None else f", snapshot_from_id={snapshot}"
        rows = db.execute(f"select day, n, total from iceberg_scan('{location}'{which})").fetchall()
    assert sorted(rows, key=repr) == found
    return found


def test_a_column_of_another_type_gets_an_id_of_its_own(catalog: Place) -> None:
    n = catalog.namespace
    fill(RECORDS)
    build(f"{n}.v3", totals(SUM))
    build(f"{n}.v4", totals(MEAN))
    build(f"{n}.v5", totals(SUM))
    three, four, five = (ids(catalog, f"{n}.{version}") for version in ("v3", "v4", "v5"))
    assert four == three | {"total": 4}
    assert five == three
    old, new = (ordered(kappa.read(f"{n}.{version}").to_arrow()) for version in ("v3", "v4"))
    assert type(old[0][2]) is int
    assert type(new[0][2]) is float
    name = f"{n}.name"
    before = kappa.promote(name, f"{n}.v3").names[0]["snapshot_id"]
    assert by_others(catalog, name) == old
    after = kappa.promote(name, f"{n}.v4", unverified="another type").names[0]["snapshot_id"]
    assert by_others(catalog, name) == new == ordered(kappa.read(name).to_arrow())
    assert by_others(catalog, name, before) == old == ordered(kappa.read(name, as_of=-1).to_arrow())
    # The name goes on with its version, and back.
    with totals(MEAN).start(mode="live", output_table={"daily": f"{n}.v4"}, checkpoint_interval="50ms"):
        fill(make_records(500, seed=4))
        wait_for(lambda: sum(row["n"] for row in kappa.read(name).to_dicts()) == 2_500, "the name follows")
    assert by_others(catalog, name) == ordered(kappa.read(f"{n}.v4").to_arrow())
    kappa.rollback(name)
    assert by_others(catalog, name) == old
    assert by_others(catalog, name, after) == new
    # What another job has made knows nothing of this.
    build(f"{n}.other", totals(MEAN, "another-job"))
    with pytest.raises(RefusedError, match=r"has the id under which .* has held total \(long\)") as refused:
        kappa.promote(name, f"{n}.other", unverified="another job")
    assert refused.value.code == "other_columns"
    assert by_others(catalog, name) == old
