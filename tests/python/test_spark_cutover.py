"""Spark, over JDBC and REST, on versions, on the name that shows one of them and on its view: before, during and after promotes, back
in time, and when it merges the files of either."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import kappa
from catalog_support import Place
from conftest import wait_for
from spark_support import Spark, SparkError
from test_cutover import build, fill, positive, table, totals
from test_end_to_end import make_records

RECORDS = make_records(4_000, seed=21)
KINDS = pytest.mark.parametrize("catalog", ["sqlite", "rest"], indirect=True)


class Reader:
    """Spark on a namespace of a catalog, with a session of its own for each look: its catalogs hold on to what they have seen."""

    def __init__(self, spark: Spark, catalog: Place, place: Path) -> None:
        self._spark, self._catalog, self._place = spark, catalog, place
        self._name = "rest" if catalog.kind == "rest" else "kappa"

    def rows(self, name: str, which: str = "") -> list[tuple[str, ...]]:
        """The rows of a table, a name or a view."""
        return sorted(tuple(map(str, row)) for row in self.sql(f"select day, total, n from {{}}.{name} {which}"))

    def sql(self, text: str) -> list[list[Any]]:
        """What Spark answers; `{}` is the catalog."""
        self._spark.open(self._place, self._catalog.url if self._catalog.kind == "rest" else None)
        return self._spark.sql(text.replace("{}", self._name))


@pytest.fixture
def reader(spark: Spark, catalog: Place, place: Path) -> Reader:
    """Spark on the test's catalog."""
    return Reader(spark, catalog, place)


def texts(name: str) -> list[tuple[str, ...]]:
    return sorted(tuple(map(str, row)) for row in table(name))


@KINDS
@pytest.mark.soak
def test_spark_reads_names_and_views(catalog: Place, reader: Reader) -> None:
    n = catalog.namespace
    name, view, v3, v4 = (f"{n}.{it}" for it in ("name", "name__view", "v3", "v4"))
    fill(RECORDS)
    build(v3, 200)
    build(v4)
    old, new = texts(v3), texts(v4)
    assert old != new
    before = kappa.promote(name, v3, view=True).names[0]
    assert before["view"] == view
    assert [reader.rows(it) for it in (v3, v4, name, view)] == [old, new, old, old]
    kappa.promote(name, v4, unverified="a test")
    assert [reader.rows(it) for it in (v3, v4, name, view)] == [old, new, new, new]
    assert reader.rows(name, f"version as of {before['snapshot_id']}") == old
    at_ms = kappa.serving(name).names[0]["turns"][-1]["at_ms"]
    assert reader.rows(name, f"timestamp as of {(at_ms - 1) / 1000}") == old
    kappa.rollback(name)
    assert [reader.rows(it) for it in (name, view)] == [old, old]

    # While it is promoted all the time: one version or the other, whole.
    over = threading.Event()
    failed: list[BaseException] = []

    def promote() -> None:
        number = 0
        while not over.is_set():
            try:
                kappa.promote(name, v4 if number % 2 == 0 else v3, unverified="a test")
            except BaseException as error:
                failed.append(error)
            number += 1

    promoting = threading.Thread(target=promote)
    promoting.start()
    try:
        seen = [reader.rows(it) for it in (name, view) * 10]
    finally:
        over.set()
        promoting.join()
    assert failed == []
    assert all(rows in (old, new) for rows in seen)
    assert {str(rows) for rows in seen} == {str(old), str(new)}
    # The view is where the name is, once nobody turns it.
    assert reader.rows(view) == reader.rows(name) == texts(name)
    assert [row[1] for row in reader.sql(f"show views in {{}}.{n}")] == ["name__view"]
    assert sorted(row[1] for row in reader.sql(f"show tables in {{}}.{n}") if row[1] != "name__view") == ["name", "v3", "v4"]


@KINDS
@pytest.mark.soak
def test_spark_merges_files_of_a_version_and_of_a_name(catalog: Place, reader: Reader) -> None:
    n = catalog.namespace
    name, v3, v4 = (f"{n}.{it}" for it in ("name", "v3", "v4"))
    fill(RECORDS[:1_000])
    build(v3, 200)
    build(v4)
    kappa.promote(name, v3)
    live = [
        totals(floor).start(mode="live", output_table=table_name, checkpoint_interval="50ms")
        for table_name, floor in ((v3, 200), (v4, 0))
    ]
    rewrite = "CALL {}.system.rewrite_data_files(table => '%s', options => map('rewrite-all', 'true', 'min-input-files', '1'))"

    def merge(of: str) -> None:
        lost = ("Cannot commit", "CommitFailed", "Missing required files", "found new")
        for _ in range(20):
            try:
                reader.sql(rewrite % of)
                return
            except SparkError as error:
                if not any(text in str(error) for text in lost):
                    raise  # else kappa was quicker
        raise AssertionError("Spark never got through")

    try:
        for number, (merged, shown) in enumerate([(v3, v4), (name, v3), (name, v4), (v4, v3)]):
            merge(merged)
            fill(RECORDS[1_000 + number * 500 : 1_500 + number * 500])
            kappa.promote(name, shown, unverified="a test", accept=["lag"])
            read = 1_500 + number * 500
            wait_for(lambda read=read: sum(row[2] for row in table(v4)) == positive(read, 0), "v4 has it all")  # type: ignore[misc]
            wait_for(lambda read=read: sum(row[2] for row in table(v3)) == positive(read, 200), "v3 has it all")  # type: ignore[misc]
            wait_for(lambda shown=shown: texts(name) == texts(shown), "the name shows it", 10)  # type: ignore[misc]
            assert reader.rows(name) == texts(shown)
        # Nothing comes: the running job undoes it, and the name is kappa's again.
        merge(name)
        wait_for(lambda: not kappa.serving(name).names[0]["is_foreign"], "it is undone", 10)
        assert reader.rows(name) == texts(v3)
        with pytest.raises(SparkError, match="GC is disabled"):
            reader.sql(f"CALL {{}}.system.expire_snapshots(table => '{name}', older_than => TIMESTAMP '2100-01-01 00:00:00')")
    finally:
        for run in live:
            run.stop()
            run.wait()
