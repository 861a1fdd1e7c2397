"""Two groupings, one after the other: against DuckDB over the same records, read by DuckDB from the table's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pytest
from pyiceberg.catalog.sql import SqlCatalog

import kappa
from conftest import payments_stream
from kappa import col
from kappa.exceptions import PlanError
from kappa.testing import assert_replay_safe
from test_end_to_end import ARROW, arrive, fill, make_records
from test_readers import extension_file

ORACLE = """
with merchants as (
    select date '1970-01-01' + cast(event_time // 86400000 as integer) as day, merchant_id, count(*) as payments,
           cast(sum(amount) as bigint) as total, max(amount) as largest
    from records where status = 'captured' group by 1, 2
)
select day, payments, count(*) as merchants, cast(sum(total) as bigint) as total, avg(largest) as largest,
       count(*) filter (total > 500) as big
from merchants where payments % 3 <> 0 group by 1, 2 having count(*) > 1 order by 1, 2
"""


def nested_job(name: str = "nested") -> kappa.Job:
    """How many merchants had how many payments a day; those with a multiple of three are left out."""
    job = kappa.Job(name)
    merchants = (
        payments_stream(job)
        .filter(col("status") == "captured")
        .group_by("merchant_id", day=col("event_time").dt.date())
        .agg(payments=kappa.len(), total=col("amount").sum(), largest=col("amount").max())
        .filter(col("payments") % 3 != 0)
        .select("day", "payments", "total", "largest")
    )
    job.write(
        merchants.group_by("day", "payments")
        .agg(
            merchants=kappa.len(),
            total=col("total").sum(),
            largest=col("largest").mean(),
            big=kappa.len().filter(col("total") > 500),
        )
        .filter(col("merchants") > 1)
    )
    return job


def oracle(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    with duckdb.connect() as db:
        db.register("records", pyarrow.Table.from_pylist(records, schema=ARROW))
        return db.execute(ORACLE).fetchall()


def by_duckdb(place: Path, name: str) -> list[tuple[Any, ...]]:
    """The table as DuckDB reads it, from its files alone."""
    catalog = SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")
    with duckdb.connect() as db:
        for extension in ("avro", "iceberg"):
            db.execute(f"load '{extension_file(extension)}'")
        metadata = catalog.load_table(name).metadata_location
        return db.execute(f"select * from iceberg_scan('{metadata}') order by 1, 2").fetchall()


def test_live_and_reprocess_are_what_duckdb_computes(place: Path) -> None:
    records = make_records(6_000)
    fill(records[:2_000])
    live = nested_job().start(mode="live", output_table="t.live", checkpoint_interval="20ms", parallelism=3)
    with live:
        arrive(live, records, 2_000)
    assert by_duckdb(place, "t.live") == oracle(records)
    report = nested_job().run(mode="reprocess", output_table="t.again", progress=False, checkpoint_interval="5ms")
    assert report.outcome == "complete"
    assert by_duckdb(place, "t.again") == oracle(records)
    assert len(kappa.read("t.again")) == len(oracle(records)) > 20


def test_a_nested_job_is_replay_safe() -> None:
    assert_replay_safe(nested_job(), {"payments": make_records(2_000, seed=3)})


def test_the_first_key_may_go_but_not_into_a_table() -> None:
    job = kappa.Job("j")
    merchants = payments_stream(job).group_by("merchant_id").agg(payments=kappa.len())
    sizes = merchants.select("payments")
    assert list(sizes.group_by("payments").agg(merchants=kappa.len()).schema) == ["payments", "merchants"]
    with pytest.raises(PlanError, match='group key column "merchant_id" is dropped') as caught:
        job.write(sizes)
    assert "job.write(sizes)" in str(caught.value)


def test_what_cannot_be_taken_back_is_named_on_its_line() -> None:
    merchants = payments_stream(kappa.Job("j")).group_by("merchant_id").agg(payments=kappa.len())
    grouped = merchants.group_by("payments")
    with pytest.raises(PlanError, match="cannot take max") as caught:
        grouped.agg(top=col("payments").max())
    assert caught.value.code == "not_retractable"
    assert 'grouped.agg(top=col("payments").max())' in str(caught.value)
    with pytest.raises(PlanError, match="a third group_by"):
        grouped.agg(n=kappa.len()).group_by("n").agg(m=kappa.len())
