"""Durations, sizes and positions as people write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kappa.exceptions import ConfigError
from kappa.units import duration_ms, position, size_bytes


@pytest.mark.parametrize(
    ("text", "ms"),
    [("200ms", 200), ("30s", 30_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000), ("1h30m", 5_400_000)],
)
def test_durations(text: str, ms: int) -> None:
    assert duration_ms(text, "d") == ms


@pytest.mark.parametrize(
    "text", ["", "30", "s", "1.5s", "-1s", "30 s", "1h x", "1mo", timedelta(seconds=-1), timedelta(microseconds=1), 5]
)
def test_durations_that_are_refused(text: Any) -> None:
    with pytest.raises(ConfigError):
        duration_ms(text, "d")


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=10_000)))
def test_timedeltas_are_whole_milliseconds(value: timedelta) -> None:
    whole = value - timedelta(microseconds=value.microseconds % 1000)
    assert duration_ms(whole, "d") == whole // timedelta(milliseconds=1)


def test_sizes() -> None:
    assert size_bytes("512MiB", "m") == 512 << 20
    assert size_bytes("2GB", "m") == 2_000_000_000
    assert size_bytes("1.5 GiB", "m") == 3 << 29
    for text in ("", "lots", "0MiB", "-1MiB", 0):
        with pytest.raises(ConfigError):
            size_bytes(text, "m")


def test_positions() -> None:
    assert position("head", "f") == "head"
    assert position("0:12, 3:4", "f") == "0:12,3:4"
    assert position(timedelta(hours=1), "f") == "3600000ms"
    assert position("2026-03-01T05:30:00+05:30", "f") == "2026-03-01T00:00:00.000Z"
    assert position("2026-03-01T00:00:00.250Z", "f") == "2026-03-01T00:00:00.250Z"
    assert position(datetime(2026, 3, 1, tzinfo=timezone.utc), "f") == "2026-03-01T00:00:00.000Z"
    for text in ("2026-03-01T00:00:00", "tomorrow", "0:", "1:2;3:4", datetime(2026, 3, 1)):
        with pytest.raises(ConfigError):
            position(text, "f")  # type: ignore[arg-type]
