"""Faults of the file system: a library that stands before the files (tests/faults/files.c), what it has recorded, and the folder
as a power cut leaves it."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "faults" / "files.c"

# Small batches, so that a short run has several checkpoints, and position deletes.
SCRIPT = """
import kappa
import kappa.run
from kappa import col

whole = kappa.run.engine_options
kappa.run.engine_options = lambda *args, **more: {**whole(*args, **more), "batch_records": 200, "tables": {"rewrite_below": 0}}

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
        subprocess.run(["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", half, SOURCE], check=True)
        half.rename(built)
    return built


def faulty(root: Path, rule: str = "", record: Path | None = None) -> dict[str, str]:
    """The variables for a process whose files below `root` fail by `rule`, or are recorded (the form of both: files.c)."""
    env = {"LD_PRELOAD": str(library()), "FAULT_ROOT": str(root.resolve())}
    return {**env, **({"FAULT_RULE": rule} if rule else {}), **({"FAULT_RECORD": str(record)} if record else {})}


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
