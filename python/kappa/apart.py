"""A plan run in a process of its own, which can be killed: what `--certify` does to the second run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from kappa import _kappa, exceptions
from kappa.exceptions import ConfigError, KappaError, UnavailableError
from kappa.settings import flat, resolve

_POLL_MS = 100


class Child(Protocol):
    """A run in another process."""

    def events(self) -> Iterator[dict[str, Any]]:
        """What it tells, the last a `report`; raises the run's error if it failed."""

    def kill(self) -> None:
        """SIGKILL."""


def refuse_functions(config: Mapping[str, Any] | None) -> None:
    """Raises where the settings have what cannot be handed to another process."""
    functions = [name for name, value in flat(config or {}).items() if callable(value)]
    if functions:
        hint = "leave --certify out, or give the client what it can be told in words (kafka.sasl.*)"
        message = f"--certify runs the plan in another process too, which cannot have the function {functions[0]}"
        raise ConfigError(message, code="invalid_argument", hint=hint)


@contextmanager
def running(plan: Mapping[str, Any], options: Mapping[str, Any], config: Mapping[str, Any] | None) -> Iterator[Child]:
    """Starts a plan with the engine's options in another process, which is gone when the block ends."""
    refuse_functions(config)
    here = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-c", "from kappa.apart import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for this process
    )
    try:
        yield _Process(process, json.dumps([plan, options, flat(config or {})]))
    finally:
        process.kill()
        process.communicate()


class _Process:
    def __init__(self, process: subprocess.Popen[str], payload: str) -> None:
        self._process = process
        assert process.stdin is not None
        process.stdin.write(payload)
        process.stdin.close()
        process.stdin = None  # `communicate` would flush it

    def events(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "error":
                raise _error(event)
            yield event
            if event["event"] == "report":
                return
        status = self._process.wait()
        hint = "its last words are above; try again"
        raise UnavailableError(f"the process of the second run ended with status {status}", code="process_gone", hint=hint)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def _error(event: Mapping[str, Any]) -> KappaError:
    kind: Callable[..., KappaError] = getattr(exceptions, event["class"])
    return kind(event["message"], **{name: event[name] for name in ("code", "context", "hint", "retryable")})


def main() -> None:
    """The other process: the run as JSON on standard input, its events as lines of JSON on standard output."""
    plan, options, config = json.load(sys.stdin)
    try:
        run = _kappa.start(json.dumps(plan), json.dumps(options), resolve(config))
        while True:
            text = run.next_event(_POLL_MS)
            if text is not None:
                print(text, flush=True)
            elif run.is_finished():
                break
        print(json.dumps({"event": "report", **json.loads(run.report())}), flush=True)
    except KappaError as error:
        print(json.dumps({"event": "error", "class": type(error).__name__, **error.to_dict()}), flush=True)
