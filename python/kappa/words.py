"""Numbers, sizes, durations and times in the words of kappa's output."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

_TOPIC = "kafka:"


def place(name: str) -> str:
    """A table, or a topic, by the name that the engine has for it.

    >>> place("default.daily"), place("kafka:payments.daily")
    ('default.daily', 'topic payments.daily')
    """
    return f"topic {name.removeprefix(_TOPIC)}" if name.startswith(_TOPIC) else name


def rows_of(name: str) -> str:
    """What is counted in a table or topic.

    >>> rows_of("default.daily"), rows_of("kafka:payments.daily")
    ('row', 'record')
    """
    return "record" if name.startswith(_TOPIC) else "row"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 row`, `12,400 rows`.

    >>> count(12400, "row"), count(1, "row")
    ('12,400 rows', '1 row')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def rate(per_second: float, what: str = "events") -> str:
    """`1.2 M events/s`.

    >>> rate(1_234_567), rate(880_000), rate(12)
    ('1.2 M events/s', '880 k events/s', '12 events/s')
    """
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if per_second >= factor:
            value = per_second / factor
            return f"{value:.1f}{letter} {what}/s" if value < 10 else f"{value:.0f}{letter} {what}/s"
    return f"{per_second:.0f} {what}/s"


def size(number: float) -> str:
    """`4.2 MB`.

    >>> size(4_200_000), size(512)
    ('4.2 MB', '512 B')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:.0f} B"


def duration(seconds: float) -> str:
    """`2 m 26 s`.

    >>> duration(146), duration(0.0382), duration(4.27), duration(93784)
    ('2 m 26 s', '38 ms', '4.3 s', '1 d 2 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds} s" if isinstance(seconds, int) else f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def utc(ms: int) -> str:
    """`2026-03-04T09:12:00Z`.

    >>> utc(1_772_615_520_000)
    '2026-03-04T09:12:00Z'
    """
    try:
        return datetime.fromtimestamp(ms // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"


def instant(ms: int | None) -> datetime | None:
    """As Python's datetime; its first or last where its calendar ends, as a time in the wrong unit gives.

    >>> instant(0), instant(10**15) == instant(10**16)
    (datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc), True)
    """
    if ms is None:
        return None
    try:
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)
    except OverflowError:
        return (datetime.max if ms > 0 else datetime.min).replace(tzinfo=timezone.utc)


def local(ms: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """The wall clock's reading, in the machine's time zone: for people who compare with their watch."""
    return datetime.fromtimestamp(ms / 1000).strftime(form)


def printable(text: str) -> str:
    """One line that does nothing to a terminal: line ends and other control characters as escapes.

    >>> print(printable("a\\nb"), printable("\\x1b[2J"), printable("größe ✓"))
    a\\nb \\x1b[2J größe ✓
    """
    return text if text.isprintable() else "".join(c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text)


def cell(value: object, limit: int = 40) -> str:
    """A value of a table as text.

    >>> cell(None), cell(date(2026, 3, 1)), cell("x" * 50)[-3:]
    ('null', '2026-03-01', 'xx…')
    """
    if value is None:
        return "null"
    if isinstance(value, datetime):
        text = value.isoformat(timespec="auto" if value.microsecond % 1000 else "milliseconds").replace("+00:00", "Z")
        text = text.replace(".000Z", "Z")
    elif isinstance(value, date):
        text = value.isoformat()
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = str(value)
    text = printable(text.replace("\n", "⏎"))
    return text if len(text) <= limit else text[: limit - 1] + "…"
