"""A comparison in a terminal: one screen, the verdict first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kappa import words
from kappa.rows import Rows

_DAYS = 6
_EXAMPLES = 3
_COLUMNS = 8
_NOTES = 4

Report = dict[str, Any]


def summary(report: Report, changed: Rows, only_in_a: Rows, only_in_b: Rows, by_day: Rows) -> str:
    """The whole of it."""
    blocks = [
        [verdict(report)],
        [*pairs(facts(report))],
        schema_lines(report),
        grid(*columns(report)),
        grid(*days(report, by_day.to_dicts())),
        example_lines(report, changed, only_in_a, only_in_b),
        [f"note: {note}" for note in report["notes"][:_NOTES]],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def verdict(report: Report) -> str:
    """The one line that counts."""
    counts, (a, b) = report["counts"], (report["a"]["table"], report["b"]["table"])
    if not report["differs"]:
        near = f", {counts['within_tolerance']:,} of them within the tolerance" if counts["within_tolerance"] else ""
        return f"SAME: {a} and {b}, {words.count(counts['rows_a'], 'row')} each{near}"
    found = [
        (counts["changed"], "changed"),
        (counts["only_in_a"], "only in a"),
        (counts["only_in_b"], "only in b"),
    ]
    parts = [f"{number:,} {what}" for number, what in found if number]
    if report["schema"]:
        parts.append(words.count(len(report["schema"]), "column") + " not alike")
    return f"DIFFERENT: {a} and {b}: {', '.join(parts)}"


def facts(report: Report) -> Iterable[tuple[str, str]]:
    """What was compared, and where."""
    counts = report["counts"]
    for side in ("a", "b"):
        yield side, " · ".join(about(report[side]))
    yield "position", where(report)
    yield from whole(report)
    yield "matched by", ", ".join(report["key"]) or "nothing: whole rows, counted"
    near = f", {counts['within_tolerance']:,} within the tolerance" if counts["within_tolerance"] else ""
    yield "rows", f"{counts['rows_a']:,} in a, {counts['rows_b']:,} in b: {counts['same']:,} the same{near}"
    left = counts["outside_a"], counts["outside_b"]
    if any(left):
        yield "not compared", f"{left[0]:,} of a, {left[1]:,} of b: their groups are not whole"
    if report["proof"]:
        yield "proof", f"{report['proof']}, for kappa promote"


def about(side: Report) -> Iterable[str]:
    """A table and its snapshot."""
    yield side["table"]
    if side["version"]:
        yield f"checkpoint {side['checkpoint']}"
    if side["snapshot_ms"] is not None:
        yield f"committed {words.utc(side['snapshot_ms'])}"
    if side["older"]:
        yield "not its newest"


def where(report: Report) -> str:
    """The position in the log."""
    if not report["same_position"]:
        return "unknown of a table that is not kappa's"
    topics = []
    for topic, partitions in (report["a"]["offsets"] or {}).items():
        total = sum(partitions.values())
        if len(partitions) <= 4:
            at = " ".join(f"{partition}:{offset:,}" for partition, offset in partitions.items())
        else:
            at = f"{len(partitions)} partitions, {words.count(total, 'record')}"
        topics.append(f"{topic} {at}")
    met = ", where they were asked to take a checkpoint" if report.get("met") else ""
    return f"the same for both{met}: {'; '.join(topics)}"


def whole(report: Report) -> Iterable[tuple[str, str]]:
    """From when on and up to when groups are whole."""
    bounds, closed = report["bounds"], [report[side]["closed"] for side in ("a", "b")]
    parts = []
    if bounds["complete_from_ms"] is not None:
        parts.append(f"from {words.utc(bounds['complete_from_ms'])}")
    if bounds["until_ms"] is not None:
        behind = f", without {', '.join(bounds['left_out'][:4])}" if bounds["left_out"] else ""
        parts.append(f"up to {words.utc(bounds['until_ms'])} (visible{behind})")
    elif all(closed):
        parts.append(f"up to {min(closed)} (closed); later groups are equally far in both")
    if parts:
        yield "groups whole", " ".join(parts)


def schema_lines(report: Report) -> list[str]:
    """How the columns differ."""
    found = []
    for difference in report["schema"][:_COLUMNS]:
        a, b, name = difference["a"], difference["b"], difference["column"]
        if a is None or b is None:
            found.append(f"column {name} ({a or b}) is only in {'b' if a is None else 'a'}")
        else:
            found.append(f"column {name} is {a} in a, {b} in b{'' if difference['compared'] else ': not compared'}")
    return found


def columns(report: Report) -> tuple[list[str], list[list[str]]]:
    """What changed by column: the head and the rows of a table."""
    rows = []
    for column in sorted(report["columns"], key=lambda column: -column["changed"])[:_COLUMNS]:
        if column["changed"] or column["within_tolerance"]:
            nulls = f"{column['became_null']:,} / {column['was_null']:,}"
            largest = "" if column["largest"] is None else f"{column['largest']:,.10g}"
            rows.append([column["column"], f"{column['changed']:,}", largest, nulls, f"{column['within_tolerance']:,}"])
    return ["column", "changed", "by at most", "to / from null", "tolerated"], rows


def days(report: Report, by_day: Sequence[Report], limit: int = _DAYS) -> tuple[list[str], list[list[str]]]:
    """The days that differ most, in order: the head and the rows of a table."""
    numbers = report["numbers"][:2]
    unlike = [day for day in by_day if day["changed"] or day["only_in_a"] or day["only_in_b"]]
    most = sorted(unlike, key=lambda day: -(day["changed"] + day["only_in_a"] + day["only_in_b"]))[:limit]
    rows = []
    for day in sorted(most, key=lambda day: (day["day"] is None, day["day"] or 0)):
        row = [words.cell(day["day"]), *(f"{day[name]:,}" for name in ("changed", "only_in_a", "only_in_b"))]
        for name in numbers:
            row += [f"{amount(day[f'{name}_a'])} → {amount(day[f'{name}_b'])}", share(day[f"{name}_a"], day[f"{name}_b"])]
        rows.append(row)
    head = [report["day"] or "day", "changed", "only in a", "only in b"]
    for name in numbers:
        head += [f"{name} a → b", ""]
    if len(unlike) > len(most) and rows:
        rows.append([f"and {len(unlike) - len(most):,} more days", *[""] * (len(head) - 1)])
    return head, rows


def amount(value: object) -> str:
    """A sum.

    >>> from decimal import Decimal
    >>> amount(Decimal(12345)), amount(0.5), amount(None)
    ('12,345', '0.5', 'null')
    """
    if value is None:
        return "null"
    return f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"


def share(a: Any, b: Any) -> str:
    """By how much a sum changed.

    >>> share(400, 388), share(0, 3), share(None, 3)
    ('-3.0%', '', '')
    """
    if a is None or b is None or not float(a):
        return ""
    part = (float(b) - float(a)) / abs(float(a))
    return "=" if part == 0 else f"{part:+.1%}"


def example_lines(report: Report, changed: Rows, only_in_a: Rows, only_in_b: Rows) -> list[str]:
    """Some rows of each kind."""
    lines = []
    key = report["key"]
    for row in changed.first(_EXAMPLES):
        values = [
            f"{name} {words.cell(row[f'{name}_a'])} → {words.cell(row[f'{name}_b'])}"
            for name in (column["column"] for column in report["columns"])
            if f"{name}_b" in row and not same(row[f"{name}_a"], row[f"{name}_b"])
        ]
        lines.append(f"changed    {place(row, key)}: {', '.join(values[:3])}")
    for title, rows in (("only in a", only_in_a), ("only in b", only_in_b)):
        for row in rows.first(_EXAMPLES):
            lines.append(f"{title}  {place(row, list(row)[:6])}")
    return lines


def same(a: object, b: object) -> bool:
    """Null and NaN are values."""
    return a == b or (a != a and b != b)


def place(row: Report, names: Sequence[str]) -> str:
    """Some columns of a row."""
    return ", ".join(f"{name}={words.cell(row[name], 24)}" for name in names)


def pairs(values: Iterable[tuple[str, str]]) -> list[str]:
    """Names and values below each other."""
    values = list(values)
    width = max(len(name) for name, _ in values) + 2
    return [f"  {name:<{width}}{value}" for name, value in values]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of text: the first column to the left, the others to the right."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(cells)).rstrip()
        for cells in (list(zip(line, widths, strict=True)) for line in [head, *rows])
    ]
