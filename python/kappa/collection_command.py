"""The command `kappa gc`."""

from __future__ import annotations

import argparse

from kappa import collection
from kappa.document import Outcome, Parser, add_global_arguments, config_of


def add_collection_commands(commands: argparse._SubParsersAction[Parser]) -> set[str]:
    """Adds the command, and gives its name."""
    gc = commands.add_parser(
        "gc",
        help="delete versions that nothing needs",
        description="Says which versions nothing needs, and what crashed runs have left. With --apply it condemns them, and "
        "deletes what was condemned before and has been so for the grace.",
        allow_abbrev=False,
    )
    add = gc.add_argument
    add("--older-than", metavar="AGE", default="7d", help="not shown, and not written, for so long (7d)")
    add("--grace", metavar="TIME", default="1h", help="how long it is condemned before it goes (1h)")
    does = gc.add_mutually_exclusive_group()
    does.add_argument("--apply", action="store_true", help="do it; without, nothing is changed")
    does.add_argument("--spare", metavar="TABLE", help="take the condemnation of a table's version back")
    add_global_arguments(gc)
    gc.set_defaults(run=_gc)
    return {"gc"}


def _gc(args: argparse.Namespace) -> Outcome:
    found = collection.gc(
        older_than=args.older_than, grace=args.grace, apply=args.apply, spare=args.spare, config=config_of(args)
    )
    return Outcome(found.to_dict(), str(found), exit=5 if found.troubles else 0)
