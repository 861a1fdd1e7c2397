"""Where Java and Apache Kafka's jars are, and what makes a Java process that uses them start quickly."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import fetched

HERE = Path(__file__).resolve().parent
OLDEST_JAVA = 17


class Missing(Exception):
    """Kafka cannot be started on this machine; says why."""


@functools.cache
def java() -> str:
    """The Java to use."""
    found = shutil.which("java")
    if found is None:
        raise Missing("Java is missing")
    version = _java_version(found)
    number = re.search(r'version "(\d+)', version)
    if number is None or int(number[1]) < OLDEST_JAVA:
        raise Missing(f"Java {OLDEST_JAVA} or newer is needed, {found} is {version.splitlines()[0] if version else 'silent'}")
    return found


@functools.cache
def class_path() -> str:
    """A class path with Kafka's broker and tools: `KAPPA_KAFKA_CLASSPATH`, or what classpath.sh fetches once for a machine."""
    java()
    given = os.environ.get("KAPPA_KAFKA_CLASSPATH")
    if given:
        return given
    done = subprocess.run(
        [str(HERE.parent / "classpath.sh"), "kafka", "Apache Kafka"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or ["classpath.sh failed"]
        raise Missing(lines[-1].removeprefix("SKIPPED: "))
    return done.stdout.strip()


def archive(name: str) -> Path:
    """Where the classes that the program `name` loads are kept in the form that Java maps into memory (class data sharing):
    a broker starts in half the time. Bound to the jars and to the Java that wrote it."""
    key = hashlib.sha256(f"{class_path()}\n{_java_version(java())}".encode()).hexdigest()[:12]
    return fetched.cache() / "kafka" / f"{name}-{key}.jsa"


@functools.cache
def _java_version(path: str) -> str:
    return subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
