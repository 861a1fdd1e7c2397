"""Fixtures with real catalog servers (tests/catalogs). One starts when the first test asks for it.

The kind `plain` is the REST catalog as a server that does not offer `transactions/commit`.

Where PostgreSQL or Java is missing these tests are skipped and the summary says why; with KAPPA_REQUIRE_CATALOGS=1 they fail instead.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from servers import Missing, Postgres, RestCatalog, Server

__all__ = ["catalog", "plain_catalog", "postgres", "rest_catalog"]


def started(kind: type[Server]) -> Iterator[Any]:
    """A server, for as long as the fixture lasts."""
    try:
        with kind() as server:
            yield server
    except Missing as error:
        if os.environ.get("KAPPA_REQUIRE_CATALOGS") == "1":
            pytest.fail(f"KAPPA_REQUIRE_CATALOGS=1, but {error}", pytrace=False)
        pytest.skip(f"NOT CHECKED against {kind.__name__}: {error}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for the tests of the session."""
    yield from started(Postgres)


@pytest.fixture(scope="session")
def rest_catalog() -> Iterator[RestCatalog]:
    """One REST catalog for the tests of the session."""
    yield from started(RestCatalog)


class Plain(ThreadingHTTPServer):
    """Before a REST catalog: all but commits of several tables passes."""

    daemon_threads = True
    endpoint = "transactions/commit"

    def __init__(self, behind: RestCatalog) -> None:
        super().__init__(("127.0.0.1", 0), PlainHandler)
        self.behind = behind
        self.url = f"http://127.0.0.1:{self.server_port}"


class PlainHandler(BaseHTTPRequestHandler):
    """Hands a request on."""

    protocol_version = "HTTP/1.1"
    server: Plain

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith(self.server.endpoint):
            self._answer(404, b"there is nothing here")
            return
        behind = http.client.HTTPConnection("127.0.0.1", self.server.behind.port)
        behind.request(self.command, self.path, body, {"Content-Type": "application/json"})
        with behind.getresponse() as response:
            answer = response.read()
        behind.close()
        if "/v1/config" in self.path:
            config = json.loads(answer)
            config["endpoints"] = [it for it in config["endpoints"] if not it.endswith(self.server.endpoint)]
            answer = json.dumps(config).encode()
        self._answer(response.status, answer)

    do_GET = do_POST = do_DELETE = do_HEAD = _hand_on

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="session")
def plain_catalog(rest_catalog: RestCatalog) -> Iterator[Plain]:
    """The REST catalog without commits of several tables."""
    with Plain(rest_catalog) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@dataclass
class Place:
    """A catalog of a kind, and a namespace in it that nobody else uses."""

    kind: str
    url: str
    namespace: str
    warehouse: str
    server: Any = None

    @contextmanager
    def by_pyiceberg(self) -> Iterator[Any]:
        """The same catalog as pyiceberg opens it."""
        from pyiceberg.catalog import load_catalog

        if self.kind in ("rest", "plain"):
            made: Any = load_catalog("kappa", type="rest", uri=self.url, warehouse=self.warehouse)
            close = made._session.close
        else:
            uri = self.url.replace("postgresql://", "postgresql+pg8000://").replace("sqlite://", "sqlite:///")
            made = load_catalog("kappa", type="sql", uri=uri, warehouse=self.warehouse)
            close = made.engine.dispose
        try:
            yield made
        finally:
            close()


@pytest.fixture(params=["sqlite", "postgres", "rest"])
def catalog(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Each kind of catalog in turn, named by the environment."""
    namespace = f"n{uuid.uuid4().hex[:12]}"
    server = None
    if request.param == "sqlite":
        url = f"sqlite://{place}/catalog.db"
    else:
        fixtures = {"postgres": "postgres", "rest": "rest_catalog", "plain": "plain_catalog"}
        server = request.getfixturevalue(fixtures[request.param])
        url = server.url
        monkeypatch.setenv("KAPPA_CATALOG_URL", url)
    return Place(request.param, url, namespace, f"file://{place}/warehouse", server)
