"""The command `kappa status`."""

from __future__ import annotations

import argparse
import sys
import time

from kappa.document import Outcome, Parser, add_global_arguments, config_of
from kappa.exceptions import ConfigError
from kappa.overview import status

_EVERY_S = 2
_CLEAR = "\x1b[H\x1b[J"


def add_status_command(commands: argparse._SubParsersAction[Parser]) -> set[str]:
    """Adds the command, and gives its name."""
    parser = commands.add_parser(
        "status",
        help="list the versions there are, and how they fare",
        description="Lists the versions there are, and how they fare. Exit status 1 with a warning.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="the table, or kafka:TOPIC, that the version writes")
    parser.add_argument("--watch", action="store_true", help=f"look again every {_EVERY_S} seconds, until Ctrl-C")
    add_global_arguments(parser)
    parser.set_defaults(run=_status)
    return {"status"}


def _status(args: argparse.Namespace) -> Outcome:
    if args.watch:
        return _watch(args)
    found = status(args.name, config=config_of(args))
    warnings = found.warnings if getattr(args, "json", False) else []  # the text has them already
    return Outcome(found.to_dict(), str(found), exit=int(bool(found.warnings)), warnings=warnings)


def _watch(args: argparse.Namespace) -> Outcome:
    if getattr(args, "json", False):
        raise ConfigError("--json gives one document, --watch has no end", code="usage", hint="leave out one of them")
    clear = _CLEAR if sys.stdout.isatty() else ""
    try:
        while True:
            print(f"{clear}{status(args.name, config=config_of(args))}", flush=True)
            time.sleep(_EVERY_S)
    except KeyboardInterrupt:
        return Outcome()
