"""A comparison in a notebook, or as a page: tables, and plots of what changed when."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from kappa import diff_text, html, plots, words
from kappa.rows import Rows

_DAYS = 1000
_PLOTS = 4
_EXAMPLES = 10


def fragment(report: dict[str, Any], changed: Rows, only_in_a: Rows, only_in_b: Rows, by_day: Rows) -> str:
    """What a notebook shows."""
    parts = [html.pairs(diff_text.verdict(report), diff_text.facts(report))]
    parts += [html.note(line) for line in [*diff_text.schema_lines(report), *report["notes"]]]
    parts += _grid(*diff_text.columns(report))
    days = by_day.to_dicts()
    parts += _plots(report, days)
    parts += _grid(*diff_text.days(report, days, 20))
    for title, rows in (("changed", changed), ("only in a", only_in_a), ("only in b", only_in_b)):
        if len(rows):
            shown = min(len(rows), _EXAMPLES)
            head = f"{title}: the first {shown}" if len(rows) > shown else title
            parts.append(f'<details style="margin-top:8px"><summary>{escape(head)}</summary>{_rows(rows)}</details>')
    return f'<div style="color:inherit">{"".join(parts)}</div>'


def page(report: dict[str, Any], body: str) -> str:
    """A whole page, light or dark as the reader's machine is."""
    title = escape(f"{report['a']['table']} and {report['b']['table']}")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
        f"padding:0 1rem}}</style></head><body>{body}"
        f"{html.note('made by kappa at ' + words.utc(report['made_ms']))}</body></html>\n"
    )


def _plots(report: dict[str, Any], days: Sequence[dict[str, Any]]) -> list[str]:
    dated = [day for day in days if day["day"] is not None][-_DAYS:]
    if len(dated) < 2:
        return []
    labels = [words.cell(day["day"]) for day in dated]
    by = {name: [day[name] for day in dated] for name in dated[0]}
    parts = []
    if report["counts"]["changed"] + report["counts"]["only_in_a"] + report["counts"]["only_in_b"]:
        kinds = (
            ("changed", "changed", plots.AMBER),
            ("only in a", "only_in_a", plots.PURPLE),
            ("only in b", "only_in_b", plots.TEAL),
        )
        series = [(name, colour, plots.pick(by, column)) for name, column, colour in kinds if any(by[column])]
        parts += [_title("Rows that differ, by day"), plots.bars(labels, series)]
    for name in report["numbers"][:_PLOTS]:
        series = [("a", plots.GREY, plots.pick(by, f"{name}_a")), ("b", plots.BLUE, plots.pick(by, f"{name}_b"))]
        parts += [_title(f"{name}, summed by day"), plots.lines(labels, series)]
    return parts


def _title(text: str) -> str:
    return f'<div style="font-weight:600;margin-top:12px">{escape(text)}</div>'


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    aligns = ["left", *["right"] * (len(head) - 1)]
    return ['<div style="margin-top:10px"></div>', html.table(head, [""] * len(head), rows, aligns)]


def _rows(rows: Rows) -> str:
    names = list(rows.schema)
    cells = [[words.cell(row[name]) for name in names] for row in rows.first(_EXAMPLES)]
    return html.table(names, [repr(dtype) for dtype in rows.schema.values()], cells, ["left"] * len(names))
