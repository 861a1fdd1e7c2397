"""Showing a run: lines of text, a bar on a terminal, JSON for machines (all on stderr), a bar in a notebook."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Protocol, TextIO, TypeAlias

from kappa import html, words

Event: TypeAlias = dict[str, Any]


class Renderer(Protocol):
    """Shows the events of a run."""

    def event(self, event: Event) -> None:
        """Shows one event."""

    def notice(self, message: str) -> None:
        """Shows a remark of kappa itself."""

    def close(self) -> None:
        """Leaves the screen tidy."""


class Silent:
    """Shows nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def notice(self, message: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Wording:
    """Events in words. Remembers what later sentences refer to: the mode, and where records come from."""

    def __init__(self) -> None:
        self.job = ""
        self.mode = ""

    def line(self, event: Event) -> str | None:
        """The sentence for an event, or none."""
        say = getattr(self, "_" + event["event"], None)
        return None if say is None else say(event)

    def _started(self, event: Event) -> str:
        self.job, self.mode = event["job"], event["mode"]
        verb = "going on from" if event["resumed"] else "starting from"
        places = "; ".join(f"{topic['from']} of {topic['topic']}" for topic in event["topics"])
        line = f"{event['job']} → {', '.join(map(words.place, event['tables']))} ({event['mode']}), {verb} {places}"
        records = sum(topic["records"] or 0 for topic in event["topics"])
        if event["mode"] == "live" and records:
            line += f", {words.count(records, 'event')} to catch up with"
        return line

    def _progress(self, event: Event) -> str:
        week = f" (week of {event['week_of']})" if event["week_of"] else ""
        parts = [f"processed {words.count(event['events'], 'event')}{week}", words.rate(event["rate"])]
        if event["watermark_ms"] is not None:
            parts.append(f"watermark {words.utc(event['watermark_ms'])}")
        if event.get("held_by") is not None:
            parts.append(f"expiry waits for {event['held_by']}")
        if event["fraction"] is not None:
            parts.append(f"{percent(event['fraction'])} of head")
        elif event["lag"] is not None:
            parts.append(f"{words.count(event['lag'], 'event')} behind the head")
        if event.get("retention") is not None:
            parts.append(f"retention {event['retention']:.0%} away")
        if event["seconds_left"] is not None:
            parts.append(f"about {words.duration(max(1, round(event['seconds_left'])))} left")
        return ", ".join(parts)

    def _checkpoint(self, event: Event) -> str:
        return (
            f"checkpoint {event['checkpoint']} committed in {words.duration(event['duration_ms'] / 1000)}: "
            f"state {words.size(event['state_bytes'])} in RocksDB, {words.size(sum(event['memory'].values()))} in memory, "
            f"{words.count(event['rows_changed'], 'row')} changed"
        )

    def _caught_up(self, event: Event) -> str:
        if not event["at_head"]:
            return "caught up: position is at the end that --until or --align names"
        as_of = words.local(event["head_time_ms"], "%H:%M:%S")
        return f"caught up: position is at the head of the log as of {as_of}"

    def _notice(self, event: Event) -> str:
        level = event["level"]
        return event["message"] if level == "info" else f"{level}: {event['message']}"

    def _complete(self, event: Event) -> str:
        done = f"{words.count(event['events'], 'event')} in {words.duration(event['seconds'])}"
        if event["outcome"] == "interrupted":
            return f"{self.mode or 'run'} interrupted after {done}: run the same command to go on where it stopped"
        tables = ", ".join(
            f"{words.count(table['rows'], words.rows_of(table['table']))} in {words.place(table['table'])}"
            if table["rows"] is not None
            else words.place(table["table"])
            for table in event["tables"]
        )
        return f"{self.mode or 'run'} {event['outcome']}: {done}, {tables}"


class Lines:
    """Lines of text with the wall clock's time, as logs and CI want them."""

    def __init__(self, out: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._words = Wording()
        self._first: int | None = None
        self._last: int | None = None
        self._time = 0

    def event(self, event: Event) -> None:
        """Prints one line, progress at growing distances of up to 10 s."""
        self._time = event.get("time_ms") or self._time
        line = self._words.line(event)
        if line is None or self._quiet or (event["event"] == "progress" and not self._due(self._time)):
            return
        self._print(line)

    def notice(self, message: str) -> None:
        """Prints the remark."""
        self._print(message)

    def close(self) -> None:
        """Nothing is left open."""

    def _due(self, time: int) -> bool:
        if self._first is None or self._last is None:
            self._first = self._last = time
            return True
        if time - self._last < min(10_000, max(1_000, time - self._first)):
            return False
        self._last = time
        return True

    def _print(self, line: str) -> None:
        out = self._out or sys.stderr
        stamp = f"[{words.local(self._time)}] " if self._time else ""
        print(stamp + line, file=out, flush=True)


class Json:
    """One JSON object a line, for machines."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out

    def event(self, event: Event) -> None:
        """Prints the event with its time in words."""
        stamp = {"time": words.utc(event["time_ms"])} if event.get("time_ms") else {}
        print(json.dumps({**stamp, **event}), file=self._out or sys.stderr, flush=True)

    def notice(self, message: str) -> None:
        """Prints the remark as an event."""
        self.event({"event": "notice", "level": "info", "message": message})

    def close(self) -> None:
        """Nothing is left open."""


class Bar(Lines):
    """A bar at the bottom of a terminal, with the other lines above it."""

    def __init__(self, out: TextIO | None = None, *, color: bool | None = None) -> None:
        super().__init__(out)
        self._color = use_color(self._out or sys.stderr) if color is None else color
        self._drawn = ""

    def event(self, event: Event) -> None:
        """Redraws the bar, or prints a line above it."""
        if event["event"] != "progress":
            super().event(event)
            return
        self._time = event.get("time_ms") or self._time
        self._draw(bar_text(event, columns(self._out or sys.stderr)))

    def close(self) -> None:
        """Takes the bar away."""
        self._erase()
        self._drawn = ""

    def _print(self, line: str) -> None:
        self._erase()
        out = self._out or sys.stderr
        stamp = f"[{words.local(self._time)}] " if self._time else ""
        if self._color and stamp:
            stamp = f"\x1b[2m{stamp}\x1b[0m"
        out.write(f"{stamp}{line}\n")
        self._draw(self._drawn)

    def _erase(self) -> None:
        if self._drawn:
            (self._out or sys.stderr).write("\r\x1b[K")

    def _draw(self, text: str) -> None:
        self._drawn = text
        out = self._out or sys.stderr
        out.write(f"\r{text}\x1b[K" if text else "")
        out.flush()


class Notebook:
    """A bar in a notebook's output cell, and the last remarks below it."""

    def __init__(self) -> None:
        from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

        self._html = HTML
        self._words = Wording()
        self._bar = ""
        self._notes: list[str] = []
        self._handle = display(HTML(""), display_id=True)

    def event(self, event: Event) -> None:
        """Redraws the cell."""
        line = self._words.line(event)
        if event["event"] == "progress":
            self._bar = html.bar(self._words.job, event["fraction"], _facts(event))
        elif line is not None:
            self._notes.append(line)
            if event["event"] == "complete":
                self._bar = html.bar(self._words.job, 1.0 if event["outcome"] == "complete" else None, "")
        self._draw()

    def notice(self, message: str) -> None:
        """Adds the remark."""
        self._notes.append(message)
        self._draw()

    def close(self) -> None:
        """The cell stays as it is."""

    def _draw(self) -> None:
        self._handle.update(self._html(self._bar + "".join(html.note(note) for note in self._notes[-3:])))


def bar_text(event: Event, width: int) -> str:
    """One line of at most `width` characters: the bar, and as many facts as fit.

    >>> event = {"fraction": 0.5, "rate": 1.2e6, "event_time_ms": None, "seconds_left": 61, "lag": 5}
    >>> bar_text(event, 60)
    '━━━━━━━━━━──────────  50 %  1.2 M events/s  1 m 1 s left'
    """
    room = max(1, width - 1)
    facts = _facts(event)
    if event["fraction"] is None:
        return facts[:room]
    length = min(40, room - len(facts) - 2) if room - len(facts) >= 12 else 0
    length = min(length, 20) if room < 80 else length
    done = round(length * min(1.0, max(0.0, event["fraction"])))
    return f"{'━' * done}{'─' * (length - done)}  {facts}"[:room] if length else facts[:room]


def _facts(event: Event) -> str:
    behind = f"{words.count(event['lag'] or 0, 'event')} behind"
    facts = [behind if event["fraction"] is None else percent(event["fraction"])]
    facts.append(words.rate(event["rate"]))
    if event["event_time_ms"] is not None:
        facts.append(f"at {words.utc(event['event_time_ms'])[:10]}")
    if event.get("retention") is not None:
        facts.append(f"retention {event['retention']:.0%} away")
    if event["seconds_left"] is not None:
        facts.append(f"{words.duration(max(1, round(event['seconds_left'])))} left")
    return "  ".join(facts)


def percent(fraction: float) -> str:
    """`7 %`: rounded down, so that 100 % is said only at the end.

    >>> percent(0.999), percent(1.0)
    ('99 %', '100 %')
    """
    return f"{int(max(0.0, min(1.0, fraction)) * 100 + 1e-9)} %"


def columns(out: TextIO) -> int:
    """The width of the terminal behind a stream."""
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def on_terminal(out: TextIO | None = None) -> bool:
    """Whether people look at the stream."""
    return bool(getattr(out or sys.stderr, "isatty", lambda: False)()) and os.environ.get("TERM") != "dumb"


def use_color(out: TextIO, when: str = "auto") -> bool:
    """Whether to colour, by `--color` and the `NO_COLOR` variable."""
    if when != "auto":
        return when == "always"
    return on_terminal(out) and not os.environ.get("NO_COLOR")


def in_notebook() -> bool:
    """Whether this is a Jupyter kernel."""
    shell = sys.modules.get("IPython")
    instance = shell.get_ipython() if shell is not None and hasattr(shell, "get_ipython") else None
    return instance is not None and type(instance).__name__ == "ZMQInteractiveShell"
