"""Starts, kills, pauses and stops brokers of Apache Kafka (KRaft; every node is broker and controller)."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

import jars
from processes import BrokerFailed, Keeper
from properties import HOST, Shape, server_properties, text
from proxy import Proxy
from security import LISTENERS, SCRAM_USERS, Security
from wire import free_ports, known_brokers

HERE = Path(__file__).resolve().parent
READY_WITHIN = 120.0
STOPPED_WITHIN = 60.0


class Cluster:
    """Brokers on free ports of 127.0.0.1.

    Without a folder the data is temporary and goes with the cluster, also if this process is killed. With a folder, data and
    ports are those of the last time. `with Cluster(Shape(nodes=3)) as cluster:` starts and closes it.
    """

    def __init__(self, shape: Shape = Shape(), folder: Path | None = None) -> None:  # noqa: B008 (it is frozen)
        self.shape = shape
        self.temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix="kappa-kafka-")) if folder is None else folder.resolve()
        self.nodes = list(range(1, shape.nodes + 1))
        self.proxies: dict[int, Proxy] = {}
        self.started_in: float | None = None
        self.security: Security | None = None
        self._pids: dict[int, int] = {}
        self._keeper = Keeper(self.folder if self.temporary else None)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Ports, certificates, settings and formatted folders: all but the processes."""
        saved = self.folder / "cluster.json"
        if self.shape.secure:
            self.security = Security(self.folder / "security")
        names = [
            "CONTROLLER",
            "PLAINTEXT",
            *(["PROXIED"] if self.shape.proxied else []),
            *(LISTENERS if self.shape.secure else []),
        ]
        if saved.exists():
            ports = json.loads(saved.read_text())
            self.ports = {int(node): ports[node] for node in ports}
            if self.nodes != list(self.ports) or any(sorted(names) != sorted(each) for each in self.ports.values()):
                raise BrokerFailed(f"{self.folder} holds a cluster of another shape; take another folder")
        else:
            free = iter(free_ports(len(names) * len(self.nodes)))
            self.ports = {node: {name: next(free) for name in names} for node in self.nodes}
        for node in self.nodes if self.shape.proxied else []:
            self.proxies[node] = Proxy(self.ports[node]["PROXIED"])
        for node in self.nodes:
            self._configure(node)
        if not saved.exists():
            self._format()
            saved.write_text(json.dumps(self.ports))

    def _configure(self, node: int) -> None:
        place = self.place(node)
        place.mkdir(exist_ok=True)
        (place / "tier").mkdir(exist_ok=True)
        advertised = {"PROXIED": self.proxies[node].port} if self.proxies else {}
        security = self.security.properties() if self.security else {}
        made = server_properties(self.shape, node, self.ports, advertised, place, security)
        (place / "server.properties").write_text(text(made))

    def _format(self) -> None:
        """Formats the first node's folder with Kafka's tool; the others get the same with an identity of their own."""
        first = self.place(self.nodes[0])
        words = ["format", "--cluster-id", _identity(), "--config", str(first / "server.properties")]
        for user in SCRAM_USERS if self.shape.secure else []:
            words += ["--add-scram", user]
        quick = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *self._archive("format")]
        command = [jars.java(), *quick, f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}", "-cp", jars.class_path()]
        done = subprocess.run([*command, "kafka.tools.StorageTool", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise BrokerFailed(f"Kafka's StorageTool could not format {first}: {done.stderr.strip() or done.stdout.strip()}")
        for node in self.nodes[1:]:
            data = self.place(node) / "data"
            shutil.copytree(first / "data", data)
            meta = (data / "meta.properties").read_text()
            meta = re.sub(r"(?m)^node\.id=.*$", f"node.id={node}", meta)
            (data / "meta.properties").write_text(re.sub(r"(?m)^directory\.id=.*$", f"directory.id={_identity()}", meta))

    @property
    def bootstrap(self) -> str:
        """The addresses for clients that are not stopped by anything."""
        return self.address("PLAINTEXT")

    def address(self, listener: str) -> str:
        """The addresses of all nodes for a listener; PROXIED gives those of the proxies."""
        if listener == "PROXIED":
            return ",".join(proxy.address for proxy in self.proxies.values())
        return ",".join(f"{HOST}:{self.ports[node][listener]}" for node in self.nodes)

    def place(self, node: int) -> Path:
        """The folder of a node."""
        return self.folder / f"node-{node}"

    def start(self, *nodes: int) -> None:
        """Starts nodes (all), or those of them that do not run, and waits until every running node serves and knows the others."""
        began = time.monotonic()
        for node in nodes or self.nodes:
            if not self.is_running(node):
                self._launch(node)
        self._wait_until_ready()
        self.started_in = time.monotonic() - began

    def kill(self, *nodes: int) -> None:
        """SIGKILL to nodes (all)."""
        self._end(nodes or self.nodes, signal.SIGKILL)

    def stop(self, *nodes: int) -> None:
        """An orderly end of nodes (all). Where it takes too long, because the others are gone, they are killed."""
        self._end(nodes or self.nodes, signal.SIGTERM)

    def pause(self, *nodes: int) -> None:
        """SIGSTOP to nodes (all): connections stay, nothing is answered."""
        for node in nodes or self.nodes:
            self._keeper.signal(node, signal.SIGSTOP)

    def resume(self, *nodes: int) -> None:
        """SIGCONT to nodes (all)."""
        for node in nodes or self.nodes:
            self._keeper.signal(node, signal.SIGCONT)

    def restore(self) -> None:
        """Whatever a test did: all nodes run, all proxies let everything pass."""
        for proxy in self.proxies.values():
            proxy.restore()
        self.resume(*(node for node in self.nodes if self.is_running(node)))
        self.start()

    def is_running(self, node: int) -> bool:
        """Whether the node's process is there (it may be paused)."""
        return node in self._pids and self._keeper.status(node) is None

    def pid(self, node: int) -> int:
        """The node's process."""
        return self._pids[node]

    def memory(self, node: int) -> tuple[int, int]:
        """Bytes of memory that the node's process holds now, and held at most."""
        status = Path(f"/proc/{self._pids[node]}/status").read_text()
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
        return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024

    def log(self, node: int, lines: int = 30) -> str:
        """The end of what a node has logged."""
        with contextlib.suppress(OSError):
            return "\n".join((self.place(node) / "broker.log").read_text(errors="replace").splitlines()[-lines:])
        return ""

    def close(self) -> None:
        """Ends all; temporary data is removed."""
        if not self.temporary:
            self.stop()
        self._keeper.close()
        for proxy in self.proxies.values():
            proxy.close()

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _archive(self, name: str) -> list[str]:
        """Java's options for its archive of classes."""
        path = jars.archive(name)
        return [f"-XX:SharedArchiveFile={path}"] if path.exists() else []

    def _launch(self, node: int) -> None:
        place = self.place(node)
        quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"] if self.shape.fast_start else []
        options = [f"-Xmx{self.shape.heap}", *quick, *self._archive("broker"), "-XX:+ExitOnOutOfMemoryError"]
        options += [f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}"]
        options += self.security.java_options() if self.security else []
        command = [jars.java(), *options, "-cp", jars.class_path(), "kafka.Kafka", str(place / "server.properties")]
        self._pids[node] = self._keeper.start(node, command, place / "broker.log")

    def _wait_until_ready(self) -> None:
        running = {node for node in self.nodes if self.is_running(node)}
        until = time.monotonic() + READY_WITHIN
        waiting = set(running)
        while waiting:
            for node in sorted(waiting):
                if not self.is_running(node):
                    raise BrokerFailed(f"node {node} ended while it started; the end of its log:\n{self.log(node)}")
                if running <= known_brokers(self.ports[node]["PLAINTEXT"]):
                    waiting.discard(node)
            if waiting and time.monotonic() > until:
                logs = "\n".join(f"node {node}:\n{self.log(node)}" for node in sorted(waiting))
                raise BrokerFailed(
                    f"nodes {sorted(waiting)} are not ready after {READY_WITHIN:.0f} s; their logs end with\n{logs}"
                )
            time.sleep(0.03)

    def _end(self, nodes: tuple[int, ...] | list[int], number: int) -> None:
        ending = [node for node in nodes if self.is_running(node)]
        for node in ending:
            self._keeper.signal(node, number)
            self._keeper.signal(node, signal.SIGCONT)  # a paused process would not see the first
        until = time.monotonic() + STOPPED_WITHIN
        while any(self.is_running(node) for node in ending):
            if time.monotonic() > until:
                for node in ending:
                    self._keeper.signal(node, signal.SIGKILL)
            time.sleep(0.02)


def _identity() -> str:
    """A random id in Kafka's form; its tools take a leading dash for an option."""
    while True:
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if not made.startswith("-"):
            return made
