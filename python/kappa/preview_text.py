"""A preview in a terminal: one screen, the verdict first, and at the end what to type next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kappa import diff_text, planning, words
from kappa.comparison import Diff

_DAYS = 4
_CHANGES = 3
_NOTES = 4
_TOPIC = "kafka:"

Found = Mapping[str, Any]


def summary(found: Found, diffs: Mapping[str, Diff], script: str | None = None) -> str:
    """The whole of it. `script`: of the job, where it is run from a command line."""
    first = shown(diffs)
    blocks = [
        [headline(found, diffs)],
        diff_text.pairs(facts(found)),
        *([_detail(first)] if first is not None else []),
        [diff_text.verdict(diff.to_dict()) for diff in diffs.values() if len(diffs) > 1],
        ["the full run:", *diff_text.pairs(price(found["price"]))],
        [f"note: {words.printable(note)}" for note in notes(found, first)],
        [*closing(found, script)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def shown(diffs: Mapping[str, Diff]) -> Diff | None:
    """Of several outputs the first that differs; of none nothing."""
    return next((diff for diff in diffs.values() if diff), next(iter(diffs.values()), None))


def headline(found: Found, diffs: Mapping[str, Diff]) -> str:
    """The one line that counts."""
    first = shown(diffs)
    verdict = "not compared" if first is None else diff_text.verdict(first.to_dict())
    if len(diffs) > 1:
        verdict = f"{sum(map(bool, diffs.values()))} of {len(diffs)} outputs differ"
    return f"PREVIEW of {found['job']}, the last {_length(found['last_ms'])}: {verdict}"


def _length(ms: int) -> str:
    """As people ask for it.

    >>> _length(86_400_000), _length(7 * 86_400_000), _length(90_000)
    ('24 h', '7 d', '1 m 30 s')
    """
    hours, rest = divmod(ms, 3_600_000)
    if rest or not hours:
        return words.duration(ms / 1000)
    return f"{hours // 24} d" if hours % 24 == 0 and hours > 24 else f"{hours} h"


def facts(found: Found) -> Iterable[tuple[str, str]]:
    """What was run, over what."""
    begins = found["until_ms"] - found["last_ms"]
    back = "" if found["from_ms"] == begins else f" (asked: from {words.utc(begins)}; back to where groups begin)"
    yield "event time", f"{words.utc(found['from_ms'])} to {words.utc(found['until_ms'])}{back}"
    for topic, partitions in found["vectors"].items():
        records = sum(end - start for start, end in partitions.values())
        at = f" in {words.count(len(partitions), 'partition')}"
        if len(partitions) <= 4:
            at = ": " + "  ".join(f"{partition}: {start:,} to {end:,}" for partition, (start, end) in partitions.items())
        yield "read", f"{words.count(records, 'record')} of {topic}{at}"
    for side, what in (("old", "a, the old plan"), ("new", "b, the new plan")):
        run = found["runs"].get(side)
        if run is not None:
            tables = ", ".join(f"{words.count(rows, 'row')} in {table}" for table, rows in run["tables"].items())
            by = f" (that of {run['found_by']})" if run["found_by"] else ""
            yield what, f"{tables}, in {words.duration(run['seconds'])}{by}"
    margin = words.duration(found["margin_ms"] // 1000)
    whole = f"from {words.utc(found['from_ms'])}, if no event time is more than {margin} ahead of its record"
    yield "whole", whole
    if found["certificate"] is not None:
        yield "certificate", certificate(found["certificate"])


def certificate(found: Found) -> str:
    """What two runs gave."""
    first, second = found["runs"]
    killed = f"{second['kills']} kill" if second["kills"] == 1 else f"{second['kills']} kills"
    how = f"{first['parallelism']} and {second['parallelism']} threads, {killed}"
    if found["passed"]:
        hashes = ", ".join(content["hash"] for content in first["contents"].values())
        return f"PASSED: the same rows with {how} ({hashes})"
    return f"FAILED: other rows with {how}"


def _detail(diff: Diff) -> list[str]:
    report = diff.to_dict()
    examples = diff_text.example_lines(report, diff.changed, diff.only_in_a, diff.only_in_b)
    counts = dict(diff_text.facts(report))
    lines = [f"  {name}: {counts[name]}" for name in ("rows", "not compared") if name in counts]
    parts: list[Sequence[str]] = [
        lines,
        diff_text.schema_lines(report),
        diff_text.grid(*diff_text.columns(report)),
        diff_text.grid(*diff_text.days(report, diff.by_day.to_dicts(), _DAYS)),
        [f"  {line}" for line in examples],
    ]
    return [line for part in parts for line in part]


def price(plan: Found) -> Iterable[tuple[str, str]]:
    """What the full run costs and changes."""
    for topic in plan["topics"]:
        about = "" if topic["bytes_exact"] else "about "
        size = "" if topic["bytes"] is None else f", {about}{words.size(topic['bytes'])}"
        yield "reads", f"{words.count(topic['records'], 'record')} of {topic['topic']}{size}"
    yield from planning.price(plan)
    changes = [] if plan["against"] is None else plan["against"]["in_words"]
    for change in changes[:_CHANGES]:
        yield "changes", words.printable(change)
    if len(changes) > _CHANGES:
        yield "changes", f"and {len(changes) - _CHANGES} more"


def notes(found: Found, diff: Diff | None) -> list[str]:
    """What somebody should know: of the preview, of the comparison, of the price."""
    of_diff = [] if diff is None else diff.to_dict()["notes"]
    of_price = [f"{it['level']}[{it['code']}]: {it['message']}; {it['hint']}" for it in found["price"]["findings"]]
    parted = [] if found["certificate"] is None else [f"the runs part: {line}" for line in found["certificate"]["parted"]]
    return [*parted[:_NOTES], *[*found["notes"], *of_diff, *of_price][:_NOTES]]


def closing(found: Found, script: str | None) -> Iterable[str]:
    """What has not happened, and what to do next."""
    yield "nothing was promoted, and no other table was touched"
    if found["certificate"] is not None and not found["certificate"]["passed"]:
        yield "a full run of this plan is refused (--force lifts it); report this: its results depend on more than the log"
        return
    yield f"next: {next_step(found, script)}"


def next_step(found: Found, script: str | None) -> str:
    """The full run, to where it can be compared."""
    new = {name: table for name, table in found["of"]["new"].items() if not table.startswith(_TOPIC)}
    old = {name: table for name, table in found["of"]["old"].items() if not table.startswith(_TOPIC)}
    taken = set(new.values()) & set(old.values())
    tables = {name: "NEW_TABLE" if table in taken else table for name, table in new.items()}
    align = next(iter(old.values()), None)
    if script is None:
        given: Any = dict(tables) if set(tables) - {""} else next(iter(tables.values()), None)
        arguments = [
            'mode="reprocess"',
            *([f"output_table={given!r}"] if given else []),
            *([f"align={align!r}"] if align else []),
        ]
        return f"job.run({', '.join(arguments)})"
    options = [f"--output-table {name}={table}" if name else f"--output-table {table}" for name, table in tables.items()]
    return " ".join(["python", script, "--mode reprocess", *options, *([f"--align {align}"] if align else [])])
