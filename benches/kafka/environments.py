"""What peers need: fetched once for a machine, by pip, Maven and the C compiler, into KAPPA_CACHE. Says so when it does."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kafka"))

import fetched  # noqa: E402

HERE = ROOT / "benches" / "kafka"
REQUIREMENTS = {
    "flink": ["apache-flink==2.3.0"],
    "pathway": ["pathway==0.33.0"],
    "bytewax": ["bytewax==0.21.1", "confluent-kafka>=2.13,<3", "orjson>=3,<4"],
}
SIZES = {"flink": "860 MB", "pathway": "1.6 GB", "bytewax": "75 MB"}


class UnavailableError(Exception):
    """A peer cannot be had on this machine; says why."""


_do = functools.partial(fetched.do, failure=UnavailableError)


def cache() -> Path:
    """Where things are kept between runs."""
    return fetched.cache() / "bench-kafka"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def environment(name: str) -> Path:
    """The Python of a virtual environment with what REQUIREMENTS lists; made if it is not there."""
    wanted = REQUIREMENTS[name]
    with locked():
        folder = cache() / f"{name}-{_key(*wanted, sys.version, (HERE / 'pom.xml').read_text())}"
        python = folder / "bin" / "python"
        if not (folder / "complete").exists():
            say(f"  fetching {' '.join(wanted)} ({SIZES[name]} on disk), once for this machine, into {folder}")
            shutil.rmtree(folder, ignore_errors=True)
            try:
                _do([sys.executable, "-m", "venv", str(folder)])
                _do([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted])
                if name == "flink":
                    _connector(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            (folder / "complete").touch()
        return python


def _connector(folder: Path) -> None:
    """Flink's Kafka connector, on the class path of its sessions."""
    (place,) = folder.glob("lib/python*/site-packages/pyflink/lib")
    words = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    _do([*words, "-DexcludeTransitive=true", f"-DoutputDirectory={place}"])
    if not list(place.glob("flink-sql-connector-kafka-*.jar")):
        raise UnavailableError("Maven copied no flink-sql-connector-kafka")


def raw_consumer() -> Path:
    """raw_consume.c, compiled against the librdkafka that the wheel of confluent-kafka holds."""
    found = importlib.util.find_spec("confluent_kafka")
    package = Path(found.origin or "").parent if found else Path()
    libraries = [*package.parent.glob("confluent_kafka.libs/librdkafka-*.so*")]
    if not libraries:
        raise UnavailableError("the confluent-kafka that is installed holds no librdkafka of its own")
    source, library = HERE / "raw_consume.c", libraries[0]
    with locked():
        program = cache() / f"raw_consume-{_key(source.read_text(), str(library))}"
        if not program.exists():
            made = program.with_suffix(".part")
            link = [str(library), f"-Wl,-rpath,{library.parent}", "-Wl,--allow-shlib-undefined", "-lpthread"]
            _do([os.environ.get("CC", "cc"), "-O2", "-Wall", "-Wextra", str(source), "-o", str(made), *link])
            made.rename(program)
        return program


def kcat() -> str:
    """The program, if somebody installed it."""
    found = shutil.which("kcat")
    if found is None:
        raise UnavailableError("kcat is not installed")
    return found


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One process at a time fetches."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
