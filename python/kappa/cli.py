"""The command `kappa`, for what is not a job: the log, plans, tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from kappa import __version__, doctor, job_command
from kappa.collection_command import add_collection_commands
from kappa.document import Outcome, Parser, add_global_arguments, perform
from kappa.loading import load_job
from kappa.log_command import add_log_commands
from kappa.serving_command import add_serving_commands
from kappa.status_command import add_status_command
from kappa.table_command import add_table_commands


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and gives the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, names = _parser()

    def action() -> Outcome:
        args = parser.parse_args(words)
        if getattr(args, "run", None) is None:
            return Outcome(text=parser.format_help().rstrip())
        run: Callable[[argparse.Namespace], Outcome] = args.run
        return run(args)

    return perform(_command(words, names), words, action)


def _command(words: list[str], names: set[str]) -> str:
    plain = [word for word in words if not word.startswith("-")]
    two = " ".join(plain[:2])
    return two if two in names else (plain[0] if plain and plain[0] in names else "kappa")


def _parser() -> tuple[Parser, set[str]]:
    parser = Parser(prog="kappa", description="Stream-only data engineering without a cluster.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kappa {__version__}")
    add_global_arguments(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    names = add_log_commands(commands)
    for name, help_, function in (
        ("explain", "print the plan of a job", lambda args: job_command.explain(load_job(args.job))),
        ("check", "list what makes a job unsafe to replay", lambda args: job_command.check(load_job(args.job))),
    ):
        command = commands.add_parser(name, help=help_, description=help_, allow_abbrev=False)
        command.add_argument("job", metavar="JOB.py[:NAME]")
        add_global_arguments(command)
        command.set_defaults(run=function)
    plan = commands.add_parser(
        "plan",
        help="say what a reprocess would read, cost and change",
        description="Says what a reprocess would read, cost and change, before anything runs. Exit status 1 with a warning, 3 "
        "if it would not do what is wanted of it.",
        allow_abbrev=False,
    )
    plan.add_argument("job", metavar="JOB.py[:NAME]")
    job_command.add_plan_arguments(plan)
    add_global_arguments(plan)
    plan.set_defaults(run=lambda args: job_command.plan(load_job(args.job), args, {}))
    names |= add_table_commands(commands) | add_serving_commands(commands)
    names |= add_collection_commands(commands) | add_status_command(commands)
    health = commands.add_parser("doctor", help="check this machine and the settings", allow_abbrev=False)
    add_global_arguments(health)
    health.set_defaults(run=doctor.run)
    return parser, {*names, "explain", "check", "plan", "doctor"}


if __name__ == "__main__":
    sys.exit(main())
