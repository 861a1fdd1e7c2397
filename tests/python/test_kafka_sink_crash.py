"""Jobs that write to topics are killed, at named points and at any moment: each record stays exactly once."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka", reason="NOT CHECKED against Apache Kafka: no confluent-kafka")
from sink_support import (
    WITHIN,
    Sinks,
    Topics,
    check_all,
    check_rows,
    covers,
    events,
    feed,
    fill,
    middles,
    payments,
    polled,
    stop,
    transactions,
    wait_for,
)

pytestmark = pytest.mark.slow
# Of V3, the claim of a topic, there are two.
POINTS = ["K5", "K6", "K8", "K10", "K11", "K12", "K13", "K14", "K15", "K16", "K17", "K18", "K19", "K20"]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak), pytest.param(3, marks=pytest.mark.soak)])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_named_point(sink: Topics, sinks: Sinks, point: str, seed: int) -> None:
    """Each record exactly once, and who polls meanwhile never sees a part of a checkpoint."""
    chance = random.Random(f"{point}-{seed}")
    records = payments(9_000, seed)
    fill(records[:1_000])
    sink.create(sinks.rows)
    feeder = threading.Thread(target=feed, args=[records[1_000:]])
    with polled(sink, sinks.rows) as ends:
        first = sinks.start("live", chance.choice([1, 2]), env={"KAPPA_FAILPOINT": f"{point}:{seed}"})
        wait_for(lambda: first.poll() is not None or covers(sink, sinks.rows, records[:1_000]))
        feeder.start()
        _, errors = first.communicate(timeout=WITHIN)
        assert first.returncode == -9, errors
        feeder.join()
        again = sinks.start("live", chance.choice([1, 2, 3]))
        wait_for(lambda: again.poll() is not None or covers(sink, sinks.rows, records))
        again.send_signal(signal.SIGTERM)
        _, more = again.communicate(timeout=WITHIN)
        assert again.returncode == 0, more
    check_all(sink, sinks.rows, sinks.totals, records)
    found = sink.records(sinks.rows)
    confirmed = len(events(errors, "checkpoint")) + len(events(more, "checkpoint"))
    assert len(transactions(found)) <= confirmed + 5, "a checkpoint is in more than one transaction"
    assert not middles(found) & set(ends), "a reader of committed records came to the middle of a checkpoint"


@pytest.mark.parametrize("point", ["V3:1", "V3:2", "V2:1", "K21:1", "K21:3"])
def test_killed_while_topics_are_claimed(sink: Topics, sinks: Sinks, point: str) -> None:
    records = payments(2_000)
    fill(records)
    sinks.run(env={"KAPPA_FAILPOINT": point if point.startswith("V") else "V2:1"})
    assert sinks.run(env={"KAPPA_FAILPOINT": point}).returncode in (0, -9)
    done = sinks.run()
    assert done.returncode in (0, 3), done.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_killed_at_any_moment_again_and_again(sink: Topics, sinks: Sinks, seed: int) -> None:
    chance = random.Random(seed)
    records = payments(15_000, seed)
    fill(records)
    for _ in range(6):
        process = sinks.start("reprocess", chance.choice([1, 2, 3]))
        time.sleep(chance.uniform(0.3, 1.5))
        process.kill()
        process.communicate()
    last = sinks.run("reprocess", 2)
    assert last.returncode in (0, 3), last.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.parametrize("point", ["K11", "K12", "K14", "K17"])
def test_killed_during_recovery_too(sink: Topics, sinks: Sinks, point: str) -> None:
    records = payments(5_000)
    fill(records)
    assert sinks.run("reprocess", 2, "1h", env={"KAPPA_FAILPOINT": "K10"}).returncode == -9
    for _ in range(3):
        assert sinks.run("reprocess", 1, "1h", env={"KAPPA_FAILPOINT": point}).returncode in (-9, 3)
    again = sinks.run("reprocess", 2, "1h")
    assert again.returncode in (0, 3), again.stderr
    check_all(sink, sinks.rows, sinks.totals, records)


@pytest.mark.parametrize("moment", [0.03, 0.1, 0.2])
def test_a_process_that_was_taken_over_finds_out(sink: Topics, sinks: Sinks, place: Path, moment: float) -> None:
    records = payments(9_000)
    fill(records[:3_000])
    old = sinks.start("live", 2, "10ms")
    wait_for(lambda: covers(sink, sinks.rows, records[:3_000]))
    feeder = threading.Thread(target=feed, args=[records[3_000:6_000]])
    feeder.start()
    time.sleep(moment)
    stop(old, place)
    feeder.join()
    new = sinks.start("live", 2, "10ms", "--take-over")
    wait_for(lambda: new.poll() is not None or covers(sink, sinks.rows, records[:6_000]))
    assert new.returncode is None, new.communicate()
    old.send_signal(signal.SIGCONT)
    fill(records[6_000:])
    _, errors = old.communicate(timeout=WITHIN)
    assert old.returncode == 6, errors
    assert "took this version over" in errors
    wait_for(lambda: covers(sink, sinks.rows, records))
    new.send_signal(signal.SIGTERM)
    _, errors = new.communicate(timeout=WITHIN)
    assert new.returncode == 0, errors
    check_all(sink, sinks.rows, sinks.totals, records)


def test_what_a_process_of_the_past_published_is_not_sent(sink: Topics, sinks: Sinks, place: Path) -> None:
    """A job with topics alone: their markers say that nothing is lacking. Owner 1's manifest comes back under its old number."""
    sinks.without_table()
    records = [each for each in payments(2_000) if each["amount"]]
    fill(records[:500])

    def manifests() -> list[Path]:
        return sorted(place.rglob("*.manifest"))

    def run_until(done: Callable[[], bool]) -> None:
        process = sinks.start("live", 2)
        wait_for(lambda: process.poll() is not None or done())
        assert process.poll() is None, process.communicate()[1]
        process.kill()
        process.communicate()

    run_until(lambda: covers(sink, sinks.rows, records[:500]))
    newest = manifests()[-1]
    stray = newest.read_bytes()
    # Owner 2 publishes one more, which owner 3 delivers.
    fill(records[500:501])
    to_recover = sum(int(path.stem) > 0 for path in manifests())
    second = sinks.start("live", 2, env={"KAPPA_FAILPOINT": f"K17:{to_recover + 1}"})
    _, errors = second.communicate(timeout=WITHIN)
    assert second.returncode == -9, errors
    for _ in range(2):
        claim = int(manifests()[-1].stem) + 1
        run_until(lambda claim=claim: [int(path.stem) for path in manifests()] == [claim - 1, claim])
    assert not newest.exists()
    newest.write_bytes(stray)
    last = sinks.start("live", 2)
    fill(records[501:])
    wait_for(lambda: last.poll() is not None or covers(sink, sinks.rows, records))
    last.send_signal(signal.SIGTERM)
    _, errors = last.communicate(timeout=WITHIN)
    assert last.returncode == 0, errors
    check_rows(sink.records(sinks.rows), records)
    assert not newest.exists()
