"""Small pieces of HTML that look right on light and dark pages: no colours of their own but the page's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_CELL = "padding:2px 12px 2px 0;text-align:{align};vertical-align:top;border:none;background:none"
_HEAD = _CELL + ";font-weight:600;border-bottom:1px solid currentColor"


def table(names: Sequence[str], kinds: Sequence[str], rows: Iterable[Sequence[str]], aligns: Sequence[str]) -> str:
    """A table with a head of names and types."""
    head = "".join(
        f'<th style="{_HEAD.format(align=align)}">{escape(name)}<br>'
        f'<span style="font-weight:400;opacity:.65;font-size:85%">{escape(kind)}</span></th>'
        for name, kind, align in zip(names, kinds, aligns, strict=True)
    )
    body = "".join(
        "<tr style='background:none'>"
        + "".join(
            f'<td style="{_CELL.format(align=align)};font-variant-numeric:tabular-nums">{escape(value)}</td>'
            for value, align in zip(row, aligns, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    head = f'<thead><tr style="background:none">{head}</tr></thead>'
    return f'<table style="border-collapse:collapse;color:inherit">{head}<tbody>{body}</tbody></table>'


def pairs(title: str, values: Iterable[tuple[str, str]]) -> str:
    """A title and a list of names with values."""
    rows = "".join(
        f'<tr style="background:none"><td style="{_CELL.format(align="left")};opacity:.65">{escape(name)}</td>'
        f'<td style="{_CELL.format(align="left")};font-variant-numeric:tabular-nums">{escape(value)}</td></tr>'
        for name, value in values
    )
    return (
        f'<div style="color:inherit"><div style="font-weight:600;margin-bottom:4px">{escape(title)}</div>'
        f'<table style="border-collapse:collapse;color:inherit"><tbody>{rows}</tbody></table></div>'
    )


def bar(title: str, fraction: float | None, text: str) -> str:
    """A progress bar with a line of text."""
    value = "" if fraction is None else f' value="{fraction:.4f}"'
    return (
        f'<div style="color:inherit"><span style="font-weight:600">{escape(title)}</span> '
        f'<progress max="1"{value} style="vertical-align:middle;width:240px"></progress> '
        f'<span style="font-variant-numeric:tabular-nums">{escape(text)}</span></div>'
    )


def note(text: str) -> str:
    """A quiet line."""
    return f'<div style="opacity:.65;font-size:85%">{escape(text)}</div>'
