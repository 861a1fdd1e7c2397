"""Names cannot smuggle paths: whatever a table, a topic or a job is called, nothing is made outside of its place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import kappa
from conftest import cli, command, document
from kappa import col
from kappa.exceptions import ConfigError, KappaError, PlanError

HOSTILE = [
    "..",
    ".",
    "../x",
    "../../x",
    "a/../../x",
    "/tmp/kappa-smuggled",
    "a/b",
    "a\\b",
    "~/x",
    "file:///tmp/x",
    "a\0b",
    "a\nb",
    "a\r",
    "\x1b[2J",
    " ",
    "a b",
    "\t",
    "',--",
    "'; drop table iceberg_tables; --",
    "tаble",
    "a∕b",
    "․․",
    "ａ",
    "e\u0301",
    "x" * 300,
    "x" * 100_000,
    "%2e%2e%2fx",
    "$HOME",
    "*",
    "con:",
]


@pytest.fixture
def guarded(place: Path) -> Iterator[Path]:
    """The place, with a topic; nothing beside it may change."""
    kappa.Log().create("t")
    kappa.Log().append("t", [{"at": 1, "k": "a"}, "nonsense"])
    outside = place.parent
    before = sorted(path for path in outside.rglob("*") if place not in path.parents)
    yield place
    assert sorted(path for path in outside.rglob("*") if place not in path.parents) == before
    assert not Path("/tmp/kappa-smuggled").exists()


def job_over(topic: str = "t", name: str = "names", bad: str = "skip") -> kappa.Job:
    job = kappa.Job(name)
    schema = {"at": kappa.Timestamp("ms"), "k": kappa.String}
    job.write(job.read(topic, schema=schema, event_time="at", on_bad_record=bad))  # type: ignore[arg-type]
    return job


def written_to(topic: str) -> kappa.Job:
    job = kappa.Job("x")
    job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"), to=kappa.KafkaTopic(topic))
    return job


def tables(place: Path) -> list[str]:
    with sqlite3.connect(place / "catalog.db") as catalog:
        return [name for (name,) in catalog.execute("select table_name from iceberg_tables order by 1")]


def directories(place: Path) -> list[str]:
    warehouse = place / "warehouse"
    return sorted(path.name for path in warehouse.iterdir()) if warehouse.exists() else []


def test_a_table(guarded: Path) -> None:
    dots = ["", ".", "..", "...", "a..b", ".a", "a."]
    for table in dots + [table for name in HOSTILE for table in (name, f"metric.{name}", f"{name}.metric")]:
        with pytest.raises(ConfigError, match=r"is not a table name|longer than 255") as caught:
            job_over().run(mode="reprocess", output_table=table, progress=False)
        assert caught.value.code == "invalid_table_name"
        assert caught.value.hint
        with pytest.raises(ConfigError, match=r"is not a table name|longer than 255"):
            kappa.read(table)
    assert directories(guarded) == []


def test_a_topic(guarded: Path) -> None:
    log = kappa.Log()
    for name in [*HOSTILE, ""]:
        for attempt in (lambda: log.create(name), lambda: log.append(name, [{"at": 1}]), lambda: log.tail(name)):  # noqa: B023
            with pytest.raises(ConfigError, match="cannot be the name of a topic"):
                attempt()
        with pytest.raises(PlanError, match=r"cannot be the name of a topic|needs a topic"):
            job_over(name)
        with pytest.raises(PlanError, match=r"cannot be the name of a topic|needs a topic|is not understood"):
            written_to(name).explain()
    assert {row["topic"] for row in log.describe()} == {"t"}


def test_the_topic_of_markers_is_not_written(guarded: Path) -> None:
    with pytest.raises(PlanError, match="what kappa notes about its deliveries"):
        written_to("__kappa_commits").explain()


@pytest.mark.parametrize("name", ["/tmp/kappa-smuggled", "a/../../x", "..", "ü", "x" * 300])
def test_a_job_is_named_in_no_path(guarded: Path, name: str) -> None:
    if "/" in name:
        with pytest.raises(PlanError, match="cannot be the name of a job"):
            job_over(name=name)
        return
    job_over(name=name).run(mode="reprocess", output_table="named", progress=False)
    assert [path for path in guarded.rglob("*") if name in path.name and name != ".."] == []


def test_columns_may_have_any_name_and_no_file_does(guarded: Path) -> None:
    names = [*HOSTILE, "a.b", "__kappa", "element", "file_path", "pos", "K"]
    job = kappa.Job("columns")
    stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "k": kappa.String}, event_time="at", on_bad_record="skip")
    first = names[2]
    keyed = stream.group_by(*[col("k").alias(name) for name in names]).agg(n=kappa.len())
    job.write(keyed, name=first)
    job.write(stream.select(*[col("k").alias(name) for name in names]), name="rows")
    job.run(mode="reprocess", output_table={first: "keyed", "rows": "rows"}, progress=False)
    assert list(kappa.read("rows")) == [dict.fromkeys(names, "a")]
    assert list(kappa.read("keyed")) == [{**dict.fromkeys(names, "a"), "n": 1}]
    used = [path for path in guarded.rglob("*") if any(name in path.name for name in names if len(name) > 4)]
    assert used == []


def test_names_that_differ_in_case_only_are_two(guarded: Path) -> None:
    for name in ("Case", "case", "CASE"):
        job_over().run(mode="reprocess", output_table=name, progress=False)
        kappa.Log().create(f"topic-{name}")
    assert tables(guarded) == ["CASE", "Case", "case"]
    lowered = [path.name.lower() for path in (guarded / "warehouse" / "default").iterdir()]
    assert len(set(lowered)) == len(lowered)


def test_the_longest_names_work_and_longer_ones_are_refused(guarded: Path) -> None:
    # The table of dead letters has a longer name than its table.
    space, longest = "n" * 128, "n" * (128 - len("__dead_letter"))
    for table in (longest, f"{space}.{'m' * 126}.{longest}"):
        job_over().run(mode="reprocess", output_table=table, progress=False)
        assert len(list(kappa.read(table))) == 1
    with pytest.raises(ConfigError, match="longer than 255"):
        job_over().run(mode="reprocess", output_table=f"{space}.{space}.t", progress=False)
    with pytest.raises(ConfigError, match="is not a table name") as caught:
        job_over(bad="dead_letter").run(mode="reprocess", output_table=f"{longest}d", progress=False)
    assert "d__dead_letter" in str(caught.value)
    assert "115" in str(caught.value)
    assert f"{longest}d" not in tables(guarded)
    kappa.Log().create("k" * 249)
    with pytest.raises(ConfigError, match="cannot be the name of a topic"):
        kappa.Log().create("k" * 250)


SET_VERSION = """
import sys
from pyiceberg.catalog.sql import SqlCatalog

catalog = SqlCatalog("kappa", uri=f"sqlite:///{sys.argv[1]}/catalog.db", warehouse=f"file://{sys.argv[1]}/warehouse")
with catalog.load_table("default.v").transaction() as change:
    change.set_properties({"kappa.version": sys.argv[2]})
"""


def test_a_version_of_another_place_is_refused(guarded: Path) -> None:
    """The version is a property of the table, which others can write; it names a directory."""
    job_over().run(mode="reprocess", output_table="v", progress=False)
    for version in ("../../..", "/", "", "x" * 36, "../" * 12):
        # In a process of its own, as SQLite wants it of two libraries.
        done = command("-c", SET_VERSION, str(guarded), version)
        assert done.returncode == 0, done.stderr
        with pytest.raises(KappaError, match=r"is not a version|not a version") as caught:
            job_over().run(mode="live", output_table="v", progress=False)
        assert caught.value.code == "version"


def test_the_command_line_says_the_same(guarded: Path) -> None:
    for words in (["log", "create", "../x"], ["read", "../x"], ["log", "describe", "/etc"]):
        done = cli(*words, "--json")
        error = document(done)["error"]
        assert done.returncode != 0, done.stdout
        assert error["hint"], done.stdout
        assert error["code"] in ("log.topic_name", "invalid_table_name")
