"""Starts processes for a parent and ends them when the parent does, however it ends: this process reads commands from the
parent on standard input, and the end of that input is the end of everything it started, and of the folder it was given.

A command is one line of JSON: {"start": NAME, "command": [...], "log": FILE}, {"signal": NAME, "number": 9},
{"status": NAME}; the answer is one line too.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """In a new child: should even this process be killed, the kernel kills the child."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def answer(children: dict[str, subprocess.Popen[bytes]], asked: dict[str, Any]) -> dict[str, Any]:
    """Does what was asked."""
    if name := asked.get("start"):
        parent = os.getpid()
        with open(asked["log"], "ab") as log:
            children[name] = subprocess.Popen(
                asked["command"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with(parent),
            )
        return {"pid": children[name].pid}
    if name := asked.get("signal"):
        children[name].send_signal(asked["number"])  # sends nothing where the process has ended
        return {}
    child = children[asked["status"]]
    return {"status": child.poll()}


def main() -> None:
    """Serves the parent until it ends."""
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for line in sys.stdin:
            try:
                reply = answer(children, json.loads(line))
            except OSError as error:
                reply = {"error": str(error)}
            print(json.dumps(reply), flush=True)
    finally:
        for child in children.values():
            child.kill()
        for child in children.values():
            child.wait()
        for folder in sys.argv[1:]:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
