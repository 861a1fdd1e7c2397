"""What tests do to a broker and ask it, by librdkafka through `confluent-kafka`: nothing here is the project's own."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from cluster import Cluster
from security import LISTENERS

WITHIN = 30.0
COMPACTED = {"cleanup.policy": "compact", "segment.ms": "1", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1"}
"""The settings of a topic that is compacted as soon as a segment is rolled, which `wait_for_compaction` makes happen."""


class Record(NamedTuple):
    """A record, to write or read."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    timestamp_ms: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    offset: int | None = None

    @property
    def json(self) -> Any:
        """The value read as JSON."""
        return None if self.value is None else json.loads(self.value)


def row(value: Mapping[str, Any] | None, key: str | None = None, **more: Any) -> Record:
    """A record with a JSON object as its value; None is a tombstone."""
    encoded = None if value is None else json.dumps(value, separators=(",", ":")).encode()
    return Record(encoded, None if key is None else key.encode(), **more)


class Kafka:
    """A broker's administration, a producer and an independent reader.

    `config` holds what is needed to be let in (`Security.client`). Everything waits until the broker shows the effect.
    """

    def __init__(self, bootstrap: str, config: Mapping[str, Any] | None = None, cluster: Cluster | None = None) -> None:
        self.bootstrap = bootstrap
        self.config = {
            "bootstrap.servers": bootstrap,
            "topic.metadata.refresh.interval.ms": 1000,
            "socket.timeout.ms": 5000,  # a paused broker is not asked for a minute
            "log_level": 3,
            **(config or {}),
        }
        self._cluster = cluster
        self.admin = AdminClient(self.config)

    @property
    def url(self) -> str:
        """The address as the project's `log.url`."""
        return f"kafka://{self.bootstrap}"

    @property
    def cluster(self) -> Cluster:
        """The processes behind it."""
        assert self._cluster is not None
        return self._cluster

    def by(self, listener: str, config: Mapping[str, Any] | None = None) -> Kafka:
        """The same brokers by another of their listeners: one of `security.LISTENERS`, or PROXIED."""
        needed = self.cluster.security.client(listener) if self.cluster.security and listener in LISTENERS else {}
        return Kafka(self.cluster.address(listener), {**needed, **(config or {})}, self.cluster)

    # Topics.

    def create(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Creates a topic and waits until all its partitions have leaders."""
        _done(self.admin.create_topics([NewTopic(topic, partitions, -1, config=dict(config or {}))]))
        self._wait_for_partitions(topic, partitions)

    def delete(self, topic: str) -> None:
        """Deletes a topic and waits until it is gone."""
        _done(self.admin.delete_topics([topic]))
        until(lambda: topic not in self.admin.list_topics(timeout=WITHIN).topics, f"{topic} is still there")

    def recreate(self, topic: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Deletes a topic and creates another one with its name: the id differs, offsets start at 0 again."""
        before = self.topic_id(topic)
        self.delete(topic)
        self.create(topic, partitions, config)
        assert self.topic_id(topic) != before

    def topic_id(self, topic: str) -> str:
        """The topic's id, which no later topic of the name has."""
        return str(self.admin.describe_topics(TopicCollection([topic]))[topic].result(WITHIN).topic_id)

    def add_partitions(self, topic: str, total: int) -> None:
        """Grows a topic to so many partitions."""
        _done(self.admin.create_partitions([NewPartitions(topic, total)]))
        self._wait_for_partitions(topic, total)

    def partitions(self, topic: str) -> list[int]:
        """The partitions of a topic."""
        return sorted(self.admin.list_topics(topic, timeout=WITHIN).topics[topic].partitions)

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition; -1 while there is none, or nobody who says it."""
        with contextlib.suppress(KafkaException):
            return int(self.admin.list_topics(topic, timeout=WITHIN).topics[topic].partitions[partition].leader)
        return -1

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Moves the start of partitions to the given offsets."""
        _done(self.admin.delete_records([TopicPartition(topic, partition, offset) for partition, offset in before.items()]))
        until(lambda: {p: self.starts(topic)[p] for p in before} == dict(before), f"the log start of {topic} has not moved")

    def starts(self, topic: str) -> dict[int, int]:
        """The first offset of each partition."""
        return self._offsets(topic, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)

    def ends(self, topic: str, *, committed: bool = True) -> dict[int, int]:
        """The end of each partition: the last stable offset, or the high watermark."""
        level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
        return self._offsets(topic, OffsetSpec.latest(), level)

    def local_start(self, topic: str, partition: int = 0) -> int:
        """With tiered storage: the first offset that a broker still has on its own disk, by the names of its segments."""
        folders = [self.cluster.place(node) / "data" / f"{topic}-{partition}" for node in self.cluster.nodes]
        return min(int(segment.stem) for folder in folders for segment in folder.glob("*.log"))

    def stable_ends(self, topic: str) -> dict[int, int]:
        """The ends once no transaction is open any more. A commit is answered before its markers are written."""
        until(lambda: self.ends(topic) == self.ends(topic, committed=False), f"a transaction on {topic} stays open")
        return self.ends(topic)

    # Records in.

    def produce(
        self, topic: str, records: Iterable[Record | Mapping[str, Any]], config: Mapping[str, Any] | None = None
    ) -> int:
        """Writes records (mappings become JSON), each acknowledged by all replicas; how many."""
        producer = Producer({**self.config, "linger.ms": 5, "acks": "all", **(config or {})})
        count = _send(producer, topic, records)
        if left := producer.flush(WITHIN):
            raise TimeoutError(f"{left} of {count} records are not acknowledged after {WITHIN:.0f} s")
        return count

    def begin(self, topic: str, records: Iterable[Record | Mapping[str, Any]], transactional_id: str | None = None) -> Producer:
        """Writes records in a transaction that stays open, for `commit_transaction` or `abort_transaction` of the result."""
        producer = Producer({**self.config, "transactional.id": transactional_id or f"tests-{uuid.uuid4().hex}"})
        producer.init_transactions(WITHIN)
        producer.begin_transaction()
        _send(producer, topic, records)
        producer.flush(WITHIN)
        return producer

    def transaction(self, topic: str, records: Iterable[Record | Mapping[str, Any]], *, commit: bool) -> None:
        """Writes records in a transaction and ends it, and waits until its markers are written."""
        producer = self.begin(topic, records)
        if commit:
            producer.commit_transaction(WITHIN)
        else:
            producer.abort_transaction(WITHIN)
        self.stable_ends(topic)

    # Groups.

    def commit_group(self, group: str, topic: str, offsets: Mapping[int, int]) -> None:
        """Sets the committed offsets of a group that has no members."""
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(group, wanted)]
        for future in self.admin.alter_consumer_group_offsets(request).values():
            for each in future.result(WITHIN).topic_partitions:
                if each.error:
                    raise KafkaException(each.error)

    def group_offsets(self, group: str, topic: str) -> dict[int, int]:
        """The committed offsets of a group."""
        future = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
        found = future.result(WITHIN).topic_partitions
        return {each.partition: each.offset for each in found if each.topic == topic and each.offset != OFFSET_INVALID}

    # Records out.

    def read(self, topic: str, *, committed: bool = True, until_: Mapping[int, int] | None = None) -> list[Record]:
        """Every record from the start to the stable end (the high watermark without `committed`), by partition and offset."""
        ends = dict(until_ or (self.stable_ends(topic) if committed else self.ends(topic, committed=False)))
        level = "read_committed" if committed else "read_uncommitted"
        consumer = Consumer({
            **self.config,
            "group.id": f"tests-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "isolation.level": level,
            "fetch.wait.max.ms": 20,  # the end of a partition is answered so much later
        })  # fmt: skip
        try:
            starts = self.starts(topic)
            consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in ends])
            return sorted(_read(consumer, ends), key=lambda each: (each.partition, each.offset))
        finally:
            consumer.close()

    def wait_for_compaction(self, topic: str) -> list[Record]:
        """Rolls the segments of a `COMPACTED` topic by a record of its own in each partition (key "rolled"), and waits until
        every other key occurs once; the records without those."""
        for partition in self.partitions(topic):
            time.sleep(0.005)  # segment.ms
            self.produce(topic, [Record(b"{}", b"rolled", partition)])
        found: list[Record] = []

        def compacted() -> bool:
            found[:] = [each for each in self.read(topic) if each.key != b"rolled"]
            return len({(each.partition, each.key) for each in found}) == len(found)

        until(compacted, f"{topic} is not compacted")
        return found

    def _wait_for_partitions(self, topic: str, count: int) -> None:
        def led() -> bool:
            found = self.admin.list_topics(timeout=WITHIN).topics.get(topic)
            return (
                found is not None and len(found.partitions) == count and all(p.leader >= 0 for p in found.partitions.values())
            )

        until(led, f"{topic} has no {count} partitions with leaders")

    def _offsets(self, topic: str, spec: OffsetSpec, level: IsolationLevel) -> dict[int, int]:
        asked = {TopicPartition(topic, partition): spec for partition in self.partitions(topic)}
        futures = self.admin.list_offsets(asked, isolation_level=level)
        return {each.partition: future.result(WITHIN).offset for each, future in futures.items()}


def until(condition: Callable[[], bool], otherwise: str, within: float = WITHIN) -> None:
    """Waits until a condition holds; errors that pass by themselves do not end it."""
    end = time.monotonic() + within
    while True:
        cause = ""
        try:
            if condition():
                return
        except KafkaException as error:
            cause = f": {error}"
        if time.monotonic() > end:
            raise TimeoutError(f"{otherwise} after {within:.0f} s{cause}")
        time.sleep(0.02)


def _done(futures: Mapping[Any, Any]) -> None:
    for future in futures.values():
        future.result(WITHIN)


def _send(producer: Producer, topic: str, records: Iterable[Record | Mapping[str, Any]]) -> int:
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            errors.append(error)

    count = 0
    for each in records:
        record = each if isinstance(each, Record) else row(each)
        more: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        more |= {} if record.timestamp_ms is None else {"timestamp": record.timestamp_ms}
        more |= {"headers": list(record.headers)} if record.headers else {}
        while True:
            try:
                producer.produce(topic, record.value, record.key, on_delivery=delivered, **more)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        count += 1
    if producer.flush(WITHIN) == 0 and errors:
        raise KafkaException(errors[0])
    return count


def _read(consumer: Consumer, ends: Mapping[int, int]) -> Iterable[Record]:
    left = set(ends)
    last = time.monotonic()
    while left:
        for message in consumer.consume(10_000, timeout=0.05):
            last = time.monotonic()
            error, partition = message.error(), message.partition()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                if message.offset() >= ends[partition]:
                    left.discard(partition)
            elif error is not None:
                raise KafkaException(error)
            elif message.offset() < ends[partition]:
                yield _record(message)
            else:
                left.discard(partition)
        if time.monotonic() - last > WITHIN:
            raise TimeoutError(f"partitions {sorted(left)} do not come to their ends {dict(ends)}")


def _record(message: Any) -> Record:
    headers = message.headers() or []
    return Record(message.value(), message.key(), message.partition(), message.timestamp()[1], headers, message.offset())
