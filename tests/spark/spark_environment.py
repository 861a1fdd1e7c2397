"""Where Spark is: fetched once for a machine, by pip and Maven, into KAPPA_CACHE, outside the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    home = os.environ.get("KAPPA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappa"
    place = Path(home).resolve() / "spark"
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
        _do([sys.executable, "-m", "venv", str(folder)])
        _do([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYSPARK])
        words = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies", "-DexcludeTransitive=true"]
        _do([*words, f"-DoutputDirectory={folder / 'jars'}"])
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    (folder / "complete").touch()


def _do(words: list[str]) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise MissingError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise MissingError(f"{Path(words[0]).name} failed: {lines[-1]}")
