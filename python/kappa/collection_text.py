"""What is, or would be, collected, as text."""

from __future__ import annotations

from typing import Any

from kappa.words import count, duration, printable, size, utc

_ORDER = ["delete", "condemn", "wait", "spare", "keep"]
_DONE = {"delete": "deleted", "condemn": "condemned", "wait": "condemned", "spare": "spared", "keep": "kept"}
_KEPT = 20
"""Lines about what stays."""


def report(found: dict[str, Any]) -> str:
    """What goes first, then what stays, and what to do next."""
    head, body = rows(found)
    widths = [max(len(row[column]) for row in [head, *body]) for column in range(3)]
    lines = [summary(found)]
    if body:
        lines += [
            f"  {action:<{widths[0]}}  {what:<{widths[1]}}  {bytes_:>{widths[2]}}  {why}".rstrip()
            for action, what, bytes_, why in [head, *body]
        ]
    lines += [f"  trouble: {line}" for line in troubles(found)]
    return "\n".join(lines + next_step(found))


def summary(found: dict[str, Any]) -> str:
    """One line."""
    now = size(found["deleted_bytes"] if found["applied"] else found["deletable_bytes"])
    later = found["condemned_bytes"]
    gone = f"freed {now}" if found["applied"] else f"would free {now} now"
    after = (
        f", {size(later)} {'after the grace' if found['applied'] else 'once it was condemned for the grace'}" if later else ""
    )
    left = f"; {size(found['deletable_bytes'])} could not be deleted" if found["applied"] and found["deletable_bytes"] else ""
    return f"{gone}{after}{left}; {size(found['kept_bytes'])} stays"


def rows(found: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """A head, and a line for each version and directory."""
    things = [
        *((begun["version"], begun["tables"], "delete", "begun by an earlier process", begun) for begun in found["begun"]),
        *((version["version"], version["tables"], version["action"], _why(version), version) for version in found["versions"]),
        *((_directory(it["path"]), [], it["action"], f"{_why(it)} ({it['table']})", it) for it in found["directories"]),
    ]
    for version in found["versions"]:
        if version["orphan_bytes"]:
            left = {"bytes": version["orphan_bytes"], "trouble": version["trouble"]}
            things.append((version["version"], version["tables"], "delete", "left in it by a run that crashed", left))
    things.sort(key=lambda thing: (_ORDER.index(thing[2]), -_bytes(thing[4])))
    lines: list[list[str]] = []
    left_out = 0
    for name, tables, action, why, thing in things:
        if action == "keep" and len(lines) >= _KEPT:
            left_out += 1
            continue
        what = ", ".join(tables) or printable(str(name or "files"))
        done = found["applied"] and not thing["trouble"]
        lines.append([_DONE[action] if done else action, what, size(_bytes(thing)), printable(why)])
    if left_out:
        lines.append(["keep", f"and {count(left_out, 'more')}", "", "--json has them all"])
    return ["ACTION", "WHAT", "SIZE", "WHY"], lines


def _bytes(thing: dict[str, Any]) -> int:
    """All that is of it, but for what a crash has left in a version."""
    if "bytes" in thing:
        return int(thing["bytes"])
    return int(thing["data_bytes"] + thing["state_bytes"] + thing["staged_bytes"] - thing["orphan_bytes"])


def _directory(path: str) -> str:
    """Where it is in the warehouse."""
    return "/".join(path.split("/")[-2:])


def _why(thing: dict[str, Any]) -> str:
    until = thing["until_ms"]
    if until is None:
        return str(thing["why"])
    ends = "until" if thing["action"] in ("keep", "spare") else "goes after"
    return f"{thing['why']}; {ends} {utc(until)}"


def troubles(found: dict[str, Any]) -> list[str]:
    """What was to be done and was not, and why."""
    lines = []
    for thing in [*found["begun"], *found["versions"], *found["directories"]]:
        if thing["trouble"]:
            name = ", ".join(thing.get("tables", [])) or thing.get("path") or thing.get("version") or "a deletion"
            lines.append(f"{name}: {printable(thing['trouble'])}")
    return lines


def next_step(found: dict[str, Any]) -> list[str]:
    """What to do now, if anything."""
    actions = {thing["action"] for thing in [*found["versions"], *found["directories"]]}
    if not found["applied"]:
        if found["begun"] or found["deletable_bytes"] or actions & {"delete", "condemn", "spare"}:
            return ["nothing was changed: run with --apply"]
        return ["nothing to do" if "wait" not in actions else "nothing to do before the grace is over"]
    if actions & {"condemn", "wait"}:
        grace = duration(found["grace_ms"] / 1000)
        return [f"run it again after the grace ({grace}) to delete what is condemned; kappa gc --spare TABLE takes it back"]
    return []
