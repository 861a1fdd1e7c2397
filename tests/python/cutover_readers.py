"""A reader of a name in a process of its own, by somebody else's library: reads until its standard input ends. Each read must be one of
the versions, whole. Prints how many it made.

    python cutover_readers.py pyiceberg|polars|duckdb|chdb|kappa CATALOG_DB WAREHOUSE NAME EXPECTED_JSON
"""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


def by_pyiceberg(db: str, warehouse: str, name: str) -> Callable[[], list[dict[str, Any]]]:
    """Its own SQL catalog."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("kappa", uri=f"sqlite:///{db}", warehouse=warehouse)
    return lambda: catalog.load_table(name).scan().to_arrow().to_pylist()


def by_polars(db: str, warehouse: str, name: str) -> Callable[[], list[dict[str, Any]]]:
    """Over pyiceberg's catalog."""
    import polars
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("kappa", uri=f"sqlite:///{db}", warehouse=warehouse)
    return lambda: polars.scan_iceberg(catalog.load_table(name)).collect().to_dicts()


def location(db: str, name: str) -> str:
    """The metadata file that the catalog names."""
    query = "select metadata_location from iceberg_tables where table_namespace = ? and table_name = ?"
    with sqlite3.connect(db, timeout=30) as catalog:
        (found,) = catalog.execute(query, name.rsplit(".", 1)).fetchone()
    return str(found)


def by_chdb(db: str, warehouse: str, name: str) -> Callable[[], list[dict[str, Any]]]:
    """ClickHouse in this process."""
    import chdb

    def read(snapshot: int | None = None) -> list[dict[str, Any]]:
        directory, file = location(db, name).removeprefix("file://").split("/metadata/")
        source = f"icebergLocal('{directory}', SETTINGS iceberg_metadata_file_path='metadata/{file}')"
        which = "" if snapshot is None else f" SETTINGS iceberg_snapshot_id={snapshot}"
        lines = chdb.query(f"select * from {source}{which}", "JSONEachRow").bytes().decode().splitlines()
        return [json.loads(line) for line in lines]

    return read


def by_duckdb(db: str, warehouse: str, name: str) -> Callable[[], list[dict[str, Any]]]:
    """Its iceberg extension, on the metadata file that the catalog names."""
    import duckdb

    connection = duckdb.connect()
    for extension in ("avro", "iceberg"):
        package = importlib.import_module(f"duckdb_extension_{extension}")
        pattern = f"extensions/v{duckdb.__version__}/{extension}.duckdb_extension"
        (path,) = Path(str(package.__file__)).parent.glob(pattern)
        connection.execute(f"load '{path}'")

    def read() -> list[dict[str, Any]]:
        found = connection.execute(f"select * from iceberg_scan('{location(db, name)}')")
        columns = [column[0] for column in found.description]
        return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]

    return read


def by_kappa(db: str, warehouse: str, name: str) -> Callable[[], list[dict[str, Any]]]:
    """kappa's own."""
    import kappa

    config = {"catalog.url": f"sqlite://{db}", "warehouse": warehouse}
    return lambda: kappa.read(name, config=config).to_dicts()


def main() -> None:
    """Reads until standard input ends."""
    kind, db, warehouse, name, expected = sys.argv[1:]
    versions = [{tuple(map(str, row)) for row in rows} for rows in json.loads(expected)]
    read = globals()[f"by_{kind}"](db, warehouse, name)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    seen: set[int] = set()
    reads = 0
    print("ready", flush=True)
    while not over.is_set():
        rows = read()
        found = {tuple(str(value) for value in row.values()) for row in rows}
        assert len(found) == len(rows)
        assert found in versions, f"{kind} read neither version: {sorted(found)[:5]}"
        seen.add(versions.index(found))
        reads += 1
    print(json.dumps({"reads": reads, "versions": sorted(seen)}))


if __name__ == "__main__":
    main()
