"""Rows, ratios, and what must be reached; as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latency import Latency
from measure import Run


@dataclass
class Row:
    """An engine on a topic: all its runs; the one with the median wall time stands for them."""

    key: str
    name: str
    version: str
    parallelism: int
    records: int = 0
    start_seconds: float = 0.0
    """Its wall time on a topic of `start_records`: what it takes to start and to end."""
    start_records: int = 0
    runs: list[Run] = field(default_factory=list)
    answer: str = ""
    note: str = ""
    failure: str = ""
    details: list[dict[str, Any]] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """The run in the middle (of an even number, the slower one)."""
        return sorted(self.runs, key=lambda run: run.seconds)[len(self.runs) // 2]

    @property
    def measured(self) -> bool:
        """Whether there is a figure that counts."""
        return bool(self.runs) and not self.failure

    @property
    def right(self) -> bool:
        """Whether the figure is that of a right answer (or of none: records were thrown away)."""
        return self.measured and not self.answer.startswith("WRONG")

    @property
    def rate(self) -> float:
        """Records a second between start and end. Of a run that is mostly start and end, all records by all seconds: the
        difference of two times that are nearly the same says nothing."""
        seconds = self.run.seconds
        if self.too_short:
            return self.records / seconds
        return (self.records - self.start_records) / (seconds - self.start_seconds)

    @property
    def too_short(self) -> bool:
        """Whether the run is mostly start and end: its rate is that of too few records."""
        return self.start_seconds > self.run.seconds / 2

    def line(self) -> str:
        """A line of the table."""
        if not self.measured:
            return (
                f"| {self.name} | {self.version} | – | – | – | – | – | – | – | not measured: {self.failure.replace('|', '/')} |"
            )
        run = self.run
        spread = (
            f" ({min(r.seconds for r in self.runs):.2f}–{max(r.seconds for r in self.runs):.2f})" if len(self.runs) > 1 else ""
        )
        return (
            f"| {self.name} | {self.version} | {self.parallelism} | {self.records:,} | {run.seconds:.2f} s{spread} "
            f"| {self.start_seconds:.2f} s | {self.rate:,.0f}{' (too short)' if self.too_short else ''} | {run.cpu_seconds:.1f} s + {run.broker_cpu_seconds:.1f} s "
            f"| {run.peak_bytes / 2**20:,.0f} MiB | {self.answer}{self.note.replace('|', '/')} |"
        )

    def data(self) -> dict[str, Any]:
        """For machines."""
        runs = [{k: v for k, v in asdict(run).items() if k not in ("stdout", "stderr")} for run in self.runs]
        named = {k: getattr(self, k) for k in ("key", "name", "version", "parallelism", "records", "start_seconds")}
        figures = {"records_per_second": self.rate} if self.measured else {}
        return {
            **named,
            **figures,
            "answer": self.answer,
            "note": self.note,
            "failure": self.failure,
            "runs": runs,
            "details": self.details,
        }


@dataclass
class Goal:
    """What must be reached, and what was."""

    what: str
    must: str
    found: str
    reached: bool | None

    def line(self) -> str:
        """A line of the table."""
        return f"| {self.what} | {self.must} | {self.found} | {({True: 'reached', False: 'MISSED', None: 'no verdict'})[self.reached]} |"


def fastest(rows: list[Row], *prefixes: str) -> Row | None:
    """The quickest of the rows that gave a right answer."""
    return max((row for row in rows if row.right and row.key.startswith(prefixes)), key=lambda row: row.rate, default=None)


def goals(rows: list[Row], live: list[Latency]) -> list[Goal]:
    """Compares rates between start and end; of several variants of a peer its fastest right one counts."""
    kappa = fastest(rows, "kappa_10s")
    found = []
    for what, prefix, factor, must in (
        ("kappa / raw librdkafka with as many clients", "raw_", 0.5, "≥ 0.5 (aim 0.75)"),
        ("kappa / Flink SQL", "flink_sql", 5.0, "≥ 5"),
        ("kappa / PyFlink DataStream", "flink_datastream", 50.0, "≥ 50"),
    ):
        other = fastest(rows, prefix)
        ratio = kappa.rate / other.rate if kappa and other else None
        found.append(_goal(what, must, ratio, "{:.2f}", ratio is not None and ratio >= factor, kappa, other))
    often, seldom = fastest(rows, "kappa_1s"), fastest(rows, "kappa_60s")
    cost = 1 - often.rate / seldom.rate if often and seldom else None
    what = "throughput that checkpoints every 1 s cost, against every 60 s"
    found.append(_goal(what, "≤ 5 %", cost, "{:.1%}", cost is not None and cost <= 0.05, often, seldom))
    for each in live:
        what = f"live, checkpoints every {each.interval}: from produce to visible in {each.where}, p99"
        p99 = each.p99_ms if each.answer == "exact" else None
        found.append(_goal(what, f"≤ {each.limit_ms:.0f} ms", p99, "{:.0f} ms", p99 is not None and p99 <= each.limit_ms))
    return found


def _goal(what: str, must: str, value: float | None, form: str, reached: bool, *rows: Row | None) -> Goal:
    """No verdict where nothing was measured, or on too few records."""
    if value is None:
        return Goal(what, must, "–", None)
    if any(row.too_short for row in rows if row):
        return Goal(what, must, f"{form.format(value)}, on too few records", None)
    return Goal(what, must, form.format(value), reached)


def ratios(rows: list[Row]) -> str:
    """Every row beside raw and beside Flink SQL."""
    raw, flink = fastest(rows, "raw_"), fastest(rows, "flink_sql")
    lines = [
        f"| what | × raw ({raw.name if raw else 'not measured'}) | × Flink SQL ({flink.name if flink else 'not measured'}) |"
    ]
    lines.append("|---|---|---|")
    for row in rows:
        if row.measured:
            beside = [f"{row.rate / other.rate:.3g}" if other else "–" for other in (raw, flink)]
            lines.append(f"| {row.name} | {' | '.join(beside)} |")
    return "\n".join(lines)


def live_text(live: list[Latency], failures: list[str]) -> str:
    """The latencies in words."""
    lines = [f"not measured: {failure}" for failure in failures] or ([] if live else ["not asked for"])
    for each in live:
        run = each.run
        lines.append(
            f"To {each.where}, checkpoints every {each.interval}: {each.records:,} records at {each.rate:,.0f} a second (after some for warming up), p50 "
            f"{each.p50_ms:,.0f} ms, p99 {each.p99_ms:,.0f} ms, greatest {each.max_ms:,.0f} ms; {each.looks} states seen; answer "
            f"{each.answer}. kappa {run.cpu_seconds:.1f} s of CPU, broker {run.broker_cpu_seconds:.1f} s, peak memory "
            f"{run.peak_bytes / 2**20:,.0f} MiB."
        )
    return "\n\n".join(lines)


HEAD = (
    "| what | version | threads or clients | records | wall (least–greatest) | start and end | records/s | CPU, engine + broker "
    "| peak memory | answer |\n|---|---|---|---|---|---|---|---|---|---|"
)
NOTE = """Wall: from the start of the process to its end. Start and end: the same on {start:,} records. Records/s: the other records by
the other seconds (of a run that is more than half start and end: all records by all seconds, “too short”). CPU and memory of an
engine are those of all its processes (memory: resident, summed, sampled); the answer is compared with DuckDB's over the same
records. Where there are several runs, the one in the middle is shown."""


def write(folder: Path, head: dict[str, Any], rows: list[Row], live: list[Latency], failures: list[str]) -> str:
    """Writes results.md and results.json; the Markdown."""
    machine, found = head["machine"], goals(rows, live)
    load = ", ".join(map(str, machine["load_average"]))
    sections = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}; "
        f"load average before the run {load}; {head['topic']}",
        "\n".join(
            ["## What must be reached", "", "| what | must | found | |", "|---|---|---|---|", *(goal.line() for goal in found)]
        ),
        "\n".join(["## Rows", "", NOTE.format(start=head["start_records"]), "", HEAD, *(row.line() for row in rows)]),
        "## Ratios of records/s\n\n" + ratios(rows),
        "## Live\n\n" + live_text(live, failures),
    ]
    text = "\n\n".join(sections) + "\n"
    (folder / "results.md").write_text(text)
    shown = [
        {k: v for k, v in asdict(each).items() if k != "run"}
        | {k: v for k, v in asdict(each.run).items() if k not in ("stdout", "stderr")}
        for each in live
    ]
    data = {**head, "goals": [asdict(goal) for goal in found], "rows": [row.data() for row in rows], "live": shown}
    (folder / "results.json").write_text(json.dumps({**data, "live_failures": failures}, indent=2, ensure_ascii=False) + "\n")
    return text
