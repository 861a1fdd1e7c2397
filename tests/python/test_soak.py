"""The embedded log under kills by the thousand, and a live job under random faults. `make soak` runs these; `make test` does not.

`KAPPA_SOAK_KILLS` (1000) and `KAPPA_SOAK_SECONDS` (600; an hour is 3600) say how long, `KAPPA_SOAK_SEED` (1) which. What came of
it is printed, and written to `.kappa-bench/soak`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fault_support import DAY_MS, Faults, Process, files, history, in_order, newest, orphans

pytestmark = pytest.mark.soak
KILLS = int(os.environ.get("KAPPA_SOAK_KILLS", "1000"))
SECONDS = float(os.environ.get("KAPPA_SOAK_SECONDS", "600"))
SEED = int(os.environ.get("KAPPA_SOAK_SEED", "1"))
POINTS = [
    "K1", "K2", "K3", "K5", "K6", "K7", "K8", "K9", "K10", "K15", "K16", "K17", "K18", "K19", "K20", "K21", "C1", "C2", "C3", "C4",
]  # fmt: skip
REPORTS = Path(__file__).parents[2] / ".kappa-bench" / "soak"


@dataclass
class Tally:
    """What became of one kind of fault."""

    runs: int = 0
    lost: int = 0
    doubled: int = 0
    slowest: float = 0.0


@dataclass
class Account:
    """What became of all of them, and how much there was at which time."""

    faults: Faults
    began: float = field(default_factory=time.monotonic)
    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    samples: list[tuple[float, float, float]] = field(default_factory=list)  # hours, MiB, files

    def note(self, kind: str, recovery: float = 0.0) -> None:
        """After a fault: what the tables have, beside what they should."""
        tally = self.tallies[kind]
        tally.runs += 1
        tally.slowest = max(tally.slowest, recovery)
        at = newest(self.faults.place, "t.rows")
        if at is not None:
            in_order(history(self.faults.place, "t.rows"))
            wrong = self.faults.log.compare(at.position)
            tally.lost += sum(count for what, count in wrong.items() if what.endswith("lost"))
            tally.doubled += sum(count for what, count in wrong.items() if what.endswith("doubled"))

    def sample(self, process: Process) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, StopIteration):
            status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024
            count = sum(len(files(self.faults.place / name)) for name in ("warehouse", "checkpoints"))
            self.samples.append(((time.monotonic() - self.began) / 3600, resident, count))

    def report(self, name: str) -> str:
        rows = [
            f"| {kind} | {t.runs:,} | {t.lost} | {t.doubled} | {t.slowest:.1f} s |" for kind, t in sorted(self.tallies.items())
        ]
        head = ["| fault | runs | rows lost | rows doubled | slowest recovery |", "|---|---|---|---|---|"]
        # The first third is warming up.
        late = self.samples[len(self.samples) // 3 :]
        memory, count = slope([(h, mib) for h, mib, _ in late]), slope([(h, n) for h, _, n in late])
        most = max((mib for _, mib, _ in self.samples), default=0)
        hours = (time.monotonic() - self.began) / 3600
        end = (
            f"seed {SEED}, {self.faults.given:,} records, {hours * 60:.1f} min; memory at most {most:.0f} MiB, {memory:+.1f} MiB an "
            f"hour; files {self.samples[-1][2] if self.samples else 0:.0f} in the end, {count:+.0f} an hour"
        )
        text = "\n".join([*head, *rows, "", end, ""])
        REPORTS.mkdir(parents=True, exist_ok=True)
        (REPORTS / f"{name}.md").write_text(text)
        print("\n" + text)
        return text

    def assert_exact(self) -> None:
        wrong = {kind: tally for kind, tally in self.tallies.items() if tally.lost or tally.doubled}
        assert not wrong, wrong


def slope(points: list[tuple[float, float]]) -> float:
    """Least squares."""
    if len(points) < 3:
        return 0.0
    x, y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((a - x) ** 2 for a, _ in points)
    return sum((a - x) * (b - y) for a, b in points) / spread if spread else 0.0


@pytest.fixture
def faults(place: Path) -> Iterator[Faults]:
    made = Faults(place, SEED)
    made.records *= 40  # as long as it goes on
    yield made
    made.end()


def recovered(faults: Faults, process: Process, began: float) -> float | None:
    """Seconds until a process has committed all that was there when it began; none if it died before."""
    ends = faults.ends()
    while process.poll() is None:
        at = newest(faults.place, "t.rows")
        if at is not None and all(at.position[part] >= end for part, end in ends.items()):
            return time.monotonic() - began
        time.sleep(0.01)
    return None


def test_kills_by_the_thousand(faults: Faults) -> None:
    """At named points and at any moment; each run goes on with the same version, and after each kill the tables are a prefix."""
    chance, account = random.Random(SEED), Account(faults)
    for kill in range(KILLS):
        point = chance.choice(POINTS) if chance.random() < 0.6 else None
        armed = f"{point}:{chance.choice([1, 1, 2, 3])}"
        faults.give(chance.choice([20, 60, 200]))
        began = time.monotonic()
        interval = chance.choice(["5ms", "50ms"])
        process = faults.start("live", chance.choice([1, 2, 3]), interval, env={"KAPPA_FAILPOINT": armed} if point else None)
        seconds = 0.0
        if point is None:
            time.sleep(chance.uniform(0.1, 1.2))
        else:
            seconds = recovered(faults, process, began) or 0.0
            end = time.monotonic() + 1.0
            while process.poll() is None and time.monotonic() < end:
                faults.give(20)
                time.sleep(0.02)
        account.sample(process)
        reached = process.poll() == -9
        process.kill()
        assert process.wait() == -9, process.said()[-4000:]
        process.file.unlink()
        account.note(f"killed at {point}" if reached else "killed at any moment", seconds)
        if kill % 100 == 99:
            account.report("kills")
            account.assert_exact()
    faults.sweep()
    account.report("kills")
    account.assert_exact()


class Live:
    """A live job with a checkpoint every second, and what may happen to it."""

    def __init__(self, faults: Faults, chance: random.Random) -> None:
        self.faults, self.chance = faults, chance
        self.clock = faults.place / "clock"
        self.clock.write_text("0")
        self.process = self.start()

    def start(self, *more: str) -> Process:
        env = {"KAPPA_CLOCK_OFFSET": str(self.clock)}
        return self.faults.start("live", self.chance.choice([1, 2, 3]), "1s", *more, env=env)

    def killed(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = self.start()

    def drained(self) -> None:
        self.process.drained()
        self.process = self.start()

    def drained_and_killed(self) -> None:
        self.process.terminate()
        time.sleep(self.chance.uniform(0, 0.3))
        self.killed()

    def stopped_for_a_while(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(0.5, 5))
        self.process.send_signal(signal.SIGCONT)

    def taken_over(self) -> None:
        old = self.process
        for _ in range(50):
            old.send_signal(signal.SIGSTOP)
            with contextlib.suppress(sqlite3.OperationalError), self.catalog(0.1):
                break
            old.send_signal(signal.SIGCONT)
            time.sleep(0.05)
        self.process = self.start("--take-over")
        self.process.listens()
        time.sleep(self.chance.uniform(0, 3))
        old.send_signal(signal.SIGCONT)
        assert "took this version over" in old.ended()
        assert old.returncode == 6

    def a_clock_that_jumps(self) -> None:
        self.clock.write_text(str(self.chance.choice([DAY_MS, -DAY_MS, 3_600_000, -3_600_000, 0])))

    def a_catalog_that_is_locked(self) -> None:
        with self.catalog(30):
            time.sleep(self.chance.uniform(0.5, 5))

    @contextlib.contextmanager
    def catalog(self, patience: float) -> Iterator[None]:
        """Another process's transaction."""
        with contextlib.closing(
            sqlite3.connect(self.faults.place / "catalog.db", isolation_level=None, timeout=patience)
        ) as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")


def test_a_live_job_under_random_faults(faults: Faults) -> None:
    chance, account = random.Random(SEED), Account(faults)
    faults.give(500)
    live = Live(faults, chance)
    faults.until_at_end(live.process)
    harms: list[Callable[[], None]] = [
        live.killed, live.killed, live.drained, live.drained_and_killed, live.stopped_for_a_while, live.taken_over,
        live.a_clock_that_jumps, live.a_catalog_that_is_locked,
    ]  # fmt: skip
    while time.monotonic() - account.began < SECONDS:
        for _ in range(chance.randrange(10, 40)):
            faults.give(50)
            account.sample(live.process)
            time.sleep(0.2)
        harm = chance.choice(harms)
        harm()
        began = time.monotonic()
        seconds = recovered(faults, live.process, began)
        assert seconds is not None, live.process.said()[-4000:]
        account.note(harm.__name__.replace("_", " "), seconds)
    live.clock.write_text("0")
    live.process.drained()
    faults.check_end("in the end")
    account.report("live")
    account.assert_exact()
    faults.sweep()
    assert not orphans(faults.place)
