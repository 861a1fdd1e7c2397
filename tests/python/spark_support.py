"""Spark for tests: one process for the whole run, a session of its own for each look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import spark_environment

SERVE = Path(spark_environment.__file__).with_name("serve.py")


class SparkError(Exception):
    """What Spark says."""


class Spark:
    """A Spark that answers SQL."""

    def __init__(self, folder: Path, log: Path) -> None:
        self._log = log.open("w")
        words = [str(folder / "bin" / "python"), str(SERVE), str(folder / "jars")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        self._process = subprocess.Popen(words, text=True, cwd=log.parent, **pipes)  # type: ignore[call-overload]
        self.version = self._answer()["spark"]

    def open(self, place: Path, rest: str | None = None) -> None:
        """Works on the tables of a place from now on, as they are now, in the catalog `kappa`; or on those behind a REST server, in
        the catalog `rest`."""
        name, uri = ("kappa", f"jdbc:sqlite:{place}/catalog.db") if rest is None else ("rest", rest)
        self._ask({"open": {name: {"uri": uri, "warehouse": f"file://{place}/warehouse"}}})

    def sql(self, text: str) -> list[list[Any]]:
        """The rows of a query or the result of a call."""
        rows: list[list[Any]] = self._ask({"sql": text})["rows"]
        return rows

    def stop(self) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "error" in answer:
            raise SparkError(answer["error"])
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise SparkError("Spark has ended: " + Path(self._log.name).read_text()[-2000:])
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """Spark, fetched if it was not yet."""
    try:
        folder = spark_environment.environment()
    except spark_environment.MissingError as missing:
        pytest.skip(f"no Spark: {missing}")
    spark = Spark(folder, tmp_path_factory.mktemp("spark") / "log")
    yield spark
    spark.stop()
