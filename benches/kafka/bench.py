"""kappa beside its peers on one topic of one Apache Kafka broker, which this starts and stops.

python benches/kafka/bench.py [--events 10000000] [--only raw,kappa,java,kcat,flink,pathway,bytewax,live] [--repeats 3]

Results: .kappa-bench/kafka/results.md and results.json, written anew after each row. What engines printed when they failed
stays in .kappa-bench/kafka/failures; everything else goes when this ends.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from data import COMPRESSION, PARTITIONS, ROOT, Answer, Kafka, Topic, answer_of, first_lines, make_payments, make_topic, verdict
from environments import UnavailableError, say
from measure import Run, last_lines, machine, run
from report import Row, write
from visible import TableOutput, TopicOutput

from engines import KAPPA, OTHERS_RAW, PEERS, RAW, Engine, Task  # isort: skip (they need the path that `data` sets)
import jars  # isort: skip
import latency  # isort: skip
from cluster import Cluster  # isort: skip
from processes import BrokerFailed  # isort: skip
from properties import Shape  # isort: skip

PLACE = ROOT / ".kappa-bench" / "kafka"
START_RECORDS = 1_000
FEW_RECORDS = 200_000
SLOW = 50_000
"""Records a second below which a peer gets FEW_RECORDS only: all of them within this rate, or those."""
HOPELESS = 5_000
"""Records a second, of FEW_RECORDS, below which all of them are not tried: a Java machine is slow until it has compiled."""
TIMEOUT = 3_600.0
LIVE_SECONDS = 60


class Bench:
    """One run of everything."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args, self.work = args, work
        self.rows: list[Row] = []
        self.live: list[latency.Latency] = []
        self.live_failures: list[str] = []
        self.head = {
            "machine": machine(),
            "start_records": START_RECORDS,
            "repeats": args.repeats,
            "topic": f"{args.events:,} JSON payments, {PARTITIONS} partitions, {COMPRESSION}",
        }
        self._folders = 0

    def all(self) -> None:
        """Makes the records and the broker, and measures."""
        payments = self.work / "payments.jsonl"
        say(f"{self.args.events:,} payments")
        make_payments(payments, self.args.events)
        say("Apache Kafka, one node (tests/kafka/broker.py start --bench --heap 1g)")
        with Cluster(Shape(heap="1g", fast_start=False)) as cluster:
            self.cluster, self.kafka, self.broker = cluster, Kafka(cluster.bootstrap, cluster=cluster), cluster.pid(1)
            try:
                self._topics(payments)
                self._own()
                for engine in self._wanted(PEERS):
                    self._peer(engine)
                if self._asked(TableOutput.key) or self._asked(TopicOutput.key):
                    self._live()
            finally:
                if cluster.is_running(1):
                    self.head["broker_peak_mib"] = round(cluster.memory(1)[1] / 2**20, 1)
                self._write()
                del self.kafka  # before its broker goes

    def _topics(self, payments: Path) -> None:
        self.full = make_topic(self.kafka, "payments", payments)
        self.few = self._shorter(payments, FEW_RECORDS)
        self.start = self._shorter(payments, START_RECORDS)
        payments.unlink()
        self.head["topic"] += f", {self.full.bytes / self.full.records:.0f} bytes each; Kafka {_kafka_version()}, heap 1g"

    def _shorter(self, payments: Path, count: int) -> Topic:
        part = payments.with_name(f"payments-{count}.jsonl")
        first_lines(payments, part, count)
        return make_topic(self.kafka, f"payments-{count}", part)

    def _asked(self, key: str) -> bool:
        return not self.args.only or any(key.startswith(each) for each in self.args.only.split(","))

    def _wanted(self, engines: list[Engine]) -> list[Engine]:
        return [engine for engine in engines if self._asked(engine.key)]

    def _own(self) -> None:
        """Raw and kappa in turn, several times, in another order each time: what else the machine does meets all, and none
        always comes after the same other."""
        engines = self._wanted([*RAW, *OTHERS_RAW, *KAPPA])
        ready = [(engine, row) for engine in engines if (row := self._begin(engine)) is not None]
        if ready:
            say("one run that is not counted: the broker's code is compiled, its files are in memory")
            self._measure(ready[0][0], ready[0][1], self.full, counted=False)
        for repeat in range(self.args.repeats):
            say(f"round {repeat + 1} of {self.args.repeats}")
            random.Random(repeat).shuffle(ready)
            for engine, row in ready:
                if not row.failure:
                    self._measure(engine, row, self.full)

    def _peer(self, engine: Engine) -> None:
        """A few records first; all of them if that is not too slow."""
        row = self._begin(engine)
        if row is None or not self._measure(engine, row, self.few):
            return
        seconds = row.run.seconds
        limit = seconds + self.full.records / SLOW
        if self.few.records >= self.full.records or self.few.records / max(0.1, seconds - row.start_seconds) < HOPELESS:
            return
        few = row.runs.copy(), row.details.copy(), row.answer
        row.runs.clear(), row.details.clear()
        if not self._measure(engine, row, self.full, timeout=limit):
            row.note, row.failure = f"; of {self.full.records:,} records: {row.failure}", ""
            row.runs, row.details, row.answer = few
            row.records = self.few.records
            self._write()

    def _begin(self, engine: Engine) -> Row | None:
        """A row for an engine: what is needed is fetched, and how long it takes to start is measured."""
        say(engine.name)
        row = Row(engine.key, engine.name, engine.version, engine.parallelism)
        self.rows.append(row)
        try:
            engine.prepare()
        except (UnavailableError, OSError) as error:
            self._failed(row, str(error))
            return None
        for _ in range(2):  # the first also reads the program from the disk
            row.runs.clear(), row.details.clear()
            if not self._measure(engine, row, self.start):
                return None
        row.start_seconds, row.start_records = row.run.seconds, START_RECORDS
        row.runs.clear(), row.details.clear()
        return row

    def _measure(self, engine: Engine, row: Row, topic: Topic, *, counted: bool = True, timeout: float = TIMEOUT) -> bool:
        """One run; whether it ended well. A wrong answer is noted and does count as an end."""
        self._folders += 1
        task = Task(self.kafka.bootstrap, topic, self.work / f"run-{self._folders}")
        found: Run | None = None
        failure = ""
        try:
            found = run(engine.words(task), task.folder, self.broker, timeout, engine.environment(task))
            failure = found.failure or ""
            answer = None if failure else engine.answer(task, found)
            details = {} if failure else engine.details(task, found)
        except Exception as error:  # a peer's failure, of whatever kind, never stops the rest
            failure = f"{type(error).__name__}: {error}"
        if failure or found is None:
            self._failed(row, failure, task.folder)
            if not self.cluster.is_running(1):
                raise BrokerFailed(f"the broker has ended; its log ends with\n{self.cluster.log(1)}")
        elif counted:
            row.version, row.records = engine.version, topic.records
            row.runs.append(found)
            row.details.append(details)
            row.answer = _worst(row.answer, answer, topic.answer)
            rate = topic.records / found.seconds
            say(f"  {topic.records:,} records, {found.seconds:.2f} s, {rate:,.0f}/s with start, "
                f"CPU {found.cpu_seconds:.1f} s + broker {found.broker_cpu_seconds:.1f} s, "
                f"{found.peak_bytes / 2**20:,.0f} MiB, answer: {row.answer}, load {found.load:.1f}")  # fmt: skip
        shutil.rmtree(task.folder, ignore_errors=True)
        self._write()
        return not failure

    def _failed(self, row: Row, failure: str, folder: Path | None = None) -> None:
        row.failure = " ".join(failure.split())
        say(f"  FAILED: {row.failure}")
        for name in ("stdout", "stderr"):
            if folder and (folder / name).exists():
                kept = PLACE / "failures" / f"{row.key}.{name}"
                kept.parent.mkdir(exist_ok=True)
                kept.write_bytes((folder / name).read_bytes()[-1_000_000:])
        self._write()

    def _live(self) -> None:
        lines_file = self.work / "live.jsonl"
        make_payments(lines_file, latency.FIRST + latency.RATE * (latency.WARM_UP_SECONDS + self.args.live_seconds))
        lines, expected = lines_file.read_bytes().splitlines(), answer_of(lines_file)
        folder = self.work / TableOutput.key
        outputs = [
            (TableOutput, lambda: TableOutput(folder, expected)),
            (TopicOutput, lambda: TopicOutput(self.kafka, "payments-copied", len(lines))),
        ]
        for kind, output in outputs:
            if not self._asked(kind.key):
                continue
            say(f"kappa live to {kind.where}, checkpoints every {kind.interval}")
            try:
                found = latency.measure(self.kafka, self.broker, output(), lines, self.work / kind.key, latency.RATE)
                self.live.append(found)
                say(f"  p50 {found.p50_ms:.0f} ms, p99 {found.p99_ms:.0f} ms, answer: {found.answer}")
            except Exception as error:
                self.live_failures.append(f"to {kind.where}: {type(error).__name__}: {error}")
                say(f"  FAILED: {self.live_failures[-1]}")

    def _write(self) -> None:
        self.text = write(PLACE, self.head, self.rows, self.live, self.live_failures)


def _worst(before: str, found: Answer | None, expected: Answer) -> str:
    """One wrong run is a wrong row."""
    if found is None:
        return "all read, discarded"
    return before if before.startswith("WRONG") else verdict(expected, found)


def _kafka_version() -> str:
    return next(iter(sorted(Path(jars.class_path()).parent.glob("kafka-clients-[0-9]*.jar"))), Path("?")).stem.split("-")[2]


def main() -> int:
    """Runs the bench; the exit status says whether it ran, not whether goals were reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--only", default="", help="prefixes of keys of rows, with commas: raw,kappa,java,kcat,flink,…,live")
    parser.add_argument("--repeats", type=int, default=5, help="of raw and kappa (5)")
    parser.add_argument("--live-seconds", type=int, default=LIVE_SECONDS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    PLACE.mkdir(parents=True, exist_ok=True)
    for left in (PLACE / "failures", *PLACE.glob("work-*")):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="work-", dir=PLACE, ignore_cleanup_errors=True) as work:
        tempfile.tempdir = work  # the broker's data too
        bench = Bench(args, Path(work))
        try:
            bench.all()
        except (BrokerFailed, jars.Missing) as error:
            print(f"error: no broker: {last_lines(str(error))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            say("interrupted; the rows so far are in .kappa-bench/kafka")
            return 130
        print(bench.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
