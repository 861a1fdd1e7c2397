"""Versions that nothing needs: what stays and why, condemned, spared, deleted, and nothing else with them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from catalog_support import Place
from conftest import cli, command, document, wait_for
from kappa.exceptions import ConflictError, KappaError, RefusedError
from test_cutover import build, build_both, showing, totals
from test_end_to_end import fill, make_records, table
from test_readers import every_reader, ordered

if TYPE_CHECKING:
    from admin import Kafka

RECORDS = make_records(1_000, seed=22)
DAY_MS = 86_400_000
NOW = {"older_than": "0s", "grace": "0s", "apply": True}


@pytest.fixture
def versions(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`m.name` shows `m.v4`; `m.v3` it has never shown."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    build_both(RECORDS, "m.v4")
    return place


def tree(place: Path) -> dict[str, str]:
    """All files below a place, but for what a database that is looked at has beside it."""
    files = {}
    for path in sorted(place.rglob("*")):
        if path.is_file() and not path.name.startswith("catalog.db-"):
            files[str(path.relative_to(place))] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink() or path.is_dir():
            files[str(path.relative_to(place))] = "directory"
    return files


def actions(report: kappa.GcReport) -> dict[str, tuple[str, str | None]]:
    """By table, what is done with its version, and the code of why it stays."""
    return {name: (version["action"], version["code"]) for version in report.versions for name in version["tables"]}


def the(report: kappa.GcReport, name: str) -> dict[str, Any]:
    return next(version for version in report.versions if name in version["tables"])


@contextmanager
def by_pyiceberg(place: Path) -> Iterator[Any]:
    """The catalog as pyiceberg opens it: no two SQLite libraries have its file open in one process."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("kappa", uri=f"sqlite:///{place}/catalog.db", warehouse=f"file://{place}/warehouse")
    try:
        yield catalog
    finally:
        catalog.engine.dispose()


def loaded(place: Path, name: str) -> Any:
    with by_pyiceberg(place) as catalog:
        return catalog.load_table(name)


def location(place: Path, name: str) -> Path:
    return Path(loaded(place, name).location().removeprefix("file://"))


def checkpoints(place: Path, name: str) -> Path:
    return place / "checkpoints" / loaded(place, name).properties["kappa.version"]


def gone(place: Path, directories: list[Path]) -> None:
    """A version is gone whole, and `m.v4` is as it was."""
    assert not any(directory.exists() for directory in directories)
    assert [path.name for path in (place / "checkpoints/gc").iterdir()] == ["lock"]
    with by_pyiceberg(place) as catalog:
        assert ("m", "v3") not in catalog.list_tables("m")
    assert every_reader(place, "m.v4", None) == every_reader(place, "m.name", None)


@contextmanager
def later(tmp_path: Path, days: int) -> Iterator[dict[str, str]]:
    """An environment in which so many days have passed."""
    clock = tmp_path / "clock"
    clock.write_text(str(days * DAY_MS))
    yield {"KAPPA_CLOCK_OFFSET": str(clock)}


def gc_later(env: dict[str, str], *words: str) -> kappa.GcReport:
    done = cli("gc", *words, "--json", env=env)
    assert done.returncode == 0, done.stderr + done.stdout
    return kappa.GcReport(document(done)["data"])


def test_a_look_changes_nothing(versions: Path) -> None:
    kappa.gc(older_than="0s")  # opens the catalog's database
    before = tree(versions)
    for older_than in ("7d", "0s"):
        report = kappa.gc(older_than=older_than)
        assert tree(versions) == before
    assert actions(report) == {"m.v3": ("condemn", None), "m.v4": ("keep", "serves")}
    found = the(report, "m.v3")
    assert found["why"].startswith("never shown, last written 20")
    assert min(found["data_bytes"], found["state_bytes"]) > 0
    assert report.condemned_bytes == found["data_bytes"] + found["state_bytes"]
    assert actions(kappa.gc()) == {"m.v3": ("keep", "young"), "m.v4": ("keep", "serves")}
    text = cli("gc", "--older-than", "0s").stdout
    assert text.startswith("would free 0 B now, ")
    assert "condemn  m.v3" in text
    assert "shown by m.name" in text
    assert text.endswith("nothing was changed: run with --apply\n")
    assert "m.v3" in report._repr_html_()


def test_condemned_then_deleted(versions: Path) -> None:
    directories = [location(versions, "m.v3"), checkpoints(versions, "m.v3")]
    rows = table("m.v4")
    done = cli("gc", "--older-than", "0s", "--apply")
    assert done.returncode == 0, done.stderr
    assert "condemned  m.v3" in done.stdout
    assert "kappa gc --spare TABLE takes it back" in done.stdout
    waits = kappa.gc(older_than="0s", apply=True)
    assert actions(waits)["m.v3"] == ("wait", None)
    assert all(directory.exists() for directory in directories)
    assert kappa.gc(older_than="0s", grace="0s").deletable_bytes > 0
    deleted = kappa.gc(**NOW)
    assert actions(deleted) == {"m.v3": ("delete", None), "m.v4": ("keep", "serves")}
    assert deleted.deleted_bytes == sum(the(deleted, "m.v3")[part] for part in ("data_bytes", "state_bytes"))
    assert deleted.troubles == []
    gone(versions, directories)
    assert table("m.v4") == table("m.name") == rows
    assert actions(kappa.gc(**NOW)) == {"m.v4": ("keep", "serves")}
    build("m.v3", 100)
    assert table("m.v3") == table("m.v3")


def test_what_was_just_condemned_does_not_go_at_once(versions: Path) -> None:
    assert actions(kappa.gc(**NOW))["m.v3"] == ("condemn", None)
    assert len(kappa.read("m.v3")) > 0


def test_what_is_condemned_is_taken_up_by_nobody_until_it_is_spared(versions: Path) -> None:
    kappa.gc(older_than="0s", apply=True)
    refusals = [
        lambda: kappa.promote("m.name", "m.v3", unverified="a test"),
        lambda: kappa.promote("m.other", "m.v3"),
        lambda: kappa.diff("m.v3", "m.v4"),
        lambda: kappa.diff("m.v4", "m.v3"),
        lambda: build("m.v3", 200),
        lambda: build("m.v3", 200, replace=True),
        lambda: totals(200).start(mode="live", output_table="m.v3"),
    ]
    for refused in refusals:
        with pytest.raises(RefusedError, match=r"m.v3 is condemned since .* by process") as error:
            refused()
        assert error.value.code == "condemned"
        assert "kappa gc --spare m.v3" in str(error.value.hint)
    assert showing() == "m.v4"
    done = cli("gc", "--spare", "m.v3")
    assert done.returncode == 0, done.stderr
    assert "spared" in done.stdout
    kappa.diff("m.v3", "m.v4")
    kappa.promote("m.name", "m.v3")
    assert actions(kappa.gc(**NOW))["m.v3"] == ("keep", "serves")
    assert cli("gc", "--spare", "m.v3", "--apply").returncode == 2
    assert cli("gc", "--spare", "m.none").returncode == 3


def test_a_rollback_to_what_is_condemned_is_refused(versions: Path, tmp_path: Path) -> None:
    kappa.promote("m.name", "m.v3", unverified="a test")
    with later(tmp_path, 9) as env:
        condemned = gc_later(env, "--apply")
        assert actions(condemned)["m.v4"] == ("condemn", None), condemned
        assert the(condemned, "m.v4")["why"].startswith("not shown since ")
        with pytest.raises(RefusedError, match=r"m.v4 is condemned"):
            kappa.rollback("m.name")
        # What a larger window keeps is not condemned any more.
        assert actions(gc_later(env, "--older-than", "30d", "--apply"))["m.v4"] == ("spare", "shown")
    kappa.rollback("m.name")
    assert showing() == "m.v4"


def test_what_is_in_use_stays(versions: Path) -> None:
    live = totals(200).start(mode="live", output_table="m.v3", checkpoint_interval="50ms")
    try:
        running = kappa.gc(**NOW)
        assert actions(running)["m.v3"] == ("keep", "runs")
        assert the(running, "m.v3")["why"].startswith("run by process ")
    finally:
        live.stop()
        live.wait()
    leases = versions / "checkpoints/leases"
    leases.mkdir(exist_ok=True)
    lease = {
        "format": 1,
        "tables": [{"table": "m.v3", "uuid": str(loaded(versions, "m.v3").metadata.table_uuid), "version": ""}],
        "holder": {"process": "process 7 on host other", "since_ms": 0},
        "until_ms": 2**53,
    }
    (leases / "a.json").write_text(json.dumps(lease))
    leased = kappa.gc(**NOW)
    assert actions(leased)["m.v3"] == ("keep", "leased")
    assert the(leased, "m.v3")["why"] == "read by process 7 on host other"
    (leases / "a.json").write_text("{")
    assert actions(kappa.gc(**NOW))["m.v3"] == ("keep", "unknown")
    (leases / "a.json").write_text(json.dumps(lease | {"until_ms": 0}))
    assert actions(kappa.gc(older_than="0s"))["m.v3"] == ("condemn", None)
    assert (leases / "a.json").exists()
    kappa.gc(older_than="0s", apply=True)
    assert not (leases / "a.json").exists()


def test_a_diff_holds_a_lease(versions: Path) -> None:
    """A comparison that takes its time is seen by who collects, and the lease ends with it, also where it is killed."""
    code = "import os, sys, kappa; print('ready', flush=True); kappa.diff('m.v3', 'm.v4')"
    env = os.environ | {"KAPPA_FAILPOINT": "D1:1:stop"}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: any((versions / "checkpoints/leases").glob("*.json")), "the lease")
        report = kappa.gc(**NOW)
        assert actions(report)["m.v3"] == ("keep", "leased")
        assert the(report, "m.v3")["why"] == f"read by process {process.pid} on host {os.uname().nodename}"
    finally:
        process.kill()
        process.communicate()
    assert actions(kappa.gc(older_than="0s"))["m.v3"] == ("condemn", None)
    kappa.diff("m.v3", "m.v4")
    kappa.gc(older_than="0s", apply=True)
    assert list((versions / "checkpoints/leases").iterdir()) == []


def test_what_a_name_has_shown_stays_as_long_as_its_snapshots(versions: Path, tmp_path: Path) -> None:
    """`m.name` goes from v4 to v3: v4 stays while time travel leads to it, and goes after that; the name stays whole throughout."""
    old, new = table("m.v4"), table("m.v3")
    directories = [location(versions, "m.v4"), checkpoints(versions, "m.v4")]
    kappa.promote("m.name", "m.v3", unverified="a test")
    for _ in range(3):
        report = kappa.gc(**NOW)
        assert actions(report) == {"m.v3": ("keep", "serves"), "m.v4": ("keep", "needed")}
        assert the(report, "m.v4")["why"] == "its files are in snapshots of m.name"
    assert sorted(tuple(row.values()) for row in kappa.read("m.name", as_of=-1).to_dicts()) == old
    with later(tmp_path, 6) as env:
        assert actions(gc_later(env, "--apply"))["m.v4"] == ("keep", "shown")
    with later(tmp_path, 9) as env:
        assert actions(gc_later(env, "--older-than", "30d"))["m.v4"] == ("keep", "shown")
        assert actions(gc_later(env, "--apply"))["m.v4"] == ("condemn", None)
        before = tree(versions)
        assert actions(gc_later(env, "--grace", "0s"))["m.v4"] == ("delete", None)
        assert tree(versions) == before
        assert actions(gc_later(env, "--grace", "0s", "--apply"))["m.v4"] == ("delete", None)
    assert not any(directory.exists() for directory in directories)
    assert table("m.name") == new
    assert every_reader(versions, "m.name", None) == ordered(kappa.read("m.v3").to_arrow())
    snapshots = loaded(versions, "m.name").metadata.snapshots
    assert all(Path(snapshot.manifest_list.removeprefix("file://")).exists() for snapshot in snapshots)
    with pytest.raises(KappaError):
        kappa.read("m.name", as_of=-1)
    with pytest.raises(RefusedError):
        kappa.rollback("m.name")


def test_a_checkpoint_that_is_not_delivered_keeps_its_version(versions: Path) -> None:
    lines = """
import kappa
job = kappa.Job("totals")
schema = {"status": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
job.write(job.read("payments", schema=schema, event_time="event_time", max_out_of_orderness="1d"))
job.run(mode="reprocess", output_table="m.v5", progress=False)
"""
    done = command("-c", lines, env={"KAPPA_FAILPOINT": "K15"})
    assert done.returncode == -9
    report = kappa.gc(**NOW)
    assert actions(report)["m.v5"] == ("keep", "undelivered"), report
    assert command("-c", lines).returncode == 0
    assert actions(kappa.gc(older_than="0s"))["m.v5"] == ("condemn", None)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["G1", "G2", "G3", "G4", "G5"])
def test_killed_and_run_again(versions: Path, point: str) -> None:
    directories = [location(versions, "m.v3"), checkpoints(versions, "m.v3")]
    words = ["gc", "--older-than", "0s", "--grace", "0s", "--apply"]
    if point != "G1":
        assert cli(*words).returncode == 0
    assert cli(*words, env={"KAPPA_FAILPOINT": point}).returncode == -9
    assert every_reader(versions, "m.v4", None) == every_reader(versions, "m.name", None)
    report = kappa.gc(older_than="0s", grace="0s")
    assert report.deletable_bytes > 0 or point in ("G5",), report
    if point == "G1":
        assert len(kappa.read("m.v3")) > 0
    else:
        assert report.begun[0]["tables"] == ["m.v3"]
        with pytest.raises(KappaError) as refused:
            kappa.gc(spare="m.v3")
        assert refused.value.code in ("being_deleted", "no_such_table")
    again = cli(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    gone(versions, directories)
    assert "nothing to do" in cli("gc").stdout


def hostile(place: Path, name: str, properties: dict[str, str], location: Path) -> None:
    """A table of somebody who writes what he likes into it."""
    import pyarrow as pa

    with by_pyiceberg(place) as catalog:
        catalog.create_namespace_if_not_exists("x")
        made = catalog.create_table(name, pa.schema([("x", pa.int64())]), location=f"file://{location}", properties=properties)
        made.append(pa.table({"x": [1]}))


def drop(place: Path, name: str) -> None:
    with by_pyiceberg(place) as catalog:
        catalog.drop_table(name)


def test_what_tables_say_leads_nowhere_else(versions: Path, tmp_path: Path) -> None:
    """Properties and locations that somebody made up: nothing outside of a version's own directories goes."""
    precious = tmp_path / "precious"
    (precious / "data").mkdir(parents=True)
    (precious / "data/file").write_text("1")
    version = checkpoints(versions, "m.v3").name
    live = location(versions, "m.v4")
    hostile(versions, "x.elsewhere", {"kappa.version": version}, precious)
    for _ in range(3):
        assert actions(kappa.gc(**NOW))["m.v3"] == ("keep", "unknown")
    drop(versions, "x.elsewhere")

    # In the directory of a table that is shown, and right in the warehouse as kappa's are.
    hostile(versions, "x.inside", {"kappa.version": version}, live)
    for _ in range(3):
        report = kappa.gc(**NOW)
        assert actions(report)["m.v3"] == ("keep", "needed"), report
    drop(versions, "x.inside")

    # A link that is named as kappa's directories are.
    link = versions / "warehouse/m/l-0123abcd"
    link.symlink_to(precious)
    hostile(versions, "x.link", {"kappa.version": version}, link)
    for _ in range(3):
        assert actions(kappa.gc(**NOW))["m.v3"] == ("keep", "unknown")
    drop(versions, "x.link")

    for word in ("../../precious", "", "gc", str(uuid.UUID(int=0)), version.upper(), "/etc"):
        name = f"x.t{uuid.uuid4().hex[:8]}"
        hostile(versions, name, {"kappa.version": word}, versions / f"warehouse/x/{name}")
        for _ in range(3):
            assert actions(kappa.gc(**NOW)).get(name, ("keep", "unknown")) == ("keep", "unknown"), word
    assert (precious / "data/file").read_text() == "1"
    assert link.is_symlink()
    assert every_reader(versions, "m.v4", None) == every_reader(versions, "m.name", None)
    assert "m.v3" not in actions(kappa.gc(older_than="0s"))


def test_files_that_another_table_has_taken_over_stay(versions: Path) -> None:
    """Somebody adds the files of v3 to a table of his own."""
    with by_pyiceberg(versions) as catalog:
        source = catalog.load_table("m.v3")
        files = [row["file_path"] for row in source.inspect.files().to_pylist()]
        catalog.create_namespace("x")
        taken = catalog.create_table("x.taken", source.schema())
        taken.add_files(files, check_duplicate_files=False)
    for _ in range(3):
        report = kappa.gc(**NOW)
        assert actions(report)["m.v3"] == ("keep", "needed")
    assert the(report, "m.v3")["why"] == "its files are in snapshots of x.taken"
    assert len(taken.scan().to_arrow()) == len(kappa.read("m.v3"))


def test_what_cannot_be_read_keeps_everything(versions: Path) -> None:
    metadata = Path(loaded(versions, "m.name").metadata_location.removeprefix("file://"))
    aside = metadata.rename(metadata.with_name("aside"))
    for _ in range(3):
        report = kappa.gc(**NOW)
        assert actions(report) == {"m.v3": ("keep", "unknown"), "m.v4": ("keep", "unknown")}
        assert "table m.name cannot be read" in the(report, "m.v4")["why"]
    aside.rename(metadata)
    assert actions(kappa.gc(older_than="0s"))["m.v3"] == ("condemn", None)


def test_what_was_replaced_and_what_a_crash_has_left(versions: Path, tmp_path: Path) -> None:
    """Directories that no table of the catalog speaks of go, if this catalog has made them and they are old; no other does."""
    replaced = location(versions, "m.v3")
    build("m.v3", 100, replace=True)
    assert replaced.exists()
    foreign = versions / "warehouse/m/foreign-0123abcd"
    (foreign / "metadata").mkdir(parents=True)
    (foreign / "metadata/file").write_text("1")
    shutil.copytree(replaced, versions / "warehouse/m/other-0123abcd")
    dead = versions / "checkpoints" / str(uuid.uuid4())
    shutil.copytree(checkpoints(versions, "m.v3"), dead)
    report = kappa.gc(older_than="0s", grace="0s")
    assert [(found["path"], found["action"]) for found in report.directories if found["path"] == str(replaced)] == [
        (str(replaced), "keep")
    ]
    with later(tmp_path, 9) as env:
        before = tree(versions)
        report = gc_later(env)
        assert tree(versions) == before
        found = {found["path"]: found for found in report.directories}
        assert (found[str(replaced)]["action"], found[str(replaced)]["table"]) == ("delete", "m.v3")
        assert found[str(replaced)]["bytes"] > 0
        assert str(foreign) not in found
        other = {**env, "KAPPA_CATALOG_URL": f"sqlite://{versions}/other.db"}
        report = gc_later(other, "--apply", "--grace", "0s")
        assert {found["code"] for found in report.directories} == {"unknown"}
        assert {version["code"] for version in report.versions} == {"unknown"}
        assert replaced.exists()
        assert dead.exists()
        gc_later(env, "--apply")
    assert not replaced.exists()
    assert not dead.exists()
    assert (foreign / "metadata/file").exists()
    assert len(kappa.read("m.v3")) > 0
    assert every_reader(versions, "m.v4", None) == every_reader(versions, "m.name", None)


def test_what_a_crashed_run_has_left_in_a_version_that_stays(versions: Path) -> None:
    """Files of kappa's that no snapshot and no manifest names go from under a version that is shown; those of others stay."""
    kappa.gc(**NOW)
    assert kappa.gc().deletable_bytes == 0
    data = location(versions, "m.v4") / "data"
    made = next(path for path in data.iterdir() if path.suffix == ".parquet")
    ours = made.with_name(f"{made.name[:35]}{'0' if made.name[35] != '0' else '1'}.parquet")
    foreign = made.with_name(f"{uuid.uuid4()}.parquet")
    for path in (ours, foreign):
        path.write_text("12345")
    report = kappa.gc()
    assert (the(report, "m.v4")["orphan_bytes"], report.deletable_bytes) == (5, 5)
    assert "left in it by a run that crashed" in str(report)
    assert ours.exists()
    applied = kappa.gc(apply=True)
    assert (actions(applied)["m.v4"], applied.deleted_bytes) == (("keep", "serves"), 5)
    assert foreign.exists()
    assert not ours.exists()
    assert every_reader(versions, "m.v4", None) == every_reader(versions, "m.name", None)


def test_one_process_collects_at_a_time(versions: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kappa", "gc", "--older-than", "0s", "--apply"],
        env=os.environ | {"KAPPA_FAILPOINT": "G1:1:stop"},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: "condemned" in str(loaded(versions, "m.v3").properties), "it has condemned one")
        with pytest.raises(ConflictError, match=r"another process collects: process"):
            kappa.gc(older_than="0s", apply=True)
        # A job cannot begin between.
        with pytest.raises(KappaError) as refused:
            totals(200).start(mode="live", output_table="m.v3")
        assert refused.value.code in ("locked", "condemned")
        kappa.gc(older_than="0s")
    finally:
        process.kill()
        process.wait()


def test_in_each_catalog(catalog: Place) -> None:
    n = catalog.namespace
    fill(RECORDS)
    build(f"{n}.v3", 200)
    build(f"{n}.v4")
    kappa.promote(f"{n}.name", f"{n}.v4")
    assert actions(kappa.gc(older_than="0s"))[f"{n}.v3"] == ("condemn", None)
    kappa.gc(older_than="0s", apply=True)
    with pytest.raises(RefusedError, match="is condemned"):
        kappa.promote(f"{n}.name", f"{n}.v3", unverified="a test")
    kappa.gc(spare=f"{n}.v3")
    kappa.promote(f"{n}.other", f"{n}.v3")
    assert actions(kappa.gc(**NOW))[f"{n}.v3"] == ("keep", "serves")
    build(f"{n}.v5", 300)
    kappa.gc(older_than="0s", apply=True)
    report = kappa.gc(**NOW)
    assert actions(report)[f"{n}.v5"] == ("delete", None), report
    assert report.troubles == []
    assert f"{n}.v5" not in actions(kappa.gc())
    with catalog.by_pyiceberg() as opened:
        tables = {str(".".join(name)) for name in opened.list_tables(n)}
        assert tables == {f"{n}.{name}" for name in ("v3", "v4", "name", "other")}
        assert ordered(opened.load_table(f"{n}.name").scan().to_arrow()) == ordered(kappa.read(f"{n}.v4").to_arrow())
    assert not list(Path(f"{catalog.warehouse.removeprefix('file://')}/{n}").glob("v5-*"))


@pytest.mark.slow
def test_the_consumer_group_goes_with_its_version(
    kafka: Kafka, topic: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from admin import row

    kafka.create(topic, partitions=2)
    kafka.produce(topic, [row({"t": 0, "n": 1}, "k", partition=0)])
    monkeypatch.setenv("KAPPA_LOG_URL", f"kafka://{kafka.bootstrap}")
    job = kappa.Job("counts")
    job.write(job.read(topic, schema={"t": kappa.Timestamp("ms"), "n": kappa.Int64}, event_time="t"))
    for name in ("m.old", "m.new"):
        job.run(mode="reprocess", output_table=name, progress=False)
        wait_for(lambda name=name: kafka.group_offsets(f"kappa-{name}", topic) != {}, "the group")  # type: ignore[misc]
    kappa.promote("m.name", "m.new")
    kappa.gc(older_than="0s", apply=True)
    # The cluster is away: all but the group goes, and the group at the next call.
    monkeypatch.setenv("KAPPA_LOG_URL", "kafka://127.0.0.1:1")
    report = kappa.gc(**NOW)
    assert "the consumer group kappa-m.old is still there" in report.troubles[0]
    assert not list((place / "warehouse/m").glob("old-*"))
    monkeypatch.setenv("KAPPA_LOG_URL", f"kafka://{kafka.bootstrap}")
    assert kappa.gc(**NOW).troubles == []
    assert kafka.group_offsets("kappa-m.old", topic) == {}
    assert kafka.group_offsets("kappa-m.new", topic) != {}
    assert [path.name for path in (place / "checkpoints/gc").iterdir()] == ["lock"]
