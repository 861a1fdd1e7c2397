"""Previews: a new plan and the stored plan of the version that serves, over the last hours of the log; the replay certificate."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kappa
from catalog_support import Place
from conftest import SCHEMA, cli, command, document, wait_for
from kappa import _kappa, apart, certifying, col, job_command
from kappa.exceptions import ConfigError, ConflictError, KappaError, RefusedError
from kappa.loading import load_job
from kappa.testing import temporary

if TYPE_CHECKING:
    from admin import Kafka

DAY = 86_400_000
START = 1_772_323_200_000  # 2026-03-01T00:00:00Z
END = START + 10 * DAY + 20 * 3_600_000 + 59_000
KOLKATA = timezone(timedelta(hours=5, minutes=30))


def payments(count: int = 4_000, seed: int = 7, until: int = END) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "status": rng.choice(["captured", "failed"]),
            "amount": rng.randint(-5, 200),
            "merchant_id": f"m{rng.randint(0, 40)}",
            "event_time": START + i * (until - START) // (count - 1),
        }
        for i in range(count)
    ]


def fill(records: list[dict[str, Any]]) -> None:
    kappa.Log().create("payments", partitions=3)
    kappa.Log().append("payments", records, key="merchant_id")


def daily(*, right: bool = True, name: str = "daily") -> kappa.Job:
    """The metric; with the flag read the wrong way round it is the one with the bug."""
    job = kappa.Job(name)
    read = job.read("payments", schema=SCHEMA, event_time="event_time", max_out_of_orderness="30s")
    captured = col("status") == "captured" if right else col("status") != "captured"
    job.write(
        read.filter(captured & (col("amount") > 0))
        .group_by(day=col("event_time").dt.date(time_zone="Asia/Kolkata"))
        .agg(merchants=col("merchant_id").count_distinct(), total=col("amount").sum())
    )
    return job


def oracle(records: list[dict[str, Any]], since: date) -> dict[date, int]:
    """The right totals by day, in plain Python."""
    totals: dict[date, int] = {}
    for record in records:
        day = datetime.fromtimestamp(record["event_time"] / 1000, KOLKATA).date()
        if day >= since and record["status"] == "captured" and record["amount"] > 0:
            totals[day] = totals.get(day, 0) + record["amount"]
    return totals


def tables() -> set[str]:
    return {status for version in kappa.status().versions for status in version["outputs"]}


@pytest.fixture
def shown(place: Path) -> list[dict[str, Any]]:
    """`m.v3`, which has the bug, is what `m.name` shows."""
    records = payments()
    fill(records)
    daily(right=False).run(mode="reprocess", output_table="m.v3", progress=False)
    kappa.promote("m.name", "m.v3")
    return records


def preview(job: kappa.Job, last: str = "24h", table: str = "m.v4", **more: Any) -> kappa.Preview:
    return job.preview(last, output_table=table, progress=False, **more)


def test_it_is_the_diff_of_the_full_runs_over_its_window(shown: list[dict[str, Any]], place: Path) -> None:
    before = kappa.serving().names, kappa.read("m.v3").to_dicts()
    found = preview(daily())
    assert isinstance(found, kappa.Diff)
    # A day ago was 2026-03-11 in Kolkata, a day that began at 18:30 UTC.
    begin = datetime(2026, 3, 11, tzinfo=KOLKATA)
    assert found.window == {"from_ms": int(begin.timestamp() * 1000), "until_ms": END}
    assert kappa.read("m.v4__preview").to_dicts() != []
    rows = {row["day"]: row["total"] for row in kappa.read(found.tables[""]).to_dicts()}
    assert rows == oracle(shown, begin.date()), "whole days, the first too"
    assert found.differs
    assert found.proof is None

    # Nothing else has changed.
    assert (kappa.serving().names, kappa.read("m.v3").to_dicts()) == before
    assert tables() == {"m.v3", "m.v3__preview", "m.v4__preview"}

    daily().run(mode="reprocess", output_table="m.v4", progress=False)
    full = kappa.diff("m.v3", "m.v4")
    expected = [row for row in full.changed.to_dicts() if row["day"] >= begin.date()]
    assert len(expected) == 2
    assert found.changed.to_dicts() == expected
    assert [row for row in full.by_day.to_dicts() if row["day"] >= begin.date()] == found.by_day.to_dicts()


def test_the_next_preview_replaces_it(shown: list[dict[str, Any]], place: Path) -> None:
    versions = lambda: {it["outputs"][0]: it["version"] for it in kappa.status().versions}  # noqa: E731
    preview(daily())
    first = versions()
    more = payments(50, seed=8, until=END)[-10:]
    kappa.Log().append("payments", more, key="merchant_id")
    found = preview(daily())
    second = versions()
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == {"m.v3__preview", "m.v4__preview"}
    rows = {row["day"]: row["total"] for row in kappa.read("m.v4__preview").to_dicts()}
    assert rows == oracle([*shown, *more], date(2026, 3, 11))
    assert sum(end for _, end in found.vectors["payments"].values()) == len(shown) + 10


def test_the_price_is_that_of_the_full_run_by_what_the_preview_took(shown: list[dict[str, Any]]) -> None:
    found = preview(daily(), "7d")
    price, took = found.price.to_dict(), found.to_dict()["runs"]["new"]
    assert took["read"] == len(shown)
    assert (price["records"], price["sample"]["records"]) == (len(shown), len(shown))
    assert price["sample"]["seconds"] == found.price.seconds == pytest.approx(took["seconds"])
    # A third of what was read lay before the window: it makes state and rows in the full run.
    assert not price["cost"]["exact"]
    whole = preview(daily(), "30d")
    assert whole.price.to_dict()["cost"]["exact"]
    state = (found.price.to_dict()["cost"]["state_bytes"], whole.price.to_dict()["cost"]["state_bytes"])
    assert 0.8 < state[0] / state[1] < 1.6
    assert price["cost"]["output_bytes"] > 0
    assert [change["what"] for change in found.price.changes] == ["filter"]
    assert price["against"]["table"] == "m.name"
    # Where nearly all did, a sample says more.
    last = preview(daily(), "1h")
    assert last.price.to_dict()["sample"]["seconds"] != last.to_dict()["runs"]["new"]["seconds"]
    assert last.price.to_dict()["cost"]["exact"], "the sample is the whole log"


def test_the_screen_and_the_document(shown: list[dict[str, Any]], script: Callable[..., Path]) -> None:
    path = str(script())
    done = command(path, "--preview", "24h", "--against", "m.name", "--output-table", "m.v4")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("PREVIEW of distinct-merchants, the last 24 h: DIFFERENT: m.v3__preview and m.v4__preview: ")
    assert len(lines) < 42
    assert max(map(len, lines)) < 150
    assert (
        "2026-03-10T18:30:00Z to 2026-03-11T20:00:59Z (asked: from 2026-03-10T20:00:59Z; back to where groups begin)"
        in lines[2]
    )
    assert lines[-2] == "nothing was promoted, and no other table was touched"
    assert lines[-1] == "next: python job.py --mode reprocess --output-table m.v4 --align m.v3"
    assert done.stderr.count("reprocess complete") == 2
    # What it says comes next is what comes next.
    assert command(path, *lines[-1].split()[3:]).returncode == 0
    assert cli("diff", "m.v3", "m.v4").returncode == 1

    parsed = document(command(path, "--preview", "24h", "--output-table", "m.v5", "--against", "m.v4", "--json"))
    data = parsed["data"]
    assert (parsed["exit"], data["differs"], data["compared"], data["certificate"]) == (0, False, True, None)
    assert data["diffs"][""]["counts"]["same"] == 2
    assert data["price"]["against"]["same"]
    for words in (["--certify"], ["--preview", "soon"], ["--preview", "0s"]):
        assert document(command(path, "--output-table", "m.v5", *words, "--json"))["exit"] == 2, words
    html = preview(daily())._repr_html_()
    assert "DIFFERENT" in html
    assert "The full run" in html
    assert "<svg" in html
    assert preview(daily()).to_html().startswith("<!doctype html>")


OF_RUNS = (
    "--from earliest", "--until head", "--align m.v3", "--mode live", "--follow", "--replace", "--take-over", "--force",
    "--checkpoint-interval 10s",
)  # fmt: skip


def test_options_that_mean_nothing_to_it_are_refused(shown: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preview", "24h", "--output-table", "m.v4", "--progress", "none"]
    for more in OF_RUNS:
        assert job_command.main(daily(), [*words, *more.split(), "--json"], {}) == 2, more
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "usage"
        assert error["message"].startswith(more if more == "--mode live" else more.split()[0])
    assert tables() == {"m.v3"}
    assert job_command.main(daily(), [*words, "--mode", "reprocess"], {}) == 1


def test_it_reads_no_faster_than_it_may(shown: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--preview", "24h", "--output-table", "m.v4", "--progress", "none", "--json"]
    job_command.main(daily(), [*words, "--max-bytes-per-second", "200kB"], {})
    slow = json.loads(capsys.readouterr().out)["data"]["runs"]
    # Some 90 bytes of JSON each, of three partitions one may be read at once.
    least = 0.25 * len(shown) * 90 / 200_000
    assert min(run["seconds"] for run in slow.values()) > least


def test_which_version_it_is_compared_with(shown: list[dict[str, Any]]) -> None:
    # Without a name of this job there is nothing, then what the output's table holds.
    alone = preview(daily(name="other"), table="m.v9")
    assert (alone.compared, alone.differs, bool(alone), alone.changed.to_dicts()) == (False, False, False, [])
    assert list(alone.changed.schema) == ["day", "merchants", "total"]
    assert "no name shows a version of other: there is nothing to compare with" in str(alone)
    assert alone.to_html()
    daily(name="other").run(mode="reprocess", output_table="m.v9", progress=False)
    own = preview(daily(name="other", right=False), table="m.v9")
    assert (own.compared, own.differs) == (True, True)
    assert own.tables == {"": "m.v9__preview"}
    assert "m.v9__before__preview" in str(own)
    assert "next: job.run(mode=\"reprocess\", output_table='NEW_TABLE', align='m.v9')" in str(own)
    # Two names with two versions of a job: it is to be said which.
    kappa.promote("m.second", "m.v9")
    daily(name="other", right=False).run(mode="reprocess", output_table="m.v10", progress=False)
    kappa.promote("m.third", "m.v10")
    both = preview(daily(name="other"), table="m.v11")
    assert not both.compared
    assert "m.second, m.third show versions of other: say which to compare with" in str(both)
    assert preview(daily(name="other"), table="m.v11", against="m.third").differs


def test_no_rows_are_read_to_show_that_there_are_none(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError(f"read {args[1]}")

    monkeypatch.setattr(_kappa, "read", never)
    alone = preview(daily(name="other"))
    assert (alone.changed.to_dicts(), list(alone.only_in_b.schema)) == ([], ["day", "merchants", "total"])
    # Where there is a comparison its columns are known.
    monkeypatch.setattr(_kappa, "no_rows", never)
    assert len(preview(daily()).changed.to_dicts()) == 2


def test_what_is_refused(shown: list[dict[str, Any]]) -> None:
    def refused(code: str, call: Callable[[], Any]) -> None:
        with pytest.raises(KappaError) as error:
            call()
        assert error.value.code == code, error.value

    preview(daily())
    refused("is_a_preview", lambda: kappa.promote("m.other", "m.v4__preview"))
    refused("is_a_preview", lambda: kappa.promote("m.name", "m.v4__preview", unverified="so it was said"))
    refused("is_a_preview", lambda: daily().run(mode="reprocess", output_table="m.v4__preview", replace=True, progress=False))
    refused("is_a_preview", lambda: daily().run(mode="live", output_table="m.v4__preview", progress=False))
    refused("is_a_preview", lambda: preview(daily(), against="m.v4__preview"))
    refused("no_such_table", lambda: preview(daily(), against="m.none"))
    daily().run(mode="reprocess", output_table="m.mine__preview", progress=False)
    refused("not_a_preview", lambda: preview(daily(), table="m.mine"))
    assert len(kappa.read("m.mine__preview").to_dicts()) > 5
    # Two previews do not prove anything about versions.
    assert kappa.diff("m.v3__preview", "m.v4__preview").proof is None


def test_a_preview_is_collected_within_a_day(shown: list[dict[str, Any]]) -> None:
    preview(daily())
    found = json.loads(cli("gc", "--older-than", "7d", "--json").stdout)["data"]
    written = {
        it["tables"][0]: (it["action"], it["until_ms"] and it["until_ms"] - it["written_ms"]) for it in found["versions"]
    }
    assert written["m.v4__preview"] == ("keep", DAY)
    assert written["m.v3"] == ("keep", None)
    # However short: it is not a part of anything.
    apply = json.loads(cli("gc", "--older-than", "0s", "--grace", "0s", "--apply", "--json").stdout)["data"]
    assert {it["tables"][0]: it["action"] for it in apply["versions"]} == {
        "m.v3": "keep", "m.v3__preview": "condemn", "m.v4__preview": "condemn",
    }  # fmt: skip
    # One that is condemned is in nobody's way.
    assert preview(daily()).differs


def test_several_outputs_and_topics(place: Path) -> None:
    fill(payments())

    def job(least: int, third: bool) -> kappa.Job:
        made = kappa.Job("several")
        read = made.read("payments", schema=SCHEMA, event_time="event_time")
        by_day = read.filter(col("amount") > least).group_by(day=col("event_time").dt.date())
        made.write(by_day.agg(n=kappa.len()), name="counts")
        made.write(read.select("merchant_id", "event_time"), name="rows")
        if third:
            made.write(read.group_by("merchant_id").agg(n=kappa.len()), name="merchants", to=kappa.KafkaTopic("by.merchant"))
        return made

    job(0, False).run(mode="reprocess", output_table={"counts": "m.c3", "rows": "m.r3"}, progress=False)
    made = {"counts": "m.c4", "rows": "m.r4"}
    found = job(50, True).preview("6h", output_table=made, against="m.c3", progress=False)
    assert found.tables == {
        "counts": "m.c4__preview", "rows": "m.r4__preview", "merchants": "default.by_merchant__preview",
    }  # fmt: skip
    assert {name: diff.differs for name, diff in found.diffs.items()} == {"counts": True, "rows": False}
    assert found.changed.to_dicts()[0]["day"] == date(2026, 3, 11)
    text = str(found)
    assert text.startswith("PREVIEW of several, the last 6 h: 1 of 2 outputs differ")
    assert "no key of kafka:by.merchant (merchant_id) is an event time" in text
    assert 'output "merchants" is new' in text
    rows = kappa.read("m.r4__preview").to_dicts()
    assert min(row["event_time"] for row in rows) >= datetime(2026, 3, 11, tzinfo=timezone.utc), "both begin where a group does"


def test_a_difference_is_explained_where_its_tables_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary(tmp_path / "made"):
        fill(payments())
        daily(right=False).run(mode="reprocess", output_table="m.v3", progress=False)
        names = ("LOG_URL", "CATALOG_URL", "WAREHOUSE", "CHECKPOINTS")
        config = {name.lower().replace("_", "."): os.environ[f"KAPPA_{name}"] for name in names}
    with temporary(tmp_path / "elsewhere"):
        found = preview(daily(), against="m.v3", config=config)
        why = found.explain({"day": "2026-03-11"})
        assert (why.differs, why.cause) == (True, "changed_step")
        assert found.diffs[""].explain({"day": "2026-03-11"}).cause == "changed_step"
        alone = preview(daily(name="other"), table="m.v9", config=config)
        with pytest.raises(RefusedError, match="nothing was compared") as error:
            alone.explain({"day": "2026-03-11"})
    assert error.value.code == "not_compared"


def test_tables_that_cannot_be_compared_are_a_finding(shown: list[dict[str, Any]]) -> None:
    job = kappa.Job("daily")
    read = job.read("payments", schema=SCHEMA, event_time="event_time")
    job.write(read.group_by("status", day=col("event_time").dt.date()).agg(n=kappa.len()))
    found = preview(job)
    assert (found.differs, found.compared) == (True, False)
    assert "m.v3__preview and m.v4__preview cannot be compared: table m.v3__preview has the key (day)" in str(found)


def test_a_key_of_another_type_is_a_finding(shown: list[dict[str, Any]]) -> None:
    job = kappa.Job("daily")
    read = job.read("payments", schema=SCHEMA, event_time="event_time")
    job.write(read.group_by(day=col("event_time").dt.truncate("1d")).agg(n=kappa.len()))
    found = preview(job)
    assert (found.differs, found.compared) == (True, False)
    reason = "m.v3__preview and m.v4__preview cannot be compared: the key column day is not in both tables with one type"
    assert reason in str(found)
    with pytest.raises(RefusedError, match="nothing was compared"):
        found.explain({"day": "2026-03-11"})


def test_an_old_plan_that_a_record_stops_is_a_finding(place: Path) -> None:
    fill(payments())

    def lenient(policy: Any) -> kappa.Job:
        job = kappa.Job("daily")
        read = job.read("payments", schema=SCHEMA, event_time="event_time", on_bad_record=policy)
        job.write(read.group_by(day=col("event_time").dt.date()).agg(n=kappa.len()))
        return job

    lenient("fail").run(mode="reprocess", output_table="m.v3", progress=False)
    kappa.Log().append("payments", [b'{"amount": "many"}'], partition=1)
    found = preview(lenient("skip"), against="m.v3")
    assert (found.differs, found.compared) == (True, False)
    assert "the old plan stops, and there is nothing to compare with: " in str(found)
    assert [row["n"] > 0 for row in kappa.read("m.v4__preview").to_dicts()] == [True, True]


Lives = list[tuple[dict[str, Any], list[dict[str, Any]]]]


@contextmanager
def watched(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any] | None = None, **more: Any
) -> Iterator[Lives]:
    """By process of the second run, its options and what it tells; with `change` its plan is another one, with `more` it has
    more options."""
    lives: Lives = []
    run = apart.running

    @contextmanager
    def running(plan: Any, options: Any, config: Any) -> Iterator[apart.Child]:
        plan = plan if change is None else change(json.loads(json.dumps(plan)))
        with run(plan, {**options, **more}, config) as child:
            events: list[dict[str, Any]] = []
            lives.append((options, events))
            told = child.events

            def noted() -> Iterator[dict[str, Any]]:
                for event in told():
                    events.append(event)
                    yield event

            child.events = noted  # type: ignore[method-assign]
            yield child

    monkeypatch.setattr(certifying.apart, "running", running)
    yield lives


def test_a_certificate_is_two_runs_and_a_kill(
    shown: list[dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = daily()
    # It reads for seconds, and takes checkpoints all the while.
    with watched(monkeypatch, max_bytes_per_second=150_000) as lives:
        found = preview(job, certify=True, parallelism=3)
    certificate = found.certificate
    assert certificate is not None
    assert certificate["passed"]
    first, second = certificate["runs"]
    assert (first["parallelism"], first["kills"], second["parallelism"], second["kills"]) == (3, 0, 1, 1)
    assert first["contents"] == second["contents"]
    assert first["contents"][""]["rows"] == 2
    # The first process was killed in the middle, the second went on from there.
    (options, killed), (same, resumed) = lives
    assert (options["parallelism"], same["parallelism"], options["replace"], same["replace"]) == (1, 1, True, False)
    assert [event["event"] for event in killed if event["event"] in ("halted", "report", "complete")] == ["halted"]
    assert sum(event["event"] == "checkpoint" for event in killed) > 1, "the first lies before the middle"
    assert [event["resumed"] for event in (killed[0], resumed[0])] == [False, True]
    report = resumed[-1]
    assert (report["event"], report["outcome"], report["read"]) == ("report", "complete", len(shown))
    halves = sum((end - start) // 2 for start, end in found.vectors["payments"].values())
    assert report["events"] == halves, "the second half of each partition, and nothing else"
    stored = json.loads((place / "checkpoints" / "certificates" / f"{job.fingerprint}.json").read_text())
    assert stored["runs"] == certificate["runs"]
    assert stored["vectors"]["payments"] == {str(number): list(span) for number, span in found.vectors["payments"].items()}
    assert "PASSED: the same rows with 3 and 1 threads, 1 kill" in str(found)
    job.run(mode="reprocess", output_table="m.v4", progress=False)


@pytest.mark.parametrize(("call", "where"), [("diff", 0), ("content", 0), ("content", 1), ("price", 0)])
def test_what_another_preview_has_replaced_is_not_looked_at(
    shown: list[dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch, call: str, where: int
) -> None:
    looks = getattr(_kappa, call)

    def between(*args: Any) -> Any:
        monkeypatch.setattr(_kappa, call, looks)
        found = [looks(*args)] if where else []
        preview(daily(name="other", right=False))
        return (found or [looks(*args)])[0]

    monkeypatch.setattr(_kappa, call, between)
    with pytest.raises(ConflictError, match=r"another preview replaced m\.v4__preview") as error:
        preview(daily(), certify=call == "content")
    assert (error.value.code, error.value.retryable) == ("preview_replaced", True)
    assert not (place / "checkpoints" / "certificates").exists()


def test_no_other_preview_goes_on_in_a_second_life(
    shown: list[dict[str, Any]], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = apart.running

    @contextmanager
    def running(plan: Any, options: Any, config: Any) -> Iterator[apart.Child]:
        if not options["replace"]:
            monkeypatch.setattr(certifying.apart, "running", run)
            preview(daily(name="other", right=False), certify=True)
        with run(plan, options, config) as child:
            yield child

    monkeypatch.setattr(certifying.apart, "running", running)
    job = daily()
    with pytest.raises(ConflictError, match=r"another preview replaced m\.v4__again__preview"):
        preview(job, certify=True)
    assert not (place / "checkpoints" / "certificates" / f"{job.fingerprint}.json").exists()


def test_a_certificate_of_nothing_has_nobody_to_kill(place: Path) -> None:
    kappa.Log().create("payments")
    found = preview(daily(), certify=True, parallelism=1)
    assert found.certificate is not None
    assert (found.certificate["passed"], [run["kills"] for run in found.certificate["runs"]]) == (True, [0, 0])
    kappa.Log().append("payments", payments(2)[1:])
    found = preview(daily(), certify=True, parallelism=1)
    assert found.certificate is not None
    assert (found.certificate["passed"], [run["kills"] for run in found.certificate["runs"]]) == (True, [0, 0])


FAILING = """
import kappa.certifying, runpy, sys

run = kappa.certifying.apart.running

def other(plan, options, config):  # the second run leaves out what the first has
    plan["outputs"][0]["plan"]["aggregate"]["input"]["filter"]["predicate"]["call"]["args"][1]["call"]["args"][1]["literal"][
        "value"
    ] = 150
    return run(plan, options, config)

kappa.certifying.apart.running = other
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_plan_that_fails_gets_no_version_until_it_passes(
    shown: list[dict[str, Any]], script: Callable[..., Path], tmp_path: Path
) -> None:
    path = str(script())
    failing = tmp_path / "failing.py"
    failing.write_text(FAILING)
    words = ["--preview", "24h", "--output-table", "m.v4", "--certify", "-q"]
    done = command(str(failing), path, *words)
    assert done.returncode == 3, done.stderr
    assert "FAILED: other rows with " in done.stdout
    assert "the runs part: DIFFERENT: m.v4__preview and m.v4__again__preview: 2 changed" in done.stdout
    assert "the runs part: changed    day=2026-03-11: merchants" in done.stdout
    assert "a full run of this plan is refused (--force lifts it)" in done.stdout

    for mode in ("reprocess", "live"):
        refused = document(command(path, "--mode", mode, "--output-table", "m.v4", "--json"))
        assert (refused["exit"], refused["error"]["code"]) == (3, "not_certified")
        assert "m.v4__again__preview" in refused["error"]["context"]["for_example"]
    planned = document(cli("plan", path, "--json"))
    assert (planned["exit"], planned["data"]["findings"][0]["code"]) == (3, "not_certified")
    # Another plan is another matter, and so is one that is forced.
    assert command(str(script(floor=3, name="other.py")), "--mode", "reprocess", "--output-table", "m.v5").returncode == 0
    assert command(path, "--mode", "reprocess", "--output-table", "m.v4", "--force", "--until", "0:0,1:0,2:0").returncode == 0
    assert command(path, "--mode", "reprocess", "--output-table", "m.v4", "--replace").returncode == 3
    # A version that there is goes on, and says so.
    with load_job(path).start(mode="live", output_table="m.v4") as run:
        warns = lambda: any("failed its replay certificate" in event.get("message", "") for event in list(run._events))  # noqa: E731
        wait_for(warns, "the warning")

    passed = document(command(path, *words, "--json"))
    assert (passed["exit"], passed["data"]["certificate"]["passed"]) == (0, True)
    assert command(path, "--mode", "reprocess", "--output-table", "m.v4", "--replace").returncode == 0


def test_a_function_in_the_settings_cannot_go_to_another_process(shown: list[dict[str, Any]]) -> None:
    token = {"kafka.oauth_token": lambda: ("", "", 0)}
    with pytest.raises(ConfigError, match=r"cannot have the function kafka.oauth_token"):
        preview(daily(), certify=True, config=token)
    assert tables() == {"m.v3"}, "nothing has run"


def test_an_error_of_the_other_process_is_the_previews(shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def nonsense(plan: dict[str, Any]) -> dict[str, Any]:
        plan["outputs"][0]["plan"]["aggregate"]["input"]["filter"]["input"]["read"]["topic"] = "nowhere"
        return plan

    with watched(monkeypatch, nonsense), pytest.raises(KappaError, match="nowhere") as error:
        preview(daily(), certify=True)
    assert not isinstance(error.value, RefusedError)


@pytest.mark.slow
def test_it_is_replaced_in_each_catalog(catalog: Place) -> None:
    """Behind REST, too, where a table cannot be put in the place of another."""
    at = catalog.namespace
    records = payments()
    fill(records)
    daily(right=False).run(mode="reprocess", output_table=f"{at}.v3", progress=False)
    kappa.promote(f"{at}.name", f"{at}.v3")
    first = preview(daily(), table=f"{at}.v4", against=f"{at}.name")
    more = payments(50, seed=8)[-10:]
    kappa.Log().append("payments", more, key="merchant_id")
    second = preview(daily(), table=f"{at}.v4", against=f"{at}.name", certify=True)
    assert first.changed.to_dicts() != second.changed.to_dicts()
    assert second.certificate is not None
    assert (second.certificate["passed"], second.certificate["runs"][1]["kills"]) == (True, 1)
    rows = {row["day"]: row["total"] for row in kappa.read(f"{at}.v4__preview").to_dicts()}
    assert rows == oracle([*records, *more], date(2026, 3, 11))


@pytest.mark.slow
def test_over_a_topic_of_a_cluster(kafka: Kafka, topic: str, place: Path) -> None:
    from admin import row

    at = {"log.url": kafka.url}
    now = END
    kafka.create(topic, partitions=2)
    times = [now - i * 60_000 for i in reversed(range(6_000))]
    kafka.produce(topic, [row({"k": i, "t": t}, partition=i % 2, timestamp_ms=t) for i, t in enumerate(times)])

    def counts(least: int) -> kappa.Job:
        job = kappa.Job("cluster")
        stream = job.read(topic, schema={"k": kappa.Int64, "t": kappa.Timestamp("ms")}, event_time="t")
        job.write(stream.filter(col("k") >= least).group_by(day=col("t").dt.date()).agg(n=kappa.len()))
        return job

    counts(0).run(mode="reprocess", output_table="v1", config=at, progress=False)
    kappa.promote("counts", "v1", config=at)
    found = counts(5_990).preview("24h", output_table="v2", certify=True, config=at, progress=False)
    day = END - END % DAY
    assert found.window["from_ms"] == day - DAY
    # An hour before the day, and no more.
    read = sum(end - start for start, end in found.vectors[topic].values())
    assert read == sum(t >= day - DAY - 3_600_000 for t in times)
    whole = {row["day"]: row["n"] for row in kappa.read("v1", config=at).to_dicts()}
    changed = {row["day"]: (row["n_a"], row["n_b"]) for row in found.changed.to_dicts()}
    assert changed == {date(2026, 3, 11): (whole[date(2026, 3, 11)], 10)}
    assert [row["n"] for row in found.only_in_a.to_dicts()] == [whole[date(2026, 3, 10)]]
    assert found.certificate is not None
    assert (found.certificate["passed"], found.certificate["runs"][1]["kills"]) == (True, 1)
    assert kafka.group_offsets("kappa-default.v2__preview", topic) == {}


def test_an_interrupt_ends_it_and_leaves_no_process(shown: list[dict[str, Any]], script: Callable[..., Path]) -> None:
    words = ["--preview", "24h", "--output-table", "m.v4", "--certify", "--parallelism", "1"]
    child = subprocess.Popen([sys.executable, str(script()), *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stderr is not None
    for line in child.stderr:
        if "reprocess complete" in line:
            break
    child.send_signal(signal.SIGTERM)
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, out) == (143, ""), errors
    assert "the preview was interrupted: nothing is compared, and the next one begins anew" in errors
    assert all(not it["process"]["is_running"] for it in kappa.status().versions)
    assert preview(daily()).differs


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", ["diff", "content", "certify", "price"])
def test_an_interrupt_after_the_runs_ends_it_too(
    shown: list[dict[str, Any]],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    call: str,
    number: int,
) -> None:
    looks = getattr(_kappa, call)

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(_kappa, call, looks)
        os.kill(os.getpid(), number)
        return looks(*args)

    monkeypatch.setattr(_kappa, call, interrupted)
    words = ["--preview", "24h", "--output-table", "m.v4", "--progress", "none"]
    assert job_command.main(daily(), [*words, *(["--certify"] if call in ("content", "certify") else [])], {}) == 128 + number
    out, errors = capsys.readouterr()
    assert out == ""
    assert "the preview was interrupted" in errors
    assert (place / "checkpoints" / "certificates").exists() == (call == "certify"), "nothing is kept after an interrupt"
