"""Runs an engine under supervise.py, and asks /proc what the broker did meanwhile."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Run:
    """What one run of a command took."""

    status: int | str
    seconds: float
    cpu_seconds: float
    broker_cpu_seconds: float
    peak_bytes: int
    load: float
    """The machine's load average of the last minute as it began: what else was running."""
    stdout: str = field(repr=False)
    stderr: str = field(repr=False)

    @property
    def failure(self) -> str | None:
        """Why it did not end well."""
        if self.status == 0:
            return None
        if self.status == "timeout":
            return f"not done after {self.seconds:.0f} s"
        return f"exit status {self.status}: {last_lines(self.stderr or self.stdout)}"


def last_lines(text: str, count: int = 3) -> str:
    """The end of a program's output on one line."""
    return " / ".join(line.strip() for line in text.strip().splitlines()[-count:])[-600:] or "it printed nothing"


class Supervised:
    """A command that runs; leaving the block ends all of it."""

    def __init__(
        self, words: list[str], folder: Path, broker: int, timeout: float, env: Mapping[str, str] | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._broker = folder, broker
        self._load = os.getloadavg()[0]
        self._broker_before = cpu_seconds(broker)
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        java = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} -Djava.io.tmpdir={temporary}".strip()
        places = {"TMPDIR": str(temporary), "JAVA_TOOL_OPTIONS": java, "PYTHONUNBUFFERED": "1"}
        supervisor = [sys.executable, "-I", str(HERE / "supervise.py"), str(folder / "usage.json"), str(timeout), "--"]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            self._process = subprocess.Popen(
                [*supervisor, *words],
                cwd=folder,
                env={**clean_environment(), **places, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def ask_to_end(self) -> None:
        """SIGTERM to the command itself."""
        self._process.send_signal(signal.SIGUSR1)

    def has_ended(self) -> bool:
        """Whether the command and all that it started are gone."""
        return self._process.poll() is not None

    def wait(self) -> Run:
        """What it took."""
        self._process.wait()
        broker = cpu_seconds(self._broker) - self._broker_before
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("stdout", "stderr"))
        try:
            usage = json.loads((self._folder / "usage.json").read_text())
        except FileNotFoundError:
            usage = {
                "status": f"ended by a signal ({self._process.returncode})",
                "seconds": 0,
                "cpu_seconds": 0,
                "peak_bytes": 0,
            }
        return Run(**usage, broker_cpu_seconds=broker, load=self._load, stdout=out, stderr=err)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.has_ended():
            self._process.terminate()
            self._process.wait()


def run(words: list[str], folder: Path, broker: int, timeout: float, env: Mapping[str, str] | None = None) -> Run:
    """Runs a command to its end."""
    with Supervised(words, folder, broker, timeout, env) as running:
        return running.wait()


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of kappa's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KAPPA_") or name == "KAPPA_CACHE"}


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, of both kinds."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def machine() -> dict[str, Any]:
    """The hardware and the system."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def _field(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), None)
