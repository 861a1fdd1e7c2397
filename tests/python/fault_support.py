"""What the tests of faults share: a job in processes of its own, an oracle for the position that its tables say, and what may
lie on disk.

The tables are looked at without the engine: SQLite for the catalog, pyiceberg for what snapshots reach, DuckDB for the rows.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow
from pyiceberg.table import StaticTable

import kappa
from conftest import wait_for
from test_end_to_end import make_records

WITHIN = 60.0
DAY_MS = 86_400_000
SCRIPT = """
import kappa
from kappa import col

job = kappa.Job("faults")
payments = job.read(
    "payments",
    schema={"status": kappa.String, "amount": kappa.Int64, "merchant_id": kappa.String, "event_time": kappa.Timestamp("ms")},
    event_time="event_time",
    max_out_of_orderness="30s",
    metadata={"part": "partition", "off": "offset"},
)
captured = payments.filter(col("status") == "captured")
job.write(captured.select("part", "off", "amount"), name="rows")
job.write(
    captured.group_by(day=col("event_time").dt.date(time_zone="Europe/Copenhagen"))
    .agg(merchants=col("merchant_id").count_distinct(), total=col("amount").sum(), payments=kappa.len()),
    name="days",
)

if __name__ == "__main__":
    job.main()
"""
ROWS = "select part, off, amount from records where status = 'captured'"
DAYS = """
select cast(timezone('Europe/Copenhagen', make_timestamptz(event_time * 1000)) as date) as day,
       count(distinct merchant_id) as merchants, cast(sum(amount) as bigint) as total, count(*) as payments
from records where status = 'captured' group by 1
"""
ARROW = pyarrow.schema(
    [
        ("part", pyarrow.int32()),
        ("off", pyarrow.int64()),
        ("merchant_id", pyarrow.string()),
        ("status", pyarrow.string()),
        ("amount", pyarrow.int64()),
        ("event_time", pyarrow.int64()),
    ]
)
QUERIES = {"t.rows": ROWS, "t.days": DAYS}
Position = dict[int, int]


class Snapshot(NamedTuple):
    """What a snapshot says about itself."""

    checkpoint: int
    owner: int
    is_compaction: bool
    position: Position


class Process(subprocess.Popen[str]):
    """Python with these words; what it says goes to a file, so that it never waits for a reader."""

    def __init__(self, words: list[str], folder: Path, env: dict[str, str] | None = None) -> None:
        self.file = folder / f"said-{time.monotonic_ns()}"
        with self.file.open("w") as out:
            environment = {**os.environ, **(env or {})}
            super().__init__([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=out, text=True, env=environment)

    def said(self) -> str:
        return self.file.read_text()

    def ended(self) -> str:
        """Waits for its end. What it has said."""
        self.wait(WITHIN)
        return self.said()

    def listens(self) -> None:
        """Waits until the job has started, and takes signals; or has ended."""
        wait_for(lambda: '"started"' in self.said() or self.poll() is not None, "the job to start", WITHIN)

    def drained(self) -> str:
        """Ends it with a last checkpoint, once it listens. What it has said."""
        self.listens()
        self.terminate()
        said = self.ended()
        assert self.returncode == 0, said[-4000:]
        return said


class Faults:
    """A place, the job of SCRIPT in it, and the records that it has been given."""

    def __init__(self, place: Path, seed: int = 1, partitions: int = 3) -> None:
        self.place = place
        self.path = place.parent / "faults.py"
        self.path.write_text(SCRIPT)
        self.records = make_records(60_000, seed)
        random.Random(seed).shuffle(self.records)  # so that all the time all groups change
        self.given = 0
        self.log = Logged()
        self.started: list[Process] = []
        kappa.Log().create("payments", partitions=partitions)

    def give(self, count: int) -> None:
        """Appends so many records more."""
        kappa.Log().append("payments", self.records[self.given : self.given + count])
        self.given += count

    def words(self, mode: str, workers: int = 2, interval: str = "20ms", *more: str) -> list[str]:
        return [
            str(self.path), "--mode", mode, "--output-table", "rows=t.rows", "--output-table", "days=t.days",
            "--parallelism", str(workers), "--checkpoint-interval", interval, "--log-format", "json", *more,
        ]  # fmt: skip

    def start(self, *words: Any, env: dict[str, str] | None = None) -> Process:
        process = Process(self.words(*words), self.place.parent, env)
        self.started.append(process)
        return process

    def end(self) -> None:
        """Kills what still runs."""
        for process in self.started:
            if process.returncode is None:
                process.kill()
                process.wait()

    def ends(self) -> Position:
        return {row["partition"]: row["head"] for row in kappa.Log().describe("payments").to_dicts()}

    def until_at_end(self, process: Process, ends: Position | None = None) -> None:
        """Waits until a live process has committed all that was given, or all up to `ends`."""
        upto = ends or self.ends()

        def there() -> bool:
            assert process.poll() is None, process.said()[-4000:]
            position = newest(self.place, "t.rows")
            return position is not None and all(position.position[part] >= end for part, end in upto.items())

        wait_for(there, "the job to come to the end of the log", WITHIN)

    def check(self, what: str = "") -> Position | None:
        """**The prefix property**: every table is what DuckDB computes up to the position that its newest snapshot says, tables
        of one job move together, and checkpoints are in their order. The position, none before the first commit."""
        before = newest(self.place, "t.rows")
        if before is None:
            return None
        for name in QUERIES:
            found = newest(self.place, name)
            assert found is not None
            assert found[:2] + found[3:] == before[:2] + before[3:], f"{what}: {name} is at {found}, t.rows at {before}"
            in_order(history(self.place, name))
        wrong = self.log.compare(before.position)
        assert not any(wrong.values()), f"{what}: by table, rows lost and doubled: {wrong} at {before.position}"
        return before.position

    def check_end(self, what: str = "") -> None:
        assert self.check(what) == self.ends(), f"{what}: not at the end of the log"

    def sweep(self) -> None:
        """What a next process does whose start is more than the day of grace after all that lies here: then nothing is left that
        nothing names."""
        clock = self.place / "two-days-ahead"
        clock.write_text(str(2 * DAY_MS))
        process = self.start("live", 2, "20ms", env={"KAPPA_CLOCK_OFFSET": str(clock)})
        end = time.monotonic() + WITHIN
        found: set[str] = {"?"}
        while found and time.monotonic() < end:
            self.give(10)
            self.until_at_end(process)
            found = orphans(self.place)
        assert not found, f"orphans: {sorted(found)}"
        process.drained()
        self.check_end("swept")
        left = orphans(self.place)
        assert not left, f"orphans after the end: {sorted(left)}"


class Logged:
    """The records of the log, with their places, as far as it was read, and what the tables should hold."""

    def __init__(self) -> None:
        self.records: pyarrow.Table = ARROW.empty_table()
        self.ends: Position = {}

    def read(self) -> None:
        """Reads what came since."""
        heads = {row["partition"]: row["head"] for row in kappa.Log().describe("payments").to_dicts()}
        start = ",".join(f"{part}:{self.ends.get(part, 0)}" for part in heads)
        until = ",".join(f"{part}:{head}" for part, head in heads.items())
        records = kappa.Log().scan("payments", from_=start, until=until)
        new = [{**record.json(), "part": record.partition, "off": record.offset} for record in records]
        self.records = pyarrow.concat_tables([self.records, pyarrow.Table.from_pylist(new, schema=ARROW)])
        self.ends = heads

    def compare(self, position: Position) -> dict[str, int]:
        """By table and kind, rows that a table lacks at a position, and rows that it has too many."""
        if any(self.ends.get(part, 0) < end for part, end in position.items()):
            self.read()
        assert all(self.ends[part] >= end for part, end in position.items()), f"{position} is behind the log's end {self.ends}"
        wrong = {}
        with duckdb.connect() as db:
            db.register("logged", self.records)
            db.execute(
                "create temp table position as select unnest($1) as part, unnest($2) as upto",
                [list(position), list(position.values())],
            )
            db.execute("create temp view records as select logged.* from logged join position using (part) where off < upto")
            for name, query in QUERIES.items():
                db.register("found", pyarrow.table(kappa.read(name)))
                count = "select count(*) from (({}) except all ({}))"
                for kind, pair in (("lost", (query, "from found")), ("doubled", ("from found", query))):
                    wrong[f"{name} {kind}"] = db.execute(count.format(*pair)).fetchall()[0][0]
        return wrong


def tables(place: Path) -> dict[str, Path]:
    """By name, where the catalog says that a table's metadata is."""
    file = place / "catalog.db"
    if not file.exists():
        return {}
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as db:
        try:
            rows = db.execute("select table_namespace || '.' || table_name, metadata_location from iceberg_tables").fetchall()
        except sqlite3.OperationalError:  # it is being made
            return {}
    return {name: Path(location.removeprefix("file://")) for name, location in rows}


def document(location: Path) -> dict[str, Any]:
    """A metadata file, packed or not."""
    content = location.read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(content) if location.name.endswith(".gz.metadata.json") else content)
    return found


def metadata(place: Path, table: str) -> dict[str, Any] | None:
    while True:
        location = tables(place).get(table)
        if location is None:
            return None
        try:
            return document(location)
        except FileNotFoundError:  # the table went on, and this one is no longer kept
            continue


def history(place: Path, table: str) -> list[Snapshot]:
    """The snapshots that main descends from, the oldest first."""
    newest = metadata(place, table) or {}
    by_id = {each["snapshot-id"]: each for each in newest.get("snapshots", [])}
    found, at = [], newest.get("current-snapshot-id")
    while at in by_id:
        snapshot = by_id[at]
        summary = snapshot["summary"]
        offsets = json.loads(summary["kappa.offsets"])["payments"]
        position = {int(part): offset for part, offset in offsets.items()}
        is_compaction = summary.get("kappa.compaction") == "true"
        found.append(Snapshot(int(summary["kappa.checkpoint"]), int(summary["kappa.owner"]), is_compaction, position))
        at = snapshot.get("parent-snapshot-id")
    return found[::-1]


def newest(place: Path, table: str) -> Snapshot | None:
    snapshots = history(place, table)
    return snapshots[-1] if snapshots else None


def in_order(snapshots: Iterable[Snapshot]) -> None:
    """Each checkpoint once, in order; once an owner has committed none before it does; positions only grow."""
    last: Snapshot | None = None
    for snapshot in snapshots:
        if last is not None:
            assert snapshot.owner >= last.owner, f"{snapshot} after {last}"
            assert snapshot.checkpoint > last.checkpoint or (snapshot.is_compaction and snapshot[:2] == last[:2])
            assert all(snapshot.position[part] >= offset for part, offset in last.position.items()), f"{snapshot} after {last}"
        last = snapshot


def files(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def reached(location: Path) -> set[str]:
    """All files that a table's metadata reaches."""
    log = document(location).get("metadata-log", [])
    found = {str(location)} | {entry["metadata-file"].removeprefix("file://") for entry in log}
    table = StaticTable.from_metadata(str(location))
    for snapshot in table.snapshots():
        found.add(snapshot.manifest_list.removeprefix("file://"))
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path.removeprefix("file://"))
            found |= {e.data_file.file_path.removeprefix("file://") for e in manifest.fetch_manifest_entry(table.io)}
    return found


def no_orphans(place: Path) -> None:
    """Nothing lies in the warehouse or among the checkpoints that no table and no manifest names."""
    found = orphans(place)
    assert not found, sorted(found)


def orphans(place: Path) -> set[str]:
    """What lies in the warehouse and among the checkpoints, and nothing names. What is named must be there."""
    named: set[str] = set()
    locations = tables(place)
    for location in locations.values():
        try:
            reach = reached(location)
        except FileNotFoundError:  # the table went on meanwhile
            return {f"{location} goes on"}
        named |= reach
    there = files(place / "warehouse")
    if locations == tables(place):
        missing = named - there
        assert not missing, f"named and not there: {sorted(missing)}"
    else:
        return {"the tables go on"}
    return (there - named - staged(place)) | stray_checkpoints(place)


def manifests(version: Path) -> dict[Path, dict[str, Any]]:
    """The manifests of a version: behind a header line each is JSON."""
    paths = sorted((version / "manifests").glob("*.manifest"))
    return {path: json.loads(path.read_bytes().partition(b"\n")[2]) for path in paths}


def staged(place: Path) -> set[str]:
    """Files that manifests list."""
    found: set[str] = set()
    for version in (place / "checkpoints").iterdir():
        for manifest in manifests(version).values():
            for output in manifest["outputs"]:
                listed = [*output["files"], *output.get("dead_letters", [])]
                found |= {file["path"].removeprefix("file://") for file in listed}
    return found


def stray_checkpoints(place: Path) -> set[str]:
    """What lies among the checkpoints beside the two that are kept and the one that is being made."""
    found: set[str] = set()
    versions = sorted((place / "checkpoints").iterdir())
    # One that died while it was made has nothing but its first manifest.
    for version in versions:
        listed = manifests(version)
        states = {manifest["state"] for manifest in listed.values() if "state" in manifest}
        found |= {str(path) for path in list(listed)[:-4]}
        found |= {str(path) for path in (version / "manifests").iterdir() if path not in listed and not is_being_made(path)}
        names = sorted(path for path in (version / "state").iterdir() if f"state/{path.name}" not in states)
        found |= {str(path) for path in names if not is_being_made(path)}
        found |= {str(path) for path in (version / "work").iterdir()} if len(list((version / "work").iterdir())) > 1 else set()
        found |= {str(path) for path in (version / "outbox").rglob("*") if path.is_file()}
    return found


def is_being_made(path: Path) -> bool:
    """Gone or given its name a moment later."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        if not path.exists() or any(f'"state": "state/{path.name}"' in text for text in texts(path.parent.parent)):
            return True
        time.sleep(0.02)
    return False


def texts(version: Path) -> list[str]:
    found = []
    for path in (version / "manifests").glob("*.manifest"):
        try:
            found.append(path.read_text())
        except FileNotFoundError:
            continue
    return found


def is_stopped(process: Process) -> bool:
    """By SIGSTOP."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
