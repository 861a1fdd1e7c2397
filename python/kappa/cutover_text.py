"""Names, and what they show, as text."""

from __future__ import annotations

import time
from typing import Any

from kappa.words import count, duration, printable, utc


def promotion(verb: str, found: dict[str, Any]) -> str:
    """What a promote or a rollback did, and how to undo it."""
    lines = []
    turned = found["turn"] is not None
    for shown in found["names"]:
        before = shown["before"]
        was = f" (before: {before})" if turned and before and before != shown["table"] else ""
        lines.append(
            f"{shown['name']} shows {shown['table']}{was}" if turned else f"{shown['name']} shows {shown['table']} already"
        )
        lines.append(f"  {count(shown['rows'], 'row')}, snapshot {shown['snapshot_id']}")
        lines += [f"  view {shown['view']}"] if shown["view"] else []
        lines += [f"  {line}" for line in _why(shown)]
        lines += [f"  note: {note}" for note in shown["notes"]]
    if turned:
        moved = [shown for shown in found["names"] if shown["before"] not in (None, shown["table"])]
        if verb == "promote":
            undo = [f"kappa rollback {shown['name']}" for shown in moved]
        else:
            undo = [f"kappa promote {shown['name']} {shown['before']}" for shown in moved]
        lines.append(f"done in {duration(found['seconds'])}" + (f"; back again: {'; '.join(undo)}" if undo else ""))
    return "\n".join(lines)


def _why(turn: dict[str, Any]) -> list[str]:
    lines = []
    if turn.get("proof"):
        lines.append(f"proof {turn['proof']}")
    if turn.get("unverified"):
        lines.append(f"unverified: {printable(turn['unverified'])}")
    if turn.get("accepted"):
        lines.append(f"accepted: {', '.join(turn['accepted'])}")
    return lines


def names(found: list[dict[str, Any]]) -> str:
    """A line for each name."""
    if not found:
        return "no names yet: kappa promote NAME TABLE"
    rows = [("NAME", "SHOWS", "ROWS", "AS OF", "SINCE", "BEFORE")]
    for name in found:
        since = utc(name["turns"][-1]["at_ms"]) if name["turns"] else "-"
        rows.append((name["name"], shows(name), f"{name['rows']:,}", name["closed"] or "-", since, name["before"] or "-"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines + [f"  {name['name']}: {trouble}" for name in found for trouble in _troubles(name)])


def shows(name: dict[str, Any]) -> str:
    """The table that a name shows."""
    return str(name["table"] or "nothing yet")


def _troubles(name: dict[str, Any]) -> list[str]:
    found = []
    if name["table"] and not name["is_there"]:
        found.append(f"table {name['table']} is gone: nothing moves the name any more; kappa rollback {name['name']}")
    if name["is_foreign"]:
        found.append("another tool has committed to the name: the next commit of the version undoes it")
    behind = (name["newest"] or 0) - (name["checkpoint"] or 0)
    if name["is_there"] and behind > 0:
        found.append(f"{count(behind, 'checkpoint')} behind its version: the job that writes it brings it up")
    return found


def name(found: dict[str, Any]) -> str:
    """All that is known of one."""
    lines = [f"{found['name']} shows {shows(found)}"]
    if found["table"]:
        made = f", made {_ago(found['snapshot_ms'])}" if found["snapshot_ms"] is not None else ""
        lines += [
            f"  version     {found['version']}",
            f"  snapshot    {found['snapshot_id']}{made}",
            f"  rows        {found['rows']:,}",
            f"  checkpoint  {found['checkpoint']} of {found['newest']}",
            f"  closed      {found['closed'] or '-'}",
            f"  rollback    {'to ' + found['before'] if found['before'] else 'nothing before'}",
            f"  view        {found['view'] or '-'}",
        ]
    lines += [f"  {trouble}" for trouble in _troubles(found)]
    return "\n".join(lines)


def history(found: dict[str, Any]) -> str:
    """The turns of a name, the last first."""
    if not found["turns"]:
        return f"{found['name']} was not turned yet"
    lines = []
    for turn in reversed(found["turns"]):
        lines.append(f"{utc(turn['at_ms'])}  {turn['action']:<8}  {turn['table']}")
        lines += [f"    {line}" for line in [*_why(turn), f"by {printable(turn['by'])}"]]
    return "\n".join(lines)


def _ago(ms: int) -> str:
    return f"{duration(max(0, round(time.time() - ms / 1000)))} ago"
