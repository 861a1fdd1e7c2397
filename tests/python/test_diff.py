"""`kappa.diff` over real versions: the numbers are checked with DuckDB."""

from __future__ import annotations

import json
import os
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet
import pytest

import kappa
from conftest import SCHEMA, cli, command, document, wait_for
from kappa import col
from kappa.testing import temporary

DAYS = 12
START = 1_772_323_200_000


def payments(count: int, seed: int, days: int = DAYS) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "status": rng.choice(["captured", "captured", "failed"]),
            "amount": rng.randint(-20, 500),
            "merchant_id": f"m{rng.randint(0, 80)}",
            "event_time": START + i * days * 86_400_000 // count,
        }
        for i in range(count)
    ]


def totals(name: str, *, inverted: bool = False, until: int = 500) -> kappa.Job:
    """A metric by day and status; with a flag that is read the wrong way round, or without the greatest amounts."""
    job = kappa.Job(name)
    read = job.read("payments", schema=SCHEMA, event_time="event_time", max_out_of_orderness="30s")
    used = read.filter(col("amount") > 0, col("amount") <= until)
    if inverted:
        used = used.filter((col("status") == "captured") | (col("amount") > 400))
    job.write(
        used.group_by("status", day=col("event_time").dt.date()).agg(
            merchants=col("merchant_id").count_distinct(), total=col("amount").sum(), mean=col("amount").mean()
        )
    )
    return job


def rows_of(least: int) -> kappa.Job:
    job = kappa.Job("rows")
    read = job.read("payments", schema=SCHEMA, event_time="event_time")
    job.write(read.filter(col("amount") > least).select("status", "event_time", small=col("amount") % 3))
    return job


def reprocess(job: kappa.Job, table: str, **more: Any) -> None:
    job.run(mode="reprocess", output_table=table, progress=False, **more)


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two versions of a metric, one with a bug, and two of an append table; all over the same log."""
    with temporary(tmp_path_factory.mktemp("diff") / ".kappa") as place:
        kappa.Log().create("payments", partitions=3)
        kappa.Log().append("payments", payments(3_000, 1), key="merchant_id")
        reprocess(totals("metric"), "metric.v3")
        reprocess(totals("metric", inverted=True), "metric.v4")
        reprocess(totals("metric", until=499), "metric.v5")
        reprocess(rows_of(0), "rows_a")
        reprocess(rows_of(40), "rows_b")
        yield place


KEYED = """
    select count(*) filter (b.day is null) as only_in_a, count(*) filter (a.day is null) as only_in_b,
        count(*) filter (a.day is not null and b.day is not null and {changed}) as changed,
        count(a.day) as rows_a, count(b.day) as rows_b
    from a full join b on a.day = b.day and a.status = b.status"""


def ask(query: str, a: str, b: str) -> dict[str, Any]:
    """DuckDB's answer about two tables, which it gets as Arrow."""
    with duckdb.connect() as db:
        db.register("a", kappa.read(a).to_arrow())
        db.register("b", kappa.read(b).to_arrow())
        found = db.sql(query)
        return dict(zip(found.columns, found.fetchall()[0], strict=True))


@pytest.mark.parametrize(
    ("b", "tolerance", "changed"),
    [
        ("metric.v4", {}, "(a.merchants, a.total, a.mean) is distinct from (b.merchants, b.total, b.mean)"),
        ("metric.v5", {}, "(a.merchants, a.total, a.mean) is distinct from (b.merchants, b.total, b.mean)"),
        (
            "metric.v5",
            {"total": 500, "mean": 3.5},
            "a.merchants is distinct from b.merchants or abs(a.total - b.total) > 500 or abs(a.mean - b.mean) > 3.5",
        ),
    ],
)
def test_a_version_with_a_bug_is_told_from_one_without(
    versions: Path, b: str, tolerance: dict[str, float], changed: str
) -> None:
    found = kappa.diff("metric.v3", b, tolerance=tolerance, memory="64KiB")
    expected = ask(KEYED.format(changed=changed), "metric.v3", b)
    assert {name: found.counts[name] for name in expected} == expected
    assert found.differs
    assert expected["changed"] > 0
    inner = found.counts["same"] + found.counts["within_tolerance"] + found.counts["changed"]
    assert inner == found.counts["rows_a"] - found.counts["only_in_a"]
    assert (found.counts["within_tolerance"] > 0) == bool(tolerance)
    assert len(found.changed) == expected["changed"]
    for column in found.columns:
        name = column["column"]
        limit = tolerance.get(name, 0)
        asked = ask(
            f"select count(*) filter (abs(a.{name} - b.{name}) > {limit}) as changed, max(abs(a.{name} - b.{name})) as largest"
            " from a join b using (day, status)",
            "metric.v3",
            b,
        )
        assert column["changed"] == asked["changed"], name
        if asked["largest"] > limit:
            assert column["largest"] == pytest.approx(asked["largest"])


def test_totals_by_day_are_those_of_duckdb(versions: Path) -> None:
    found = kappa.diff("metric.v3", "metric.v4")
    query = """
        select coalesce(a.day, b.day) as day, count(a.day) as rows_a, count(b.day) as rows_b,
            count(*) filter (b.day is null) as only_in_a, count(*) filter (a.day is null) as only_in_b,
            count(*) filter (a.day = b.day and (a.merchants, a.total, a.mean) is distinct from (b.merchants, b.total, b.mean))
                as changed,
            sum(a.merchants) as merchants_a, sum(b.merchants) as merchants_b, sum(a.total) as total_a, sum(b.total) as total_b
        from a full join b on a.day = b.day and a.status = b.status group by 1 order by 1"""
    with duckdb.connect() as db:
        db.register("a", kappa.read("metric.v3").to_arrow())
        db.register("b", kappa.read("metric.v4").to_arrow())
        expected = db.sql(query).to_arrow_table().to_pylist()
    days = [{name: row[name] for name in expected[0]} for row in found.by_day.to_dicts()]
    assert days == [
        {name: int(value) if not isinstance(value, date) else value for name, value in row.items()} for row in expected
    ]
    assert len(days) == DAYS


def test_what_changed_is_shown_beside_each_other(versions: Path) -> None:
    found = kappa.diff("metric.v3", "metric.v4")
    assert list(found.changed.schema) == [
        "status", "day", "merchants_a", "merchants_b", "total_a", "total_b", "mean_a", "mean_b",
    ]  # fmt: skip
    with duckdb.connect() as db:
        db.register("found", found.changed)  # by the Arrow interface
        assert db.sql("select count(*) from found where total_a <= total_b").fetchone() == (0,)
        assert db.sql("select distinct status from found").fetchall() == [("failed",)]


def test_append_tables_are_compared_as_multisets(versions: Path) -> None:
    found = kappa.diff("rows_a", "rows_b")
    query = """
        with x as (select *, count(*) as n from a group by all), y as (select *, count(*) as n from b group by all),
        z as (select coalesce(x.n, 0) as n, coalesce(y.n, 0) as m from x full join y
            on x.status = y.status and x.event_time = y.event_time and x.small = y.small)
        select sum(greatest(n - m, 0))::int as only_in_a, sum(greatest(m - n, 0))::int as only_in_b,
            sum(least(n, m))::int as same, sum(n)::int as rows_a, sum(m)::int as rows_b from z"""
    expected = ask(query, "rows_a", "rows_b")
    assert {name: found.counts[name] for name in expected} == expected
    assert expected["only_in_a"] > 0
    assert found.columns == []
    assert list(found.only_in_a.schema) == ["status", "event_time", "small", "rows"]
    with pytest.raises(kappa.exceptions.ConfigError, match="tolerance"):
        kappa.diff("rows_a", "rows_b", tolerance={"small": 1})


def test_a_version_is_the_same_as_itself_and_says_where_it_was_compared(versions: Path) -> None:
    found = kappa.diff("metric.v3", "metric.v3")
    assert not found
    assert str(found).startswith(f"SAME: metric.v3 and metric.v3, {found.counts['rows_a']} rows each")
    report = found.to_dict()
    assert report["same_position"]
    assert sum(report["a"]["offsets"]["payments"].values()) == 3_000
    for side in ("a", "b"):
        facts = report[side]
        assert all(facts[name] for name in ("uuid", "version", "fingerprint", "timeline", "domain", "snapshot_id", "closed"))
    other = kappa.diff("metric.v3", "metric.v4").to_dict()
    assert other["a"]["domain"] == other["b"]["domain"]
    assert other["a"]["fingerprint"] != other["b"]["fingerprint"]


def test_the_command_says_it_on_one_screen_and_by_its_exit_status(versions: Path, tmp_path: Path) -> None:
    done = cli("diff", "metric.v3", "metric.v4")
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("DIFFERENT: metric.v3 and metric.v4: ")
    lines = done.stdout.splitlines()
    assert len(lines) <= 40, done.stdout
    assert max(map(len, lines)) <= 160, done.stdout
    assert "the same for both: payments 0:" in done.stdout
    assert cli("diff", "metric.v3", "metric.v4", "--exit-zero").returncode == 0
    assert cli("diff", "metric.v3", "metric.v3").returncode == 0
    page = tmp_path / "diff.html"
    found = document(cli("diff", "metric.v3", "metric.v4", "--json", "--html", str(page), "--tolerance", "total=1e9"))
    assert found["exit"] == 1
    assert found["data"]["counts"]["changed"] > 0
    assert len(found["data"]["by_day"]) == DAYS
    assert page.read_text().startswith("<!doctype html>")
    assert document(cli("diff", "metric.v3", "nowhere", "--json"))["error"]["code"] == "no_such_table"
    assert document(cli("diff", "metric.v3", "metric.v4", "--json", "--tolerance", "total"))["exit"] == 2


def test_a_notebook_shows_plots_that_are_well_formed_and_have_no_colour_of_the_page(versions: Path) -> None:
    html = kappa.diff("metric.v3", "metric.v4")._repr_html_()
    plots = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(plots) == 4  # what differs, and three numbers
    for plot in plots:
        tree = ET.fromstring(plot)
        assert {text.get("fill") for text in tree.iter("text")} == {"currentColor"}
        assert [*tree.iter("rect"), *tree.iter("polyline")]
    assert len(list(ET.fromstring(plots[0]).iter("rect"))) >= DAYS
    assert not re.search(r"#fff|#000|white|black", html)
    ET.fromstring(html.replace("<br>", "<br/>"))


def test_versions_at_different_positions_are_refused_and_aligned(versions: Path, tmp_path: Path) -> None:
    with temporary(tmp_path / ".kappa"):
        kappa.Log().create("payments", partitions=2)
        kappa.Log().append("payments", payments(600, 2), key="merchant_id")
        reprocess(totals("metric"), "v1")
        before = kappa.read("v1").to_dicts()
        kappa.Log().append("payments", payments(600, 3), key="merchant_id")
        reprocess(totals("metric"), "v2")
        with pytest.raises(kappa.exceptions.RefusedError, match="no snapshot at one position") as refused:
            kappa.diff("v1", "v2")
        assert "--align default.v2 --output-table default.v1" in str(refused.value.hint)
        reprocess(totals("metric"), "aligned", align="v1")
        found = kappa.diff("v1", "aligned")
        assert not found
        assert found.counts["rows_a"] == len(before)
        # Going on, it passes the position; the snapshot there is what is compared.
        with totals("metric").start(mode="live", output_table="aligned", checkpoint_interval="100ms") as run:
            wait_for(lambda: run.status().events >= 600, "records")
        found = kappa.diff("v1", "aligned")
        assert (found.differs, found.to_dict()["b"]["older"]) == (False, True)
        assert not kappa.diff("v2", "aligned")
        # What it was aligned with has gone on, and keeps that snapshot by a tag that ends by itself.
        with totals("metric").start(mode="live", output_table="v1", checkpoint_interval="100ms") as run:
            wait_for(lambda: run.status().events >= 600, "records")
        tags = json.loads(command("-c", TAGS, os.environ["KAPPA_CATALOG_URL"]).stdout)
        assert [(name.startswith("kappa-align-"), snapshot, age) for name, snapshot, age in tags] == [
            (True, found.to_dict()["a"]["snapshot_id"], 7 * 86_400_000)
        ]
        with pytest.raises(kappa.exceptions.ConfigError, match="two ends"):
            reprocess(totals("metric"), "x", align="v1", until="head")
        with pytest.raises(kappa.exceptions.RefusedError, match="there is no table"):
            reprocess(totals("metric"), "x", align="nowhere")


def test_a_version_that_begins_later_is_compared_from_where_it_is_whole(tmp_path: Path) -> None:
    with temporary(tmp_path / ".kappa"):
        kappa.Log().create("payments")
        # Days whose records have those days' timestamps cannot be appended: all come with today's.
        now = int(datetime.now(timezone.utc).timestamp() * 1000)
        records = [{**record, "event_time": now - 5 * 86_400_000 + i * 600_000} for i, record in enumerate(payments(600, 4))]
        kappa.Log().append("payments", records)
        reprocess(totals("metric"), "whole")
        start = datetime.fromtimestamp((now - 3 * 86_400_000) / 1000, timezone.utc)
        reprocess(totals("metric"), "part", from_=start)
        found = kappa.diff("whole", "part")
        assert not found, found
        days = [row["day"] for row in found.by_day.to_dicts()]
        assert min(days) > start.date()
        assert found.counts["outside_a"] > 0
        assert "groups are not whole" in str(found)


TAGS = """
import json
import sys
from pyiceberg.catalog.sql import SqlCatalog
table = SqlCatalog("kappa", uri=sys.argv[1].replace("sqlite://", "sqlite:///"), warehouse="file:///").load_table("default.v1")
print(json.dumps([(name, ref.snapshot_id, ref.max_ref_age_ms) for name, ref in table.refs().items() if name != "main"]))
"""
FOREIGN = """
import sys
import pyarrow.parquet
from pyiceberg.catalog.sql import SqlCatalog
place, file = sys.argv[1:]
catalog = SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")
rows = pyarrow.parquet.read_table(file)
catalog.create_table("metric.flink", rows.schema).append(rows)
"""


def test_a_table_that_is_not_kappas_is_compared_up_to_where_ours_is(versions: Path, tmp_path: Path) -> None:
    rows = kappa.read("metric.v3").to_arrow()
    wrong = rows.column("total").to_pylist()
    wrong[0] += 7
    rows = rows.set_column(rows.schema.get_field_index("total"), "total", pyarrow.array(wrong, pyarrow.int64()))
    pyarrow.parquet.write_table(rows, tmp_path / "rows.parquet")
    # In a process of its own: another SQLite in this one would take the locks of the catalog's away.
    done = command("-c", FOREIGN, str(versions), str(tmp_path / "rows.parquet"))
    assert done.returncode == 0, done.stderr
    found = kappa.diff("metric.v3", "metric.flink")
    report = found.to_dict()
    assert not report["same_position"]
    assert report["b"]["version"] is None
    # The last day is not over.
    last = max(row["day"] for row in kappa.read("metric.v3").to_dicts())
    assert max(row["day"] for row in found.by_day.to_dicts()) < last
    assert found.counts["outside_a"] == found.counts["outside_b"] > 0
    changed = [row for row in found.changed.to_dicts() if row["total_a"] != row["total_b"]]
    assert len(changed) == (1 if rows.column("day").to_pylist()[0] < last else 0)
    assert "unknown" in str(found)
    assert any("not kappa's" in note for note in report["notes"])


def test_sql_over_tables_by_their_names(versions: Path) -> None:
    rows = kappa.sql(
        "with b as (from metric.v4) select count(*) as n, sum(a.total - b.total) as difference "
        "from metric.v3 a join b using (day, status)"
    )
    changed = kappa.diff("metric.v3", "metric.v4").by_day.to_dicts()
    assert rows.to_dicts() == [
        {"n": kappa.diff("metric.v3", "metric.v4").counts["rows_b"], "difference": rows.to_dicts()[0]["difference"]}
    ]
    assert changed
    assert kappa.sql("select count(*) as n from rows_a").to_dicts() == [{"n": len(kappa.read("rows_a"))}]
    assert kappa.sql('select count(*) as n from "metric.v3"').to_dicts() == [{"n": len(kappa.read("metric.v3"))}]
    assert "1 row" in kappa.sql("select max(day) as day from metric.v3")._repr_html_()
    with pytest.raises(kappa.exceptions.ConfigError, match="nowhere") as missing:
        kappa.sql("select * from nowhere")
    assert "metric.v3" in str(missing.value.hint)
    with pytest.raises(kappa.exceptions.ConfigError, match="Only SELECT"):
        kappa.sql("drop table metric.v3")
    with pytest.raises(kappa.exceptions.ConfigError, match="syntax"):
        kappa.sql("selec 1")
    done = cli("sql", "select status, count(*) as n from metric.v3 group by 1 order by 1")
    assert done.returncode == 0, done.stderr
    assert "captured" in done.stdout


def test_a_table_is_read_as_it_was(tmp_path: Path) -> None:
    with temporary(tmp_path / ".kappa"):
        kappa.Log().create("payments")
        kappa.Log().append("payments", payments(50, 5))
        job = totals("metric")
        reprocess(job, "t", follow=False)
        between = datetime.now(timezone.utc)
        first = kappa.read("t").to_dicts()
        kappa.Log().append("payments", payments(50, 6))
        with job.start(mode="live", output_table="t", checkpoint_interval="100ms") as run:
            wait_for(lambda: run.status().events >= 50, "records")
        assert kappa.read("t").to_dicts() != first
        assert sorted(map(str, kappa.read("t", as_of=between).to_dicts())) == sorted(map(str, first))
        done = document(cli("read", "t", "--as-of", between.isoformat(), "--json"))
        assert done["data"]["count"] == len(first)
        assert cli("read", "t", "--as-of", "1999-01-01").returncode == 3
        assert cli("read", "t", "--as-of", "24h").returncode == 2
