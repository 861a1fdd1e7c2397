"""State that is larger than its budget, beside the same job with memory to spare: rate, memory, disk.

python benches/state/bench.py --keys 10000000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / ".kappa-bench" / "state"
KAPPA = [sys.executable, "-m", "kappa"]
BUDGETS = ("256MiB", "8GiB")
START_MS = 1_772_323_200_000
SPAN_MS = 7 * 86_400_000
CHUNK = 100_000
ODD = 2_654_435_761
"""Knuth's multiplier: i * ODD modulo a number that it shares no factor with meets each value once, in no order."""


@dataclass
class Ran:
    """One run of a job."""

    what: str
    budget: str
    keys: int
    events: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    disk_mib: float
    slowest_stall_ms: float

    def row(self, spare: Ran | None) -> str:
        """A line of the table; `spare` is the run with memory to spare."""
        ratio = "" if spare is None else f"{spare.seconds / self.seconds:.2f}"
        rate = self.events / self.seconds / 1e6
        cells = [self.what, f"{self.keys:,}", self.budget, f"{self.seconds:.1f} s", f"{rate:.2f} M/s", ratio]
        cells += [f"{self.cpu_seconds:.0f} s", f"{self.peak_mib:.0f} MiB", f"{self.disk_mib:.0f} MiB"]
        return f"| {' | '.join(cells)} | {self.slowest_stall_ms:.0f} ms |"


HEAD = (
    "| job | keys | --memory | wall | events/s | of that with memory to spare | CPU | peak of the process | state on disk "
    "| slowest stall |\n|---|---|---|---|---|---|---|---|---|---|"
)


def visits(keys: int, rounds: int) -> Iterator[str]:
    """So many visits of each user, in no order, those of a round in the same as those of the first."""
    events = rounds * keys
    for first in range(0, events, CHUNK):
        rows = range(first, min(first + CHUNK, events))
        yield "".join([f'{{"user":"user_{i * ODD % keys:012d}","at":{START_MS + i * SPAN_MS // events}}}\n' for i in rows])


def fill(keys: int) -> Path:
    """A folder with the log of so many users, made if it is not there."""
    place = PLACE / str(keys)
    if not (place / "whole").exists():
        append(place, keys, rounds=2)
        (place / "whole").touch()
    return place


def append(place: Path, keys: int, rounds: int) -> None:
    """Makes a folder anew, with the log of so many users."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    print(f"{rounds * keys:,} visits of {keys:,} users", file=sys.stderr)
    subprocess.run([*KAPPA, "log", "create", "visits", "--partitions", "4"], cwd=place, check=True)
    with subprocess.Popen([*KAPPA, "log", "append", "visits", "-"], cwd=place, stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        for text in visits(keys, rounds):
            child.stdin.write(text)
        child.stdin.close()
    if child.returncode != 0:
        raise SystemExit(f"kappa log append failed with status {child.returncode}")


def run(what: str, keys: int, budget: str) -> Ran:
    """Runs a job over the log and asks the kernel what it took."""
    place = fill(keys)
    for name in ("catalog.db", "warehouse", "checkpoints"):
        path = place / ".kappa" / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    print(f"{what}, {keys:,} keys, --memory {budget}", file=sys.stderr)
    words = [sys.executable, str(HERE / "jobs.py"), what, "--mode", "reprocess", "--output-table", "b.t", "--memory", budget]
    events = place / "events.jsonl"
    started = time.monotonic()
    with events.open("w") as out:
        child = subprocess.Popen([*words, "--log-format", "json", "--progress", "lines"], cwd=place, stderr=out)
        _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - started
    lines = events.read_text().splitlines()
    if status != 0:
        raise SystemExit(f"{what} failed with status {os.waitstatus_to_exitcode(status)}: {lines[-1:]}")
    taken = [event for event in map(json.loads, lines) if event.get("event") == "checkpoint"]
    disk = max(event["state_bytes"] for event in taken) / 2**20
    stall = max(event["stall_ms"] for event in taken)
    cpu = usage.ru_utime + usage.ru_stime
    ran = Ran(what, budget, keys, 2 * keys, seconds, cpu, usage.ru_maxrss / 1024, disk, stall)
    print(HEAD.splitlines()[0] + "\n" + ran.row(None), file=sys.stderr)
    return ran


def main() -> int:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000_000], help="distinct values or groups (10000000)")
    parser.add_argument("--jobs", nargs="+", default=["distinct", "groups"], choices=["distinct", "groups"])
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS), help="the last is the one with memory to spare")
    args = parser.parse_args()
    rows, results = [HEAD], []
    for keys in args.keys:
        for what in args.jobs:
            ran = [run(what, keys, budget) for budget in reversed(args.budgets)]
            rows += [each.row(ran[0] if each is not ran[0] else None) for each in reversed(ran)]
            results += map(asdict, ran)
    table = "\n".join(rows) + "\n"
    (PLACE / "results.md").write_text(table)
    (PLACE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
