"""A TCP proxy between a client and a broker, to cut, stall, delay and restore what passes.

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

CHUNK = 1 << 16
HELD = 1 << 22  # so many bytes are held back in one direction before the sender is made to wait
TICK = 0.05


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

    def restore(self) -> None:
        """Everything passes again at once."""
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
        both = threading.Barrier(2)
        self._start(self._pump, client, broker, 0, both)
        self._start(self._pump, broker, client, 1, both)

    def _pump(self, source: socket.socket, sink: socket.socket, direction: int, both: threading.Barrier) -> None:
        """Passes on one direction of a connection until it ends."""
        with contextlib.suppress(OSError, ValueError):
            self._pass(source, sink, direction)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        if both.wait() == 0:
            with self._lock:
                self._connections -= {source, sink}
            source.close()
            sink.close()

    def _pass(self, source: socket.socket, sink: socket.socket, direction: int) -> None:
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
                waiting.append((time.monotonic() + self._delay[direction], data))
                held += len(data)


def _readable(connection: socket.socket, seconds: float) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _reset(connection: socket.socket) -> None:
    """Ends both directions; what is not yet sent is dropped when the socket is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
