"""A real Kafka cluster as the log: nothing lost, nothing doubled, whatever the topic and the cluster do."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from kappa import col
from kappa.exceptions import ConfigError, KappaError, RefusedError, UnavailableError
from properties import TIERED_TOPIC

if TYPE_CHECKING:
    from admin import Kafka, Record
    from proxy import Proxy

confluent_kafka = pytest.importorskip("confluent_kafka")
pytestmark = pytest.mark.slow

BASE = 1_776_643_200_000
DAY = 86_400_000
SCHEMA = {"k": kappa.String, "n": kappa.Int64, "t": kappa.Timestamp("ms")}


def events(count: int, first: int = 0, seed: int = 1, **more: Any) -> list[Record]:
    """Numbered events over a few days, in three partitions."""
    from admin import row

    chance = random.Random(seed + first)
    return [
        row(
            {"k": f"k{chance.randrange(50)}", "n": n, "t": BASE + n * 50_000},
            partition=n % 3,
            timestamp_ms=BASE + n * 50_000,
            **more,
        )
        for n in range(first, first + count)
    ]


def daily(topic: str, **read: Any) -> kappa.Job:
    job = kappa.Job("daily")
    stream = job.read(topic, schema=SCHEMA, event_time="t", **read)
    day = col("t").dt.date()
    job.write(stream.group_by(day=day).agg(keys=col("k").n_unique(), total=col("n").sum(), events=kappa.len()))
    return job


def expected(records: list[Record]) -> dict[Any, tuple[int, int, int]]:
    """The batch recomputation, in plain Python over what an independent reader read."""
    groups: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record.json["t"] // DAY].append(record.json)
    return {day: (len({e["k"] for e in of}), sum(e["n"] for e in of), len(of)) for day, of in groups.items()}


def found(table: str) -> dict[Any, tuple[int, int, int]]:
    from datetime import date

    rows = kappa.read(table).to_dicts()
    return {(row["day"] - date(1970, 1, 1)).days: (row["keys"], row["total"], row["events"]) for row in rows}


@pytest.fixture
def at(kafka: Kafka, place: Path) -> dict[str, str]:
    """The settings by which a job reads from the broker."""
    return {"log.url": kafka.url}


def reprocess(job: kappa.Job, table: str, config: Mapping[str, str], **more: Any) -> kappa.RunReport:
    return job.run(mode="reprocess", output_table=table, config=config, progress=False, **more)


def wait_for(what: str, done: Callable[[], bool], within: float = 30.0) -> None:
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.05)


def test_a_topic_is_reprocessed_and_then_followed(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(9_000))
    job = daily(topic)
    report = reprocess(job, "daily", at, parallelism=2)
    assert (report.read, report.used, report.lost) == (9_000, 9_000, 0)
    assert found("daily") == expected(kafka.read(topic))
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms")
    kafka.produce(topic, events(3_000, first=9_000))
    wait_for("the new records", lambda: found("daily") == expected(kafka.read(topic)))
    assert run.stop().read == 12_000
    # Tools for lag see where the job is.
    wait_for("the group", lambda: kafka.group_offsets("kappa-default.daily", topic) == kafka.ends(topic))


@pytest.mark.parametrize("commit", [True, False])
def test_a_bounded_run_ends_behind_transaction_markers(kafka: Kafka, topic: str, at: dict[str, str], commit: bool) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(300))
    kafka.transaction(topic, events(300, first=300), commit=commit)
    report = reprocess(daily(topic), "daily", at)
    assert report.read == (600 if commit else 300)
    assert found("daily") == expected(kafka.read(topic))
    assert report.position[topic] == {str(partition): end for partition, end in kafka.ends(topic).items()}


def test_records_of_open_transactions_are_not_read(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(30))
    open_ = kafka.begin(topic, events(30, first=30))
    job = daily(topic)
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms")
    wait_for("the first records", lambda: sum(events for _, _, events in found("daily").values()) == 30)
    open_.commit_transaction(30)
    wait_for("the others", lambda: found("daily") == expected(kafka.read(topic)))
    assert run.stop().read == 60


def test_keys_headers_and_places_are_columns(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    from admin import row

    kafka.create(topic, partitions=2)
    written = [
        row({"t": BASE + n}, f"key-{n}", partition=n % 2, timestamp_ms=BASE + n, headers=[("a", b"\x00\xff"), ("b", None)])
        for n in range(10)
    ]
    kafka.produce(topic, [*written, row({"t": BASE}, partition=0, timestamp_ms=5)])
    job = kappa.Job("places")
    columns = {"key": "key", "headers": "headers", "partition": "partition", "offset": "offset", "written": "timestamp"}
    stream = job.read(topic, schema={"t": kappa.Timestamp("ms")}, event_time="t", metadata=columns)
    job.write(stream)
    reprocess(job, "places", at)
    rows = sorted(kappa.read("places").to_dicts(), key=lambda row: (row["partition"], row["offset"]))
    assert [(r["key"], r["partition"], r["offset"]) for r in rows] == [
        (e.key, e.partition, e.offset) for e in kafka.read(topic)
    ]
    assert rows[0]["headers"] == [{"name": "a", "value": b"\x00\xff"}, {"name": "b", "value": None}]
    assert [row["headers"] for row in rows if row["key"] is None] == [[]]
    assert [int(row["written"].timestamp() * 1000) for row in rows if row["key"] is None] == [5]


def test_compacted_holes_are_passed_over(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    from admin import COMPACTED, row

    kafka.create(topic, config=COMPACTED)
    kafka.produce(topic, [row({"k": "x", "n": n, "t": BASE + n}, f"key-{n % 7}") for n in range(500)])
    kafka.wait_for_compaction(topic)
    with pytest.raises(RefusedError, match="compacted") as refused:
        reprocess(daily(topic), "daily", at)
    assert refused.value.code == "not_replayable"
    run = daily(topic, on_bad_record="skip").start(mode="live", output_table="live", config=at, checkpoint_interval="100ms")
    wait_for("the end", lambda: sum(events for _, _, events in found("live").values()) == 7)
    run.stop()
    assert found("live") == expected([each for each in kafka.read(topic) if each.key != b"rolled"])


def test_a_partition_that_is_added_is_read_from_its_beginning(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(300))
    job = daily(topic)
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms", parallelism=2)
    wait_for("the first records", lambda: found("daily") == expected(kafka.read(topic)))
    kafka.add_partitions(topic, 4)
    late = [record._replace(partition=3) for record in events(300, first=300)]
    kafka.produce(topic, late)
    wait_for("the new partition", lambda: found("daily") == expected(kafka.read(topic)))
    assert run.stop().position[topic]["3"] == 300
    # And one that was added while nothing ran.
    kafka.add_partitions(topic, 5)
    kafka.produce(topic, [record._replace(partition=4) for record in events(300, first=600)])
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms")
    wait_for("the newest partition", lambda: found("daily") == expected(kafka.read(topic)))
    assert run.stop().read == 900


def test_a_topic_that_was_made_again_stops_the_job(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(300))
    job = daily(topic)
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms")
    right = expected(kafka.read(topic))
    wait_for("the first records", lambda: found("daily") == right)
    kafka.recreate(topic, partitions=3)
    # More records than before: the offsets that the job waits for come again, and mean other records.
    kafka.produce(topic, events(900, seed=7))
    with pytest.raises(KappaError) as stopped:
        run.wait()
    assert stopped.value.code in ("topic_recreated", "topic_gone", "retention_gap", "log_truncated"), stopped.value
    assert found("daily") == right
    with pytest.raises(RefusedError, match="another one than this version has read"):
        job.run(mode="live", output_table="daily", config=at, progress=False)


def test_retention_that_overtakes_is_an_error_unless_gaps_are_allowed(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(300))
    job = daily(topic)
    reprocess(job, "daily", at)
    kafka.produce(topic, events(600, first=300))
    kafka.delete_records(topic, {0: 150, 1: 100})
    with pytest.raises(RefusedError, match="50 records of topic") as refused:
        job.run(mode="live", output_table="daily", config=at, progress=False)
    assert (refused.value.code, refused.value.context["partition"]) == ("retention_gap", "0")
    run = job.start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms", allow_gaps=True)
    wait_for("the rest", lambda: sum(events for _, _, events in found("daily").values()) == 850)
    report = run.stop()
    assert (report.lost, report.read) == (50, 850)


def test_a_start_in_what_was_deleted_is_refused(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(900))
    kafka.delete_records(topic, {0: 100})
    with pytest.raises(RefusedError, match="holds offsets 100 to 300, not 50"):
        reprocess(daily(topic), "a", at, from_="0:50")
    with pytest.raises(RefusedError, match="may have lost records"):
        reprocess(daily(topic), "b", at, from_="2026-04-20T01:30:00Z")
    report = reprocess(daily(topic), "c", at, from_="0:50", allow_gaps=True)
    assert (report.read, report.lost) == (800, 50)
    assert found("c") == expected(kafka.read(topic))


def test_a_group_of_another_engine_is_where_a_job_can_begin(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(900))
    kafka.commit_group(f"flink-{topic}", topic, {0: 100, 2: 300})
    reprocess(daily(topic), "daily", at, from_=f"group:flink-{topic}")
    rest = [each for each in kafka.read(topic) if (each.offset or 0) >= {0: 100, 1: 0, 2: 300}[each.partition or 0]]
    assert found("daily") == expected(rest)
    with pytest.raises(ConfigError, match="has committed nothing"):
        reprocess(daily(topic), "other", at, from_="group:nobody")


def test_a_time_is_an_offset_less_a_margin_and_a_floor(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(9_000))
    floor = BASE + 2 * DAY
    report = reprocess(daily(topic), "daily", at, from_="2026-04-22", until="2026-04-24")
    inside = [each for each in kafka.read(topic) if floor <= each.json["t"] < BASE + 4 * DAY]
    assert found("daily") == expected(inside)
    assert report.below_floor == pytest.approx(72, abs=3)  # an hour of records


def test_old_records_come_from_the_tier(tiered_kafka: Kafka, topic: str, place: Path) -> None:
    tiered_kafka.create(topic, config=TIERED_TOPIC)
    padding = "x" * 200
    from admin import row

    written = [row({"k": f"k{n % 9}", "n": n, "t": BASE + n * 1_000, "p": padding}, partition=0) for n in range(20_000)]
    tiered_kafka.produce(topic, written)
    wait_for("the tier", lambda: tiered_kafka.local_start(topic) > 0, within=60)
    report = reprocess(daily(topic), "daily", {"log.url": tiered_kafka.url})
    assert report.read == 20_000
    assert found("daily") == expected(tiered_kafka.read(topic))


def told(run: kappa.Run, what: str) -> bool:
    run.status()
    return any(what in event.get("message", "") for event in run._events)


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(300))
    run = daily(topic).start(mode="live", output_table="daily", config=at, checkpoint_interval="100ms")
    wait_for("the first records", lambda: found("daily") == expected(kafka.read(topic)))
    kafka.cluster.kill()
    wait_for("the outage to be told", lambda: told(run, f"topic {topic} gives no answer"))
    kafka.cluster.restore()
    wait_for("its end to be told", lambda: told(run, f"topic {topic} answers again"))
    kafka.produce(topic, events(300, first=300))
    wait_for("records after the outage", lambda: found("daily") == expected(kafka.read(topic)), within=60)
    assert run.stop().read == 600


def test_a_connection_that_is_cut_and_slow_loses_nothing(
    kafka: Kafka, kafka_proxy: Proxy, topic: str, at: dict[str, str]
) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(9_000))
    behind = {"log.url": kafka.by("PROXIED").url}
    job = daily(topic)
    run = job.start(mode="live", output_table="daily", config=behind, checkpoint_interval="50ms", max_bytes_per_second="200KiB")
    for _ in range(3):
        time.sleep(0.3)
        kafka_proxy.cut()
        time.sleep(0.2)
        kafka_proxy.restore()
    wait_for("all records", lambda: found("daily") == expected(kafka.read(topic)), within=60)
    assert run.stop().read == 9_000


def test_what_is_not_there_is_said(kafka: Kafka, topic: str, at: dict[str, str]) -> None:
    kafka.create(topic)
    with pytest.raises(ConfigError, match="there is no topic") as missing:
        reprocess(daily(f"{topic}x"), "a", at)
    assert f"did you mean {topic}? topics there: " in (missing.value.hint or "")
    with pytest.raises(UnavailableError, match="Connection refused"):
        reprocess(daily(topic), "b", {"log.url": "kafka://127.0.0.1:1"})
    with pytest.raises(ConfigError, match=r"kafka\.no\.such"):
        reprocess(daily(topic), "c", {**at, "kafka.no.such": "1"})
    with pytest.raises(ConfigError, match="decided by kappa"):
        reprocess(daily(topic), "d", {**at, "kafka.enable.auto.commit": "true"})


SCRIPT = """
import sys
import kappa
from kappa import col

job = kappa.Job("daily")
stream = job.read(sys.argv.pop(1), schema={"k": kappa.String, "n": kappa.Int64, "t": kappa.Timestamp("ms")}, event_time="t")
job.write(stream.group_by(day=col("t").dt.date()).agg(keys=col("k").n_unique(), total=col("n").sum(), events=kappa.len()))
if __name__ == "__main__":
    job.main()
"""


def process(tmp_path: Path, topic: str, url: str, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [
            sys.executable,
            str(script),
            topic,
            "--output-table",
            "daily",
            "--set",
            f"log.url={url}",
            "--progress",
            "lines",
            *words,
        ],
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_change_nothing(
    kafka: Kafka, topic: str, at: dict[str, str], tmp_path: Path, seed: int
) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(30_000, seed=seed))
    chance = random.Random(seed)
    slow = ("--checkpoint-interval", "50ms", "--max-bytes-per-second", "1MiB")
    for attempt in range(6):
        words = ("--mode", "reprocess", *slow, "--parallelism", str(1 + attempt % 3))
        running = process(tmp_path, topic, kafka.url, *words)
        time.sleep(0.4 + chance.random())
        running.send_signal(signal.SIGKILL)
        running.communicate()
    ended = process(tmp_path, topic, kafka.url, "--mode", "reprocess")
    _, text = ended.communicate(timeout=60)
    assert ended.returncode == 0 or "finished" in text, text
    assert found("daily") == expected(kafka.read(topic))


def test_a_kill_after_the_group_was_told_changes_nothing(kafka: Kafka, topic: str, at: dict[str, str], tmp_path: Path) -> None:
    kafka.create(topic, partitions=3)
    kafka.produce(topic, events(30_000))
    # So slowly that it is not at the end by the last kill, however long checkpoints take.
    words = ("--mode", "reprocess", "--checkpoint-interval", "50ms", "--max-bytes-per-second", "50KiB")
    for number in (1, 1, 2):
        running = process(tmp_path, topic, kafka.url, *words, env={"KAPPA_FAILPOINT": f"K19:{number}"})
        running.communicate(timeout=60)
        assert running.returncode == -signal.SIGKILL
    ended = process(tmp_path, topic, kafka.url, "--mode", "reprocess")
    _, text = ended.communicate(timeout=60)
    assert ended.returncode == 0, text
    assert found("daily") == expected(kafka.read(topic))


def test_secrets_are_nowhere(secure_kafka: Kafka, topic: str, place: Path, tmp_path: Path) -> None:
    secure = secure_kafka.by("SCRAM256")
    secure.create(topic, partitions=3)
    secure.produce(topic, events(30))
    options = {
        f"kafka.{name}": str(value) for name, value in secure.config.items() if name.startswith(("sasl", "ssl", "security"))
    }
    password = options["kafka.sasl.password"]
    (tmp_path / "password").write_text(password + "\n")
    options["kafka.sasl.password"] = f"file:{tmp_path / 'password'}"
    reprocess(daily(topic), "daily", {"log.url": secure.url, **options})
    assert found("daily") == expected(secure.read(topic))
    wrong = {**options, "log.url": secure.url, "kafka.sasl.password": "canary-5577"}
    with pytest.raises(KappaError) as refused:
        reprocess(daily(topic), "other", wrong)
    assert refused.value.code == "not_authenticated", refused.value
    assert "canary" not in json.dumps([str(refused.value), refused.value.context, refused.value.hint])
    for path in place.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("listener", ["TLS", "MTLS", "PLAIN", "SCRAM256", "SCRAM512"])
def test_each_way_to_log_in_works(secure_kafka: Kafka, topic: str, place: Path, listener: str) -> None:
    secure = secure_kafka.by(listener)
    secure.create(topic, partitions=3)
    secure.produce(topic, events(30))
    options = {
        f"kafka.{name}": str(value) for name, value in secure.config.items() if name.startswith(("sasl", "ssl", "security"))
    }
    assert reprocess(daily(topic), "daily", {"log.url": secure.url, **options}).read == 30


@pytest.mark.parametrize("listener", ["OAUTH", "OIDC"])
def test_tokens_come_from_a_function(secure_kafka: Kafka, topic: str, place: Path, listener: str) -> None:
    security = secure_kafka.cluster.security
    assert security
    admin = secure_kafka.by("PLAIN")
    admin.create(topic, partitions=3)
    admin.produce(topic, events(30))
    made: list[float] = []

    def token() -> tuple[str, str, int]:
        text, expires = security.token(signed=listener == "OIDC", lifetime=30)
        made.append(expires)
        return text, "tests", int(expires * 1000)

    options = {
        f"kafka.{name}": str(value) for name, value in security.client(listener).items() if not name.startswith("enable")
    }
    options.pop("kafka.sasl.oauthbearer.config", None)
    config = {**options, "log.url": f"kafka://{secure_kafka.cluster.address(listener)}", "kafka.oauth_token": token}
    assert reprocess(daily(topic), "daily", config).read == 30
    assert made
    with pytest.raises(ConfigError, match="not a function"):
        reprocess(daily(topic), "other", {**config, "kafka.oauth_token": "eyJ"})

    def broken() -> tuple[str, str, int]:
        raise ValueError("no token today")

    with pytest.raises(KappaError, match="no token today"):
        reprocess(daily(topic), "other", {**config, "kafka.oauth_token": broken})
