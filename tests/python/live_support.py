"""Jobs in live mode, in processes of their own, and what arrives meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(script: Path, log: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A live job of two outputs, `rows` and `totals`; asked to end with the block. What it says is added to the log."""
    tables = ["--output-table", "rows=t.rows", "--output-table", "totals=t.totals"]
    with log.open("ab") as errors:
        command = [sys.executable, str(script), "--mode", "live", *tables, *words]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def again_and_again(act: Callable[[], None], pause: float) -> Iterator[None]:
    """Does something while the block runs, with pauses of so many seconds before each time."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(pause):
            act()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
