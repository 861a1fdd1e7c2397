"""Fixtures with real catalog servers (tests/catalogs). One starts when the first test asks for it.

Where PostgreSQL or Java is missing these tests are skipped and the summary says why; with KAPPA_REQUIRE_CATALOGS=1 they fail instead.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers import Missing, Postgres, RestCatalog, Server

__all__ = ["catalog", "postgres", "rest_catalog"]


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

        if self.kind == "rest":
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
        server = request.getfixturevalue({"postgres": "postgres", "rest": "rest_catalog"}[request.param])
        url = server.url
        monkeypatch.setenv("KAPPA_CATALOG_URL", url)
    return Place(request.param, url, namespace, f"file://{place}/warehouse", server)
