"""The records, the topics that hold them, and the answer by an engine that has nothing to do with any of the others."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

import duckdb

from environments import say

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "kafka"), str(ROOT / "tools")]

from admin import Kafka  # noqa: E402
from check_demo import QUERY  # noqa: E402
from fill import fill  # noqa: E402

Answer = dict[date, int]
"""How many merchants each day has."""
PARTITIONS = 4
COMPRESSION = "lz4"


@dataclass(frozen=True)
class Topic:
    """A topic, how many records it holds, and what must come out."""

    name: str
    records: int
    bytes: int
    answer: Answer


def make_payments(file: Path, events: int) -> None:
    """The seeded payments of the demo, a line each."""
    with file.open("wb") as out:
        words = [sys.executable, str(ROOT / "examples" / "payments.py"), "--events", str(events)]
        subprocess.run(words, stdout=out, check=True)


def first_lines(source: Path, target: Path, count: int) -> None:
    """The first `count` records of a file."""
    with source.open("rb") as lines, target.open("wb") as out:
        out.writelines(islice(lines, count))


def make_topic(kafka: Kafka, name: str, file: Path) -> Topic:
    """A topic with the lines of a file."""
    count = fill(kafka, name, file, PARTITIONS, {"compression.type": COMPRESSION})
    say(f"  {count:,} records in {name}")
    return Topic(name, count, file.stat().st_size - count, answer_of(file))


def answer_of(file: Path) -> Answer:
    """DuckDB's answer."""
    return dict(duckdb.execute(QUERY, [str(file)]).fetchall())


def day_of(number: int) -> date:
    """A day from its number since 1970."""
    return date(1970, 1, 1) + timedelta(days=number)


def verdict(expected: Answer, found: Answer) -> str:
    """In words, whether an answer is right."""
    wrong = [day for day in sorted(expected.keys() | found.keys()) if expected.get(day) != found.get(day)]
    if not wrong:
        return "exact"
    first = wrong[0]
    return f"WRONG on {len(wrong)} of {len(expected)} days: {first} is {found.get(first)}, must be {expected.get(first)}"
