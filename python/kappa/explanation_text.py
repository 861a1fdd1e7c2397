"""An explanation in a terminal, where it fits a screen, and in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from kappa import diff_text, html, words
from kappa.rows import Rows

_FATES = 6
_RECORDS = 6
_COLUMNS = 8
_NOTES = 4
_STEPS = 4
_SHOWN = 50
_CAUSES = {
    "changed_step": "a step of the plans is not the same",
    "late": "records that came late",
    "bad_record": "records that could not be decoded",
    "missing_history": "records that one has not read",
    "none": "nothing that the log or the plans would tell",
}
_WHERE = ("partition", "offset", "event_time", "fate_a", "why_a", "fate_b", "why_b")

Report = dict[str, Any]


def summary(report: Report, records: Rows, row_a: Rows, row_b: Rows) -> str:
    """The whole of it, on a screen."""
    blocks = [
        [verdict(report)],
        diff_text.pairs(facts(report)),
        step_lines(report),
        diff_text.grid(*values(row_a, row_b)),
        diff_text.grid(*fates(report, _FATES)),
        diff_text.grid(*shown(report, records, _RECORDS)),
        [f"note: {words.printable(note)}" for note in report["notes"][:_NOTES]],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def verdict(report: Report) -> str:
    """The one line that counts."""
    a, b, of = report["a"]["table"], report["b"]["table"], key(report)
    if not report["differs"]:
        return f"SAME: {of} in {a} and {b}"
    if not all(fate["a"] and fate["b"] for fate in report["fates"]):
        return f"DIFFERENT: {of} in {a} and {b}"
    return f"DIFFERENT: {of} in {a} and {b}: {_CAUSES[report['cause']]}"


def key(report: Report) -> str:
    """`day=2026-03-03, currency=DKK`."""
    return ", ".join(f"{name}={words.cell(value)}" for name, value in report["key"])


def facts(report: Report) -> Iterable[tuple[str, str]]:
    """What was replayed, and what came of it."""
    for side in ("a", "b"):
        yield side, " · ".join(diff_text.about(report[side]))
    yield "position", diff_text.where(report)
    yield "replayed", f"{words.count(report['read'], 'record')} in {words.duration(float(report['seconds']))}"
    of_key = sum(fate["records"] for fate in report["fates"])
    parted = {name: number for name, number in report["parted"].items() if number}
    if parted:
        why = ", ".join(f"{number:,} by {name.replace('_', ' ')}" for name, number in parted.items())
        yield "of the key", f"{words.count(of_key, 'record')}, of which {sum(parted.values()):,} count otherwise: {why}"
    else:
        yield "of the key", words.count(of_key, "record")


def step_lines(report: Report) -> list[str]:
    """The step at which the two part."""
    step = report["step"]
    if step is None:
        return []
    lines = [f"  {words.printable(line)}" for line in step["in_words"][:_STEPS]]
    more = len(step["in_words"]) - _STEPS
    return ["they part at", *lines, *([f"  and {more} more"] if more > 0 else [])]


def values(row_a: Rows, row_b: Rows) -> tuple[list[str], list[list[str]]]:
    """The row of the key in both: the head and the rows of a table, a column each."""
    a, b = row_a.to_dicts(), row_b.to_dicts()
    names = list(dict.fromkeys([*row_a.schema, *row_b.schema]))
    if len(a) > 1 or len(b) > 1:
        return ["", "a", "b"], [["rows", f"{len(a):,}", f"{len(b):,}"]]

    def value(rows: list[dict[str, Any]], name: str) -> str:
        return words.cell(rows[0].get(name)) if rows else "(no row)"

    rows = [[name, value(a, name), value(b, name), "" if value(a, name) == value(b, name) else "≠"] for name in names]
    return ["", "a", "b", ""], rows[:_COLUMNS]


def fates(report: Report, limit: int) -> tuple[list[str], list[list[str]]]:
    """What became of the records: the head and the rows of a table."""
    rows = []
    for fate in report["fates"][:limit]:
        otherwise = "" if fate["cause"] == "none" else fate["cause"].replace("_", " ")
        if fate["a"] == fate["b"] == "used" and not fate["same_values"]:
            otherwise = "other values"
        rows.append([_fate(fate, "a"), _fate(fate, "b"), f"{fate['records']:,}", otherwise])
    return ["in a", "in b", "records", ""], rows


def _fate(fate: Report, side: str) -> str:
    name, why = fate[side], fate[f"why_{side}"]
    return "?" if name is None else name if why is None else f"{name}: {words.cell(why)}"


def shown(report: Report, records: Rows, limit: int, columns: int = _COLUMNS) -> tuple[list[str], list[list[str]]]:
    """Records, those that part first: the head and the rows of a table."""
    parted = {(fate["a"], fate["b"]) for fate in report["fates"] if fate["cause"] != "none"}
    rows = sorted(records, key=lambda row: (row.get("fate_a"), row.get("fate_b")) not in parted)[:limit]
    names = [name for name in records.schema if name not in _WHERE][:columns]
    cells = [
        [
            f"{row['partition']}:{row['offset']:,}",
            *(words.cell(row.get(name), 24) for name in ("event_time", "fate_a", "fate_b")),
        ]
        + [words.cell(row[name], 24) for name in names]
        for row in rows
    ]
    return ["record", "event time", "in a", "in b", *names], cells


def fragment(report: Report, records: Rows, row_a: Rows, row_b: Rows) -> str:
    """What a notebook shows."""
    parts = [html.pairs(verdict(report), facts(report))]
    if report["step"] is not None:
        changes = "".join(f"<div><code>{escape(line)}</code></div>" for line in report["step"]["in_words"])
        parts.append(f'<div style="margin-top:8px">they part at{changes}</div>')
    parts += _grid(*values(row_a, row_b))
    parts += _grid(*fates(report, _SHOWN))
    table = "".join(_grid(*shown(report, records, _SHOWN, 100)))
    title = f"records: {min(len(records), _SHOWN)} of {len(records):,} that are kept"
    parts.append(f'<details style="margin-top:8px"><summary>{escape(title)}</summary>{table}</details>')
    parts += [html.note(note) for note in report["notes"]]
    return f'<div style="color:inherit">{"".join(parts)}</div>'


def page(report: Report, body: str) -> str:
    """A whole page, light or dark as the reader's machine is."""
    title = escape(f"{key(report)} in {report['a']['table']} and {report['b']['table']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
        f"padding:0 1rem}}</style></head><body>{body}</body></html>\n"
    )


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    return ['<div style="margin-top:10px"></div>', html.table(head, [""] * len(head), rows, ["left"] * len(head))]
