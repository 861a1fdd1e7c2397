"""Faults of the file system at each kind of file: the job ends with an error that helps, nothing durable is hurt, and the same
command run again gives exactly what DuckDB computes."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import ValidationError
from pyiceberg.table import StaticTable

import kappa
import kappa.testing
from conftest import cli, command
from disk_support import SCRIPT, Disk, Operation, faulty, operations, rule
from test_end_to_end import fill, make_records, oracle, table

RECORDS = make_records(2_000, seed=7)
BAD = b'{"torn'
# Each fiftieth is no record.
PAYLOADS = [BAD if i % 50 == 49 else json.dumps(record).encode() for i, record in enumerate(RECORDS)]
WANTED = oracle([record for i, record in enumerate(RECORDS) if i % 50 != 49])

DATA, METADATA = "warehouse/t/x-*/data", "warehouse/t/x-*/metadata"
STATE, WORK = "checkpoints/*/state/*.tmp", "checkpoints/*/work/*"

# What a run writes: the kind, the operation, the files, and which of its operations fails first.
KINDS = [
    ("the running state's first table file", "create", f"{WORK}/*.sst", 1),
    ("a later table file", "write", f"{WORK}/*.sst", 6),
    ("RocksDB's manifest", "write", f"{WORK}/MANIFEST-*", 8),
    ("RocksDB's options", "write", f"{WORK}/OPTIONS-*", 1),
    ("the state's checkpoint", "mkdir", f"{STATE}", 2),
    ("a link of the checkpoint", "link", f"{STATE}/*.sst", 3),
    ("a copy of the checkpoint", "write", f"{STATE}/MANIFEST-*", 2),
    ("staged rows", "write", f"{DATA}/*[0-9a-f].parquet", 2),
    ("deleted keys", "write", f"{DATA}/*-keys.parquet", 2),
    ("dead letters", "write", "warehouse/t/x__dead_letter-*/data/*.parquet", 2),
    ("a manifest", "write", "checkpoints/*/manifests/*.tmp", 6),
    ("a manifest's link", "link", "checkpoints/*/manifests/*.manifest", 3),
    ("position deletes", "write", f"{DATA}/*-deletes.parquet", 1),
    ("a table's manifest", "write", f"{METADATA}/*-m?.avro", 2),
    ("a table's list of manifests", "write", f"{METADATA}/snap-*.avro", 2),
    ("a new table's metadata", "write", f"{METADATA}/00000-*.metadata.json", 1),
    ("a table's metadata", "write", f"{METADATA}/0000[1-9]-*.metadata.json", 1),
    ("a new catalog", "create", "catalog.db", 1),
    ("the catalog's first words", "write", "catalog.db-wal", 1),
    ("the catalog", "write", "catalog.db-wal", 30),
    ("the lock", "write", "checkpoints/*/lock", 1),
    ("a version's folder", "mkdir", "checkpoints/*/*", 1),
    ("a table's folder", "mkdir", "warehouse/t/*", 1),
]
# What is synced; a folder stands for the names in it.
SYNCS = [
    f"{WORK}/*.sst", f"{WORK}/MANIFEST-*", f"{STATE}/MANIFEST-*", "checkpoints/*/state", f"{DATA}/*.parquet", DATA, f"{METADATA}/*.avro",
    f"{METADATA}/*.json", METADATA, "checkpoints/*/manifests/*.tmp", "checkpoints/*/manifests", "catalog.db-wal",
]  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the log filled, to be copied."""
    folder = tmp_path_factory.mktemp("begun") / ".kappa"
    with kappa.testing.temporary(folder):
        fill(PAYLOADS)
    return folder


@pytest.fixture
def job(begun: Path, place: Path) -> Path:
    """The job's script beside a log that is filled."""
    shutil.copytree(begun, place)
    script = place.parent / "job.py"
    script.write_text(SCRIPT)
    return script


def attempt(
    script: Path, *more: str, mode: str = "reprocess", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [
        "--mode",
        mode,
        "--output-table",
        "t.x",
        "--parallelism",
        "2",
        "--memory",
        "64MiB",
        "--checkpoint-interval",
        "10ms",
    ]
    return command(str(script), *words, *more, env=env)


def slowly(script: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A run with several checkpoints."""
    return attempt(script, "--max-bytes-per-second", "400kB", env=env)


def struck(record: Path) -> list[str]:
    """Files that a fault has struck, the first one first."""
    return [op.path for op in operations(record) if op.op == "fault"]


def newest(place: Path) -> int:
    return max((int(path.stem) for path in place.glob("checkpoints/*/manifests/*.manifest")), default=-1)


def faults(op: str, pattern: str, nth: int) -> Iterator[tuple[str, str]]:
    """A disk that fills up there, by half a write where it is one; one that cannot be written there."""
    yield "ENOSPC", rule(op, pattern, nth, "ENOSPC", "short" if op == "write" else "all")
    yield "EIO", rule(op, pattern, nth, "EIO", "here")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "op", "pattern", "nth"), KINDS, ids=[kind for kind, *_ in KINDS])
def test_a_write_that_fails(place: Path, job: Path, tmp_path: Path, kind: str, op: str, pattern: str, nth: int) -> None:
    """On a full disk, then again on a bad one; then all is well."""
    for error, fault in faults(op, pattern, nth):
        before = newest(place)
        record = tmp_path / error
        failed = slowly(job, faulty(place, fault, record=record))
        assert struck(record), f"{kind} was not written: {failed.stderr}"
        assert failed.returncode == 5, f"{kind}, {error}: {failed.returncode} {failed.stderr}"
        assert str(place) in failed.stderr, "the error names a file"
        assert re.search("free space on|has space|has no space", failed.stderr), failed.stderr
        assert newest(place) >= before, "the checkpoint before is still there"
    again = attempt(job)
    assert again.returncode in (0, 3), again.stderr
    assert table("t.x") == WANTED
    assert len(list((place / "checkpoints").iterdir())) == 1, "a version that could not be begun leaves nothing"


@pytest.mark.slow
@pytest.mark.parametrize("pattern", SYNCS)
def test_a_sync_that_fails_once(place: Path, job: Path, tmp_path: Path, pattern: str) -> None:
    """What it should have made durable may be gone, whatever a second sync says: the process ends at once."""
    for nth in (1, 3):
        record = tmp_path / str(nth)
        failed = slowly(job, faulty(place, rule("sync", pattern, nth, "EIO", "once"), record=record))
        (path,) = struck(record)
        assert failed.returncode == 5, f"{path}: {failed.returncode} {failed.stderr}"
        assert str(place) in failed.stderr
        # Other threads have files of their own in a folder; SQLite forgets what it could not sync before it closes the catalog.
        if pattern not in (DATA, METADATA, "catalog.db-wal"):
            done = operations(record)
            fault = next(i for i, op in enumerate(done) if op.op == "fault")
            assert not [op for op in done[fault:] if op.op == "sync" and op.path == path], "it was synced again"
    assert attempt(job).returncode in (0, 3)
    assert table("t.x") == WANTED


AT_FAULT = [
    "a link of the checkpoint",
    "staged rows",
    "dead letters",
    "a manifest",
    "position deletes",
    "a table's list of manifests",
    "the catalog",
]


@pytest.mark.slow
def test_faults_leave_nothing_behind(place: Path, job: Path) -> None:
    """After many faults the next run removes what they left: there is nothing that no snapshot and no manifest names."""
    for kind, op, pattern, nth in KINDS:
        if kind not in AT_FAULT:
            continue
        assert slowly(job, faulty(place, rule(op, pattern, nth, "ENOSPC", "all"))).returncode == 5
    assert attempt(job).returncode in (0, 3)
    words = ["--mode", "live", "--output-table", "t.x", "--checkpoint-interval", "10ms", "--progress", "none"]
    with subprocess.Popen([sys.executable, str(job), *words], stderr=subprocess.PIPE) as live:
        fill(PAYLOADS[:200])  # bad ones among them: a table is cleaned once it gets something
        end = time.monotonic() + 30
        while time.monotonic() < end and not is_clean(place):
            time.sleep(0.1)
        live.send_signal(signal.SIGTERM)
        assert live.wait(30) == 0, live.stderr and live.stderr.read()
    assert not unnamed(place)
    (version,) = (place / "checkpoints").iterdir()
    left = {name: len(list((version / name).iterdir())) for name in ("manifests", "state", "work")}
    assert all(left[name] <= most for name, most in {"manifests": 3, "state": 2, "work": 1}.items()), left


def is_clean(place: Path) -> bool:
    """Of a job that runs: what goes away while this looks is no answer."""
    try:
        return not unnamed(place)
    except OSError:
        return False


def unnamed(place: Path) -> set[str]:
    """Files of the tables that no snapshot and no manifest of kappa names."""
    named = {word for path in place.glob("checkpoints/*/manifests/*.manifest") for word in path.read_text().split('"')}
    for name in ("t.x", "t.x__dead_letter"):
        table = found(place, name)
        assert table, name
        named |= {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
        for snapshot in table.metadata.snapshots:
            named.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                named.add(manifest.manifest_path)
                named |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    files = {f"file://{path}" for path in (place / "warehouse").rglob("*.*") if path.is_file()}
    return files - named


def found(place: Path, name: str) -> StaticTable | None:
    """A table where the catalog has it, if it does, read by pyiceberg."""
    url = f"file:{place}/catalog.db?mode=rw"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(url, uri=True)) as catalog:
        rows = catalog.execute(
            "SELECT metadata_location FROM iceberg_tables WHERE table_namespace || '.' || table_name = ?", [name]
        )
        for (location,) in rows:
            return StaticTable.from_metadata(location)
    return None


def content(table: StaticTable) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in table.scan().to_arrow().to_pylist())


# -- a table below 8 MB, which each commit rewrites


@pytest.fixture
def rewriting(job: Path) -> Path:
    """The same job, with tables as they are by default."""
    script = SCRIPT.replace('"rewrite_below": 0, ', "")
    assert script != SCRIPT
    job.write_text(script)
    return job


def staged(done: list[Operation]) -> set[str]:
    """The names of files that manifests list, from the record of a run."""
    manifests = b"".join(op.data for op in done if op.op == "write" and fnmatch(op.path, "checkpoints/*/manifests/*.tmp"))
    return set(re.findall(r"[0-9a-f-]{36}\.parquet", manifests.decode()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("op", "error", "how"), [("write", "ENOSPC", "short"), ("create", "EIO", "here"), ("sync", "EIO", "once")]
)
def test_a_rewritten_file_that_fails(
    place: Path, begun: Path, rewriting: Path, tmp_path: Path, op: str, error: str, how: str
) -> None:
    """The rows of the whole table are written again when they are committed: the checkpoint is durable then, and is delivered by
    the next process."""
    pattern, words = f"{DATA}/*[0-9a-f].parquet", ("--max-bytes-per-second", "100kB")
    assert attempt(rewriting, *words, env=faulty(place, record=tmp_path / "good")).returncode == 0
    done = operations(tmp_path / "good")
    hits = [Path(hit.path).name for hit in done if hit.op == op and fnmatch(hit.path, pattern)]
    # The first of each file; another run has them at about the same places.
    rewritten = [hits.index(name) + 1 for name in dict.fromkeys(hits) if name not in staged(done)]
    assert rewritten, "commits rewrite the table"
    waited = 0
    for number, nth in enumerate(rewritten[:3]):
        apart, record = tmp_path / str(number) / ".kappa", tmp_path / f"record-{number}"
        shutil.copytree(begun, apart)
        with kappa.testing.temporary(apart):
            failed = attempt(rewriting, *words, env=faulty(apart, rule(op, pattern, nth, error, how), record=record))
            if not struck(record):
                continue
            assert failed.returncode == 5, failed.stderr
            assert str(apart) in failed.stderr
            now = found(apart, "t.x")
            snapshot = now.current_snapshot() if now else None
            waited += newest(apart) > (int(snapshot.summary["kappa.checkpoint"] or 0) if snapshot else 0)
            assert attempt(rewriting).returncode in (0, 3)
            assert table("t.x") == WANTED
    assert waited, "a checkpoint was durable, and not in the table"


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", ["", f"{DATA}/*[0-9a-f].parquet"])
def test_a_power_cut_under_a_rewritten_table(place: Path, begun: Path, rewriting: Path, tmp_path: Path, forgotten: str) -> None:
    record = tmp_path / "record"
    words = ("--max-bytes-per-second", "100kB")
    assert attempt(rewriting, *words, env=faulty(place, record=record)).returncode == 0
    done = operations(record)
    if not forgotten:
        return table_is_right(begun, place, done, count=20)
    # Of those alone that a commit has written.
    names = staged(done)
    left = [op for op in done if not (op.op == "sync" and fnmatch(op.path, forgotten) and Path(op.path).name not in names)]
    assert len(left) < len(done)
    with pytest.raises((AssertionError, OSError, ValueError, EOFError, ValidationError)):
        table_is_right(begun, place, left, count=40)
    return None


# -- other file systems


@pytest.mark.slow
def test_the_running_state_on_another_file_system(place: Path, job: Path, tmp_path: Path) -> None:
    """Where files cannot be linked they are copied, in a checkpoint and when it is restored; a kill in the middle of either is
    as any other."""
    apart = rule("link", "checkpoints/*/*.sst", 1, "EXDEV", "here")
    killed = slowly(job, faulty(place, apart, rule("write", f"{STATE}/*.sst", 2, "kill", "once")))
    assert killed.returncode == -9, killed.stderr
    killed = slowly(job, faulty(place, apart, rule("link", "checkpoints/*/manifests/*.manifest", 4, "kill", "once")))
    assert killed.returncode == -9, killed.stderr
    for _ in range(2):
        killed = attempt(job, env=faulty(place, apart, rule("write", f"{WORK}/*.sst", 1, "kill", "once")))
        assert killed.returncode == -9, killed.stderr
    record = tmp_path / "record"
    assert attempt(job, env=faulty(place, apart, record=record)).returncode == 0
    assert len([op for op in operations(record) if op.op.startswith("fault")]) > 1
    assert table("t.x") == WANTED


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])
def test_checkpoints_where_there_are_no_links(place: Path, job: Path, error: str) -> None:
    refused = attempt(job, env=faulty(place, rule("link", "*", 1, error, "here")))
    assert refused.returncode == 2
    assert re.search("makes no hard links.*\n.*setting checkpoints", refused.stderr), refused.stderr
    assert not list((place / "checkpoints").iterdir())


# -- the log

LINES = [json.dumps(record) for record in RECORDS] * 2
LOG = "log/lines/0"
LOG_FAULTS = [
    ("write", f"{LOG}/*.log", 1), ("write", f"{LOG}/*.log", 2), ("write", f"{LOG}/*.index", 1), ("write", f"{LOG}/*.timeindex", 1),
    ("write", f"{LOG}/extent", 1), ("sync", f"{LOG}/*.log", 1), ("sync", f"{LOG}/extent", 1),
]  # fmt: skip
TOPIC_FAULTS = [
    ("mkdir", "log/*", 1), ("mkdir", "log/*/0", 1), ("create", "log/*/0/*.log", 1), ("write", "log/*/0/extent", 1), ("sync", "log/*/0/extent", 1),
    ("write", "log/*/leader-epoch-checkpoint.unfinished", 1), ("write", "log/*/topic.unfinished", 1), ("rename", "log/lines", 1), ("sync", "log", 1),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("op", "pattern", "nth"), LOG_FAULTS, ids=str)
def test_an_append_that_fails(place: Path, tmp_path: Path, op: str, pattern: str, nth: int) -> None:
    log = kappa.Log()
    log.create("lines", partitions=1)
    for error, how in (("ENOSPC", "short"), ("EIO", "once")):
        record = tmp_path / error
        failed = cli(
            "log",
            "append",
            "lines",
            input_="\n".join(LINES),
            env=faulty(place, rule(op, pattern, nth, error, how), record=record),
        )
        (struck_first, *_) = struck(record)
        assert failed.returncode == 5, failed.stderr
        assert struck_first in failed.stderr
        assert re.search("free space|has no space", failed.stderr), failed.stderr
        seen = [record.value for record in log.scan("lines")]
        assert seen == [line.encode() for line in LINES[: len(seen)]], "readers see whole records, in order"
        log.append("lines", [b"last"])
        kept = [record.value for record in log.scan("lines")]
        assert kept == [line.encode() for line in LINES[: len(kept) - 1]] + [b"last"]
        assert len(kept) > len(seen)
        shutil.rmtree(place / "log")
        log.create("lines", partitions=1)


@pytest.mark.slow
@pytest.mark.parametrize(("op", "pattern", "nth"), TOPIC_FAULTS, ids=str)
def test_a_topic_that_cannot_be_made(place: Path, tmp_path: Path, op: str, pattern: str, nth: int) -> None:
    failed = cli(
        "log",
        "create",
        "lines",
        "--partitions",
        "1",
        env=faulty(place, rule(op, pattern, nth, "EIO", "here"), record=tmp_path / "record"),
    )
    assert struck(tmp_path / "record")
    assert failed.returncode == 5, failed.stderr
    again = cli("log", "create", "lines", "--partitions", "1")
    assert again.returncode == 0 or "exists already" in again.stderr, again.stderr
    kappa.Log().append("lines", [b"1"])
    assert [record.value for record in kappa.Log().scan("lines")] == [b"1"]


# -- a power cut

CUTS = ("lost", "renamed", "mixed")
APPENDS = """
import kappa, pathlib, sys
place, log = pathlib.Path(sys.argv[1]), kappa.Log()
log.create("lines", partitions=1)
(place / "made").touch()
for part in range(4):
    log.append("lines", [f"{part}-{i}" for i in range(50)])
    (place / f"appended-{part}").touch()
"""
APPENDED = [f"{part}-{i}".encode() for part in range(4) for i in range(50)]


@pytest.fixture(scope="module")
def appended(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    """What appends to a new log do to its files. The touched files note what was acknowledged."""
    place = tmp_path_factory.mktemp("appended") / ".kappa"
    place.mkdir()
    record = place.parent / "record"
    with kappa.testing.temporary(place):
        done = command("-c", APPENDS, str(place), env=faulty(place, record=record))
    assert done.returncode == 0, done.stderr
    return operations(record)


@pytest.mark.slow
def test_a_power_cut_under_the_log(appended: list[Operation], tmp_path: Path) -> None:
    log_survives(appended, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", ["", "log", "log/lines/0/*.log", "log/lines/0/extent"])
def test_a_sync_of_the_log_that_is_left_out_is_found(appended: list[Operation], tmp_path: Path, forgotten: str) -> None:
    with pytest.raises((AssertionError, kappa.exceptions.KappaError)):
        log_survives(without_syncs(appended, forgotten), tmp_path)


def without_syncs(done: list[Operation], pattern: str) -> list[Operation]:
    """The record of a process that would not sync these files."""
    left = [op for op in done if op.op != "sync" or not fnmatch(op.path, pattern)]
    assert len(left) < len(done)
    return left


def log_survives(done: list[Operation], tmp_path: Path) -> None:
    """At every operation: what was acknowledged is there, nothing is torn, and the next append goes on from there."""
    cut, empty = tmp_path / "cut", tmp_path / "empty"
    empty.mkdir()
    disk, log, is_made, acknowledged = Disk(empty), kappa.Log(config={"log.url": f"file://{cut}/log"}), False, 0
    for number, op in enumerate(done):
        for how in CUTS:
            moment = f"{how} before {number}: {op.op} {op.path}"
            disk.lay_out(cut, how, random.Random(number))
            try:
                seen = [record.value for record in log.scan("lines")]
            except kappa.exceptions.ConfigError:
                assert not is_made, f"{moment}: the topic is gone"
                log.create("lines", partitions=1)
                seen = []
            assert seen == APPENDED[: max(len(seen), acknowledged)], moment
            log.append("lines", [b"last"])
            kept = [record.value for record in log.scan("lines")]
            assert kept == [*APPENDED[: max(len(kept) - 1, len(seen))], b"last"], moment
        disk.apply(op)
        is_made = is_made or op.path == "made"
        acknowledged += 50 * op.path.startswith("appended-")
    assert acknowledged == len(APPENDED)


@pytest.fixture(scope="module")
def recorded(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Operation]]:
    """A place where a job has run, and what it did there."""
    place = tmp_path_factory.mktemp("recorded") / ".kappa"
    shutil.copytree(begun, place)
    (place.parent / "job.py").write_text(SCRIPT)
    record = place.parent / "record"
    with kappa.testing.temporary(place):
        done = slowly(place.parent / "job.py", faulty(place, record=record))
    assert done.returncode == 0, done.stderr
    return place, operations(record)


@dataclass
class Cut:
    """A moment of the record, and the disk as it was."""

    number: int
    next: Operation
    disk: Disk

    def __str__(self) -> str:
        return f"before {self.number}: {self.next.op} {self.next.other or self.next.path}"


def cuts(begun: Path, done: list[Operation], count: int, seed: int) -> Iterator[Cut]:
    """So many moments, most of them before something that decides: a sync, a rename, a link, the end of a file."""
    decisive = [i for i, op in enumerate(done) if op.op in ("sync", "rename", "link", "unlink") and "/work/" not in op.path]
    chance = random.Random(seed)
    chosen = {
        *chance.sample(decisive, min(len(decisive), count * 3 // 4)),
        *chance.sample(range(len(done)), min(len(done), count // 4)),
    }
    disk = Disk(begun)
    for number, op in enumerate(done):
        if number in chosen:
            yield Cut(number, op, disk)
        disk.apply(op)


@pytest.mark.slow
def test_what_a_table_shows_after_a_power_cut(begun: Path, recorded: tuple[Path, list[Operation]]) -> None:
    table_is_right(begun, *recorded, count=40)


@pytest.mark.slow
@pytest.mark.parametrize(
    "forgotten", ["catalog.db-wal", f"{DATA}/*.parquet", DATA, f"{METADATA}/*.avro", f"{METADATA}/*.json", METADATA]
)
def test_a_sync_of_a_table_that_is_left_out_is_found(
    begun: Path, recorded: tuple[Path, list[Operation]], forgotten: str
) -> None:
    place, done = recorded
    with pytest.raises((AssertionError, OSError, ValueError, EOFError, ValidationError)):
        table_is_right(begun, place, without_syncs(done, forgotten), count=120)


def table_is_right(begun: Path, place: Path, done: list[Operation], count: int) -> None:
    """At each cut: the rows of the batch computation at the offsets that the snapshot names, and no commit is gone that was durable
    at an earlier cut, or confirmed: its manifest goes only then."""
    with kappa.testing.temporary(begun):
        payloads = [(record.partition, record.offset, record.value) for record in kappa.Log().scan("payments")]
    last, wanted, seen = -1, {}, set()
    for cut in cuts(begun, done, count, seed=1):
        gone = [op.path for op in done[: cut.number] if op.op == "unlink" and fnmatch(op.path, "checkpoints/*/*.manifest")]
        confirmed = max((int(Path(path).stem) for path in gone), default=0)
        for how in CUTS:
            cut.disk.lay_out(place, how, random.Random(cut.number), only="[cw]a*")  # the catalog and the warehouse
            table = found(place, "t.x")
            snapshot = table.current_snapshot() if table else None
            checkpoint = int(snapshot.summary["kappa.checkpoint"]) if snapshot else 0 if table else -1
            assert checkpoint >= last, f"{how} {cut}: a commit is gone"
            assert not confirmed or checkpoint >= confirmed, f"{how} {cut}: commit {confirmed} was confirmed, and is gone"
            last = checkpoint if how == "lost" else last
            files = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(place.glob("warehouse/t/x-*/*/*")))).digest()
            if table and snapshot and (checkpoint, files) not in seen:
                seen.add((checkpoint, files))
                offsets = snapshot.summary["kappa.offsets"]
                wanted[offsets] = wanted.get(offsets) or oracle(below(payloads, json.loads(offsets)))
                assert content(table) == wanted[offsets], f"{how} {cut}: checkpoint {checkpoint}"
    assert last >= 3


def below(payloads: list[tuple[int, int, bytes]], offsets: dict[str, dict[str, int]]) -> list[Any]:
    """The good records before the offsets."""
    ends = offsets["payments"]
    return [json.loads(value) for partition, offset, value in payloads if offset < ends[str(partition)] and value != BAD]


@pytest.mark.slow
def test_a_run_after_a_power_cut(begun: Path, recorded: tuple[Path, list[Operation]]) -> None:
    place, done = recorded
    with kappa.testing.temporary(place):
        for number, cut in enumerate(cuts(begun, done, 16, seed=2)):
            how = CUTS[number % 3]
            cut.disk.lay_out(place, how, random.Random(cut.number))
            again = attempt(place.parent / "job.py")
            assert again.returncode in (0, 3), f"{how} {cut}: {again.stderr}"
            table = found(place, "t.x")
            assert table, f"{how} {cut}"
            assert content(table) == WANTED, f"{how} {cut}"
