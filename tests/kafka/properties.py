"""What goes into a broker's server.properties: a pure function of what is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Shape:
    """What kind of cluster to start."""

    nodes: int = 1
    tiered: bool = False
    """Tiered storage (KIP-405) with Kafka's own LocalTieredStorage; a topic asks for it with `TIERED_TOPIC`."""
    secure: bool = False
    """The listeners of `security.LISTENERS` besides the plain one."""
    proxied: bool = False
    """A second plain listener that advertises the port of a proxy (`Cluster.proxies`)."""
    heap: str = "512m"
    fast_start: bool = True
    """Only the quick compiler, and the serial collector: half the time to start. False for benches."""
    config: Mapping[str, str] = field(default_factory=dict)
    """Broker settings that replace those made here."""


TIERED_TOPIC = {"remote.storage.enable": "true", "segment.bytes": "1048576", "local.retention.bytes": "1"}
"""The settings of a topic whose rolled segments move to the tier within a second."""

TIER = {
    "remote.log.storage.system.enable": "true",
    "remote.log.storage.manager.class.name": "org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
    "remote.log.storage.manager.class.path": "",
    "remote.log.metadata.manager.listener.name": "PLAINTEXT",
    "rlmm.config.remote.log.metadata.topic.num.partitions": "2",
    "remote.log.manager.task.interval.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.initial.task.delay.ms": "500",
}

QUICK = {
    # Internal topics: created on first use, partition by partition.
    "offsets.topic.num.partitions": "2",
    "transaction.state.log.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
    # A lost broker is noticed after 3 s instead of 9 s.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # Compaction and open transactions are looked after at once, not every 15 s or 10 s.
    "log.cleaner.backoff.ms": "200",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # Records keep the timestamps that tests give them, however old.
    "log.retention.ms": "-1",
    "auto.create.topics.enable": "false",
}


def server_properties(
    shape: Shape,
    node: int,
    ports: Mapping[int, Mapping[str, int]],
    advertised: Mapping[str, int],
    folder: Path,
    security: Mapping[str, str],
) -> dict[str, str]:
    """The settings of one node. `ports` are those of all nodes by listener; `advertised` replaces ports of this one."""
    copies = str(min(3, shape.nodes))
    listeners = dict(ports[node])
    told = {name: advertised.get(name, port) for name, port in listeners.items() if name != "CONTROLLER"}
    protocols = {"CONTROLLER": "PLAINTEXT", "PLAINTEXT": "PLAINTEXT", "PROXIED": "PLAINTEXT"}
    made = {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": ",".join(f"{each}@{HOST}:{ports[each]['CONTROLLER']}" for each in sorted(ports)),
        "listeners": _addresses(listeners),
        "advertised.listeners": _addresses(told),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(folder / "data"),
        "default.replication.factor": copies,
        "min.insync.replicas": "2" if shape.nodes >= 3 else "1",
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": "2" if shape.nodes >= 3 else "1",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": "1",
        **QUICK,
    }
    if shape.tiered:
        made |= TIER
        made["rsm.config.dir"] = str(folder / "tier")
        made["rlmm.config.remote.log.metadata.topic.replication.factor"] = copies
    if security:
        map_ = made["listener.security.protocol.map"]
        made |= security
        made["listener.security.protocol.map"] = f"{map_},{security['listener.security.protocol.map']}"
    return {**made, **shape.config}


def text(properties: Mapping[str, str]) -> str:
    """As a Java properties file."""
    escaped = {key: value.replace("\\", "\\\\").replace("\n", "\\n") for key, value in properties.items()}
    return "".join(f"{key}={value}\n" for key, value in escaped.items())


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
