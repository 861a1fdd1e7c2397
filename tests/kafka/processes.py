"""The parent's side of keeper.py."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class BrokerFailed(Exception):
    """A broker ended, or did not become ready; with the end of its log."""


class Keeper:
    """The process that holds the brokers (keeper.py); it ends them, and removes the folder, when this process ends."""

    def __init__(self, remove: Path | None) -> None:
        self._lock = threading.Lock()
        words = [sys.executable, "-I", str(HERE / "keeper.py"), *([str(remove)] if remove else [])]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, start_new_session=True
        )

    def start(self, node: int, command: list[str], log: Path) -> int:
        """Starts a process under the name of a node."""
        pid: int = self._ask({"start": str(node), "command": command, "log": str(log)})["pid"]
        return pid

    def signal(self, node: int, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        self._ask({"signal": str(node), "number": int(number)})

    def status(self, node: int) -> int | None:
        """The exit status; none while the process runs."""
        status: int | None = self._ask({"status": str(node)})["status"]
        return status

    def close(self) -> None:
        """Kills what still runs."""
        with self._lock:
            if self._process.stdin and not self._process.stdin.closed:
                self._process.stdin.close()
                self._process.wait()
                if self._process.stdout:
                    self._process.stdout.close()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            answer = ""
            with contextlib.suppress(OSError):
                self._process.stdin.write(json.dumps(command) + "\n")
                answer = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(answer or '{"error": "the process that holds the brokers has ended"}')
        if "error" in reply:
            raise BrokerFailed(reply["error"])
        return reply
