"""The brokers that other tests rely on do what they are asked to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kafka_support import missing
from properties import TIERED_TOPIC
from proxy import Then

if TYPE_CHECKING:
    from admin import Kafka
    from proxy import Proxy

confluent_kafka = pytest.importorskip("confluent_kafka")
pytestmark = pytest.mark.slow
KAFKA = Path(__file__).resolve().parents[1] / "kafka"
PRODUCE = 0
"""Kafka's number of the request."""
IMPATIENT = {"message.timeout.ms": 1500, "socket.timeout.ms": 1000, "reconnect.backoff.max.ms": 200}


def numbers(count: int, first: int = 0) -> list[dict[str, int]]:
    return [{"n": n} for n in range(first, first + count)]


def read_numbers(kafka: Kafka, topic: str, **more: Any) -> list[int]:
    return sorted(record.json["n"] for record in kafka.read(topic, **more))


def test_records_come_back_as_they_were_written(kafka: Kafka, topic: str) -> None:
    from admin import row

    kafka.create(topic, partitions=3)
    written = [
        row({"n": n}, f"k{n}", partition=n % 3, timestamp_ms=1_000 + n, headers=[("trace", b"\x00\xff"), ("empty", None)])
        for n in range(30)
    ]
    assert kafka.produce(topic, [*written, row(None, "gone", partition=0)]) == 31
    read = kafka.read(topic)
    assert [each.offset for each in read] == [*range(11), *range(10), *range(10)]
    tombstone = read.pop(10)
    assert (tombstone.key, tombstone.value) == (b"gone", None)
    assert [each._replace(offset=None) for each in read] == sorted(written, key=lambda each: (each.partition, each.json["n"]))


def test_an_aborted_transaction_is_seen_by_nobody(kafka: Kafka, topic: str) -> None:
    kafka.create(topic)
    kafka.transaction(topic, numbers(10), commit=True)
    kafka.transaction(topic, numbers(10, 100), commit=False)
    assert read_numbers(kafka, topic) == list(range(10))
    assert read_numbers(kafka, topic, committed=False) == [*range(10), *range(100, 110)]
    assert kafka.ends(topic) == {0: 22}  # a marker each


def test_an_open_transaction_holds_the_stable_end(kafka: Kafka, topic: str) -> None:
    kafka.create(topic)
    kafka.produce(topic, numbers(5))
    open_ = kafka.begin(topic, numbers(5, 5))
    assert (kafka.ends(topic), kafka.ends(topic, committed=False)) == ({0: 5}, {0: 10})
    open_.commit_transaction(30)
    assert kafka.stable_ends(topic) == {0: 11}
    assert read_numbers(kafka, topic) == list(range(10))


def test_topics_are_cut_grown_and_made_again(kafka: Kafka, topic: str) -> None:
    kafka.create(topic, partitions=2)
    kafka.produce(topic, [{"n": 1}] * 100)
    kafka.delete_records(topic, {0: kafka.ends(topic)[0]})
    assert len(kafka.read(topic)) == 100 - kafka.starts(topic)[0]
    kafka.add_partitions(topic, 3)
    assert kafka.partitions(topic) == [0, 1, 2]
    before = kafka.topic_id(topic)
    kafka.recreate(topic)
    assert kafka.topic_id(topic) != before
    assert kafka.ends(topic) == {0: 0}


def test_a_group_has_offsets(kafka: Kafka, topic: str) -> None:
    kafka.create(topic, partitions=2)
    kafka.commit_group(f"group-{topic}", topic, {0: 7})
    assert kafka.group_offsets(f"group-{topic}", topic) == {0: 7}


def test_compaction_leaves_the_last_of_each_key(kafka: Kafka, topic: str) -> None:
    from admin import COMPACTED, row

    kafka.create(topic, config=COMPACTED)
    kafka.produce(topic, [row({"n": n}, f"k{n % 5}") for n in range(100)])
    left = kafka.wait_for_compaction(topic)
    assert {(each.key, each.json["n"]) for each in left} == {(f"k{n % 5}".encode(), n) for n in range(95, 100)}
    assert all(each.offset == each.json["n"] for each in left)


def test_a_killed_broker_comes_back_with_its_records(kafka: Kafka, topic: str) -> None:
    kafka.create(topic)
    kafka.produce(topic, numbers(1000))
    cluster, address, pid = kafka.cluster, kafka.bootstrap, kafka.cluster.pid(1)
    cluster.kill()
    assert not cluster.is_running(1)
    cluster.start()
    assert (cluster.bootstrap, cluster.pid(1) != pid) == (address, True)
    assert read_numbers(kafka, topic) == list(range(1000))


def test_a_paused_broker_answers_once_it_is_resumed(kafka: Kafka, topic: str) -> None:
    from wire import known_brokers

    port = kafka.cluster.ports[1]["PLAINTEXT"]
    assert known_brokers(port) == {1}
    kafka.cluster.pause()
    assert known_brokers(port) == set()
    assert kafka.cluster.is_running(1)
    kafka.cluster.resume()
    assert known_brokers(port) == {1}


def test_a_cut_connection_delivers_nothing_until_it_is_restored(kafka: Kafka, kafka_proxy: Proxy, topic: str) -> None:
    from confluent_kafka import KafkaException

    proxied = kafka.by("PROXIED", IMPATIENT)
    kafka.create(topic)
    proxied.produce(topic, numbers(10))
    assert kafka_proxy.connections > 0
    kafka_proxy.cut()
    with pytest.raises(KafkaException, match="timed out"):
        proxied.produce(topic, numbers(10, 10))
    assert kafka_proxy.connections == 0
    assert read_numbers(kafka, topic) == list(range(10))
    kafka_proxy.restore()
    proxied.produce(topic, numbers(10, 20))
    assert read_numbers(kafka, topic) == [*range(10), *range(20, 30)]


def test_a_stalled_connection_stays_and_passes_nothing(kafka: Kafka, kafka_proxy: Proxy, topic: str) -> None:
    kafka.create(topic)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.by("PROXIED").bootstrap, "linger.ms": 0})
    producer.produce(topic, b'{"n":0}')
    assert producer.flush(10) == 0
    before = kafka_proxy.connections
    kafka_proxy.stall()
    producer.produce(topic, b'{"n":1}')
    assert producer.flush(0.5) == 1
    assert (kafka_proxy.connections, kafka.ends(topic)) == (before, {0: 1})
    kafka_proxy.restore()
    assert producer.flush(10) == 0
    assert read_numbers(kafka, topic) == [0, 1]


@pytest.mark.parametrize("direction", ["to_broker", "to_client"])
def test_a_delay_lets_everything_pass_later(kafka: Kafka, kafka_proxy: Proxy, direction: str, topic: str) -> None:
    kafka.create(topic)
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka.by("PROXIED").bootstrap, "linger.ms": 0})

    def seconds(n: int) -> float:
        began = time.monotonic()
        producer.produce(topic, b'{"n":%d}' % n)
        assert producer.flush(10) == 0
        return time.monotonic() - began

    seconds(0)
    kafka_proxy.delay(**{direction: 0.4})
    assert seconds(1) >= 0.4
    kafka_proxy.restore()
    assert read_numbers(kafka, topic) == [0, 1]


@pytest.mark.parametrize("then", list(Then))
def test_a_trap_catches_a_request(kafka: Kafka, kafka_proxy: Proxy, then: Then, topic: str) -> None:
    kafka.create(topic)
    settings = {"bootstrap.servers": kafka.by("PROXIED").bootstrap, "linger.ms": 0, "enable.idempotence": True}
    producer = confluent_kafka.Producer(settings)
    producer.produce(topic, b'{"n":0}')
    assert producer.flush(10) == 0
    before = kafka_proxy.trapped
    kafka_proxy.trap(PRODUCE, then, seconds=0.5)
    began = time.monotonic()
    producer.produce(topic, b'{"n":1}')
    if then in (Then.CUT, Then.STALL):
        assert producer.flush(0.5) == 1
        assert kafka.ends(topic) == {0: 1}
        kafka_proxy.restore()
    assert producer.flush(30) == 0
    assert then is not Then.DELAY_ANSWER or time.monotonic() - began >= 0.5
    assert kafka_proxy.trapped == before + 1
    assert read_numbers(kafka, topic) == [0, 1]  # sent twice, where the client had no answer


def test_old_records_come_from_the_tier(tiered_kafka: Kafka, topic: str) -> None:
    from admin import until

    tiered_kafka.create(topic, config=TIERED_TOPIC)
    padding = "x" * 1000
    tiered_kafka.produce(topic, ({"n": n, "padding": padding} for n in range(5000)))
    until(lambda: tiered_kafka.local_start(topic) > 2000, "nothing has moved to the tier")
    assert tiered_kafka.starts(topic) == {0: 0}
    assert list((tiered_kafka.cluster.place(1) / "tier").rglob("*.log"))
    assert read_numbers(tiered_kafka, topic) == list(range(5000))


@pytest.mark.parametrize("listener", ["TLS", "MTLS", "PLAIN", "SCRAM256", "SCRAM512", "OAUTH"])
def test_who_shows_what_a_listener_asks_for_is_let_in(secure_kafka: Kafka, listener: str, topic: str) -> None:
    client = secure_kafka.by(listener)
    client.create(topic)
    client.produce(topic, numbers(10))
    assert read_numbers(client, topic) == list(range(10))


@pytest.mark.parametrize(("listener", "signed"), [("OAUTH", False), ("OIDC", True)])
def test_a_token_may_come_from_a_callback(secure_kafka: Kafka, listener: str, signed: bool, topic: str) -> None:
    security = secure_kafka.cluster.security
    assert security is not None
    asked: list[str] = []

    def token(_: str) -> tuple[str, float]:
        asked.append(listener)
        return security.token(signed=signed)

    own = {"enable.sasl.oauthbearer.unsecure.jwt": "false", "sasl.oauthbearer.config": "", "oauth_cb": token}
    client = secure_kafka.by(listener, own)
    client.create(topic)
    client.produce(topic, numbers(10))
    assert read_numbers(client, topic) == list(range(10))
    assert asked


def test_a_token_may_come_from_an_endpoint(secure_kafka: Kafka, topic: str) -> None:
    from security import TokenEndpoint

    assert secure_kafka.cluster.security is not None
    with TokenEndpoint(secure_kafka.cluster.security) as endpoint:
        client = secure_kafka.by("OIDC", endpoint.client())
        client.create(topic)
        client.produce(topic, numbers(10))
        assert read_numbers(client, topic) == list(range(10))


STRANGER = "ssl.ca.location"  # a certificate that has not signed the broker's


@pytest.mark.parametrize(
    ("listener", "wrong", "reason"),
    [
        ("TLS", {STRANGER: "client.pem"}, "certificate verify failed"),
        ("MTLS", {"ssl.certificate.location": "", "ssl.key.location": ""}, "alert bad certificate|alert certificate required"),
        ("PLAIN", {"sasl.password": "wrong"}, "Authentication failed"),
        ("SCRAM256", {"sasl.password": "wrong"}, "Authentication failed"),
        ("SCRAM512", {"sasl.username": "mallory"}, "Authentication failed"),
        (
            "OIDC",
            {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=alice"},
            "invalid_token",
        ),
    ],
)
def test_who_does_not_is_not(secure_kafka: Kafka, listener: str, wrong: dict[str, str], reason: str) -> None:
    security = secure_kafka.cluster.security
    assert security is not None
    config = {key: value for key, value in {**security.client(listener), **wrong}.items() if value}
    if STRANGER in wrong:
        config[STRANGER] = str(security.folder / wrong[STRANGER])
    errors: list[str] = []
    client = confluent_kafka.Producer(
        {
            "bootstrap.servers": secure_kafka.cluster.address(listener),
            "error_cb": lambda error: errors.append(error.str()),
            **config,
        }
    )
    end = time.monotonic() + 20
    while not errors and time.monotonic() < end:
        client.poll(0.1)
    assert errors
    assert re.search(reason, errors[0])


def test_three_brokers_go_on_with_two(three_brokers: Kafka, topic: str) -> None:
    three_brokers.create(topic, partitions=3)
    three_brokers.produce(topic, numbers(300))
    leader = three_brokers.leader(topic)
    three_brokers.cluster.kill(leader)
    three_brokers.produce(topic, numbers(300, 300))
    assert three_brokers.leader(topic) != leader
    assert read_numbers(three_brokers, topic) == list(range(600))
    three_brokers.cluster.start()
    assert read_numbers(three_brokers, topic) == list(range(600))


@pytest.fixture
def command_line(kafka: Kafka, tmp_path: Path) -> Iterator[Any]:
    """Starts `broker.py start` on a folder, and gives the process and the address."""
    children = []

    def run() -> tuple[subprocess.Popen[bytes], str]:
        address = tmp_path / "address"
        address.unlink(missing_ok=True)
        words = ["start", "--data", str(tmp_path / "data"), "--address-file", str(address)]
        child = subprocess.Popen([sys.executable, str(KAFKA / "broker.py"), *words], stdout=subprocess.DEVNULL)
        children.append(child)
        while not address.exists():
            assert child.poll() is None
            time.sleep(0.02)
        return child, address.read_text().strip()

    yield run
    for child in children:
        child.kill()
        child.wait()


def test_the_command_line_keeps_data_and_address(command_line: Any, topic: str) -> None:
    from admin import Kafka, until
    from wire import known_brokers

    first, address = command_line()
    kafka = Kafka(address)
    kafka.create(topic)
    kafka.produce(topic, numbers(10))
    first.kill()
    port = int(address.rsplit(":", 1)[1])
    until(lambda: not known_brokers(port), "the broker outlives a killed parent", 5)
    second, again = command_line()
    assert again == address
    assert read_numbers(Kafka(again), topic) == list(range(10))
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert not known_brokers(port)


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from processes import Keeper
keeper = Keeper(Path(sys.argv[2]))
print(keeper.start(1, ["sleep", "600"], Path(sys.argv[2]) / "log"), keeper._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("dies", ["parent", "keeper"])
def test_nothing_is_left_when_the_parent_is_killed(dies: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    words = [sys.executable, "-c", PARENT, str(KAFKA), str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, keeper = map(int, parent.stdout.readline().split())
        os.kill(parent.pid if dies == "parent" else keeper, signal.SIGKILL)
        end = time.monotonic() + 5
        while _runs(child) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _runs(child)
        while dies == "parent" and folder.exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert folder.exists() == (dies == "keeper")  # which nobody can do for it
        parent.kill()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_skip_is_a_failure_where_kafka_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAPPA_REQUIRE_KAFKA", raising=False)
    with pytest.raises(pytest.skip.Exception, match="NOT CHECKED against Apache Kafka: Java is missing"):
        missing("Java is missing")
    monkeypatch.setenv("KAPPA_REQUIRE_KAFKA", "1")
    with pytest.raises(pytest.fail.Exception, match="Java is missing"):
        missing("Java is missing")
