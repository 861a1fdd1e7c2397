"""Kafka's own ``DumpLogSegments`` reads the segments and indexes of the embedded log."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

RECORDS = 60_000
COMPLAINTS = ("isvalid: false", "invalid bytes", "Mismatches in", "timestamp mismatch", "out of order", "are not found")
Tool = Callable[..., list[str]]


def dump(kafka_tool: Tool, files: list[Path], *options: str) -> str:
    """What DumpLogSegments prints about the files. It must succeed and complain about nothing."""
    command = kafka_tool("org.apache.kafka.tools.DumpLogSegments", "--files", ",".join(map(str, files)), *options)
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


def test_every_record_is_read(kafka_tool: Tool, partition: Path) -> None:
    out = dump(kafka_tool, sorted(partition.glob("*.log")), "--deep-iteration", "--print-data-log")
    offsets = [int(offset) for offset in re.findall(r"^\| offset: (\d+) ", out, re.MULTILINE)]
    assert offsets == list(range(RECORDS))
    assert out.count("isvalid: true") == len(re.findall(r"^baseOffset: ", out, re.MULTILINE)) > 1
    assert re.search(r"^\| offset: 1 .* key: m1 payload: \{.*\"number\": ?1\b", out, re.MULTILINE)


@pytest.mark.parametrize("option", ["--deep-iteration", "--index-sanity-check"])
@pytest.mark.parametrize("extension", ["index", "timeindex"])
def test_the_indexes_agree_with_the_segments(kafka_tool: Tool, partition: Path, extension: str, option: str) -> None:
    files = sorted(partition.glob(f"*.{extension}"))
    assert files
    dump(kafka_tool, files, option)
