"""What tests and benches fetch or build once for a machine: where it is kept, and the programs that do it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path


def cache() -> Path:
    """Where it is kept: outside the checkout."""
    home = os.environ.get("KAPPA_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappa"
    return Path(home).resolve()


def do(words: list[str], failure: Callable[[str], Exception]) -> None:
    """Runs a program to its end; one that fails is a `failure` that says why."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise failure(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        errors = [line for line in lines if line.startswith(("ERROR", "[ERROR]"))]  # of pip, of Maven
        raise failure(f"{Path(words[0]).name} failed: {(errors or lines)[-1]}")
