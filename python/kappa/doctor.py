"""`kappa doctor`: what this machine and the settings are, and what would stand in the way of a run."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from kappa import __version__, _kappa, words
from kappa.document import Outcome, config_of
from kappa.exceptions import KappaError
from kappa.settings import resolve

_LEAST_FREE = 1 << 30


def run(args: argparse.Namespace) -> Outcome:
    """Looks, and changes nothing but a temporary file. Exit status 1 if something would stand in the way."""
    config = config_of(args)
    settings = resolve(config).to_dict()
    facts = {
        "kappa": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    checks = [*_folders(settings), _log(config)]
    failed = [check for check in checks if not check["ok"]]
    lines = [f"{name:<10} {value}" for name, value in facts.items()]
    lines += [""] + [f"{name:<18} {value}" for name, value in settings.items()]
    lines += [""] + [f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']}: {check['detail']}" for check in checks]
    return Outcome({"facts": facts, "settings": settings, "checks": checks}, "\n".join(lines), exit=1 if failed else 0)


def _folders(settings: dict[str, str]) -> list[dict[str, Any]]:
    checks = []
    for name in ("log.url", "warehouse", "checkpoints"):
        scheme, separator, place = settings.get(name, "").partition("://")
        if separator and scheme == "file":
            checks.append(_folder(name, Path(place)))
    return checks


def _folder(name: str, path: Path) -> dict[str, Any]:
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return {"name": name, "ok": False, "detail": f"{there} cannot be written to: {error.strerror}"}
    free = shutil.disk_usage(there).free
    detail = f"{path} can be written to, {words.size(free)} free"
    return {"name": name, "ok": free >= _LEAST_FREE, "detail": detail if free >= _LEAST_FREE else f"{detail}: less than 1 GB"}


def _log(config: dict[str, str]) -> dict[str, Any]:
    try:
        topics = _kappa.topics(resolve(config))
    except KappaError as error:
        return {"name": "log", "ok": False, "detail": str(error)}
    return {"name": "log", "ok": True, "detail": words.count(len(topics), "topic")}
