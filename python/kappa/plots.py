"""Small plots as inline SVG, without a plotting library. Text and axes take the colour of the page, so that they look right on
light and dark ones; the colours of the data stand out on both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

AMBER, PURPLE, TEAL, BLUE, GREY = "#d9822b", "#9467d8", "#1a9c8c", "#3b82f6", "#8a8f98"
_WIDTH, _HEIGHT = 640, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 10, 22
_QUIET = 'fill="currentColor" fill-opacity="0.65" font-size="11"'

Series = tuple[str, str, Sequence[float | None]]
"""A name, a colour, and a value for each label."""


def bars(labels: Sequence[str], series: Sequence[Series]) -> str:
    """Bars on top of each other, one stack for each label.

    >>> bars(["2026-03-01", "2026-03-02"], [("changed", AMBER, [3, 0])]).count("<rect")
    1
    """
    totals = [sum(values[i] or 0 for _, _, values in series) for i in range(len(labels))]
    scale = _Scale(labels, 0, max(totals, default=0))
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(labels))
    width = max(0.5, min(40.0, step * 0.8))
    shapes = []
    for i, label in enumerate(labels):
        below = 0.0
        for name, colour, values in series:
            value = values[i] or 0
            if value:
                y, base = scale.y(below + value), scale.y(below)
                title = f"<title>{escape(label)}: {value:,.10g} {escape(name)}</title>"
                shapes.append(
                    f'<rect x="{scale.x(i) - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" '
                    f'height="{max(0.5, base - y):.1f}" fill="{colour}">{title}</rect>'
                )
                below += value
    return _figure(scale, shapes, series)


def lines(labels: Sequence[str], series: Sequence[Series]) -> str:
    """A line for each series; where it has no value, it is broken.

    >>> lines(["a", "b", "c", "d"], [("old", GREY, [1, 2, None, 4])]).count("<polyline")
    2
    """
    known = [value for _, _, values in series for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # From zero, unless that would press all of it flat.
    scale = _Scale(labels, 0 if low >= 0 and low < 0.7 * high else low, high)
    shapes = []
    for number, (name, colour, values) in enumerate(series):
        # Those before are wider: where lines agree, both are seen.
        width = 1.8 + 1.7 * (len(series) - 1 - number)
        for run in _runs(values):
            points = " ".join(f"{scale.x(i):.1f},{scale.y(value):.1f}" for i, value in run)
            shapes.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
                'stroke-linejoin="round" stroke-linecap="round"/>'
            )
            if len(labels) <= 60:
                shapes += [
                    f'<circle cx="{scale.x(i):.1f}" cy="{scale.y(value):.1f}" r="{width:.1f}" fill="{colour}">'
                    f"<title>{escape(labels[i])}: {value:,.10g} {escape(name)}</title></circle>"
                    for i, value in run
                ]
    return _figure(scale, shapes, series)


class _Scale:
    """From values to places."""

    def __init__(self, labels: Sequence[str], low: float, high: float) -> None:
        self.labels = labels
        self.low = low
        self.high = high if high > low else low + 1

    def x(self, i: int) -> float:
        step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(self.labels))
        return _LEFT + step * (i + 0.5)

    def y(self, value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)

    def axes(self) -> Iterator[str]:
        for value in (self.low, (self.low + self.high) / 2, self.high):
            y = self.y(value)
            yield (
                f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                'stroke="currentColor" stroke-opacity="0.18"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {_QUIET}>{_short(value)}</text>'
            )
        last = len(self.labels) - 1
        for i in sorted({0, last // 2, last} if last >= 0 else set()):
            anchor = "middle" if 0 < i < last or last == 0 else "start" if i == 0 else "end"
            x = self.x(i) if anchor == "middle" else _LEFT if anchor == "start" else _WIDTH - _RIGHT
            yield f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}" {_QUIET}>{escape(self.labels[i])}</text>'


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    run: list[tuple[int, float]] = []
    for i, value in enumerate(values):
        if value is not None:
            run.append((i, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _short(value: float) -> str:
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _figure(scale: _Scale, shapes: Sequence[str], series: Sequence[Series]) -> str:
    legend = "".join(
        f'<span style="margin-right:14px"><span style="display:inline-block;width:10px;height:10px;border-radius:2px;'
        f'background:{colour};margin-right:5px"></span>{escape(name)}</span>'
        for name, colour, _ in series
    )
    return (
        f'<div style="font-size:85%;opacity:.85">{legend}</div>'
        f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="width:100%;max-width:{_WIDTH}px;height:auto;color:inherit;'
        f'background:none;font-family:inherit">{"".join(scale.axes())}{"".join(shapes)}</svg>'
    )


def numbers(values: Sequence[object]) -> list[float | None]:
    """Values of a table as what can be drawn.

    >>> numbers([1, None, float("inf")])
    [1.0, None, None]
    """
    made: list[float | None] = []
    for value in values:
        number = None if value is None else float(str(value))
        made.append(None if number is None or number != number or abs(number) == float("inf") else number)
    return made


def pick(by: Mapping[str, Sequence[object]], name: str) -> list[float | None]:
    """A column as numbers."""
    return numbers(by[name])
