"""Times in the wrong unit, control characters, arguments of the wrong type: named, shown, and no reason to hang."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import kappa
from kappa import rows, words
from kappa.cli import main
from kappa.exceptions import ConfigError


def job_over(topic: str, *, unit: str = "ms", bad: str = "fail") -> kappa.Job:
    job = kappa.Job("hostile")
    schema = {"at": kappa.Timestamp(unit), "k": kappa.String}  # type: ignore[arg-type]
    stream = job.read(topic, schema=schema, event_time="at", on_bad_record=bad)  # type: ignore[arg-type]
    job.write(stream.group_by("k").agg(n=kappa.len()))
    return job


def test_microseconds_declared_as_milliseconds(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    log.append("t", [{"at": 1_775_000_000_000_000 + i, "k": "a"} for i in range(10)])
    report = job_over("t").run(mode="reprocess", output_table="far", progress=False)
    assert (report.read, report.watermark and report.watermark.year) == (10, 9999)
    with job_over("t").start(mode="live", output_table="far_live", checkpoint_interval="20ms") as run:
        for _ in range(100):
            if run.status().events:
                break
            with pytest.raises(TimeoutError):
                run.wait("50ms")
        assert run.status().event_time == datetime.max.replace(tzinfo=words.instant(0).tzinfo)  # type: ignore[union-attr]
        assert run.stop().outcome == "stopped"


def test_instants_beyond_the_calendar_are_shown(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    log.append("t", [{"at": at, "k": "a"} for at in (0, 253402300800000, -62135596800001, 9_223_372_036_854_775)])
    job = kappa.Job("raw")
    job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    job.run(mode="reprocess", output_table="raw", progress=False)
    found = kappa.read("raw")
    assert sorted(type(row["at"]) is str for row in found) == [False, True, True, True]
    assert "10000-01-01" in repr(found)
    assert main(["read", "raw", "--json"]) == 0


def test_rows_of_mixed_values_have_an_order() -> None:
    given = ["+10000-01-01T00:00:00Z", None, datetime(2026, 3, 1), float("nan")]
    values: list[dict[str, Any]] = [{"x": value} for value in given]
    assert [row["x"] for row in sorted(values, key=rows._order)][:2] == [datetime(2026, 3, 1), "+10000-01-01T00:00:00Z"]


def test_a_record_takes_one_line_of_the_terminal(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = kappa.Log()
    log.create("t")
    log.append("t", ["x\x1b[2J\ny", '{"k":"größe\\n"}'], key=None)
    log.append("t", ['{"k":"a\\nb"}'], key="k")
    assert main(["log", "tail", "t"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("Z  ")[1] for line in lines] == ["x\\x1b[2J\\ny", '{"k":"größe\\n"}', 'a\\nb  {"k":"a\\nb"}']


def test_arguments_of_the_wrong_type_are_named(place: Path) -> None:
    kappa.Log().create("t")
    job = job_over("t")
    wrong: Any
    for wrong in (0, 1.5, "2", True, 100_000):
        with pytest.raises(ConfigError, match="parallelism"):
            job.run(mode="reprocess", output_table="a", parallelism=wrong)
    for wrong in (5, 1.5):
        with pytest.raises(ConfigError, match="until"):
            job.run(mode="reprocess", output_table="a", until=wrong)
    for wrong in (None, 3):
        with pytest.raises(ConfigError, match="output_table"):
            job.run(mode="reprocess", output_table=wrong)


def test_an_output_is_not_the_dead_letters_of_another(place: Path) -> None:
    kappa.Log().create("t")
    job = kappa.Job("two")
    stream = job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at", on_bad_record="dead_letter")
    job.write(stream, name="a")
    job.write(stream, name="b")
    with pytest.raises(ConfigError, match="d__dead_letter"):
        job.run(mode="reprocess", output_table={"a": "d", "b": "d__dead_letter"}, progress=False)


def test_what_was_left_out_is_said(place: Path) -> None:
    kappa.Log().create("t")
    kappa.Log().append("t", [{"at": 1, "k": "a"}, "nonsense", "[]"])
    report = job_over("t", bad="skip").run(mode="reprocess", output_table="skipped", progress=False)
    assert report.left_out() == ["2 bad records are not in the tables"]


def test_an_instant_that_no_table_can_hold_is_a_bad_record(place: Path) -> None:
    log = kappa.Log()
    log.create("t")
    log.append("t", [{"at": 1, "k": "a"}, {"at": 2**63 - 1, "k": "b"}])
    with pytest.raises(kappa.exceptions.DataError, match="column at: an instant outside") as caught:
        job_over("t").run(mode="reprocess", output_table="t", progress=False)
    assert caught.value.context["offset"] == "1"
    report = job_over("t", bad="skip").run(mode="reprocess", output_table="t", progress=False)
    assert (report.read, report.bad, report.tables["default.t"]) == (2, 1, 1)
