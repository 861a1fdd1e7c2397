"""`kappa.Log` and `Rows`."""

from __future__ import annotations

import multiprocessing
import time
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow
import pytest

import kappa
from kappa.cli import main
from kappa.exceptions import ConfigError, DataError, RefusedError


def test_records_come_back_as_they_went_in(place: Path) -> None:
    log = kappa.Log()
    log.create("t", partitions=3)
    records = [{"id": i, "text": "æøå ✓"} for i in range(100)]
    assert log.append("t", records) == 100
    assert sorted(r.json()["id"] for r in log.scan("t")) == list(range(100))
    assert {r.partition for r in log.scan("t")} == {0, 1, 2}
    assert {r.json()["text"] for r in log.scan("t")} == {"æøå ✓"}


def test_text_bytes_and_mappings(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    values = [{"x": Decimal("1.50"), "d": date(2026, 3, 1), "t": datetime(2026, 3, 1, tzinfo=timezone.utc)}, "[1]", b"\xff"]
    log.append("t", values)  # type: ignore[arg-type]
    found = [r.value for r in log.scan("t")]
    assert found == [b'{"x":"1.50","d":"2026-03-01","t":"2026-03-01T00:00:00+00:00"}', b"[1]", b"\xff"]
    for bad in ({"t": datetime(2026, 3, 1)}, {"x": object()}):
        with pytest.raises(DataError):
            log.append("t", [bad])


def test_positions_of_a_scan(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    log.append("t", [{"id": i} for i in range(10)])
    ids = lambda **where: [r.json()["id"] for r in log.scan("t", **where)]  # noqa: E731
    assert ids(from_="0:7") == [7, 8, 9]
    assert ids(until="0:2") == [0, 1]
    assert ids(from_="head") == []
    assert ids(from_="1h") == list(range(10))
    assert ids(from_="2020-01-01T00:00:00Z", until="2021-01-01T00:00:00Z") == []
    time.sleep(0.01)
    assert ids(from_=datetime.now(timezone.utc)) == []
    with pytest.raises(ConfigError, match="no partition"):
        ids(from_="4:0")


def test_tail_and_describe(place: Path) -> None:
    log = kappa.Log()
    log.create("t", partitions=2)
    assert log.tail("t") == []
    log.append("t", [{"id": i} for i in range(9)])
    assert len(log.tail("t", 3)) == 3
    assert sum(row["records"] for row in log.describe("t")) == 9
    assert log.describe("t").to_dicts()[0]["first"].tzinfo is not None


def test_a_topic_is_made_once_and_a_key_must_be_there(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    with pytest.raises(RefusedError):
        log.create("t")
    with pytest.raises(DataError, match="merchant"):
        log.append("t", [{"id": 1}], key="merchant")
    assert list(log.scan("t")) == []


def test_a_log_elsewhere(place: Path, tmp_path: Path) -> None:
    kappa.Log(f"file://{tmp_path}/other").create("t")
    assert len(kappa.Log().describe()) == 0
    assert len(kappa.Log(config={"log": {"url": f"file://{tmp_path}/other"}}).describe()) == 1


def test_rows_are_arrow(place: Path) -> None:
    log = kappa.Log()
    log.create("t", partitions=25)
    rows = log.describe()
    table = pyarrow.table(rows)
    assert table.num_rows == len(rows) == 25
    assert table.to_pylist() == rows.to_dicts() == list(rows)
    assert rows.to_polars().height == 25
    assert rows.to_arrow().equals(table)
    assert "25 rows, the first 20 shown" in repr(rows)
    assert repr(rows).count("\n") == 23
    assert "<table" in rows._repr_html_()
    assert rows.schema["partition"] == kappa.Int32


def forked(queue: multiprocessing.Queue[str]) -> None:
    try:
        kappa.Log().describe()
        queue.put("worked")
    except kappa.exceptions.KappaError as error:
        queue.put(error.code)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking itself
def test_a_forked_child_is_refused(place: Path) -> None:
    kappa.Log().describe()
    context = multiprocessing.get_context("fork")
    queue: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=forked, args=(queue,))
    child.start()
    assert queue.get(timeout=20) == "forked"
    child.join()


def test_what_is_no_record_is_refused_before_it_is_appended(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    circle: dict[str, object] = {}
    circle["x"] = circle
    for bad in (None, [1], 5, {"x": float("nan")}, {"x": float("inf")}, {"x": {1}}, {"x": "\ud800"}, {(1, 2): 3}, circle):
        with pytest.raises(DataError):
            log.append("t", [bad])  # type: ignore[list-item]
    for no_key in ({"y": 1}, "nope", b"\xff", "[1]", '{"y": {"k": 1}}'):
        with pytest.raises(DataError, match="no field 'k'"):
            log.append("t", [no_key], key="k")
    assert list(log.scan("t")) == []


def test_keys_are_those_of_the_command_line(place: Path) -> None:
    log = kappa.Log()
    log.create("one")
    log.create("other")
    lines = [
        '{"k":1.50}',
        '{ "x" : [{"k":1}] , "k" : {"a": [1, 2]} }',
        '{"k":"e\\u00e9\\n"}',
        '{"k":null}',
        '{"k":true,"k":2}',
        '{"k":-0}',
    ]
    log.append("one", lines, key="k")
    (place / "lines").write_text("\n".join(lines))
    log.append_file("other", place / "lines", key="k")
    keys = [record.key for record in log.scan("one")]
    assert keys == [record.key for record in log.scan("other")]
    assert keys == [b"1.50", b'{"a": [1, 2]}', "eé\n".encode(), None, b"true", b"-0"]
    log.create("mapped")
    values = [Decimal("1.50"), date(2026, 3, 1), {"a": [1, "é"]}, "é", None, True]
    log.append("mapped", [{"k": value} for value in values], key="k")
    found = [record.key for record in log.scan("mapped")]
    assert found == [b"1.50", b"2026-03-01", '{"a":[1,"é"]}'.encode(), "é".encode(), None, b"true"]


def test_a_file_that_is_not_there(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    for path in (place / "nope", place):
        with pytest.raises(ConfigError) as caught:
            log.append_file("t", path)
        assert caught.value.exit_status == 2
    with pytest.raises(ConfigError):
        log.tail("t", -1)


def test_a_key_that_no_record_has_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kappa.Log().create("t")
    (place / "lines.jsonl").write_text('{"merchant": "a"}\n{"merchant": "b"}\n')
    assert main(["log", "append", "t", str(place / "lines.jsonl"), "--key", "merchnat"]) == 0
    assert "2 records without 'merchnat'" in capsys.readouterr().err
