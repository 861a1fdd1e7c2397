"""`kappa log create | append | tail | describe`."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from kappa import words
from kappa.document import Outcome, add_global_arguments, config_of
from kappa.exceptions import ConfigError
from kappa.log import Log, Record

_POLL_S = 0.3


def add_log_commands(commands: Any) -> set[str]:
    """Adds the commands to the parser, and gives their names."""
    log = commands.add_parser("log", help="create, fill and look at topics", allow_abbrev=False)
    kinds = log.add_subparsers(title="commands", metavar="COMMAND", required=True)

    create = _command(kinds, "create", "make a topic", _create)
    create.add_argument("topic", metavar="TOPIC")
    create.add_argument("--partitions", type=int, default=4, metavar="N", help="how many partitions (4)")
    create.add_argument("--retention", metavar="DURATION", help="remove records older than this, for example 90d (never)")

    append = _command(kinds, "append", "append JSON lines from a file or standard input", _append)
    append.add_argument("topic", metavar="TOPIC")
    append.add_argument("file", metavar="FILE", nargs="?", default="-", help="a file of JSON lines, or - for standard input")
    append.add_argument("--key", metavar="COLUMN", help="the field that is the record's key; without it: round robin")
    append.add_argument("--partition", type=int, metavar="N", help="append all to this partition")

    tail = _command(kinds, "tail", "print the last records", _tail)
    tail.add_argument("topic", metavar="TOPIC")
    tail.add_argument("-n", type=int, default=10, help="how many (10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on as records are appended")

    describe = _command(kinds, "describe", "print the partitions of a topic, or of all", _describe)
    describe.add_argument("topic", metavar="TOPIC", nargs="?")
    return {"log", "log create", "log append", "log tail", "log describe"}


def _command(kinds: Any, name: str, help_: str, function: Callable[[argparse.Namespace], Outcome]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=help_, description=help_, allow_abbrev=False)
    add_global_arguments(parser)
    parser.set_defaults(run=function)
    return parser


def _create(args: argparse.Namespace) -> Outcome:
    Log(config=config_of(args)).create(args.topic, partitions=args.partitions, retention=args.retention)
    text = f"created {args.topic} with {words.count(args.partitions, 'partition')}"
    return Outcome({"topic": args.topic, "partitions": args.partitions}, text)


def _append(args: argparse.Namespace) -> Outcome:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the engine reads the input, where Python's own handler cannot run
    total, keyless = Log(config=config_of(args))._append_file(args.topic, args.file, args.key, args.partition)
    data = {"topic": args.topic, "appended": total, "without_key": keyless}
    text = f"appended {words.count(total, 'record')} to {args.topic}"
    missing = (
        f"{words.count(keyless, 'record')} without {args.key!r}: they have no key, and went round robin over the partitions"
    )
    return Outcome(data, text, warnings=[missing] if args.key and keyless else [])


def _describe(args: argparse.Namespace) -> Outcome:
    rows = Log(config=config_of(args)).describe(args.topic)
    return Outcome({"partitions": rows.to_dicts()}, rows.format())


def _tail(args: argparse.Namespace) -> Outcome:
    if args.follow and getattr(args, "json", False):
        raise ConfigError("--json gives one document, -f has no end", code="usage", hint="leave out one of them")
    log = Log(config=config_of(args))
    if args.n < 0:
        raise ConfigError(f"-n {args.n}: a number of records is 0 or more", code="usage")
    places = {row["partition"]: row["head"] for row in log.describe(args.topic)}
    records = log.tail(args.topic, args.n)
    if not args.follow:
        return Outcome({"topic": args.topic, "records": list(map(_plain, records))}, "\n".join(map(_line, records)))
    while True:
        for record in records:
            print(_line(record), flush=True)
            places[record.partition] = max(places[record.partition], record.offset + 1)
        time.sleep(_POLL_S)
        records = _from(log, args.topic, places)


def _from(log: Log, topic: str, places: dict[int, int]) -> list[Record]:
    return list(log.scan(topic, from_=",".join(f"{partition}:{offset}" for partition, offset in places.items())))


def _line(record: Record) -> str:
    key = "" if record.key is None else f"{words.printable(record.key.decode(errors='replace'))}  "
    value = "null" if record.value is None else words.printable(record.value.decode(errors="replace"))
    return f"{record.partition}:{record.offset}  {words.utc(record.timestamp_ms)}  {key}{value}"


def _plain(record: Record) -> dict[str, Any]:
    return {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": words.utc(record.timestamp_ms),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "value": None if record.value is None else record.value.decode(errors="replace"),
    }
