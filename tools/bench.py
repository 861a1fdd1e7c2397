"""The demo's job end to end beside DuckDB and Polars, each in a process of its own: wall and CPU time, peak memory."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from check_demo import QUERY

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / ".kappa-bench"
TOPIC = "payments.captured.v1"

DUCKDB = f"""
import duckdb, sys
duckdb.execute("set threads = " + sys.argv[2])
print(len(duckdb.execute({QUERY!r}, [sys.argv[1]]).fetchall()))
"""

POLARS = """
import polars as pl, sys
schema = {"status": pl.String, "amount": pl.Int64, "merchant_id": pl.String, "event_time": pl.Int64}
print(
    pl.scan_ndjson(sys.argv[1], schema=schema)
    .filter((pl.col("status") == "captured") & (pl.col("amount") > 0))
    .group_by(((pl.col("event_time") + 19_800_000) // 86_400_000).alias("day"))
    .agg(pl.col("merchant_id").n_unique())
    .collect(engine="streaming")
    .height
)
"""


@dataclass
class Measured:
    """One run of one engine."""

    what: str
    threads: int
    events: int
    seconds: float
    cpu_seconds: float
    peak_mib: float

    def row(self) -> str:
        """A line of the table."""
        rate, per_core = self.events / self.seconds / 1e6, self.events / self.cpu_seconds / 1e6
        return (
            f"| {self.what} | {self.threads} | {self.seconds:.2f} s | {rate:.2f} M/s | {per_core:.2f} M/s "
            f"| {self.cpu_seconds / self.seconds:.2f} | {self.peak_mib:.0f} MiB |"
        )


def measure(what: str, words: list[str], *, threads: int, events: int, env: dict[str, str] | None = None) -> Measured:
    """Runs a command and asks the kernel what it took."""
    print(f"{what}, {threads} threads", file=sys.stderr)
    started = time.monotonic()
    child = subprocess.Popen(words, cwd=PLACE, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - started
    if status != 0:
        raise SystemExit(f"{what} failed with status {os.waitstatus_to_exitcode(status)}")
    return Measured(what, threads, events, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


JOB = [sys.executable, str(ROOT / "examples/kappa_distinct_merchants.py"), "--mode", "reprocess"]
CHECKPOINT = ["--progress", "lines", "--log-format", "json", "--checkpoint-interval"]


def checkpoint_cost(table: str) -> str:
    """How long records stand still for a checkpoint, and how long until the catalog has it: many small ones in one run."""
    print("checkpoints every 100 ms", file=sys.stderr)
    words = [*JOB, "--output-table", table, "--replace", *CHECKPOINT, "100ms"]
    done = subprocess.run(words, cwd=PLACE, capture_output=True, text=True, check=True)
    taken = [event for event in map(json.loads, done.stderr.splitlines()) if event.get("event") == "checkpoint"]
    rows = ["| of " + f"{len(taken)} checkpoints, ms | p50 | p99 | greatest |", "|---|---|---|---|"]
    for name, key in (("records stand still", "stall_ms"), ("from barrier to catalog", "duration_ms")):
        values = sorted(event[key] for event in taken)
        at = [values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.99)]
        rows.append(f"| {name} | {at[0]:.1f} | {at[1]:.1f} | {values[-1]:.1f} |")
    size = max(event["state_bytes"] for event in taken) / 2**20
    return "\n".join([*rows, "", f"State at most {size:.1f} MiB."])


def recovery(table: str, runs: int = 4) -> str:
    """From the start of the process that comes after a kill -9 to its first committed checkpoint."""
    print("recovery after kill -9", file=sys.stderr)
    seconds = []
    for run in range(runs):
        words = [*JOB, "--output-table", table, "--parallelism", "1", *CHECKPOINT, "1s"]
        seconds.append(_until_checkpoint([*words, "--replace"] if run == 0 else words))
    again = sorted(seconds[1:])
    return f"{len(again)} kills; seconds to a new checkpoint: median {again[len(again) // 2]:.2f}, greatest {again[-1]:.2f}."


def _until_checkpoint(words: list[str]) -> float:
    """Starts a run, waits for its first checkpoint, and kills it."""
    started = time.monotonic()
    with subprocess.Popen(words, cwd=PLACE, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr or ():
            if not line.startswith("{"):
                raise SystemExit(line)
            if json.loads(line).get("event") == "checkpoint":
                break
        taken = time.monotonic() - started
        child.kill()
    return taken


def main(events: int) -> int:
    """Makes the data if it is not there, measures, and writes the tables."""
    PLACE.mkdir(exist_ok=True)
    records = str(PLACE / "payments.jsonl")
    marker = PLACE / "events"
    results: list[Measured] = []
    if not marker.exists() or marker.read_text() != str(events):
        subprocess.run(["rm", "-rf", str(PLACE / ".kappa"), records], check=True)
        with open(records, "w") as out:
            subprocess.run(
                [sys.executable, str(ROOT / "examples/payments.py"), "--events", str(events)], stdout=out, check=True
            )
        kappa = [sys.executable, "-m", "kappa"]
        subprocess.run([*kappa, "log", "create", TOPIC, "--partitions", "4"], cwd=PLACE, check=True)
        results.append(measure("kappa log append", [*kappa, "log", "append", TOPIC, records], threads=2, events=events))
        marker.write_text(str(events))
    job = str(ROOT / "examples/kappa_distinct_merchants.py")
    for threads in (1, 2):
        words = [sys.executable, job, "--mode", "reprocess", "--output-table", f"bench.threads_{threads}", "--progress", "none"]
        words += ["--parallelism", str(threads)]
        if table_exists(f"bench.threads_{threads}"):
            words.append("--replace")
        results.append(measure("kappa, log to committed table", words, threads=threads, events=events))
        results.append(
            measure(
                "DuckDB, batch read_json", [sys.executable, "-c", DUCKDB, records, str(threads)], threads=threads, events=events
            )
        )
        limit = {"POLARS_MAX_THREADS": str(threads)}
        results.append(
            measure(
                "Polars, batch scan_ndjson", [sys.executable, "-c", POLARS, records], threads=threads, events=events, env=limit
            )
        )
    texts = {"Checkpoints": checkpoint_cost("bench.checkpoints"), "Recovery": recovery("bench.recovery")}
    write(results, texts, events)
    return 0


def table_exists(name: str) -> bool:
    """Whether an earlier run made the table."""
    done = subprocess.run([sys.executable, "-m", "kappa", "read", name, "-n", "1"], cwd=PLACE, capture_output=True, check=False)
    return done.returncode == 0


def write(results: list[Measured], measured: dict[str, str], events: int) -> None:
    """Writes Markdown and JSON with the hardware and the versions."""
    versions = {name: _version(name) for name in ("kappa", "duckdb", "polars")}
    machine = {"cpu": _cpu(), "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    head = (
        "| what | threads | wall | events/s | events/s a busy core | cores busy | peak memory |\n|---|---|---|---|---|---|---|"
    )
    texts = {
        name: (PLACE / f"{name}.txt").read_text() if (PLACE / f"{name}.txt").exists() else "" for name in ("decode", "log")
    }
    sections = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"## {events:,} payments, the demo's job\n\n" + "\n".join([head, *(result.row() for result in results)]),
        *(f"## {name}\n\n{text}" for name, text in measured.items()),
        *(f"## {name}\n\n```\n{_result_lines(text)}\n```" for name, text in texts.items() if text),
    ]
    (PLACE / "results.md").write_text("\n\n".join(sections) + "\n")
    data = {
        "machine": machine,
        "versions": versions,
        "events": events,
        "results": [asdict(r) for r in results],
        "micro": {**measured, **texts},
    }
    (PLACE / "results.json").write_text(json.dumps(data, indent=2) + "\n")
    print((PLACE / "results.md").read_text())


def _result_lines(text: str) -> str:
    skip = ("Compiling", "Finished", "Running", "warning", "Blocking")
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith(skip)).strip()


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
