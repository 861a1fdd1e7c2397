"""How long a record takes from the producer until it is visible, live: records come at an even rate, and the output is looked
at all the time."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

import engines
from data import PARTITIONS, Kafka
from environments import say
from measure import Run, Supervised
from visible import Offsets, Output

RATE = 10_000
TICK_SECONDS = 0.01
POLL_SECONDS = 0.005
PATIENCE_SECONDS = 60.0
FIRST = 1_000
"""Records before all others: kappa has started, and made its output, when they are there."""
WARM_UP_SECONDS = 20
"""Then records come at the rate for so long before they count: the broker's code is compiled when it is used."""

Sent = tuple[int, int, float]
"""A batch: its partition, the offset behind it, and when it was handed to the producer."""
Seen = tuple[float, Offsets]
"""What was visible at a time."""


@dataclass
class Latency:
    """Milliseconds from produce to visible, over batches of equal size."""

    key: str
    where: str
    interval: str
    limit_ms: float
    records: int
    seconds: float
    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    looks: int
    """Looks that showed something new."""
    answer: str
    run: Run


class Source:
    """Writes records of a file to the partitions in turn, and remembers when it wrote which."""

    def __init__(self, kafka: Kafka, topic: str, lines: list[bytes]) -> None:
        self._topic, self._lines, self._at = topic, lines, 0
        self._producer = Producer({**kafka.config, "linger.ms": 2, "acks": "all", "enable.idempotence": True})
        self.ends: Offsets = dict.fromkeys(range(PARTITIONS), 0)
        self.sent: list[Sent] = []

    def send(self, count: int) -> None:
        """The next `count` records, spread evenly."""
        for partition in self.ends:
            records = self._lines[self._at : self._at + count // PARTITIONS]
            self._at += len(records)
            now = time.monotonic()
            stamp = time.time_ns() // 1_000_000
            for record in records:
                self._producer.produce(self._topic, record, partition=partition, timestamp=stamp)
            self.ends[partition] += len(records)
            self.sent.append((partition, self.ends[partition], now))
        self._producer.poll(0)

    def send_evenly(self, count: int, rate: int) -> None:
        """So many records, `rate` a second."""
        began = time.monotonic()
        tick = round(rate * TICK_SECONDS)
        for number in range(count // tick):
            time.sleep(max(0.0, began + number * TICK_SECONDS - time.monotonic()))
            self.send(tick)

    def close(self) -> Offsets:
        """Everything is acknowledged; the ends."""
        if left := self._producer.flush(PATIENCE_SECONDS):
            raise TimeoutError(f"{left} records are not acknowledged")
        return self.ends


def delays(sent: list[Sent], seen: list[Seen]) -> list[float]:
    """For each batch the seconds until the first look that showed all of it. Looks are in order of time."""
    found, at = [], dict.fromkeys(range(PARTITIONS), 0)
    for partition, end, when in sent:
        # Batches of a partition are in order: the search goes on where the last one ended.
        while seen[at[partition]][1].get(partition, 0) < end:
            at[partition] += 1
        found.append(seen[at[partition]][0] - when)
    return found


def percentile(ordered: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measure(kafka: Kafka, broker: int, output: Output, lines: list[bytes], folder: Path, rate: int) -> Latency:
    """Runs kappa live beside a producer. `lines` are all that will be written."""
    topic = f"payments-{output.key}"
    kafka.create(topic, PARTITIONS)
    source = Source(kafka, topic, lines)
    words = [sys.executable, *output.words(topic, folder), "--mode", "live", "--parallelism", str(engines.PARALLELISM)]
    words += ["--checkpoint-interval", output.interval, "--json", "--log-format", "json"]
    limit = PATIENCE_SECONDS * 3 + len(lines) / rate
    with Supervised(words, folder, broker, limit, {"KAPPA_LOG_URL": f"kafka://{kafka.bootstrap}"}) as running:
        source.send(FIRST)
        _watch(output, running, dict(source.ends))
        source.sent.clear()
        say(f"  {len(lines) - FIRST:,} records at {rate:,} a second, those of the first {WARM_UP_SECONDS} s do not count")
        began = time.monotonic()
        writer = threading.Thread(target=source.send_evenly, args=(len(lines) - FIRST, rate), daemon=True)
        writer.start()
        seen = _watch(output, running, {p: len(lines) // PARTITIONS for p in range(PARTITIONS)}, len(lines) / rate)
        writer.join()
        counted = [each for each in source.sent if each[2] >= began + WARM_UP_SECONDS]
        seconds = max(when for _, _, when in counted) - counted[0][2]
        ends = source.close()
        running.ask_to_end()
        run = running.wait()
    if run.failure:
        raise engines.UnusableError(run.failure)
    if ends != kafka.ends(topic):
        raise engines.UnusableError(f"{topic} ends at {kafka.ends(topic)}, written were {ends}")
    answer = output.answer()
    output.close()
    ordered = sorted(1e3 * delay for delay in delays(counted, seen))
    shares = (percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])
    count = len(lines) - FIRST - WARM_UP_SECONDS * rate
    about = (output.key, output.where, output.interval, output.limit_ms)
    return Latency(*about, count, seconds, count / seconds, *shares, looks=len(seen), answer=answer, run=run)


def _watch(output: Output, running: Supervised, ends: Offsets, more: float = 0) -> list[Seen]:
    """Looks at the output until it holds everything; each new state with the time when it was seen."""
    seen: list[Seen] = []
    until = time.monotonic() + PATIENCE_SECONDS + more
    while True:
        if (offsets := output.look()) is not None:
            seen.append((time.monotonic(), offsets))
            if all(offsets.get(partition, 0) >= end for partition, end in ends.items()):
                return seen
        if running.has_ended():
            raise engines.UnusableError(f"kappa live has ended: {running.wait().failure or 'with status 0'}")
        if time.monotonic() > until:
            raise engines.UnusableError(f"visible is {seen[-1][1] if seen else 'nothing'}, not yet {ends}")
        time.sleep(POLL_SECONDS)
