"""A TCP proxy between a client and a broker, to cut, stall, delay and restore what passes, and to lose single answers.

Kafka's clients follow the addresses that a broker advertises, so the broker must advertise the proxy's port: `Cluster(proxied=True)`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from wire import Frames

CHUNK = 1 << 16
HELD = 1 << 22  # so many bytes are held back in one direction before the sender is made to wait
TICK = 0.05


class Then(Enum):
    """What becomes of a request that a trap has caught."""

    LOSE_ANSWER = "it passes, and instead of its answer the connection ends: the client does not know what it has done"
    DELAY_ANSWER = "it passes, and its answer comes later"
    DELIVER_LATE = "its connection ends, and it comes to the broker later, when the client has asked again"
    CUT = "it does not pass, and all connections end until `restore`"
    STALL = "from it on nothing passes until `restore`"


@dataclass
class Trap:
    """What happens to the next requests of a kind."""

    then: Then
    times: int
    seconds: float


@dataclass
class Passage:
    """What the two directions of a connection know of each other."""

    requests: Frames = field(default_factory=lambda: Frames(8))
    answers: Frames = field(default_factory=lambda: Frames(4))
    caught: dict[bytes, Trap] = field(default_factory=dict)
    """By their correlation ids, requests whose answers are lost or late."""


class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on to a port there."""

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._cut = False
        self._stalled = False
        self._delay = (0.0, 0.0)
        self._traps: dict[int, Trap] = {}
        self.trapped = 0
        """How many requests a trap has caught."""
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def address(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections pass now."""
        with self._lock:
            return len(self._connections) // 2

    def cut(self) -> None:
        """Ends all connections, and each new one as soon as it is made."""
        self._cut = True
        with self._lock:
            for connection in self._connections:
                _reset(connection)

    def stall(self) -> None:
        """Connections stay, and new ones are accepted, but nothing passes: as when a cable is pulled."""
        self._stalled = True

    def delay(self, *, to_broker: float = 0.0, to_client: float = 0.0) -> None:
        """From now on everything passes so many seconds later, in each direction."""
        self._delay = (to_broker, to_client)

    def trap(self, kind: int, then: Then, times: int = 1, seconds: float = 0.0) -> None:
        """Catches the next requests of a kind (Kafka's number of it)."""
        with self._lock:
            self._traps[kind] = Trap(then, times, seconds)

    def restore(self) -> None:
        """Everything passes again at once."""
        with self._lock:
            self._traps.clear()
        self._cut = self._stalled = False
        self._delay = (0.0, 0.0)

    def close(self) -> None:
        """Ends the proxy."""
        self._closed = True
        self.cut()
        self._listener.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        threading.Thread(target=work, args=args, daemon=True, name=f"proxy {self.port}").start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                if not _readable(self._listener, TICK):
                    continue
                client, _ = self._listener.accept()
            except (OSError, ValueError):
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            if self._cut:
                raise OSError("cut")
            broker = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            _reset(client)
            client.close()
            return
        for end in (client, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(None)
        with self._lock:
            self._connections |= {client, broker}
            if self._cut:  # between the check above and now
                _reset(client)
        both, passage = threading.Barrier(2), Passage()
        self._start(self._pump, client, broker, 0, both, passage)
        self._start(self._pump, broker, client, 1, both, passage)

    def _pump(
        self, source: socket.socket, sink: socket.socket, direction: int, both: threading.Barrier, passage: Passage
    ) -> None:
        """Passes on one direction of a connection until it ends."""
        with contextlib.suppress(OSError, ValueError):
            self._pass(source, sink, direction, passage)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if both.wait() == 0:
            with self._lock:
                self._connections -= {source, sink}
            source.close()
            sink.close()

    def _pass(self, source: socket.socket, sink: socket.socket, direction: int, passage: Passage) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        held = 0
        ended = False
        while not self._cut and (waiting or not ended):
            now = time.monotonic()
            while waiting and not self._stalled and waiting[0][0] <= now:
                data = waiting.popleft()[1]
                held -= len(data)
                sink.sendall(data)
            pause = TICK if self._stalled or not waiting else max(0.0, min(TICK, waiting[0][0] - now))
            if ended or held >= HELD:
                time.sleep(pause)
            elif _readable(source, pause):
                data = source.recv(CHUNK)
                ended = not data
                trap = self._catch(passage, data) if direction == 0 else self._caught(passage, data)
                if trap is not None and trap.then is Then.DELIVER_LATE:
                    self._deliver(source, sink, passage, b"".join([*(each for _, each in waiting), data]), trap.seconds)
                if trap is not None and trap.then is not Then.DELAY_ANSWER:
                    return
                seconds = self._delay[direction] + (trap.seconds if trap is not None else 0.0)
                waiting.append((time.monotonic() + seconds, data))
                held += len(data)

    def _catch(self, passage: Passage, data: bytes) -> Trap | None:
        """Looks at what a client sends, and springs the trap; gives it back if the request comes to the broker late."""
        for head in passage.requests.feed(data):
            with self._lock:
                trap = self._traps.get(int.from_bytes(head[:2], "big"))
                if trap is None or trap.times == 0:
                    continue
                trap.times -= 1
                self.trapped += 1
            if trap.then is Then.DELIVER_LATE:
                return trap
            if trap.then is Then.CUT:
                self.cut()
            elif trap.then is Then.STALL:
                self.stall()
            else:
                passage.caught[head[4:]] = trap
        return None

    def _caught(self, passage: Passage, data: bytes) -> Trap | None:
        """Looks at what a broker answers: the trap that has caught the request."""
        found = [passage.caught.pop(head) for head in passage.answers.feed(data) if head in passage.caught]
        return found[0] if found else None

    def _deliver(self, client: socket.socket, broker: socket.socket, passage: Passage, data: bytes, seconds: float) -> None:
        """Ends a client's connection, and delivers the last of it later."""
        while not passage.requests.whole and (more := client.recv(CHUNK)):
            passage.requests.feed(more)
            data += more
        _reset(client)
        time.sleep(seconds)
        broker.sendall(data)
        time.sleep(1.0)  # the broker may drop what it has not read when the connection ends


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _reset(connection: socket.socket) -> None:
    """Ends both directions; what is not yet sent is dropped when the socket is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
