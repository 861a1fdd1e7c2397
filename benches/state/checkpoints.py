"""What a checkpoint of a live job costs, against the size of its state and against what changed, and how long it takes to
recover: a table of so many groups, of which some change each second.

python benches/state/checkpoints.py --keys 1000000 10000000 --changed 10000 100000
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import kappa
from bench import HERE, ODD, PLACE, SPAN_MS, START_MS, append

STEP_SECONDS = 0.1
"""How often records are appended."""


@dataclass
class Live:
    """A job in live mode, and what it tells."""

    process: subprocess.Popen[str]
    started: float
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    caught_up: threading.Event = field(default_factory=threading.Event)
    first_change: float | None = None
    """Seconds until the first checkpoint that changed rows was committed."""

    def follow(self) -> None:
        """Reads events until the process ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") == "caught_up":
                self.caught_up.set()
            if event.get("event") == "checkpoint" and event["rows_changed"] > 0:
                self.checkpoints.append(event)
                self.first_change = self.first_change or time.monotonic() - self.started
        self.caught_up.set()


@dataclass
class Cost:
    """A row of the table."""

    keys: int
    changed: int
    checkpoints: int
    rows_changed: float
    stall_p99_ms: float
    stall_max_ms: float
    cost_p50_ms: float
    cost_p99_ms: float
    state_mib: float
    recovery_s: float

    def row(self) -> str:
        """A line of the table."""
        cells = [f"{self.keys:,}", f"{self.changed:,}", f"{self.rows_changed:,.0f}", f"{self.checkpoints}"]
        cells += [f"{self.stall_p99_ms:.1f} ms", f"{self.stall_max_ms:.1f} ms", f"{self.cost_p50_ms:.0f} ms"]
        cells += [f"{self.cost_p99_ms:.0f} ms", f"{self.state_mib:.0f} MiB", f"{self.recovery_s:.1f} s"]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| keys | changes a second | rows a checkpoint | checkpoints | stall p99 | stall max | barrier to catalog p50 | p99 "
    "| state on disk | recovery to the first new row |\n|---|---|---|---|---|---|---|---|---|---|"
)


def start(place: Path, memory: str) -> Live:
    """Starts the job, or goes on with it."""
    words = [sys.executable, str(HERE / "jobs.py"), "groups", "--mode", "live", "--output-table", "b.t", "--memory", memory]
    words += ["--log-format", "json", "--progress", "lines", "--checkpoint-interval", "1s"]
    live = Live(subprocess.Popen(words, cwd=place, stderr=subprocess.PIPE, text=True), time.monotonic())
    threading.Thread(target=live.follow, daemon=True).start()
    return live


def change(place: Path, keys: int, changed: int, done: Callable[[], bool]) -> None:
    """Appends visits of other users at each step, `changed` a second, until it is `done`."""
    log = kappa.Log(str(place / ".kappa" / "log"))
    number, step, next_time = 0, max(1, int(changed * STEP_SECONDS)), time.monotonic()
    while not done():
        users = range(number, number + step)
        log.append("visits", [{"user": f"user_{i * ODD % keys:012d}", "at": START_MS + SPAN_MS + i} for i in users])
        number += step
        next_time += STEP_SECONDS
        time.sleep(max(0.0, next_time - time.monotonic()))


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of the others do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(place: Path, keys: int, changed: int, checkpoints: int, warm: int, memory: str) -> Cost:
    """Runs the job until there were so many checkpoints with changes, then kills it and recovers."""
    live = start(place, memory)
    live.caught_up.wait()
    first = len(live.checkpoints)
    change(place, keys, changed, lambda: len(live.checkpoints) >= first + warm + checkpoints or live.process.poll() is not None)
    taken = live.checkpoints[first + warm :]
    if not taken:
        raise SystemExit(f"the job ended with status {live.process.poll()}")
    live.process.send_signal(signal.SIGKILL)
    live.process.wait()
    again = start(place, memory)
    change(place, keys, changed, lambda: again.first_change is not None or again.process.poll() is not None)
    again.process.send_signal(signal.SIGINT)
    again.process.wait()
    stalls, costs = [event["stall_ms"] for event in taken], [event["duration_ms"] for event in taken]
    return Cost(
        keys=keys,
        changed=changed,
        checkpoints=len(taken),
        rows_changed=sum(event["rows_changed"] for event in taken) / len(taken),
        stall_p99_ms=percentile(stalls, 0.99),
        stall_max_ms=max(stalls),
        cost_p50_ms=percentile(costs, 0.5),
        cost_p99_ms=percentile(costs, 0.99),
        state_mib=taken[-1]["state_bytes"] / 2**20,
        recovery_s=again.first_change or float("nan"),
    )


def main() -> int:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--changed", type=int, nargs="+", default=[10_000, 100_000], help="changes a second")
    parser.add_argument("--checkpoints", type=int, default=60, help="that are measured")
    parser.add_argument("--warm", type=int, default=10, help="that come before")
    parser.add_argument("--memory", default="1GiB")
    args = parser.parse_args()
    costs = []
    for keys in args.keys:
        place = PLACE / f"live-{keys}"
        append(place, keys, rounds=1)
        for changed in args.changed:
            costs.append(measure(place, keys, changed, args.checkpoints, args.warm, args.memory))
            print(HEAD + "\n" + costs[-1].row(), file=sys.stderr)
        shutil.rmtree(place)
    table = "\n".join([HEAD, *(cost.row() for cost in costs)]) + "\n"
    (PLACE / "checkpoints.md").write_text(table)
    (PLACE / "checkpoints.json").write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    print(table)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
