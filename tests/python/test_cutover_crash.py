"""A promote or rollback that is killed at any of its steps, in each kind of catalog: the name is at the old or the new version, whole,
never neither; the same command again finishes. And names behind a REST server that moves one table at a time."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import kappa
from catalog_support import Place
from conftest import cli, wait_for
from test_cutover import RECORDS, build, fill, positive, showing, table, totals

# Before the commit, after each of its tables (in a database within the transaction, and so after none), and after all.
POINTS = ["P1", "P3:1", "P3:2", "P3:3", "P3:4", "P2"]
# Which of the two versions a name is found at after a kill at each step of P3: from and to another version with a view, and when
# it is new. A step that is not there is passed without a kill.
OLD, NEW, NONE = "old", "new", "not there"
MOVED = {
    "sqlite": ([OLD, OLD, OLD, OLD], [OLD, OLD, NONE, NONE]),
    "postgres": ([OLD, OLD, OLD, OLD], [OLD, OLD, NONE, NONE]),
    "rest": ([NONE] * 4, [NONE] * 4),
    "plain": ([OLD, NEW, NEW, NONE], [OLD, NEW, NONE, NONE]),
}
KINDS = pytest.mark.parametrize("catalog", ["sqlite", "postgres", "rest", "plain"], indirect=True)


def selects(catalog: Place, view: str) -> str:
    """The table that a view selects from."""
    namespace, name = view.split(".")
    query = f"select metadata_location from iceberg_tables where table_namespace = '{namespace}' and table_name = '{name}'"
    metadata: dict[str, Any]
    if catalog.kind in ("rest", "plain"):
        with urllib.request.urlopen(f"{catalog.url}/v1/namespaces/{namespace}/views/{name}") as answer:
            metadata = json.load(answer)["metadata"]
    else:
        if catalog.kind == "postgres":
            location = catalog.server.sql(query)
        else:
            with contextlib.closing(sqlite3.connect(catalog.url.removeprefix("sqlite://"))) as db:
                (location,) = db.execute(query).fetchone()
        metadata = json.loads(Path(location.removeprefix("file://")).read_text())
    (now,) = [it for it in metadata["versions"] if it["version-id"] == metadata["current-version-id"]]
    sql: str = now["representations"][0]["sql"]
    return f"{namespace}.{sql.split('`')[-2]}"


def outcome(killed: subprocess.CompletedProcess[str], is_new: bool) -> str:
    assert killed.returncode in (-9, 0), killed.stderr
    return NONE if killed.returncode == 0 else NEW if is_new else OLD


def serves(table_name: str) -> list[str]:
    """The names that a version serves, as the status says."""
    (version,) = kappa.status(table_name).versions
    names: list[str] = version["serves"]
    return names


@KINDS
@pytest.mark.slow
def test_killed_at_every_step(catalog: Place) -> None:
    n = catalog.namespace
    name, view, v3, v4 = (f"{n}.{it}" for it in ("name", "name__view", "v3", "v4"))
    fill(RECORDS)
    build(v3, 200)
    build(v4)
    kappa.promote(name, v3, view=True)
    turns_with_it = catalog.kind in ("sqlite", "postgres")
    outcomes = {}
    for point in POINTS:
        for words, new in ((["promote", name, v4, "--unverified", "x"], v4), (["rollback", name], v3)):
            old = showing(name)
            assert old != new
            killed = cli(*words, env={"KAPPA_FAILPOINT": point})
            shown = showing(name)
            outcomes[words[0], point] = outcome(killed, shown == new)
            assert shown in (old, new)
            assert table(name) == table(shown)
            if turns_with_it:
                assert selects(catalog, view) == shown
            # The same again finishes; a rollback that has happened would go one further back.
            if shown == old or words[0] == "promote":
                assert cli(*words).returncode == 0
            else:
                assert cli("promote", name, new, "--unverified", "x").stdout.startswith(f"{name} shows {new} already")
            assert (showing(name), selects(catalog, view)) == (new, new)
            assert table(name) == table(new)
            # The versions know it too.
            assert [name in serves(it) for it in (new, old)] == [True, False]
        first = f"{n}.first-{point.replace(':', '-')}"
        words = ["promote", first, v4]
        killed = cli(*words, env={"KAPPA_FAILPOINT": point})
        names = {found["name"]: found["table"] for found in kappa.serving().names}
        assert names.get(first) in (None, v4)
        outcomes["first", point] = outcome(killed, names.get(first) == v4)
        assert cli(*words).returncode == 0
        assert (showing(first), table(first)) == (v4, table(v4))
    print(catalog.kind, outcomes)
    moved, made = MOVED[catalog.kind]
    for verb, expected in (("promote", moved), ("rollback", moved), ("first", made)):
        assert [outcomes[verb, point] for point in POINTS] == [OLD, *expected, NEW], verb


@pytest.mark.parametrize("catalog", ["plain"], indirect=True)
def test_names_behind_a_server_that_moves_one_table_at_a_time(catalog: Place) -> None:
    n = catalog.namespace
    name, other, v3, v4 = (f"{n}.{it}" for it in ("name", "other", "v3", "v4"))
    fill(RECORDS[:2_000])
    build(v3, 200)
    build(v4)
    live = [totals(floor).start(mode="live", output_table=it, checkpoint_interval="50ms") for it, floor in ((v3, 200), (v4, 0))]
    try:
        kappa.promote({name: v3, other: v3})
        for number, to in enumerate((v4, v3, v4)):
            fill(RECORDS[2_000 + number * 500 : 2_500 + number * 500])
            kappa.promote({name: to, other: to}, unverified="both are live", accept=["lag"])
            read = 2_500 + number * 500
            wait_for(lambda read=read: sum(row[2] for row in table(v4)) == positive(read, 0), "v4 has it all")  # type: ignore[misc]
            wait_for(lambda read=read: sum(row[2] for row in table(v3)) == positive(read, 200), "v3 has it all")  # type: ignore[misc]
            for it in (name, other):
                wait_for(lambda it=it, to=to: table(it) == table(to), "the name follows", 10)  # type: ignore[misc]
    finally:
        for run in live:
            run.stop()
    assert [serves(it) for it in (v3, v4)] == [[], [name, other]]
