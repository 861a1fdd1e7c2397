"""Kafka's own ``DumpLogSegments`` reads the segments and indexes of the embedded log.

Runs where Java is, and ``KAPPA_KAFKA_CLASSPATH`` names the jars of ``org.apache.kafka:kafka_2.13`` and
``org.apache.kafka:kafka-tools`` with what they depend on, such as ``/path/to/libs/*``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CLASSPATH = os.environ.get("KAPPA_KAFKA_CLASSPATH", "")
RECORDS = 60_000
COMPLAINTS = ("isvalid: false", "invalid bytes", "Mismatches in", "timestamp mismatch", "out of order", "are not found")

pytestmark = pytest.mark.skipif(
    not CLASSPATH or shutil.which("java") is None,
    reason="NOT CHECKED against Kafka's DumpLogSegments: set KAPPA_KAFKA_CLASSPATH (and install Java) to check it",
)


def dump(files: list[Path], *options: str) -> str:
    """What DumpLogSegments prints about the files. It must succeed and complain about nothing."""
    tool = "org.apache.kafka.tools.DumpLogSegments"
    command = ["java", "-cp", CLASSPATH, tool, "--files", ",".join(map(str, files)), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    # For each segment that does not start at offset 0 the tool remarks that its first offset does not follow −1.
    remark = r"Non-consecutive offsets in \S+\n(\s+-1 is followed by \d+\n?)+"
    complaints = re.sub(remark, "", done.stderr).strip()
    assert complaints == ""
    for complaint in COMPLAINTS:
        assert complaint not in done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def partition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A partition with several batches, keys and nulls."""
    kappa = pytest.importorskip("kappa")
    root = tmp_path_factory.mktemp("log")
    log = kappa.Log(f"file://{root}")
    log.create("payments", partitions=1)
    log.append("payments", ({"number": number, "merchant": f"m{number % 97}"} for number in range(RECORDS)), key="merchant")
    return root / "payments" / "0"


def test_every_record_is_read(partition: Path) -> None:
    out = dump(sorted(partition.glob("*.log")), "--deep-iteration", "--print-data-log")
    offsets = [int(offset) for offset in re.findall(r"^\| offset: (\d+) ", out, re.MULTILINE)]
    assert offsets == list(range(RECORDS))
    assert out.count("isvalid: true") == len(re.findall(r"^baseOffset: ", out, re.MULTILINE)) > 1
    assert re.search(r"^\| offset: 1 .* key: m1 payload: \{.*\"number\": ?1\b", out, re.MULTILINE)


@pytest.mark.parametrize("option", ["--deep-iteration", "--index-sanity-check"])
@pytest.mark.parametrize("extension", ["index", "timeindex"])
def test_the_indexes_agree_with_the_segments(partition: Path, extension: str, option: str) -> None:
    files = sorted(partition.glob(f"*.{extension}"))
    assert files
    dump(files, option)
