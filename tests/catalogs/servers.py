"""Catalog servers for tests: PostgreSQL, and Iceberg's own REST catalog. Each has a folder of its own, listens on a free port of
127.0.0.1 and ends with the process that started it.

By hand: `.venv/bin/python tests/catalogs/servers.py COMMAND …` runs a command with `KAPPA_TEST_POSTGRES` and `KAPPA_TEST_REST` set to
the URLs of servers that are there for it alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OLDEST_POSTGRES = 13
PASSWORD = "s3cret/of:tests"
PR_SET_PDEATHSIG = 1


class Missing(Exception):
    """A server cannot be started on this machine; says why."""


class Server:
    """A process and its folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="kappa-catalog-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Any:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process, and waits until it answers."""
        raise NotImplementedError

    def close(self) -> None:
        """Kills the process and removes the folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """Ends the process as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, command: list[str], **more: Any) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with(os.getpid()), **more
            )

    def _wait(self, ready: Any) -> None:
        end = time.monotonic() + 60
        while not ready():
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{type(self).__name__} did not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)


class Postgres(Server):
    """PostgreSQL as the system has it. It refuses to run as root: then another user runs it."""

    def __init__(self, **settings: str) -> None:
        super().__init__()
        self._programs = postgres_programs()
        self._settings = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", **settings}
        self._as = {"user": unprivileged(), "group": unprivileged_group(), "extra_groups": []} if os.getuid() == 0 else {}
        self._data = self.folder / "data"

    @property
    def url(self) -> str:
        """For kappa, and for SQLAlchemy with `postgresql+psycopg`."""
        return self.url_by(self.port)

    def url_by(self, port: int) -> str:
        """The URL by way of a proxy."""
        return f"postgresql://kappa:{PASSWORD.replace('/', '%2F').replace(':', '%3A')}@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        if not self._data.exists():
            self._initialize()
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        self._run([str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings], **self._as)
        self._wait(self._is_ready)

    def kill(self) -> None:
        """Its other processes end when they miss the first; a new one does not start before that."""
        super().kill()
        if self._data.exists():
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def sql(self, text: str) -> str:
        """What psql answers."""
        command = [str(self._programs / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", self.url, "-c", text]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _initialize(self) -> None:
        if self._as:
            shutil.chown(self.folder, self._as["user"], self._as["group"])
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)  # the folder is the user's alone
        command = [str(self._programs / "initdb"), "-D", str(self._data), "-U", "kappa", "-A", "scram-sha-256"]
        command += ["--pwfile", str(password), "--no-sync", "-E", "UTF8", "--locale", "C"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False, **self._as)
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stderr}")

    def _is_ready(self) -> bool:
        command = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port), "-d", "postgres"]
        return subprocess.run(command, check=False).returncode == 0


class RestCatalog(Server):
    """Iceberg's own REST catalog, in Java, over a SQLite file and a warehouse of its own."""

    @property
    def url(self) -> str:
        """The URL of the catalog."""
        return self.url_by(self.port)

    def url_by(self, port: int) -> str:
        """The URL by way of a proxy."""
        return f"http://127.0.0.1:{port}"

    def start(self) -> None:
        path, port_file = class_path(), self.folder / "port"
        port_file.unlink(missing_ok=True)
        words = [str(self.folder / "catalog.db"), f"file://{self.folder}/warehouse", str(port_file), str(self.port)]
        flags = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", "-Xshare:auto"]
        self._run(["java", *flags, "-cp", path, str(HERE / "RestCatalog.java"), *words])
        self._wait(port_file.exists)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def die_with(parent: int) -> Any:
    """In a new child: the kernel kills it when its parent ends."""
    prctl = ctypes.CDLL(None).prctl

    def die() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return die


def unprivileged() -> str:
    """Whom root lets PostgreSQL run as."""
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def unprivileged_group() -> int:
    """The group of that user."""
    return pwd.getpwnam(unprivileged()).pw_gid


@functools.cache
def postgres_programs() -> Path:
    """Where PostgreSQL's programs are: Debian keeps the server's off the search path."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    for folder in sorted(found, key=version_of, reverse=True):
        if version_of(folder) >= OLDEST_POSTGRES:
            return folder
    raise Missing(f"PostgreSQL {OLDEST_POSTGRES} or newer is missing")


@functools.cache
def version_of(programs: Path) -> int:
    """The major version of a PostgreSQL."""
    said = subprocess.run([str(programs / "postgres"), "--version"], capture_output=True, text=True, check=False).stdout
    number = re.search(r"(\d+)", said)
    return int(number[1]) if number else 0


@functools.cache
def class_path() -> str:
    """A class path with the REST catalog, which classpath.sh fetches once for a machine."""
    if shutil.which("javac") is None:
        raise Missing("a Java development kit (javac) is missing")
    done = subprocess.run(
        [str(HERE.parent / "classpath.sh"), "catalogs", "Iceberg's REST catalog"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or ["classpath.sh failed"]
        raise Missing(lines[-1].removeprefix("SKIPPED: "))
    return done.stdout.strip()


def main() -> int:
    """Runs a command beside the servers that can be had."""
    environment = dict(os.environ)
    servers = []
    try:
        for variable, kind in (("KAPPA_TEST_POSTGRES", Postgres), ("KAPPA_TEST_REST", RestCatalog)):
            try:
                server = kind()
            except Missing as error:
                print(f"SKIPPED: {error}; what needs this catalog is not tested", file=sys.stderr)
                continue
            servers.append(server)
            try:
                server.start()
            except Missing as error:
                print(f"SKIPPED: {error}; what needs this catalog is not tested", file=sys.stderr)
                continue
            environment[variable] = server.url
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
    finally:
        for server in servers:
            server.close()


if __name__ == "__main__":
    sys.exit(main())
