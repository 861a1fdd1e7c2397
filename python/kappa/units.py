"""Durations, sizes and positions as users write them, turned into what the engine takes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TypeAlias

from kappa.exceptions import ConfigError

Duration: TypeAlias = str | timedelta
"""`"200ms"`, `"30s"`, `"15m"`, `"24h"`, `"7d"`, `"1w"`, or a `timedelta`."""

Position: TypeAlias = str | datetime | timedelta
"""A place in the log: `"earliest"`, `"head"`, an ISO 8601 time, `"24h"` (ago), `"group:NAME"` (where a
consumer group is), or `"0:123,1:456"` (partition:offset)."""

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZES = {"": 1, "b": 1, "kb": 1000, "kib": 1 << 10, "mb": 1000**2, "mib": 1 << 20, "gb": 1000**3, "gib": 1 << 30}
_SIZES |= {"tb": 1000**4, "tib": 1 << 40}


def duration_ms(value: Duration, what: str) -> int:
    """Milliseconds.

    >>> duration_ms("1h30m", "age")
    5400000
    >>> duration_ms(timedelta(seconds=2), "age")
    2000
    """
    if isinstance(value, timedelta):
        if value < timedelta(0) or value.microseconds % 1000:
            raise _invalid(what, str(value), "durations are whole milliseconds, 0 or more")
        return value // timedelta(milliseconds=1)
    parts = re.findall(r"(\d+)(ms|s|m|h|d|w)", value) if isinstance(value, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != value:
        raise _invalid(what, value, 'write it like "200ms", "30s", "15m", "24h", "7d"')
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def size_bytes(value: str | int, what: str) -> int:
    """Bytes.

    >>> size_bytes("512MiB", "memory")
    536870912
    """
    if isinstance(value, int) and value > 0:
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(value).strip().lower())
    factor = _SIZES.get(match.group(2)) if match else None
    if match is None or factor is None or float(match.group(1)) == 0:
        raise _invalid(what, value, 'write it like "512MiB" or "2GiB"')
    return int(float(match.group(1)) * factor)


def position(value: Position, what: str) -> str:
    """The text form of a position: named, relative, ISO 8601 in UTC, or partition:offset pairs.

    >>> position(timedelta(hours=24), "from")
    '86400000ms'
    >>> position("2026-03-01", "from")
    '2026-03-01T00:00:00.000Z'
    """
    if isinstance(value, timedelta):
        return f"{duration_ms(value, what)}ms"
    if isinstance(value, datetime):
        return _iso(value, what, str(value))
    if not isinstance(value, str):
        raise _invalid(what, value, 'write "earliest", "head", a time such as "2026-03-01T00:00:00Z", or an age such as "24h"')
    text = re.sub(r",\s+", ",", value.strip())
    if text in ("earliest", "head"):
        return text
    if re.fullmatch(r"(\d+(ms|s|m|h|d|w))+", text):
        return f"{duration_ms(text, what)}ms"
    if re.fullmatch(r"\d+:\d+(,\d+:\d+)*", text) or re.fullmatch(r"group:.+", text):
        return text
    try:
        parsed = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text))
    except ValueError:
        hint = 'write "earliest", "head", a time such as "2026-03-01T00:00:00Z", or an age such as "24h"'
        raise _invalid(what, value, hint) from None
    if len(text) == 10:
        parsed = parsed.replace(tzinfo=timezone.utc)
    return _iso(parsed, what, text)


def moment(text: str, what: str) -> datetime:
    """A time as text, with its zone, or a date, which is UTC.

    >>> moment("2026-03-01", "as_of")
    datetime.datetime(2026, 3, 1, 0, 0, tzinfo=datetime.timezone.utc)
    """
    given = position(text, what)
    try:
        return datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError:
        raise _invalid(what, text, 'write a time such as "2026-03-01T00:00:00Z"') from None


def _iso(value: datetime, what: str, text: str) -> str:
    if value.tzinfo is None:
        raise _invalid(what, text, 'say which time zone it is in, for example "2026-03-01T00:00:00Z"')
    moment = value.astimezone(timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _invalid(what: str, value: object, hint: str) -> ConfigError:
    return ConfigError(f"{what}: {value!r} is not understood", code="invalid_argument", context={"argument": what}, hint=hint)
