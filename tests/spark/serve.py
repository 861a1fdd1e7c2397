"""Spark behind a pipe: a line of JSON in, a line of JSON out. Runs on the Python that has pyspark, not on the tests' own.

{"open": {NAME: {"uri": "jdbc:sqlite:…" or "http://…", "warehouse": "file:///…"}}} begins anew, with connections of its own;
{"sql": "…"} gives {"rows": [[…], …]} or {"error": "…"}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"


def main(folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Spark prints is no answer
    jars = ",".join(str(path) for path in sorted(Path(folder).glob("*.jar")))
    built = SparkSession.builder.master("local[1]").config("spark.jars", jars).config("spark.sql.extensions", EXTENSIONS)
    built = built.config("spark.ui.enabled", "false").config("spark.driver.memory", "1g")
    built = built.config("spark.sql.shuffle.partitions", "2").config("spark.driver.bindAddress", "127.0.0.1")
    session = first = built.config("spark.driver.host", "127.0.0.1").getOrCreate()
    print(json.dumps({"spark": first.version}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "open" in asked:
                session = first.newSession()
                for name, catalog in asked["open"].items():
                    configure(session, name, catalog)
                reply: dict[str, Any] = {"rows": []}
            else:
                reply = {"rows": [list(row) for row in session.sql(asked["sql"]).collect()]}
        except Exception as error:
            reply = {"error": str(error)}
        print(json.dumps(reply, default=str), file=answers, flush=True)
    first.stop()


def configure(session: SparkSession, name: str, catalog: dict[str, str]) -> None:
    prefix = f"spark.sql.catalog.{name}"
    session.conf.set(prefix, "org.apache.iceberg.spark.SparkCatalog")
    if catalog["uri"].startswith("jdbc:"):
        session.conf.set(f"{prefix}.catalog-impl", "org.apache.iceberg.jdbc.JdbcCatalog")
    else:
        session.conf.set(f"{prefix}.type", "rest")
    session.conf.set(f"{prefix}.uri", catalog["uri"])
    session.conf.set(f"{prefix}.warehouse", catalog["warehouse"])
    session.conf.set(f"{prefix}.jdbc.schema-version", "V1")
    session.conf.set(f"{prefix}.cache-enabled", "false")


main(sys.argv[1])
