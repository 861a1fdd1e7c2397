"""The commands about tables: `kappa read`, `kappa sql`, `kappa diff`."""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import Any

from kappa import units
from kappa.comparison import diff
from kappa.document import Outcome, Parser, add_global_arguments, config_of
from kappa.exceptions import ConfigError
from kappa.explanation import explain
from kappa.queries import sql
from kappa.rows import Rows
from kappa.tables import read


def add_table_commands(commands: argparse._SubParsersAction[Parser]) -> set[str]:
    """Adds the commands, and gives their names."""
    table = commands.add_parser("read", help="print the rows of a table", allow_abbrev=False)
    table.add_argument("table", metavar="TABLE")
    table.add_argument("-n", type=int, default=20, help="how many rows (20; 0 for all)")
    table.add_argument("--snapshot", type=int, help="of this snapshot")
    table.add_argument(
        "--as-of",
        metavar="TIME",
        help="as they were then, for example 2026-03-01T00:00:00Z; of a name, -1: before its last promote",
    )
    table.set_defaults(run=_read)
    query = commands.add_parser("sql", help="run a query over tables, by DuckDB", allow_abbrev=False)
    query.add_argument("query", metavar="QUERY")
    query.add_argument("-n", type=int, default=100, help="how many rows (100; 0 for all)")
    query.set_defaults(run=_sql)
    compare = commands.add_parser(
        "diff",
        help="compare two tables at one position of the log",
        description="Compares two tables at one position of the log. Exit status 1 if they differ.",
        allow_abbrev=False,
    )
    compare.add_argument("a", metavar="A")
    compare.add_argument("b", metavar="B")
    add = compare.add_argument
    add(
        "--tolerance", metavar="COL=X", action="append", default=[], help="numbers of COL that differ by at most X are the same"
    )
    add("--key", metavar="COL", action="append", help="match rows by this column; once for each (the primary key)")
    add("--no-key", action="store_true", help="compare whole rows, as multisets")
    add("--examples", metavar="N", type=int, default=1000, help="rows of each kind that are kept (1000)")
    add("--memory", metavar="SIZE", default="512MiB", help="budget for rows; the rest goes through TMPDIR (512MiB)")
    add("--parallelism", metavar="N", type=int, help="threads (the number of cores)")
    add(
        "--rendezvous",
        metavar="DURATION",
        default="30s",
        help="wait so long for versions that run to take a checkpoint at one position (30s; 0s: they are not asked)",
    )
    add("--explain", metavar="KEY", help="why this key differs: its records, through both, such as day=2026-03-03,currency=DKK")
    add("--html", metavar="FILE", type=Path, help="write it as a page, with plots")
    add("--exit-zero", action="store_true", help="exit status 0 also if they differ")
    compare.set_defaults(run=_diff)
    for command in (table, query, compare):
        add_global_arguments(command)
    return {"read", "sql", "diff"}


def _read(args: argparse.Namespace) -> Outcome:
    as_of: datetime | int | None = None
    if args.as_of is not None:
        turns = args.as_of.startswith("-") and args.as_of[1:].isdigit()
        as_of = int(args.as_of) if turns else units.moment(args.as_of, "--as-of")
    rows = read(args.table, snapshot=args.snapshot, as_of=as_of, config=config_of(args))
    return _rows(rows, args.n, {"table": args.table})


def _sql(args: argparse.Namespace) -> Outcome:
    return _rows(sql(args.query, config=config_of(args)), args.n, {"query": args.query})


def _rows(rows: Rows, n: int, data: dict[str, Any]) -> Outcome:
    if n < 0:
        raise ConfigError(f"-n {n}: a number of rows is 0 or more", code="usage")
    limit = n or len(rows)
    data |= {
        "schema": {name: repr(dtype) for name, dtype in rows.schema.items()},
        "count": len(rows),
        "rows": rows.first(limit),
    }
    return Outcome(data, rows.format(limit))


def _diff(args: argparse.Namespace) -> Outcome:
    if args.no_key and args.key:
        raise ConfigError("--key and --no-key exclude each other", code="usage")
    if args.examples < 0:
        raise ConfigError(f"--examples {args.examples}: a number of rows is 0 or more", code="usage")
    if args.explain is not None:
        return _explain(args)
    found = diff(
        args.a,
        args.b,
        tolerance=dict(map(_tolerance, args.tolerance)),
        key=[] if args.no_key else args.key,
        examples=args.examples,
        memory=args.memory,
        parallelism=args.parallelism,
        rendezvous=args.rendezvous,
        config=config_of(args),
    )
    if args.html is not None:
        args.html.write_text(found.to_html(), encoding="utf-8")
    return Outcome(found.to_dict(), str(found), exit=int(found.differs and not args.exit_zero))


def _explain(args: argparse.Namespace) -> Outcome:
    if args.tolerance or args.key or args.no_key:
        raise ConfigError("--explain compares the row of one key: --tolerance, --key and --no-key are for all", code="usage")
    quiet = any(getattr(args, name, False) for name in ("json", "quiet"))
    found = explain(
        args.a,
        args.b,
        args.explain,
        examples=args.examples,
        parallelism=args.parallelism,
        rendezvous=args.rendezvous,
        progress=not quiet,
        config=config_of(args),
    )
    if args.html is not None:
        args.html.write_text(found.to_html(), encoding="utf-8")
    return Outcome(found.to_dict(), str(found), exit=int(found.differs and not args.exit_zero))


def _tolerance(text: str) -> tuple[str, float]:
    name, equals, limit = text.rpartition("=")
    try:
        if equals and name:
            return name, float(limit)
    except ValueError:
        pass
    raise ConfigError(f"--tolerance {text}: write COL=X, for example total=0.01", code="usage")
