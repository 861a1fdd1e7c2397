"""Runs a command and measures it with all that it starts, also what outlives it: this process takes in its orphans, waits
for the last of them, and asks the kernel for the sum. Ends all of them when the caller ends, or after TIMEOUT seconds.

python -I supervise.py REPORT TIMEOUT -- COMMAND…

SIGUSR1 asks the command to end (SIGTERM). REPORT becomes JSON: status (or "timeout"), seconds until the command ended,
cpu_seconds and peak_bytes of the whole tree.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
SAMPLE_SECONDS = 0.1
LOOK_AGAIN = 10
"""Samples between two looks at which processes there are: each costs a file for every process of the machine."""
GRACE_SECONDS = 3.0
PAGE = os.sysconf("SC_PAGE_SIZE")


def descendants() -> list[int]:
    """The processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, left = [], [os.getpid()]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def resident(pids: list[int]) -> int:
    """Bytes of memory that processes hold together."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return total


class Sampler(threading.Thread):
    """Follows the memory of all descendants."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.over = threading.Event()

    def run(self) -> None:
        """Samples until it is over."""
        count, pids = 0, []
        while not self.over.wait(SAMPLE_SECONDS):
            if count % LOOK_AGAIN == 0 or count < LOOK_AGAIN:
                pids = descendants()
            count += 1
            self.peak = max(self.peak, resident(pids))


def end_all() -> None:
    """Kills every descendant; more may appear while it happens."""
    while pids := [pid for pid in descendants() if not _is_zombie(pid)]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def reap(until: float) -> bool:
    """Waits for all children; whether none is left."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)


def wait(child: int, timeout: float) -> int | None:
    """The status of the command, reaping orphans on the way; none if it takes too long."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        end_all()

    alarm = threading.Timer(timeout, expire)
    alarm.daemon = True
    alarm.start()
    try:
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child:
                return None if expired.is_set() else os.waitstatus_to_exitcode(status)
    finally:
        alarm.cancel()


def start(words: list[str]) -> int:
    """Starts the command; should this process be killed, the kernel kills the command."""
    parent, child = os.getpid(), os.fork()
    if child:
        return child
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            os.execvp(words[0], words)
    except OSError as error:
        print(f"{words[0]}: {error}", file=sys.stderr)
    os._exit(127)


def main(report: str, timeout: float, words: list[str]) -> None:
    """Runs the command and writes the report."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    def ended(number: int, _: object) -> None:
        end_all()
        os._exit(128 + number)

    signal.signal(signal.SIGINT, ended)
    sampler = Sampler()
    began = time.monotonic()
    child = start(words)
    signal.signal(signal.SIGTERM, ended)
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(child, signal.SIGTERM))
    sampler.start()
    status = wait(child, timeout)
    seconds = time.monotonic() - began
    if not reap(time.monotonic() + GRACE_SECONDS):
        end_all()
        reap(time.monotonic() + GRACE_SECONDS)
    sampler.over.set()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {
        "status": "timeout" if status is None else status,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": max(sampler.peak, usage.ru_maxrss * 1024),
    }
    Path(report).write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[4:])
