"""Names that dashboards read: promoted, rolled back, moved by their versions, read by other people's readers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import kappa
from catalog_support import Place
from conftest import cli, command, document, wait_for
from kappa.exceptions import ConfigError, KappaError, RefusedError
from test_end_to_end import fill, make_records, table
from test_readers import every_reader, ordered

RECORDS = make_records(4_000, seed=21)
READERS = ["pyiceberg", "polars", "duckdb", "chdb", "kappa"]


def totals(floor: int = 0) -> kappa.Job:
    """A metric; with another floor it is another metric."""
    job = kappa.Job("totals")
    schema = {"status": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")}
    read = job.read("payments", schema=schema, event_time="event_time", max_out_of_orderness="1d")
    used = read.filter(kappa.col("amount") > floor)
    job.write(used.group_by(day=kappa.col("event_time").dt.date()).agg(total=kappa.col("amount").sum(), n=kappa.len()))
    return job


def build(name: str, floor: int = 0, **more: Any) -> None:
    totals(floor).run(mode="reprocess", output_table=name, progress=False, **more)


def build_both(records: list[dict[str, Any]], shown: str) -> None:
    """Two versions of a metric over these records, `m.v3` with a bug; `m.name` shows one."""
    fill(records)
    build("m.v3", 200)
    build("m.v4")
    kappa.promote("m.name", shown)


@pytest.fixture
def versions(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both, and the name shows the one with the bug."""
    monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
    build_both(RECORDS, "m.v3")
    return place


def showing(name: str = "m.name") -> str:
    shown: str = kappa.serving(name).names[0]["table"]
    return shown


def test_the_incident(versions: Path) -> None:
    """Diff, promote with its proof, look at what was before, roll back, promote again: every reader sees it."""
    old, new = table("m.v3"), table("m.v4")
    assert table("m.name") == old != new
    with pytest.raises(RefusedError, match=r"m.v4 was not compared with m.v3, which m.name shows") as refused:
        kappa.promote("m.name", "m.v4")
    assert "kappa diff m.v3 m.v4" in str(refused.value.hint)
    diff = kappa.diff("m.name", "m.v4")
    assert diff.proof is not None
    assert diff.proof in str(diff)
    promotion = kappa.promote("m.name", "m.v4")
    assert promotion.names[0] | {"notes": []} == {
        "name": "m.name", "table": "m.v4", "before": "m.v3", "proof": diff.proof, "unverified": None, "accepted": [], "view": None,
        "rows": len(new), "version": promotion.names[0]["version"], "snapshot_id": promotion.names[0]["snapshot_id"], "notes": [],
    }  # fmt: skip
    assert promotion
    assert not kappa.promote("m.name", "m.v4"), "it shows it already"
    every = every_reader(versions, "m.name", None)
    assert every == ordered(kappa.read("m.v4").to_arrow())
    assert sorted(tuple(row.values()) for row in kappa.read("m.name", as_of=-1).to_dicts()) == old
    assert kappa.sql("select sum(n) as n from m.name").to_dicts()[0]["n"] == sum(row[2] for row in new)

    assert kappa.rollback("m.name").names[0]["table"] == "m.v3"
    assert table("m.name") == old
    assert every_reader(versions, "m.name", None) == ordered(kappa.read("m.v3").to_arrow())
    with pytest.raises(RefusedError, match="has shown no other version before"):
        kappa.rollback("m.name")
    kappa.promote("m.name", "m.v4", proof=diff)
    assert table("m.name") == new
    turns = kappa.serving("m.name").names[0]["turns"]
    assert [(turn["action"], turn["table"]) for turn in turns] == [
        ("promote", "m.v3"), ("promote", "m.v4"), ("rollback", "m.v3"), ("promote", "m.v4"),
    ]  # fmt: skip


def test_the_command_line(versions: Path) -> None:
    assert cli("promote", "m.name", "m.v4").returncode == 3
    assert cli("diff", "m.v3", "m.v4").returncode == 1
    done = cli("promote", "m.name", "m.v4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("m.name shows m.v4 (before: m.v3)\n")
    assert "; back again: kappa rollback m.name" in done.stdout
    assert "no process runs m.v4: m.name stays as it is until one does" in done.stdout
    assert cli("promote", "m.name", "m.v4").stdout.startswith("m.name shows m.v4 already\n")
    why = "the on-call said so"
    words = ["--unverified", why, "--max-age", "0s"]  # the comparison is too old then
    both = document(cli("promote", "m.name=m.v3", "m.other=m.v4", *words, "--json"))["data"]
    assert [(name["name"], name["table"]) for name in both["names"]] == [("m.name", "m.v3"), ("m.other", "m.v4")]
    listed = cli("serving", "list").stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["NAME", "SHOWS"], ["m.name", "m.v3"], ["m.other", "m.v4"]]
    history = cli("serving", "history", "m.name").stdout
    assert f"unverified: {why}" in history
    assert history.count("promote") == 3
    assert "rollback    to m.v4" in cli("serving", "show", "m.name").stdout
    back = document(cli("rollback", "m.name", "--json"))
    assert back["data"]["names"][0]["table"] == "m.v4"
    assert json.loads(cli("read", "m.name", "--as-of", "-1", "--json").stdout)["data"]["count"] == len(table("m.v3"))
    assert cli("rollback", "m.none").returncode == 3
    for words in (["a=b=c"], ["m.name"], ["m.name=m.v3", "m.name=m.v4"], ["m.name", "m.v3", "m.v4"]):
        assert cli("promote", *words).returncode == 2, words


def test_what_is_refused(versions: Path) -> None:
    def refused(code: str, name: str, to: str, **more: Any) -> KappaError:
        with pytest.raises(KappaError) as error:
            kappa.promote(name, to, **more)
        assert error.value.code == code, error.value
        return error.value

    diff = kappa.diff("m.v3", "m.v4")
    refused("old_proof", "m.name", "m.v4", max_age="0s")
    refused("no_proof", "m.name", "m.v4", proof="there-is-none")
    refused("not_a_name", "m.v3", "m.v4")
    refused("not_a_version", "m.other", "m.name")
    refused("no_such_table", "m.other", "m.none")
    refused("usage", "m.name", "m.name")
    refused("invalid_argument", "m.name", "m.v4", unverified=" ")
    refused("invalid_argument", "m.name", "m.v4", accept=["everything"])
    assert showing() == "m.v3"
    assert {name["name"] for name in kappa.serving().names} == {"m.name"}

    # Built again, the table is another one: what was compared is gone.
    build("m.v4", 0, replace=True)
    refused("no_proof", "m.name", "m.v4", proof=diff)
    # What a name shows is not taken from under it, and a name is no output.
    with pytest.raises(RefusedError, match=r"m.v3 is what m.name shows"):
        build("m.v3", 200, replace=True)
    with pytest.raises(RefusedError, match=r"m.name is a name that shows the tables of versions"):
        build("m.name")
    # What begins later, and what is further back.
    later = datetime.fromtimestamp(RECORDS[-1]["event_time"] / 1000, timezone.utc)
    build("m.late", 0, from_=later)
    assert "--accept history" in str(refused("shorter_history", "m.name", "m.late", unverified="x").hint)
    build("m.back", 0, until="0:10,1:10,2:10")
    assert "--accept lag" in str(refused("catching_up", "m.name", "m.back", unverified="x").hint)
    accepted = kappa.promote("m.name", "m.back", unverified="x", accept=["lag"]).names[0]
    assert accepted["accepted"] == ["lag"]
    assert "records (more than is kept) behind m.v3" in accepted["notes"][0]


@pytest.mark.parametrize("name", ["../x", "a/b", "m.x'; drop table iceberg_tables; --", "", "m.\n", "tаble"])
def test_names_cannot_smuggle(versions: Path, name: str) -> None:
    for act in (lambda: kappa.promote(name, "m.v4"), lambda: kappa.promote("m.name", name), lambda: kappa.rollback(name)):
        with pytest.raises(ConfigError):
            act()
    assert showing() == "m.v3"


def test_a_name_follows_its_live_version(catalog: Place) -> None:
    """Both versions are live. The name moves with the one that it shows, and a rollback is as fresh as what it replaces."""
    n = catalog.namespace
    fill(RECORDS[:2_000])
    build(f"{n}.v3", 200)
    build(f"{n}.v4")
    live = [
        totals(floor).start(mode="live", output_table=f"{n}.{name}", checkpoint_interval="50ms")
        for name, floor in (("v3", 200), ("v4", 0))
    ]
    name = f"{n}.name"
    try:
        kappa.promote(name, f"{n}.v3")
        kappa.diff(f"{n}.v3", f"{n}.v4")
        for number, promoted in enumerate(["v4", "v3", "v4"]):
            fill(RECORDS[2_000 + number * 500 : 2_500 + number * 500])
            if promoted == "v3":
                kappa.rollback(name)
            else:
                kappa.promote(name, f"{n}.{promoted}", unverified="both are live", accept=["lag"])
            read = 2_500 + number * 500
            wait_for(lambda read=read: sum(row[2] for row in table(f"{n}.v4")) == positive(read, 0), "v4 is there")  # type: ignore[misc]
            wait_for(lambda read=read: sum(row[2] for row in table(f"{n}.v3")) == positive(read, 200), "v3 is there")  # type: ignore[misc]
            wait_for(lambda to=promoted: table(name) == table(f"{n}.{to}"), "the name is", 5)  # type: ignore[misc]
    finally:
        for run in live:
            run.stop()
            run.wait()
    with catalog.by_pyiceberg() as opened:
        assert ordered(opened.load_table(name).scan().to_arrow()) == ordered(kappa.read(f"{n}.v4").to_arrow())


def positive(upto: int, floor: int) -> int:
    return sum(1 for record in RECORDS[:upto] if record["amount"] is not None and record["amount"] > floor)


@pytest.mark.slow
def test_two_at_once(versions: Path) -> None:
    """Of two promotes that begin on the same state one wins, and the other is told who did."""
    build("m.v5", 100)
    # The first has decided, and everything is written but for the one commit; there it stops.
    words = [sys.executable, "-m", "kappa", "promote", "m.name", "m.v4", "--unverified", "slow"]
    env = {**os.environ, "KAPPA_FAILPOINT": "P1:1:stop"}
    slow = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    status = Path(f"/proc/{slow.pid}/stat")
    wait_for(lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T", "it stands")
    assert cli("promote", "m.name", "m.v5", "--unverified", "quick").returncode == 0
    slow.send_signal(signal.SIGCONT)
    told = slow.communicate(timeout=60)[1]
    assert slow.returncode == 6, told
    assert "m.name was turned to m.v5 by process" in told
    assert "kappa serving history m.name" in told
    assert showing() == "m.v5"


@pytest.mark.slow
def test_a_promote_races_with_commits(versions: Path) -> None:
    """Both versions commit as fast as they can while the name is turned between them. Nobody fails."""
    live = [
        totals(floor).start(mode="live", output_table=name, checkpoint_interval="10ms")
        for name, floor in (("m.v3", 200), ("m.v4", 0))
    ]
    try:
        for number in range(10):
            fill(make_records(300, seed=number))
            kappa.promote("m.name", "m.v4" if number % 2 == 0 else "m.v3", unverified="a race", accept=["lag"])
        wait_for(lambda: table("m.name") == table("m.v3"), "the name is what its version is")
    finally:
        for run in live:
            run.stop()
            run.wait()
    assert table("m.name") == table("m.v3")


def promotes(place: Path, times: int) -> tuple[list[float], dict[str, Any]]:
    """So many promotes, while four readers read the name. How long each took, and what the readers saw."""
    expected = json.dumps([[[str(value) for value in row] for row in table(name)] for name in ("m.v3", "m.v4")])
    readers = {
        kind: subprocess.Popen(
            [
                sys.executable, str(Path(__file__).with_name("cutover_readers.py")),
                kind, f"{place}/catalog.db", f"file://{place}/warehouse", "m.name", expected,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for kind in READERS
    }  # fmt: skip
    try:
        for kind, reader in readers.items():
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n", (kind, reader.communicate()[1])
        seconds = []
        for number in range(times):
            turned = kappa.promote("m.name", "m.v4" if number % 2 == 0 else "m.v3", unverified=f"number {number}")
            seconds.append(turned.to_dict()["seconds"])
        seen = {}
        for kind, reader in readers.items():
            out, error = reader.communicate(timeout=60)
            assert reader.returncode == 0, f"{kind}: {error}"
            seen[kind] = json.loads(out)
        return seconds, seen
    finally:
        for reader in readers.values():
            reader.kill()


@pytest.mark.slow
def test_readers_see_one_version_whole(versions: Path) -> None:
    _, seen = promotes(versions, 50)
    assert all(found["reads"] > 0 for found in seen.values()), seen


@pytest.mark.soak
def test_readers_see_one_version_whole_a_thousand_times(versions: Path) -> None:
    seconds, seen = promotes(versions, 1_000)
    assert all(found["versions"] == [0, 1] for found in seen.values()), seen
    seconds.sort()
    print(f"\n1,000 promotes: median {seconds[500] * 1e3:.0f} ms, p99 {seconds[990] * 1e3:.0f} ms; {seen}")


def test_what_a_tool_does_to_a_name_is_put_right(versions: Path) -> None:
    """pyiceberg adds a row to the name. The job that writes the version undoes it, and says so."""
    meddle = (
        "import sys; from pyiceberg.catalog.sql import SqlCatalog; "
        "catalog = SqlCatalog('kappa', uri=f'sqlite:///{sys.argv[1]}/catalog.db', warehouse=f'file://{sys.argv[1]}/warehouse'); "
        "name = catalog.load_table('m.name'); name.append(name.scan().to_arrow().slice(0, 1))"
    )
    done = command("-c", meddle, str(versions))
    assert done.returncode == 0, done.stderr
    assert len(kappa.read("m.name")) == len(kappa.read("m.v3")) + 1
    assert kappa.serving("m.name").names[0]["is_foreign"]
    lines = "from test_cutover import totals; totals(200).run(mode='live', output_table='m.v3', progress=True)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", lines], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        wait_for(lambda: table("m.name") == table("m.v3"), "the name is put right while the log is idle", 60)
    finally:
        process.terminate()
        said = process.communicate(timeout=60)[1]
    assert "another tool has committed to the name m.name" in said
