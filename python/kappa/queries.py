"""`kappa.sql`: queries over tables, run by DuckDB. kappa finds the tables and reads them; the rows go over as Arrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from kappa import _kappa
from kappa.exceptions import ConfigError
from kappa.rows import Rows
from kappa.settings import resolve


def sql(query: str, *, config: Mapping[str, Any] | None = None) -> Rows:
    """The rows of a query, run by DuckDB (the extra `kappa[sql]`) over tables of the catalog by their names. Each table that it
    names is read whole, deletes honoured; times are in UTC.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     _ = kappa.Log().append("t", [{"at": 0}, {"at": 1}])
    ...     job = kappa.Job("docs")
    ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...     report = job.run(mode="reprocess", output_table="metric.times", progress=False)
    ...     kappa.sql("select count(*) as n from metric.times").to_dicts()
    [{'n': 2}]
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError("duckdb is not installed: pip install duckdb (or the extra kappa[sql])") from error
    settings = resolve(config)
    known = set(_kappa.tables(settings))
    with duckdb.connect(":memory:") as db:
        db.execute("set TimeZone = 'UTC'")
        for number, (namespace, table) in enumerate(sorted(set(_tables(db, query)))):
            name = f"{namespace}.{table}" if namespace else table
            full = name if "." in name else f"{settings.to_dict()['catalog.namespace']}.{name}"
            if full in known:
                _show(db, number, namespace, table, Rows(_kappa.read(settings, full, None, None, None)))
        try:
            return Rows(_kappa.Rows.from_arrow(db.sql(query).to_arrow_table()))
        except duckdb.CatalogException as error:
            there = f"tables are {', '.join(sorted(known))}" if known else "the catalog has no tables yet"
            raise ConfigError(_first(error), code="sql", hint=there) from error
        except duckdb.Error as error:
            raise ConfigError(_first(error), code="sql") from error


def _show(db: Any, number: int, namespace: str, table: str, rows: Rows) -> None:
    """Makes a table known by the name that the query has for it."""
    db.register(f"__kappa_{number}", rows)
    place = _quoted(table)
    if namespace:
        db.execute(f"create schema if not exists {_quoted(namespace)}")
        place = f"{_quoted(namespace)}.{place}"
    db.execute(f"create view {place} as from __kappa_{number}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(db: Any, query: str) -> Iterator[tuple[str, str]]:
    """The tables that a query names, as (namespace, table), by DuckDB's own parser; names of subqueries are among them."""
    parsed = json.loads(db.execute("select json_serialize_sql(?)", [query]).fetchone()[0])
    if parsed["error"]:
        hint = "kappa.sql runs SELECT: tables are changed by jobs only"
        raise ConfigError(f"the query is not understood: {parsed['error_message']}", code="sql", hint=hint)
    yield from _named(parsed["statements"])


def _named(node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if node.get("type") == "BASE_TABLE":
            yield node["schema_name"], node["table_name"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from _named(item)


def _first(error: Exception) -> str:
    return str(error).partition("\n")[0]
