"""The commands about names: `kappa promote`, `kappa rollback`, `kappa serving`."""

from __future__ import annotations

import argparse

from kappa import cutover, cutover_text
from kappa.document import Outcome, Parser, add_global_arguments, config_of
from kappa.exceptions import ConfigError


def add_serving_commands(commands: argparse._SubParsersAction[Parser]) -> set[str]:
    """Adds the commands, and gives their names."""
    promote = commands.add_parser(
        "promote",
        help="make a name show the table of a version",
        description="Makes names show the tables of versions, all or none. A name that shows something wants a proof: a "
        "kappa diff of the two versions, or --unverified.",
        allow_abbrev=False,
    )
    add = promote.add_argument
    add("moves", metavar="NAME TABLE | NAME=TABLE", nargs="+")
    add("--proof", metavar="ID", help="this comparison (the newest of both versions)")
    add("--max-age", metavar="AGE", default="1h", help="how old a proof may be (1h)")
    add("--unverified", metavar="WHY", help="without a proof; why is kept with the name")
    add("--accept", choices=["lag", "history"], action="append", default=[], help="what a refusal says it lifts")
    add("--no-keep-warm", action="store_true", help="ask the process of what was shown before to stop")
    add("--view", action="store_true", help="a view beside the name that turns with it (NAME__view, or serving.view)")
    promote.set_defaults(run=_promote)
    rollback = commands.add_parser("rollback", help="make a name show the version before again", allow_abbrev=False)
    rollback.add_argument("name", metavar="NAME")
    rollback.set_defaults(run=_rollback)
    serving = commands.add_parser("serving", help="names, and what they show", allow_abbrev=False)
    kinds = serving.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    names = kinds.add_parser("list", help="all names", allow_abbrev=False)
    names.set_defaults(run=_list)
    show = kinds.add_parser("show", help="what a name shows", allow_abbrev=False)
    history = kinds.add_parser("history", help="what it has shown, by whom and why", allow_abbrev=False)
    for one, run in ((show, _show), (history, _history)):
        one.add_argument("name", metavar="NAME")
        one.set_defaults(run=run)
    for command in (promote, rollback, serving, names, show, history):
        add_global_arguments(command)
    serving.set_defaults(run=_list)
    return {"promote", "rollback", "serving", "serving list", "serving show", "serving history"}


def _moves(words: list[str]) -> dict[str, str]:
    if len(words) == 2 and not any("=" in word for word in words):
        return {words[0]: words[1]}
    moves: dict[str, str] = {}
    for word in words:
        name, equals, table = word.partition("=")
        if not (name and equals and table):
            raise ConfigError(f"{' '.join(words)}: write NAME TABLE, or NAME=TABLE once for each name", code="usage")
        if name in moves:
            raise ConfigError(f"{name} is given twice", code="usage")
        moves[name] = table
    return moves


def _promote(args: argparse.Namespace) -> Outcome:
    done = cutover.promote(
        _moves(args.moves),
        proof=args.proof,
        unverified=args.unverified,
        max_age=args.max_age,
        accept=args.accept,
        keep_warm=not args.no_keep_warm,
        view=args.view,
        config=config_of(args),
    )
    return Outcome(done.to_dict(), str(done))


def _rollback(args: argparse.Namespace) -> Outcome:
    done = cutover.rollback(args.name, config=config_of(args))
    return Outcome(done.to_dict(), str(done))


def _list(args: argparse.Namespace) -> Outcome:
    found = cutover.serving(config=config_of(args))
    return Outcome({"names": found.names}, str(found))


def _show(args: argparse.Namespace) -> Outcome:
    found = cutover.serving(args.name, config=config_of(args)).names[0]
    return Outcome(found, cutover_text.name(found))


def _history(args: argparse.Namespace) -> Outcome:
    found = cutover.serving(args.name, config=config_of(args)).names[0]
    return Outcome({"name": found["name"], "turns": found["turns"]}, cutover_text.history(found))
