"""What is asked of the operating system and of a broker by hand: free ports, who serves, and the frames of its protocol."""

from __future__ import annotations

import contextlib
import random
import socket
import struct

from properties import HOST

PORTS = (20_000, 32_000)  # below those that the kernel gives to outgoing connections: a port is still free after a restart
METADATA, METADATA_VERSION = 3, 1
FIND_COORDINATOR, FIND_COORDINATOR_VERSION, OF_TRANSACTIONS = 10, 1, 1
END_TXN = 26
"""The kind of request that commits a transaction or aborts it."""


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
    answer = _ask(port, struct.pack(">hhih", METADATA, METADATA_VERSION, 1, -1) + struct.pack(">i", 0))
    return set() if answer is None else _broker_ids(answer)


def coordinator(port: int, transactional_id: str) -> int | None:
    """The node that coordinates the transactions of an id, by the word of a broker; none where it does not know one now."""
    key = transactional_id.encode()
    request = struct.pack(">hhih", FIND_COORDINATOR, FIND_COORDINATOR_VERSION, 1, -1)
    answer = _ask(port, request + struct.pack(">h", len(key)) + key + struct.pack(">b", OF_TRANSACTIONS))
    if answer is None:
        return None
    _, _, error, reason = struct.unpack_from(">iihh", answer)
    (node,) = struct.unpack_from(">i", answer, 12 + max(0, reason))
    return int(node) if error == 0 else None


class Frames:
    """Finds where requests or answers begin in a stream of bytes that comes in pieces."""

    def __init__(self, head: int) -> None:
        self._size = 4 + head  # the frame's length is before it
        self._head = bytearray()
        self._left = 0

    @property
    def whole(self) -> bool:
        """Whether all that has begun has come."""
        return not self._head and self._left == 0

    def feed(self, data: bytes) -> list[bytes]:
        """The first `head` bytes of each frame that is now known to have begun."""
        found = []
        rest = memoryview(data)
        while rest:
            if self._left:
                taken = min(self._left, len(rest))
                self._left -= taken
            else:
                taken = min(self._size - len(self._head), len(rest))
                self._head += rest[:taken]
                if len(self._head) == self._size:
                    self._left = int.from_bytes(self._head[:4], "big") - self._size + 4
                    found.append(bytes(self._head[4:]))
                    self._head.clear()
            rest = rest[taken:]
        return found


def _ask(port: int, request: bytes) -> bytes | None:
    """The answer to one request; none where there is none."""
    try:
        with socket.create_connection((HOST, port), timeout=2) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            stream = connection.makefile("rb")
            (size,) = struct.unpack(">i", stream.read(4))
            answer = stream.read(size)
    except (OSError, struct.error):
        return None
    return answer if len(answer) == size else None


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
