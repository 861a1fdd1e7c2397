"""Creates a topic and writes the lines of a file to it, round robin over its partitions: the same lines, the same topic.

python tests/kafka/fill.py ADDRESS TOPIC FILE [--partitions 4] [--producer compression.type=zstd]
"""

from __future__ import annotations

import argparse
import sys
import time
from itertools import islice
from pathlib import Path

from confluent_kafka import Producer

from admin import Kafka

QUEUE = 500_000
CHUNK = 40_000
BATCHING = {"linger.ms": 20, "batch.num.messages": 100_000, "queue.buffering.max.messages": QUEUE}


def fill(kafka: Kafka, topic: str, file: Path, partitions: int, config: dict[str, str]) -> int:
    """Writes the lines; how many."""
    kafka.create(topic, partitions)
    producer = Producer({**kafka.config, **BATCHING, "enable.idempotence": True, **config})
    count = 0
    with file.open("rb") as lines:
        while chunk := [{"value": line.rstrip(b"\n")} for line in islice(lines, CHUNK)]:
            while len(producer) > QUEUE - CHUNK:  # wait until the broker has taken some
                producer.poll(0.01)
            for first in range(min(partitions, len(chunk))):
                part = chunk[first::partitions]
                if producer.produce_batch(topic, part, partition=(count + first) % partitions) != len(part):
                    raise RuntimeError(f"librdkafka takes no more records for {topic} after {count:,}")
            count += len(chunk)
    if left := producer.flush(120):
        raise TimeoutError(f"{left:,} records for {topic} are not acknowledged")
    if (found := sum(kafka.ends(topic).values())) != count:
        raise RuntimeError(f"{count:,} records were written, {topic} holds {found:,}")
    return count


def main() -> None:
    """Runs `fill`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("topic")
    parser.add_argument("file", type=Path)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument(
        "--producer", action="append", default=[], metavar="KEY=VALUE", help="a setting of librdkafka's producer"
    )
    args = parser.parse_args()
    began = time.monotonic()
    config = dict(each.split("=", 1) for each in args.producer)
    count = fill(Kafka(args.address), args.topic, args.file, args.partitions, config)
    seconds = time.monotonic() - began
    print(f"{count:,} records in {args.topic} after {seconds:.1f} s ({count / seconds / 1e3:.0f} k/s)", file=sys.stderr)


if __name__ == "__main__":
    main()
