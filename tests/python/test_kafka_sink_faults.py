"""Jobs that write to topics while brokers, connections and the catalog fail: each record stays exactly once, and goes on."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from kappa import col
from kappa.exceptions import RefusedError

pytest.importorskip("confluent_kafka", reason="NOT CHECKED against Apache Kafka: no confluent-kafka")
from admin import Kafka, until
from proxy import Then
from sink_support import (
    MARKERS,
    WITHIN,
    Live,
    Sinks,
    Topics,
    check_all,
    events,
    fill,
    middles,
    payments,
    polled,
    stream_of,
    wait_for,
)
from wire import END_TXN, coordinator

if TYPE_CHECKING:
    from proxy import Proxy

pytestmark = pytest.mark.slow
PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN = 0, 22, 24
SHORT = {"KAPPA_KAFKA_TRANSACTION_TIMEOUT_MS": "1000"}
"""The broker ends a transaction after a second. Requests that get no answer are given up a little before that."""
COPY = 'job.write(rows.filter(col("amount") != 0), name="copy")'


@pytest.fixture
def three(three_brokers: Kafka, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    """Three brokers to which the test's jobs write topics. They run again when the test ends."""
    monkeypatch.setenv("KAPPA_SINK_URL", three_brokers.url)
    made = Topics(three_brokers.bootstrap, cluster=three_brokers.cluster)
    yield made
    three_brokers.cluster.restore()
    made.close()


@pytest.fixture
def proxy(sink: Topics, kafka_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """What lies between the test's jobs and the broker; who reads what they have written goes past it."""
    monkeypatch.setenv("KAPPA_SINK_URL", sink.by("PROXIED").url)
    return kafka_proxy


# Brokers.


def finder(cluster: Topics, sinks: Sinks, role: str) -> Callable[[], int | None]:
    """Finds the node that leads the topic or its marker, or coordinates its transactions; none or -1 while there is none."""
    if role == "coordinator":
        ports = [cluster.cluster.ports[node]["PLAINTEXT"] for node in cluster.cluster.nodes]
        id_ = f"kappa-{cluster.marker(sinks.rows)['version']}-0"
        return lambda: next((node for port in ports if (node := coordinator(port, id_)) is not None), None)
    if role == "leader":
        return lambda: cluster.leader(sinks.rows)
    [partition] = {each.partition for each in cluster.markers(sinks.rows)}
    return lambda: cluster.leader(MARKERS, partition or 0)


@pytest.mark.parametrize(
    ("role", "how"),
    [
        ("leader", "kill"),
        ("coordinator", "stop"),
        pytest.param("coordinator", "kill", marks=pytest.mark.soak),
        pytest.param("leader", "stop", marks=pytest.mark.soak),
        pytest.param("marker", "kill", marks=pytest.mark.soak),
        pytest.param("leader", "pause", marks=pytest.mark.soak),
        pytest.param("coordinator", "pause", marks=pytest.mark.soak),
    ],
)
def test_a_broker_that_matters_goes_and_comes_back(three: Topics, sinks: Sinks, role: str, how: str) -> None:
    live = Live(three, sinks)
    find = finder(three, sinks, role)
    node = find()
    assert node is not None
    with polled(three, sinks.rows) as ends:
        with live.fed():
            time.sleep(0.3)
            getattr(three.cluster, how)(node)
            until(lambda: find() not in (node, None, -1), f"node {node} is still {role}", WITHIN)
            time.sleep(0.5)
        live.wait()
        with live.fed():
            three.cluster.restore()
        live.give(100)
        live.wait()
    live.check()
    assert not middles(three.records(sinks.rows)) & set(ends), "a reader came to the middle of a checkpoint"


@pytest.mark.parametrize(
    "point", ["K12", pytest.param("K11", marks=pytest.mark.soak), pytest.param("K13", marks=pytest.mark.soak)]
)
def test_job_and_coordinator_die_in_a_transaction(three: Topics, sinks: Sinks, point: str) -> None:
    """Another node finds the transaction in the coordinator's log, and must end it before the next job looks at the marker."""
    records = payments(2_000)
    fill(records)
    three.create(sinks.rows)
    died = sinks.run("reprocess", 2, env={"KAPPA_FAILPOINT": f"{point}:2"})
    assert died.returncode == -9, died.stderr
    node = finder(three, sinks, "coordinator")()
    assert node is not None
    three.cluster.kill(node)
    done = sinks.run("reprocess", 2)
    assert done.returncode in (0, 3), done.stderr
    check_all(three, sinks.rows, sinks.totals, records)


@pytest.mark.soak
def test_each_broker_is_restarted_again_and_again(three: Topics, sinks: Sinks) -> None:
    live = Live(three, sinks)
    chance = random.Random(1)
    with live.fed(pause=0.2):
        for round_ in range(9):
            node = round_ % 3 + 1
            getattr(three.cluster, chance.choice(["kill", "stop"]))(node)
            time.sleep(chance.uniform(0, 5))
            three.cluster.start()
    live.wait()
    live.check()


# Connections.


@pytest.mark.parametrize("env", [{}, SHORT], ids=["patient", "impatient"])
def test_commits_whose_answers_come_late(sink: Topics, sinks: Sinks, proxy: Proxy, env: dict[str, str]) -> None:
    """Up to two seconds later: an impatient client asks again meanwhile."""
    live = Live(sink, sinks, **env)
    with polled(sink, sinks.rows) as ends:
        for seconds in (0.1, 0.5, 1.0, 2.0):
            caught = proxy.trapped
            proxy.trap(END_TXN, Then.DELAY_ANSWER, 1, seconds)
            with live.fed():
                wait_for(lambda caught=caught: proxy.trapped > caught)
            live.wait()
    live.check()
    assert not middles(sink.records(sinks.rows)) & set(ends), "a reader came to the middle of a checkpoint"


def test_answers_that_are_lost(sink: Topics, sinks: Sinks, proxy: Proxy) -> None:
    """The client cannot know what became of its requests, and asks again on another connection."""
    live = Live(sink, sinks)
    for kind in (PRODUCE, ADD_PARTITIONS_TO_TXN, END_TXN, INIT_PRODUCER_ID):
        least = proxy.trapped + (4 if kind == INIT_PRODUCER_ID else 3)
        proxy.trap(kind, Then.LOSE_ANSWER, 3)
        if kind == INIT_PRODUCER_ID:  # a new producer begins after what did not go well
            proxy.trap(END_TXN, Then.LOSE_ANSWER, 1)
        with live.fed():
            wait_for(lambda least=least: proxy.trapped >= least)
        live.wait()
    live.check()


def test_a_commit_that_comes_again_later(sink: Topics, sinks: Sinks, proxy: Proxy) -> None:
    """The connection breaks with the request to commit on its way, the client asks again and begins the next transaction; then
    the first request comes to the broker. It must not commit the half of that one."""
    live = Live(sink, sinks)
    chance = random.Random(1)
    with polled(sink, sinks.rows) as ends:
        for _ in range(6):
            caught = proxy.trapped
            proxy.trap(END_TXN, Then.DELIVER_LATE, 1, chance.uniform(0.2, 0.8))
            proxy.delay(to_client=0.02)  # transactions take so long that it meets one
            with live.fed():
                wait_for(lambda caught=caught: proxy.trapped > caught)
                time.sleep(1.0)
        proxy.restore()
        live.wait()
    live.check()
    assert not middles(sink.records(sinks.rows)) & set(ends), "a reader came to the middle of a checkpoint"


@pytest.mark.parametrize("how", [Then.CUT, Then.STALL], ids=["cut", "stalled"])
def test_an_outage_longer_than_the_broker_keeps_a_transaction(sink: Topics, sinks: Sinks, proxy: Proxy, how: Then) -> None:
    """It begins when all is sent but the request to commit: the broker gives the transaction up, and what was in it comes again."""
    live = Live(sink, sinks, **SHORT)
    caught = proxy.trapped
    proxy.trap(END_TXN, how)
    with live.fed():
        wait_for(lambda: proxy.trapped > caught)
        time.sleep(4.0)
        proxy.restore()
        began = time.monotonic()
    live.wait()
    assert time.monotonic() - began < WITHIN
    warnings = [each["message"] for each in events(live.check(), "notice") if each["level"] == "warning"]
    assert any("cannot be delivered now" in each for each in warnings), warnings
    topics = (sinks.rows, sinks.totals)
    sent, kept = (sum(len(sink.records(topic, committed=committed)) for topic in topics) for committed in (False, True))
    assert sent > kept, "no transaction was given up"


def test_connections_that_break_all_the_time(sink: Topics, sinks: Sinks, proxy: Proxy) -> None:
    live = Live(sink, sinks)
    chance = random.Random(1)
    with polled(sink, sinks.rows) as ends:
        with live.fed():
            for _ in range(12):
                time.sleep(chance.uniform(0.05, 0.5))
                proxy.cut()
                time.sleep(chance.uniform(0.0, 0.2))
                proxy.restore()
        live.wait()
    live.check()
    assert not middles(sink.records(sinks.rows)) & set(ends), "a reader came to the middle of a checkpoint"


def test_a_slow_cluster_still_knows_what_it_has(sink: Topics, proxy: Proxy, out: Callable[[str], str]) -> None:
    """To read a marker takes seconds: it must not pass for one that is not there."""
    fill(payments(100))

    def job(least: int) -> kappa.Job:
        made = kappa.Job("slow")
        made.write(stream_of(made).filter(col("amount") > least), to=kappa.KafkaTopic(out("a")))
        return made

    job(0).run(mode="reprocess", progress=False)
    proxy.delay(to_client=0.3)
    with pytest.raises(RefusedError, match="another plan"):
        job(5).run(mode="live", progress=False)


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_that_can_happen_to_a_connection_and_kills(sink: Topics, sinks: Sinks, proxy: Proxy, seed: int) -> None:
    chance = random.Random(seed)
    live = Live(sink, sinks, **SHORT)
    with live.fed(pause=0.3):
        for _ in range(40):
            kind = chance.choice([PRODUCE, INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, END_TXN, END_TXN])
            proxy.trap(kind, chance.choice(list(Then)), chance.randrange(1, 4), chance.uniform(0.1, 2.0))
            proxy.delay(to_client=chance.choice([0.0, 0.0, 0.05, 0.2]))
            time.sleep(chance.uniform(0.5, 3.0))
            if chance.random() < 0.3:
                live.process.kill()
                live.process.communicate()
            proxy.restore()
            if live.process.returncode is not None:
                live.process = sinks.start("live", chance.choice([1, 2, 3]), env=SHORT)
    live.wait()
    live.check()


# The catalog.


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Another process's transaction on the catalog."""
    with contextlib.closing(sqlite3.connect(place / "catalog.db", isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def check_copy(cluster: Topics, sinks: Sinks) -> None:
    """The topic and a table of the same rows hold the same, each once."""
    copy = Counter((row["id"], row["merchant"], row["amount"]) for row in kappa.read("t.copy"))
    topic = Counter((each.value["id"], each.value["merchant"], each.value["amount"]) for each in cluster.records(sinks.rows))
    assert copy == topic


@pytest.mark.parametrize("seconds", [4, pytest.param(40, marks=pytest.mark.soak)])
def test_a_locked_catalog_is_waited_for(sink: Topics, sinks: Sinks, place: Path, seconds: int) -> None:
    """40 s: SQLite's own patience ends before, and the commit is tried again."""
    sinks.write_also(COPY, "copy=t.copy")
    live = Live(sink, sinks)
    with live.fed():
        time.sleep(0.3)
        with locked(place):
            before = -1
            while before != sink.seen(sinks.rows):  # what was committed to the tables before comes to the topics
                before = sink.seen(sinks.rows)
                time.sleep(1.0)
            time.sleep(seconds)
            assert sink.seen(sinks.rows) == before, "a topic was written before the tables"
    live.wait()
    live.check()
    check_copy(sink, sinks)


@pytest.mark.parametrize("env", [{}, pytest.param({"KAPPA_FAILPOINT": "K10:1"}, marks=pytest.mark.soak)], ids=["killed", "K10"])
def test_killed_while_the_catalog_is_locked(sink: Topics, sinks: Sinks, place: Path, env: dict[str, Any]) -> None:
    """The next process finds manifests of which no output knows, and waits for the catalog too."""
    sinks.write_also(COPY, "copy=t.copy")
    live = Live(sink, sinks)
    with locked(place):
        live.give(2_000)
        time.sleep(0.5)
        live.process.kill()
        live.process.communicate()
        live.process = sinks.start("live", 2, env=env)
        live.give(2_000)
        time.sleep(2.0)
    if env:
        live.process.communicate(timeout=WITHIN)
        live.process = sinks.start("live", 2)
    live.wait()
    live.check()
    check_copy(sink, sinks)


@pytest.mark.soak
def test_a_catalog_that_is_locked_for_long_is_waited_for_until_the_job_is_to_end(
    sink: Topics, sinks: Sinks, place: Path
) -> None:
    sinks.write_also(COPY, "copy=t.copy")
    live = Live(sink, sinks)
    with locked(place):
        for _ in range(10):  # as many checkpoints as may wait, and one more epoch
            live.give(200)
            time.sleep(0.5)
        time.sleep(40)
        live.give(500)
        time.sleep(60)
        assert live.process.poll() is None, live.process.communicate()
        live.process.send_signal(signal.SIGTERM)
        _, errors = live.process.communicate(timeout=180)
    assert live.process.returncode == 5, errors
    waits = [each for each in events(errors, "notice") if "cannot be delivered now" in each["message"]]
    assert len(waits) > 1, errors
    assert events(errors, "progress")[-1]["lag"] >= 500, "it reads on while nothing can be delivered"
    live.process = sinks.start("live", 2)
    live.give(2_000)
    live.wait()
    live.check()
    check_copy(sink, sinks)
