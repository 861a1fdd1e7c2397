"""A flipped bit, or a file that is cut off: in a manifest, in the state, in what is staged, in the log. The job stops and names
the file and the way forward, or the result is right. It is never wrong."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fault_support import Faults, manifests, newest
from kappa import exceptions
from kappa.exceptions import CorruptionError, KappaError, RefusedError
from kappa.testing import temporary

pytestmark = pytest.mark.slow
FLIPS, CUTS = 6, 3


# One process for all the runs: quick, and SQLite is in the tests' own process a second time.
RUNNER = """
import gc, json, sys, time
from faults import job
from kappa.exceptions import KappaError

for line in sys.stdin:
    answer = None
    try:
        tables = {"rows": "t.rows", "days": "t.days"}
        run = job.start(mode="live", output_table=tables, parallelism=2, checkpoint_interval="10ms")
        while run.status().state not in ("caught up", "finished"):
            time.sleep(0.005)
        run.stop()
    except KappaError as error:
        answer = {"class": type(error).__name__, **error.to_dict()}
    run = None
    gc.collect()
    print(json.dumps(answer), flush=True)
"""


class Died(Faults):
    """A job that died with a durable manifest of which no table knows; the log goes on behind it. Each time as it was."""

    runner: subprocess.Popen[str]

    def __init__(self, place: Path) -> None:
        super().__init__(place, partitions=2)
        self.give(3_000)
        died = self.start("live", 2, "10ms", env={"KAPPA_FAILPOINT": "K10:4"})
        while died.poll() is None:
            self.give(50)
        assert died.returncode == -9, died.said()
        self.give(2_000)
        self.log.read()
        self.copy = place.parent / "copy"
        shutil.copytree(place, self.copy)
        self.version = next((place / "checkpoints").iterdir())
        self.manifest, self.newest = list(manifests(self.version).items())[-1]
        at = newest(place, "t.rows")
        assert at is not None
        assert at.checkpoint < self.newest["checkpoint"]
        assert self.check("died") is not None

    def restore(self) -> None:
        shutil.rmtree(self.place)
        shutil.copytree(self.copy, self.place)

    def go_on(self) -> KappaError | None:
        """Runs the job until it has caught up; its error if it stops."""
        assert self.runner.stdin is not None
        assert self.runner.stdout is not None
        self.runner.stdin.write("go\n")
        self.runner.stdin.flush()
        answer = json.loads(self.runner.stdout.readline())
        if answer is None:
            return None
        error: KappaError = getattr(exceptions, answer.pop("class"))(**answer)
        return error


@pytest.fixture(scope="module")
def died(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Died]:
    with temporary(tmp_path_factory.mktemp("flips") / ".kappa") as place:
        pipe = subprocess.PIPE
        made = Died(place)
        with subprocess.Popen(
            [sys.executable, "-c", RUNNER], cwd=place.parent, stdin=pipe, stdout=pipe, text=True
        ) as made.runner:
            yield made
            made.end()


Damage = Callable[[Path, random.Random], str]


def flip(path: Path, chance: random.Random) -> str:
    content = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(content))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return f"bit {bit} of {path} flipped"


def cut(path: Path, chance: random.Random) -> str:
    size = path.stat().st_size
    kept = chance.choice([0, size - 1, chance.randrange(size)])
    with path.open("r+b") as file:
        file.truncate(kept)
    return f"{path} cut off at {kept} of {size}"


def damage(died: Died, paths: list[Path], seed: str, *, stops_at_least: int, names: str | None = None) -> None:
    """Damages one of the files at a time, at random places. Of all these so many at least must stop the job."""
    chance = random.Random(seed)
    stops = 0
    paths = [path for path in paths if path.stat().st_size > 0]
    assert paths
    for hurt in [flip] * FLIPS + [cut] * CUTS:
        died.restore()
        path = chance.choice(paths)
        what = hurt(path, chance)
        error = died.go_on()
        position = died.check(what)
        if error is None:
            assert position == died.log.ends, what
            continue
        stops += 1
        assert isinstance(error, CorruptionError | RefusedError), f"{what}: {error!r}"
        assert (names or str(path)) in str(error), f"{what}: {error}"
        assert error.hint, f"{what}: {error}"
    assert stops >= stops_at_least, f"only {stops} of {FLIPS + CUTS} were noticed"


def test_the_newest_manifest(died: Died) -> None:
    damage(died, [died.manifest], "newest", stops_at_least=FLIPS + CUTS)


def test_the_manifest_before_it(died: Died) -> None:
    died.restore()
    before = list(manifests(died.version))[-2]
    damage(died, [before], "before", stops_at_least=FLIPS + CUTS)


def test_a_damaged_manifest_may_be_moved_away_if_no_table_has_it(died: Died) -> None:
    died.restore()
    flip(died.manifest, random.Random(1))
    assert "move it away" in str(died.go_on())
    died.manifest.rename(died.place / "damaged")
    assert died.go_on() is None
    died.check_end("without the manifest")


def test_a_damaged_manifest_that_tables_have_is_missed(died: Died) -> None:
    died.restore()
    assert died.go_on() is None
    newest_of_all = list(manifests(died.version))[-1]
    flip(newest_of_all, random.Random(1))
    assert "move it away" in str(died.go_on())
    newest_of_all.rename(died.place / "damaged")
    error = died.go_on()
    assert isinstance(error, RefusedError), error
    assert error.code == "old_checkpoints", error
    died.check_end("refused")


def test_the_states_tables(died: Died) -> None:
    died.restore()
    paths = list((died.version / died.newest["state"]).glob("*.sst"))
    damage(died, paths, "sst", stops_at_least=FLIPS // 2 + CUTS, names=str(died.version))


def test_the_states_lists_of_tables(died: Died) -> None:
    died.restore()
    folder = died.version / died.newest["state"]
    damage(died, [*folder.glob("MANIFEST-*"), folder / "CURRENT"], "lists", stops_at_least=FLIPS + CUTS, names=str(folder))


def test_staged_files(died: Died) -> None:
    paths = [file["path"].removeprefix("file://") for output in died.newest["outputs"] for file in output["files"]]
    assert len(paths) > 1
    damage(died, [Path(path) for path in paths], "staged", stops_at_least=FLIPS + CUTS)


def test_segments_of_the_log(died: Died) -> None:
    died.restore()
    paths = list((died.place / "log" / "payments").rglob("*.log"))
    damage(died, paths, "segments", stops_at_least=(FLIPS + CUTS) // 3)


def test_other_files_of_the_log(died: Died) -> None:
    died.restore()
    paths = [path for path in (died.place / "log" / "payments").rglob("*") if path.is_file() and path.suffix != ".log"]
    damage(died, paths, "others", stops_at_least=1, names="payments")
