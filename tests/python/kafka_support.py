"""Fixtures with real Apache Kafka brokers (tests/kafka). A broker starts when the first test asks for it.

Where Java or Maven is missing these tests are skipped and the summary says why; with KAPPA_REQUIRE_KAFKA=1 they fail instead.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from jars import Missing, class_path, java
from properties import Shape

if TYPE_CHECKING:
    from admin import Kafka
    from proxy import Proxy
    from sink_support import Sinks, Topics

__all__ = [
    "kafka",
    "kafka_proxy",
    "kafka_tool",
    "out",
    "secure_kafka",
    "sink",
    "sinks",
    "three_brokers",
    "tiered_kafka",
    "topic",
]


def missing(reason: str) -> NoReturn:
    """Ends a test that cannot run here."""
    if os.environ.get("KAPPA_REQUIRE_KAFKA") == "1":
        pytest.fail(f"KAPPA_REQUIRE_KAFKA=1, but {reason}", pytrace=False)
    pytest.skip(f"NOT CHECKED against Apache Kafka: {reason}")


@contextmanager
def started(shape: Shape) -> Iterator[Kafka]:
    """A cluster of its own, for as long as the block runs."""
    try:
        class_path()
    except Missing as error:
        missing(str(error))
    from admin import Kafka
    from cluster import Cluster

    with Cluster(shape) as cluster:
        yield Kafka(cluster.bootstrap, cluster=cluster)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One broker for the tests of the session, with a proxy before its second listener (`kafka.by("PROXIED")`)."""
    with started(Shape(proxied=True)) as made:
        yield made


@pytest.fixture
def kafka_proxy(kafka: Kafka) -> Iterator[Proxy]:
    """The proxy of `kafka`, restored when the test ends."""
    proxy = kafka.cluster.proxies[1]
    yield proxy
    proxy.restore()


@pytest.fixture(scope="module")
def three_brokers() -> Iterator[Kafka]:
    """Three brokers; topics have three replicas, and need two of them in sync."""
    with started(Shape(nodes=3, proxied=True)) as made:
        yield made


@pytest.fixture(scope="module")
def tiered_kafka() -> Iterator[Kafka]:
    """A broker with tiered storage for topics with `properties.TIERED_TOPIC`."""
    with started(Shape(tiered=True)) as made:
        yield made


@pytest.fixture(scope="module")
def secure_kafka() -> Iterator[Kafka]:
    """A broker with the listeners of `security.LISTENERS`, reached by `secure_kafka.by("SCRAM256")`."""
    with started(Shape(secure=True)) as made:
        yield made


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no topic has yet. What the test did to its brokers is undone when it ends."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.name)[:80].strip("-")
    yield f"{name}-{uuid.uuid4().hex[:8]}"
    for fixture in ("kafka", "three_brokers", "tiered_kafka", "secure_kafka"):
        if fixture in request.fixturenames:
            request.getfixturevalue(fixture).cluster.restore()


@pytest.fixture(scope="session")
def kafka_tool() -> Callable[..., list[str]]:
    """Makes the command line of one of Kafka's own tools: class name, arguments."""
    try:
        path = class_path()
    except Missing as error:
        missing(str(error))
    return lambda tool, *words: [java(), "-cp", path, tool, *words]


@pytest.fixture
def sink(kafka: Kafka, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topics]:
    """The cluster to which the test's jobs write topics."""
    from sink_support import Topics

    monkeypatch.setenv("KAPPA_SINK_URL", kafka.url)
    made = Topics(kafka.bootstrap, cluster=kafka.cluster)
    yield made
    made.close()


@pytest.fixture
def out(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the test's topics names that no topic has yet."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60].strip("-")
    run = uuid.uuid4().hex[:8]
    return lambda which: f"sink-{name}-{run}-{which}"


@pytest.fixture
def sinks(tmp_path: Path, out: Callable[[str], str]) -> Iterator[Sinks]:
    """The job of `sink_support`, to be run in processes; those that still run are killed when the test ends."""
    from sink_support import Sinks

    made = Sinks(tmp_path, out)
    yield made
    made.end()
