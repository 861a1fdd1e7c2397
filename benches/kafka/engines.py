"""What is measured: how each engine is started on a topic, and how its answer is read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import environments
from data import PARTITIONS, ROOT, Answer, Topic, day_of
from measure import Run, clean_environment, last_lines

import jars  # isort: skip (tests/kafka, which `data` puts on the path)

HERE = Path(__file__).resolve().parent
PARALLELISM = 2
FLINK_ROW = re.compile(r"([+-])[IUD]\[(\d{4}-\d\d-\d\d), (\d+)\]")


class UnusableError(Exception):
    """An engine ended well and left no answer that can be read, or did not read everything."""


@dataclass(frozen=True)
class Task:
    """A topic to be read by an engine, in a folder of its own."""

    address: str
    topic: Topic
    folder: Path


class Engine(ABC):
    """Something that reads a topic from its start to its present end."""

    key: str
    name: str
    version: str = ""
    parallelism = PARALLELISM

    @abstractmethod
    def prepare(self) -> None:
        """Fetches what is needed, or raises `UnavailableError`."""

    @abstractmethod
    def words(self, task: Task) -> list[str]:
        """The command."""

    def environment(self, task: Task) -> dict[str, str]:
        """Variables for it."""
        return {}

    @abstractmethod
    def answer(self, task: Task, run: Run) -> Answer | None:
        """What it found; none if it throws records away. Raises `UnusableError` where it has not read all of them."""

    def details(self, task: Task, run: Run) -> dict[str, Any]:
        """What else it tells about the run."""
        return {}


class RawLibrdkafka(Engine):
    """librdkafka, every record thrown away."""

    def __init__(self, key: str, what: str, settings: dict[str, str]) -> None:
        self.key, self.name = key, f"librdkafka, discard ({what})"
        self._settings = settings

    def prepare(self) -> None:
        self._program = environments.raw_consumer()

    def words(self, task: Task) -> list[str]:
        shape = [task.address, task.topic.name, str(PARTITIONS), str(PARALLELISM)]
        return [str(self._program), *shape, *(f"{name}={value}" for name, value in self._settings.items())]

    def answer(self, task: Task, run: Run) -> None:
        told = json.loads(run.stdout)
        self.version = f"librdkafka {told['librdkafka']}"
        if (told["records"], told["bytes"]) != (task.topic.records, task.topic.bytes):
            raise UnusableError(f"read {told['records']:,} records with {told['bytes']:,} bytes")

    def details(self, task: Task, run: Run) -> dict[str, Any]:
        return {"seconds_by_itself": json.loads(run.stdout)["seconds"]}


class Kcat(Engine):
    """librdkafka in a program that everybody has: one client, as it has no way to share partitions."""

    key, name, parallelism = "kcat", "kcat, discard", 1

    def prepare(self) -> None:
        self._program = environments.kcat()
        told = subprocess.run([self._program, "-V"], capture_output=True, text=True, check=False).stdout
        self.version = "kcat " + "".join(re.findall(r"Version (\S+)", told)[:1])

    def words(self, task: Task) -> list[str]:
        return [self._program, "-C", "-b", task.address, "-t", task.topic.name, "-o", "beginning", "-e", "-q", "-f", ""]

    def answer(self, task: Task, run: Run) -> None:
        return None


class ConsumerPerformance(Engine):
    """Apache Kafka's own measuring tool: the Java client, one thread."""

    key, name, parallelism = "java", "Java ConsumerPerformance, discard", 1

    def prepare(self) -> None:
        try:
            found = re.search(r"kafka>([^<]+)<", (ROOT / "tests/kafka/pom.xml").read_text())
            self.version = f"Kafka {found[1] if found else ''}"
            self._class_path = jars.class_path()
        except jars.Missing as error:
            raise environments.UnavailableError(str(error)) from error

    def words(self, task: Task) -> list[str]:
        tool = [jars.java(), "-cp", self._class_path, "org.apache.kafka.tools.ConsumerPerformance"]
        what = ["--topic", task.topic.name, "--num-records", str(task.topic.records), "--group", f"java-{os.urandom(6).hex()}"]
        return [*tool, "--bootstrap-server", task.address, *what, "--hide-header", "--timeout", "60000"]

    def answer(self, task: Task, run: Run) -> None:
        # start, end, MB, MB/s, records, records/s, ms until the group stood, ms of fetching, …
        told = run.stdout.strip().splitlines()[-1].split(", ")
        if int(told[4]) != task.topic.records:
            raise UnusableError(f"read {told[4]} records")

    def details(self, task: Task, run: Run) -> dict[str, Any]:
        return {"fetch_seconds_by_itself": int(run.stdout.strip().splitlines()[-1].split(", ")[7]) / 1e3}


READ = """
import json, sys, kappa
rows = kappa.read(sys.argv[1]).to_dicts()
assert len({row["day"] for row in rows}) == len(rows), "a day occurs twice"
print(json.dumps([[row["day"].isoformat(), row["merchants"]] for row in rows]))
"""
TABLE = "bench.merchants"


@dataclass
class Kappa(Engine):
    """The example's job, from the topic to the committed table."""

    interval: str
    key: str = field(init=False)
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.key, self.name = f"kappa_{self.interval}", f"kappa, checkpoints every {self.interval.replace('s', ' s')}"

    def prepare(self) -> None:
        words = [sys.executable, "-c", "import kappa; print(kappa.__version__)"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise environments.UnavailableError(f"kappa cannot be imported: {last_lines(done.stderr)}")
        self.version = f"kappa {done.stdout.strip()}"

    def words(self, task: Task) -> list[str]:
        job = job_on(task.topic.name, task.folder)
        shape = ["--parallelism", str(PARALLELISM), "--checkpoint-interval", self.interval]
        told = ["--json", "--log-format", "json"]
        return [sys.executable, str(job), "--mode", "reprocess", "--output-table", TABLE, *shape, *told]

    def environment(self, task: Task) -> dict[str, str]:
        return {"KAPPA_LOG_URL": f"kafka://{task.address}"}

    def answer(self, task: Task, run: Run) -> Answer:
        report = json.loads(run.stdout)["data"]["report"]
        if report["outcome"] != "complete" or report["read"] != task.topic.records:
            raise UnusableError(f"{report['outcome']} after {report['read']:,} records")
        return read_table(task.folder)

    def details(self, task: Task, run: Run) -> dict[str, Any]:
        report = json.loads(run.stdout)["data"]["report"]
        return {
            "seconds_by_itself": report["seconds"],
            "peak_mib_by_itself": report["peak_memory_bytes"] / 2**20,
            "checkpoints": report["checkpoints"],
        }


def job_on(topic: str, folder: Path) -> Path:
    """The example's script with another topic's name in it."""
    text = (ROOT / "examples/kappa_distinct_merchants.py").read_text()
    if text.count('"payments.captured.v1"') != 1:
        raise environments.UnavailableError("examples/kappa_distinct_merchants.py does not name its topic once")
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "job.py"
    script.write_text(text.replace("payments.captured.v1", topic))
    return script


def read_table(folder: Path) -> Answer:
    """The rows of the table that a job has made in a folder."""
    words = [sys.executable, "-c", READ, TABLE]
    done = subprocess.run(words, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnusableError(f"the table cannot be read: {done.stderr.strip()}")
    return {date.fromisoformat(day): merchants for day, merchants in json.loads(done.stdout)}


class Flink(Engine):
    """A job of jobs/ in PyFlink's interpreter and its Java machine."""

    version = "Flink " + environments.REQUIREMENTS["flink"][0].partition("==")[2]

    def __init__(self, key: str, name: str, script: str, options: Iterable[str] = ()) -> None:
        self.key, self.name = key, name
        self._script, self._options = HERE / "jobs" / script, list(options)

    def prepare(self) -> None:
        self._python = environments.environment("flink")

    def words(self, task: Task) -> list[str]:
        return [str(self._python), str(self._script), task.address, task.topic.name, str(task.folder), *self._options]

    def answer(self, task: Task, run: Run) -> Answer:
        return folded((date.fromisoformat(day), int(n), sign == "+") for sign, day, n in FLINK_ROW.findall(run.stdout))


class Pathway(Engine):
    """Pathway with two threads and persistence."""

    key, name, version = (
        "pathway",
        "Pathway, persistence every 10 s",
        environments.REQUIREMENTS["pathway"][0].replace("==", " "),
    )

    def prepare(self) -> None:
        self._python = environments.environment("pathway")

    def words(self, task: Task) -> list[str]:
        job = str(HERE / "jobs" / "pathway_job.py")
        return [str(self._python), job, task.address, task.topic.name, str(task.folder), str(task.folder / "result")]

    def environment(self, task: Task) -> dict[str, str]:
        return {"PATHWAY_THREADS": str(PARALLELISM)}

    def answer(self, task: Task, run: Run) -> Answer:
        rows = [json.loads(line) for line in (task.folder / "result").read_text().splitlines()]
        rows.sort(key=lambda row: (row["time"], row["diff"]))  # of one time, what goes comes first
        return folded((day_of(row["day"]), row["merchants"], row["diff"] > 0) for row in rows)


class Bytewax(Engine):
    """Bytewax with two processes and recovery."""

    key, name, version = "bytewax", "Bytewax, recovery every 10 s", environments.REQUIREMENTS["bytewax"][0].replace("==", " ")

    def prepare(self) -> None:
        self._python = environments.environment("bytewax")

    def words(self, task: Task) -> list[str]:
        recovery = task.folder / "recovery"
        recovery.mkdir(parents=True)
        subprocess.run([self._python, "-m", "bytewax.recovery", recovery, str(PARALLELISM)], check=True)
        start = [str(self._python), "-m", "bytewax.testing", "-p", str(PARALLELISM), "-r", str(recovery), "-s", "10", "-b", "0"]
        return [*start, f"{HERE / 'jobs' / 'bytewax_job.py'}:flow"]

    def environment(self, task: Task) -> dict[str, str]:
        named = {"ADDRESS": task.address, "TOPIC": task.topic.name, "RESULT": str(task.folder / "result")}
        return {f"BENCH_{name}": value for name, value in named.items()}

    def answer(self, task: Task, run: Run) -> Answer:
        rows = [json.loads(line) for part in task.folder.glob("result.*") for line in part.read_text().splitlines()]
        return folded((day_of(row["day"]), row["merchants"], True) for row in rows)


def folded(changes: Iterable[tuple[date, int, bool]]) -> Answer:
    """The numbers that stand after all changes."""
    found: Answer = {}
    for day, merchants, added in changes:
        if added:
            found[day] = merchants
        elif found.get(day) == merchants:
            del found[day]
    return found


# The first as kappa sets its clients, the second as librdkafka comes, with its queues bounded: what is greater counts as raw.
AS_KAPPA = {
    "isolation.level": "read_committed",
    "check.crcs": "true",
    "queued.min.messages": "1000000",
    "queued.max.messages.kbytes": "4096",
    "fetch.queue.backoff.ms": "5",
    "fetch.wait.max.ms": "100",
}
RAW: list[Engine] = [
    RawLibrdkafka("raw_kappa", "kappa's client settings", AS_KAPPA),
    RawLibrdkafka("raw_default", "its defaults, queues bounded", {"queued.max.messages.kbytes": "32768"}),
]
KAPPA: list[Engine] = [Kappa("10s"), Kappa("1s"), Kappa("60s")]
OTHERS_RAW: list[Engine] = [ConsumerPerformance(), Kcat()]
PEERS: list[Engine] = [
    Flink("flink_sql", "Flink SQL, mini-batch, distinct split, checkpoints every 10 s", "flink_sql.py"),
    Flink("flink_sql_no_split", "Flink SQL, the same without distinct split", "flink_sql.py", ["--no-split"]),
    Pathway(),
    Bytewax(),
    Flink("flink_datastream", "PyFlink DataStream: lambdas, a set in keyed state", "flink_datastream.py"),
]
