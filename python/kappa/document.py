"""How a command ends: result on stdout, error on stderr, exit status; with `--json` exactly one document on stdout."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, NoReturn

from kappa.exceptions import ConfigError, InternalError, KappaError
from kappa.progress import use_color

SCHEMA = 1


@dataclass
class Outcome:
    """What a command found: values for machines, text for people, the exit status."""

    data: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    exit: int = 0
    warnings: list[str] = field(default_factory=list)


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are `ConfigError`s, so that they too can be documents."""

    def error(self, message: str) -> NoReturn:
        """Raises instead of exiting."""
        raise ConfigError(message, code="usage", hint=f"{self.prog} --help")


def add_global_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command has."""
    group = parser.add_argument_group("everywhere")
    add, quiet = group.add_argument, argparse.SUPPRESS
    add("--config", metavar="FILE", default=quiet, help="a configuration file instead of the nearest kappa.toml")
    add("--set", metavar="KEY=VALUE", action="append", default=quiet, help="a setting, for example log.url=file:///data/log")
    add("--json", action="store_true", default=quiet, help="exactly one JSON document on stdout")
    add("-q", "--quiet", action="store_true", default=quiet, help="only results and errors")
    add("-v", "--verbose", action="store_true", default=quiet, help="where in the code an error comes from")
    add("--color", choices=["auto", "always", "never"], default=quiet, help="colour (auto; NO_COLOR is honoured)")


def config_of(args: argparse.Namespace) -> dict[str, str]:
    """The settings given by `--config` and `--set`."""
    config: dict[str, str] = {}
    if getattr(args, "config", None) is not None:
        config["config"] = args.config
    for item in getattr(args, "set", None) or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {item}: write KEY=VALUE", code="usage")
        config[name] = value
    return config


def perform(command: str, argv: list[str], action: Callable[[], Outcome]) -> int:
    """Runs a command and reports its end. `argv` decides how, even where it could not be parsed."""
    as_json = "--json" in argv
    verbose = "-v" in argv or "--verbose" in argv
    try:
        outcome = action()
        _finish(command, outcome, as_json, None)
        return outcome.exit
    except BrokenPipeError:  # `kappa read t | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        error: KappaError = KappaError("interrupted", code="interrupted", retryable=True)
        status = 130
    except KappaError as caught:
        error, status = caught, caught.exit_status
    except (TypeError, OSError, ImportError) as caught:  # mistakes in the job script, files that are not there
        error = ConfigError(f"{type(caught).__name__}: {caught}", code="script_failed")
        status = error.exit_status
        if verbose:
            traceback.print_exc()
    except Exception as caught:
        error = InternalError(f"{type(caught).__name__}: {caught}", hint="this is a bug in kappa: please report it")
        status = error.exit_status
        traceback.print_exc()
    if verbose and error.__traceback__ is not None:
        traceback.print_exception(error)
    _say(error, argv)
    _finish(command, Outcome(exit=status), as_json, error)
    return status


def _finish(command: str, outcome: Outcome, as_json: bool, error: KappaError | None) -> None:
    if as_json:
        document = {
            "schema": SCHEMA,
            "command": command,
            "ok": outcome.exit == 0,
            "exit": outcome.exit,
            "data": outcome.data,
            "warnings": outcome.warnings,
            "error": None if error is None else error.to_dict(),
        }
        print(json.dumps(document, default=plain, ensure_ascii=False))
    else:
        for warning in outcome.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if outcome.text:
            print(outcome.text)
    sys.stdout.flush()


def _say(error: KappaError, argv: list[str]) -> None:
    if _option(argv, "--log-format") == "json":
        print(json.dumps({"event": "error", **error.to_dict()}, default=plain), file=sys.stderr)
        return
    when = _option(argv, "--color") or "auto"
    red, plain_ = ("\x1b[1;31m", "\x1b[0m") if use_color(sys.stderr, when) else ("", "")
    names = ", ".join(f"{name}={value}" for name, value in error.context.items())
    print(f"{red}error[{error.code}]{plain_}: {error.message}{f' ({names})' if names else ''}", file=sys.stderr)
    if error.location:
        print(error.location, file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)


def _option(argv: list[str], name: str) -> str | None:
    joined = (word.partition("=")[2] for word in argv if word.startswith(f"{name}="))
    return next(joined, None) or next((after for flag, after in pairwise(argv) if flag == name), None)


def plain(value: object) -> Any:
    """Values of rows that JSON does not have."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)
