"""What is asked of the operating system and of a broker by hand: free ports, and who serves."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

from properties import HOST

PORTS = (20_000, 32_000)  # below those that the kernel gives to outgoing connections: a port is still free after a restart
METADATA, METADATA_VERSION = 3, 1


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does
            probe.bind((HOST, port))
            if port not in found:
                found.append(port)
    return found


def known_brokers(port: int) -> set[int]:
    """The ids that a broker's answer to a Metadata request names; empty where it does not answer."""
    request = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, -1) + struct.pack(">i", 0)
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.makefile("rb")
            (size,) = struct.unpack(">i", answer.read(4))
            return _broker_ids(answer.read(size))
    except (OSError, struct.error):
        return set()


def _broker_ids(answer: bytes) -> set[int]:
    _, count = struct.unpack_from(">ii", answer)
    at, found = 8, set()
    for _ in range(count):
        (node,) = struct.unpack_from(">i", answer, at)
        found.add(node)
        at += 4
        at += 2 + struct.unpack_from(">h", answer, at)[0] + 4  # host, port
        at += 2 + max(0, struct.unpack_from(">h", answer, at)[0])  # rack
    return found
