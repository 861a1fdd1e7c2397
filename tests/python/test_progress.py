"""What a run looks like: lines, the bar, JSON."""

from __future__ import annotations

import io
import json
import os
import re
import time
from typing import Any

import pytest

from kappa import progress, words
from kappa.report import RunReport

T0 = 1_777_116_900_000  # 2026-04-25T11:35:00Z
EVENTS: list[dict[str, Any]] = [
    {
        "event": "started", "job": "distinct-merchants", "tables": ["metric.distinct_merchants_v4"], "mode": "reprocess",
        "topics": [{"topic": "payments.captured.v1", "partitions": 4, "from": "offset 0", "records": 188_000_000}],
        "resumed": False, "time_ms": T0,
    },
    {
        "event": "progress", "events": 12_400_000, "rate": 1_234_567.0, "event_time_ms": 1_772_615_520_000,
        "week_of": "2026-03-01", "watermark_ms": 1_772_615_520_000, "fraction": 0.071, "seconds_left": 146.2, "lag": 175_600_000,
        "time_ms": T0 + 10_000,
    },
    {
        "event": "checkpoint", "checkpoint": 1, "duration_ms": 38, "stall_ms": 2, "state_bytes": 4_200_000, "rows_changed": 4,
        "memory": {"partial_results": 100_000, "caches": 1_000_000, "rocksdb": 2_000_000},
        "time_ms": T0 + 10_000,
    },
    {"event": "caught_up", "time_ms": T0 + 156_000, "head_time_ms": T0, "at_head": True},
    {
        "event": "complete", "outcome": "complete", "events": 188_000_000, "seconds": 156.0,
        "tables": [{"table": "metric.distinct_merchants_v4", "rows": 56}], "time_ms": T0 + 156_000,
    },
]  # fmt: skip

EXPECTED = """\
[2026-04-25 11:35:00] distinct-merchants → metric.distinct_merchants_v4 (reprocess), starting from offset 0 of payments.captured.v1
[2026-04-25 11:35:10] processed 12,400,000 events (week of 2026-03-01), 1.2 M events/s, watermark 2026-03-04T09:12:00Z, \
7 % of head, about 2 m 26 s left
[2026-04-25 11:35:10] checkpoint 1 committed in 38 ms: state 4.2 MB in RocksDB, 3.1 MB in memory, 4 rows changed
[2026-04-25 11:37:36] caught up: position is at the head of the log as of 11:35:00
[2026-04-25 11:37:36] reprocess complete: 188,000,000 events in 2 m 36 s, 56 rows in metric.distinct_merchants_v4
"""


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def shown(renderer: Any, out: io.StringIO, events: list[dict[str, Any]] = EVENTS) -> str:
    for event in events:
        renderer.event(event)
    renderer.close()
    return out.getvalue()


def test_lines_have_exactly_this_form() -> None:
    out = io.StringIO()
    assert shown(progress.Lines(out), out) == EXPECTED


def test_progress_lines_come_at_growing_distances() -> None:
    out = io.StringIO()
    many = [{**EVENTS[1], "time_ms": T0 + i * 200} for i in range(300)]  # a minute, five a second
    assert 6 <= len(shown(progress.Lines(out), out, many).splitlines()) <= 12


def test_one_row_and_one_event_are_singular() -> None:
    out = io.StringIO()
    text = shown(progress.Lines(out), out, [{**EVENTS[2], "rows_changed": 1}, {**EVENTS[1], "events": 1}])
    assert "1 row changed" in text
    assert "processed 1 event (" in text


def test_a_live_run_shows_how_far_it_is_behind_and_how_it_ended() -> None:
    out = io.StringIO()
    live = [
        {**EVENTS[0], "mode": "live"},
        {**EVENTS[1], "fraction": None, "seconds_left": None, "week_of": None, "lag": 12},
        {**EVENTS[4], "outcome": "stopped"},
    ]
    text = shown(progress.Lines(out), out, live)
    assert "188,000,000 events to catch up with" in text
    assert "12 events behind the head" in text
    assert "live stopped: " in text


def test_an_interrupted_run_says_how_to_go_on() -> None:
    out = io.StringIO()
    text = shown(progress.Lines(out), out, [EVENTS[0], {**EVENTS[4], "outcome": "interrupted"}])
    assert "reprocess interrupted after" in text
    assert "run the same command" in text


def test_a_resumed_run_says_so() -> None:
    out = io.StringIO()
    assert "going on from" in shown(progress.Lines(out), out, [{**EVENTS[0], "resumed": True}])


def test_json_is_one_object_a_line_with_the_time_in_words() -> None:
    out = io.StringIO()
    lines = [json.loads(line) for line in shown(progress.Json(out), out).splitlines()]
    assert [line["event"] for line in lines] == [event["event"] for event in EVENTS]
    assert lines[0]["time"] == "2026-04-25T11:35:00Z"


def test_the_bar_leaves_only_whole_lines_behind() -> None:
    out = io.StringIO()
    text = shown(progress.Bar(out, color=False), out)
    assert "━" in text
    left = [line.rsplit("\r\x1b[K", 1)[-1] for line in text.split("\n")]
    assert [line for line in left if line] == [line for line in EXPECTED.splitlines() if "processed" not in line]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_the_bar_fits_the_terminal(width: int) -> None:
    assert len(progress.bar_text(EVENTS[1], width)) < width
    assert "7 %" in progress.bar_text(EVENTS[1], width)


def test_colour_follows_no_color_and_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert progress.use_color(Terminal())
    assert not progress.use_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not progress.use_color(Terminal())
    assert progress.use_color(io.StringIO(), "always")
    assert not progress.use_color(Terminal(), "never")


def test_a_hundred_percent_is_said_only_at_the_end() -> None:
    assert progress.percent(0.9999) == "99 %"
    assert progress.percent(1.0) == "100 %"


REPORT = {
    "job": "daily", "tables": [{"table": "default.<b>", "rows": 3}], "mode": "reprocess", "outcome": "complete", "read": 10, "used": 7, "filtered": 2,
    "late": 0, "bad": 1, "below_floor": 0, "events": 10, "seconds": 2.0, "watermark_ms": 1_772_615_520_000, "checkpoints": 3, "version": "v",
    "position": {"payments": {"0": 10}}, "something_new": 1,
}  # fmt: skip


def test_a_report_reads_well_and_is_frozen() -> None:
    report = RunReport.from_json(json.dumps(REPORT))
    assert "10 events: 7 used, 2 filtered, 1 bad" in str(report)
    assert report.to_dict()["watermark"] == "2026-03-04T09:12:00Z"
    with pytest.raises(AttributeError):
        report.read = 11  # type: ignore[misc]


def test_html_has_no_colours_of_its_own_and_escapes_names() -> None:
    page = RunReport.from_json(json.dumps(REPORT))._repr_html_()
    assert "default.&lt;b&gt;" in page
    assert not re.search(r"#[0-9a-fA-F]{3,6}|rgb|white|black", page)


def test_words_for_numbers() -> None:
    assert words.rate(9_960_000) == "10.0 M events/s"
    assert words.duration(59.7) == "1 m 0 s"
    assert words.duration(3600) == "1 h 0 m"
    assert words.size(999) == "999 B"
    assert os.environ["TZ"] == "UTC"
