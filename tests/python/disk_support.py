"""Faults of the file system: a library that stands before the files (tests/faults/files.c), what it has recorded, and the folder
as a power cut leaves it."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "faults" / "files.c"

# Small batches, so that a short run has several checkpoints; position deletes; what a crash left is removed at once.
SCRIPT = """
import kappa
import kappa.run
from kappa import col

SMALL = {"batch_records": 200, "tables": {"rewrite_below": 0, "orphan_grace": {"secs": 0, "nanos": 0}}}
whole = kappa.run.engine_options
kappa.run.engine_options = lambda *args, **more: {**whole(*args, **more), **SMALL}

job = kappa.Job("distinct-merchants")
payments = job.read(
    "payments",
    schema={"status": kappa.String, "amount": kappa.Int64, "merchant_id": kappa.String, "event_time": kappa.Timestamp("ms")},
    event_time="event_time",
    max_out_of_orderness="30s",
    on_bad_record="dead_letter",
)
daily = (
    payments.filter((col("status") == "captured") & (col("amount") > 0))
    .group_by(day=col("event_time").dt.date(time_zone="Asia/Kolkata"))
    .agg(merchants=col("merchant_id").count_distinct(), total=col("amount").sum(), payments=kappa.len())
)
job.write(daily)

if __name__ == "__main__":
    job.main()
"""


@cache
def library() -> Path:
    """The library, built once for each content of its source."""
    text = SOURCE.read_bytes()
    built = Path(tempfile.gettempdir()) / f"kappa-faults-{os.getuid()}-{hashlib.sha256(text).hexdigest()[:16]}.so"
    if not built.exists():
        half = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", half, SOURCE], check=True
        )
        half.rename(built)
    return built


def faulty(root: Path, *rules: str, record: Path | None = None) -> dict[str, str]:
    """The variables for a process whose files below `root` fail by rules, or are recorded (the form of both: files.c)."""
    env = {"LD_PRELOAD": str(library()), "FAULT_ROOT": str(root.resolve()), "FAULT_RULES": " ".join(rules)}
    return {name: value for name, value in {**env, "FAULT_RECORD": str(record or "")}.items() if value}


def rule(op: str, pattern: str, nth: int, error: str, how: str) -> str:
    """A rule of files.c; `error` is a name of errno, or `kill`."""
    number = 0 if error == "kill" else getattr(errno, error)
    return f"{op}:{pattern}:{nth}:{number}:{how}"


@dataclass
class Operation:
    """One line of a record."""

    op: str
    inode: int
    path: str
    other: str
    offset: int
    data: bytes


def operations(record: Path) -> list[Operation]:
    """What a process did below its root, in order."""
    text, at, found = record.read_bytes(), 0, []
    while at < len(text):
        end = text.index(b"\n", at)
        op, inode, path, other, offset, length = text[at:end].decode().split("\t")
        at = end + 1 + (int(length) if op == "write" else 0)
        found.append(Operation(op, int(inode), path, other, int(offset), text[end + 1 : at]))
    return found


@dataclass(eq=False)
class File:
    """A file: as it is, and as the disk has it. Writes since the last sync are kept, so that some of them may be there."""

    now: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    unsynced: list[Callable[[bytearray], None]] = field(default_factory=list)

    def change(self, change: Callable[[bytearray], None]) -> None:
        change(self.now)
        self.unsynced.append(change)

    def sync(self) -> None:
        self.durable = bytes(self.now)
        self.unsynced.clear()


@dataclass(eq=False)
class Folder:
    """A folder: its names as they are, and as the disk has them."""

    now: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)

    def sync(self) -> None:
        self.durable = dict(self.now)


class Disk:
    """A folder whose life is replayed from a record, and which can be laid out as a power cut would leave it.

    Nothing is durable but what was synced: content by a sync of the file, a name (made, moved or removed) by one of its folder.
    """

    def __init__(self, start: Path) -> None:
        self.root = _read(start)

    def apply(self, op: Operation) -> None:
        """One operation more."""
        match op.op:
            case "create":
                self._folder(op.path).now[_name(op.path)] = File()
            case "mkdir":
                self._folder(op.path).now[_name(op.path)] = Folder()
            case "unlink" | "rmdir":
                self._folder(op.path).now.pop(_name(op.path))
            case "rename":
                self._folder(op.other).now[_name(op.other)] = self._folder(op.path).now.pop(_name(op.path))
            case "link":
                self._folder(op.other).now[_name(op.other)] = self._folder(op.path).now[_name(op.path)]
            case "sync":
                self._find(op.path).sync()
            case "write" | "truncate" | "allocate":
                found = self._find(op.path)
                assert isinstance(found, File), op
                found.change(_change(op))

    def lay_out(self, to: Path, cut: str, chance: random.Random, only: str = "*") -> None:
        """Writes the folder, or what of it has such a name, as a power cut leaves it. `lost`: nothing is there that was not
        synced. `renamed`: all names are, without the content that was not synced. `mixed`: all names, and of each file any of
        its writes."""
        shutil.rmtree(to, ignore_errors=True)
        _write(self.root, to, cut, chance, only)

    def _folder(self, path: str) -> Folder:
        found = self._find(path.rpartition("/")[0])
        assert isinstance(found, Folder), path
        return found

    def _find(self, path: str) -> File | Folder:
        at: File | Folder = self.root
        for part in filter(None, path.split("/")):
            assert isinstance(at, Folder), path
            at = at.now[part]
        return at


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _change(op: Operation) -> Callable[[bytearray], None]:
    def write(content: bytearray) -> None:
        content.extend(bytes(max(0, op.offset - len(content))))
        content[op.offset : op.offset + len(op.data)] = op.data

    def resize(content: bytearray) -> None:
        del content[op.offset :]
        content.extend(bytes(op.offset - len(content)))

    return write if op.op == "write" else resize


def _read(path: Path) -> Folder:
    folder = Folder()
    for entry in path.iterdir():
        made: File | Folder = _read(entry) if entry.is_dir() else File(bytearray(entry.read_bytes()))
        made.sync()
        folder.now[entry.name] = made
    folder.sync()
    return folder


def _write(folder: Folder, to: Path, cut: str, chance: random.Random, only: str = "*") -> None:
    to.mkdir()
    for name, entry in (folder.durable if cut == "lost" else folder.now).items():
        if not fnmatch(name, only):
            continue
        if isinstance(entry, Folder):
            _write(entry, to / name, cut, chance)
            continue
        content = bytearray(entry.durable)
        for change in entry.unsynced:
            if cut == "mixed" and chance.random() < 0.5:
                change(content)
        (to / name).write_bytes(content)
