"""Where Spark is: fetched once for a machine, by pip and Maven, into KAPPA_CACHE, outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

import fetched
import jars

HERE = Path(__file__).resolve().parent
PYSPARK = "pyspark==4.1.4"


class MissingError(Exception):
    """Spark cannot be started on this machine; says why."""


def environment() -> Path:
    """A folder with a virtual environment and, in `jars`, what Spark needs for Iceberg."""
    try:
        jars.java()
    except jars.Missing as missing:
        raise MissingError(str(missing)) from missing
    key = hashlib.sha256("\n".join([PYSPARK, sys.version, (HERE / "pom.xml").read_text()]).encode()).hexdigest()[:12]
    place = fetched.cache() / "spark"
    folder = place / key
    if (folder / "complete").exists():
        return folder
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    print(f"fetching {PYSPARK} and Iceberg for it (600 MB on disk), once for this machine, into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        fetched.do([sys.executable, "-m", "venv", str(folder)], MissingError)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        fetched.do([*pip, PYSPARK], MissingError)
        words = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", "-DexcludeTransitive=true"]
        fetched.do([*words, f"-DoutputDirectory={folder / 'jars'}"], MissingError)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / "complete").touch()
