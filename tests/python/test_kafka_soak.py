"""Hours in minutes: kills in a row, outages, failover. `make soak` runs these; `make test` does not."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from test_kafka_source import daily, events, expected, found, process, wait_for

if TYPE_CHECKING:
    from admin import Kafka

pytest.importorskip("confluent_kafka")
pytestmark = pytest.mark.soak
KILLS = 200


def test_two_hundred_kills_lose_and_double_nothing(kafka: Kafka, topic: str, place: Path, tmp_path: Path) -> None:
    kafka.create(topic, partitions=3)
    chance, written, slowest = random.Random(1), 0, 0.0
    for kill in range(KILLS):
        kafka.produce(topic, events(500, first=written))
        written += 500
        words = ("--mode", "live", "--checkpoint-interval", "50ms", "--parallelism", str(1 + kill % 4))
        running = process(tmp_path, topic, kafka.url, *words)
        time.sleep(0.3 + 1.2 * chance.random())
        assert running.poll() is None, running.communicate()
        running.send_signal(signal.SIGKILL)
        running.communicate()
        if kill % 20 == 19:
            began = time.monotonic()
            run = daily(topic).start(
                mode="live", output_table="daily", config={"log.url": kafka.url}, checkpoint_interval="50ms"
            )
            right = expected(kafka.read(topic))
            wait_for("the tables to be right", lambda right=right: found("daily") == right, within=60)
            slowest = max(slowest, time.monotonic() - began)
            assert run.stop().read == written
            print(f"{kill + 1} kills, {written:,} records: none lost, none doubled; slowest recovery {slowest:.1f} s")


def test_a_minute_without_the_cluster_is_waited_for(kafka: Kafka, topic: str, place: Path) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(3_000))
    run = daily(topic).start(mode="live", output_table="daily", config={"log.url": kafka.url}, checkpoint_interval="100ms")
    wait_for("the first records", lambda: found("daily") == expected(kafka.read(topic)))
    kafka.cluster.kill()
    time.sleep(60)
    kafka.cluster.restore()
    kafka.produce(topic, events(3_000, first=3_000))
    wait_for("records after the outage", lambda: found("daily") == expected(kafka.read(topic)), within=60)
    assert run.stop().read == 6_000


def test_leaders_come_and_go(three_brokers: Kafka, topic: str, place: Path) -> None:
    three_brokers.create(topic, partitions=3)
    config = {"log.url": three_brokers.url}
    run = daily(topic).start(mode="live", output_table="daily", config=config, checkpoint_interval="100ms")
    written = 0
    for round_ in range(6):
        node = three_brokers.leader(topic, round_ % 3)
        three_brokers.cluster.kill(node)
        three_brokers.produce(topic, events(900, first=written))
        written += 900
        right = expected(three_brokers.read(topic))
        wait_for("the records with one broker less", lambda right=right: found("daily") == right, within=60)
        three_brokers.cluster.restore()
    assert run.stop().read == written
