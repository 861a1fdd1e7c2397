"""`Diff.explain`: what became of the records of a key in two versions, checked with what Python makes of the same log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet
import pytest

import kappa
from conftest import cli, command, document
from kappa import col
from kappa.exceptions import RefusedError
from kappa.testing import temporary
from test_diff import FOREIGN

if TYPE_CHECKING:
    from admin import Kafka

HOUR = 3_600_000
START = 1_772_323_200_000  # 2026-03-01
DAY = date(2026, 3, 2)
SCHEMA = {"status": kappa.String, "amount": kappa.Int64, "currency": kappa.String, "event_time": kappa.Timestamp("ms")}


def payments(count: int = 900) -> list[dict[str, Any]]:
    """Three days; every seventh record comes an hour and a half late."""
    return [
        {
            "status": ("captured", "failed", "captured", "pending")[i % 4],
            "amount": i % 40 - 5,
            "currency": ("DKK", "EUR", None)[i % 3],
            "event_time": START + i * 72 * HOUR // count - (5_400_000 if i % 7 == 6 else 0),
        }
        for i in range(count)
    ]


def totals(flag: kappa.Expr | None = None, *, late: Any = "keep", schema: Any = SCHEMA, least: int = 0) -> kappa.Job:
    job = kappa.Job("totals")
    read = job.read(
        "payments", schema=schema, event_time="event_time", max_out_of_orderness="1m", late=late, on_bad_record="skip"
    )
    used = read if flag is None else read.filter(flag)
    gross = used.with_columns(gross=col("amount") * 100).filter(col("amount") > least)
    keys = gross.group_by("currency", day=col("event_time").dt.date())
    job.write(keys.agg(total=col("gross").sum(), captured=kappa.len().filter(col("status") == "captured")))
    return job


def reprocess(job: kappa.Job, table: str, **more: Any) -> None:
    job.run(mode="reprocess", output_table=table, progress=False, **more)


def records(topic: str = "payments") -> Iterator[tuple[int, int, dict[str, Any] | None]]:
    """Partition, offset and payload of each, none if that is not JSON."""
    for record in kappa.Log().scan(topic):
        try:
            yield record.partition, record.offset, json.loads(record.value or b"")
        except ValueError:
            yield record.partition, record.offset, None


def is_of(payload: dict[str, Any], currency: str | None = "DKK", day: date = DAY) -> bool:
    then = datetime.fromtimestamp(payload["event_time"] / 1000, timezone.utc).date()
    return payload.get("currency") == currency and then == day


def late(topic: str = "payments") -> set[tuple[int, int]]:
    """The records that come more than a minute behind their partition."""
    greatest: dict[int, int] = {}
    found = set()
    for partition, offset, payload in records(topic):
        if payload is None:
            continue
        if payload["event_time"] < greatest.get(partition, payload["event_time"]) - 60_000:
            found.add((partition, offset))
        greatest[partition] = max(payload["event_time"], greatest.get(partition, 0))
    return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with temporary(tmp_path_factory.mktemp("explain") / ".kappa") as place:
        kappa.Log().create("payments", partitions=3)
        kappa.Log().append("payments", payments())
        reprocess(totals(col("status") != "failed"), "right")
        yield place


def fates(found: kappa.Explanation) -> Counter[tuple[str, str]]:
    """How many records had which fates."""
    return Counter({(fate["a"], fate["b"]): fate["records"] for fate in found.fates})


def test_an_inverted_flag_is_found_with_its_records(log: Path) -> None:
    reprocess(totals(col("status") == "failed"), "wrong")
    found = kappa.diff("right", "wrong").explain({"day": DAY, "currency": "DKK"})
    assert found.differs
    assert found.cause == "changed_step"
    assert found.step == ['filter: status != "failed" → status == "failed"']

    def fate(payload: dict[str, Any], inverted: bool) -> str:
        if (payload["status"] == "failed") != inverted:
            return "filtered"
        return "used" if payload["amount"] > 0 else "filtered"

    of_key = [(at, payload) for *at, payload in records() if payload is not None and is_of(payload)]
    expected = Counter((fate(payload, False), fate(payload, True)) for _, payload in of_key)
    # What both leave out, each at another step, is of two kinds.
    summed: Counter[tuple[str, str]] = Counter()
    for one in found.fates:
        summed[one["a"], one["b"]] += one["records"]
    assert summed == expected
    assert found.parted["changed_step"] == expected["used", "filtered"] + expected["filtered", "used"]
    rows = {(row["partition"], row["offset"]): row for row in found.records}
    assert set(rows) == {tuple(at) for at, _ in of_key}
    for at, payload in of_key:
        row = rows[tuple(at)]
        assert (row["fate_a"], row["fate_b"]) == (fate(payload, False), fate(payload, True))
        assert (row["status"], row["amount"], row["currency"]) == (payload["status"], payload["amount"], payload["currency"])
        assert row["gross_a"] == row["gross_b"] == payload["amount"] * 100
        assert row["event_time"] == datetime.fromtimestamp(payload["event_time"] / 1000, timezone.utc)
        if row["fate_a"] == "filtered":
            assert row["why_a"] in ('status != "failed"', "amount > 0")
    total = sum(100 * payload["amount"] for _, payload in of_key if fate(payload, False) == "used")
    assert (
        found.row_a.to_dicts()[0]["total"] == total == sum(row["gross_a"] for row in rows.values() if row["fate_a"] == "used")
    )


def test_of_each_pair_of_fates_the_first_are_kept_and_all_are_counted(log: Path) -> None:
    whole = kappa.diff("right", "wrong").explain((None, DAY))
    found = kappa.diff("right", "wrong").explain((None, DAY), examples=2)
    assert whole.key == {"currency": None, "day": str(DAY)}
    assert [fate["records"] for fate in found.fates] == [fate["records"] for fate in whole.fates]
    first: dict[tuple[str, str, str | None, str | None], list[tuple[int, int]]] = {}
    for row in whole.records:
        kind = (row["fate_a"], row["fate_b"], row["why_a"], row["why_b"])
        first.setdefault(kind, []).append((row["partition"], row["offset"]))
    assert {(row["partition"], row["offset"]) for row in found.records} == {at for all_ in first.values() for at in all_[:2]}


def test_late_records_that_one_version_drops(log: Path) -> None:
    reprocess(totals(col("status") != "failed", late="drop"), "dropping")
    found = kappa.diff("right", "dropping").explain("day=2026-03-02,currency=EUR")
    used = {
        (partition, offset)
        for partition, offset, payload in records()
        if payload is not None and is_of(payload, "EUR") and payload["status"] != "failed" and payload["amount"] > 0
    }
    expected = used & late()
    assert expected
    assert found.cause == "late"
    assert found.step == ["late: keep → drop"]
    assert found.parted == {"changed_step": 0, "late": len(expected), "bad_record": 0, "missing_history": 0}
    dropped = {
        (row["partition"], row["offset"]) for row in found.records if row["fate_b"] == "late" and row["fate_a"] == "used"
    }
    assert dropped == expected


def test_records_that_one_version_cannot_decode(place: Path) -> None:
    kappa.Log().create("payments", partitions=2)
    good = [{**payment, "currency": "DKK"} for payment in payments(60)]
    bad = [{**payment, "amount": "12"} for payment in good[25:27]]
    kappa.Log().append("payments", [*good, *bad, b"{"])
    reprocess(totals(), "strict")
    reprocess(totals(schema={**SCHEMA, "amount": kappa.Decimal(10, 0)}), "lenient")
    found = kappa.diff("strict", "lenient").explain({"day": "2026-03-02", "currency": "DKK"})
    assert found.cause == "bad_record"
    assert found.step == ["column amount: Int64 → Decimal(10, 0)"]
    assert found.parted["bad_record"] == 2
    assert fates(found)["bad record", "used"] == 2
    shown = [row for row in found.records if row["fate_a"] == "bad record"]
    assert [row["amount_a"] for row in shown] == [None, None]
    assert all("amount" in row["why_a"] for row in shown)
    assert "1 of the records could not be decoded" in str(found)


def test_history_that_one_version_has_not_read(log: Path) -> None:
    begins = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
    offsets = dict.fromkeys(range(3), 150)
    reprocess(totals(col("status") != "failed"), "later", from_="0:150,1:150,2:150")
    found = kappa.diff("right", "later").explain({"day": DAY, "currency": "DKK"})
    expected = sum(
        payload is not None
        and is_of(payload)
        and payload["status"] != "failed"
        and payload["amount"] > 0
        and offset < offsets[at]
        for at, offset, payload in records()
    )
    assert expected > 0
    assert found.cause == "missing_history"
    assert found.step == []
    assert found.parted["missing_history"] == expected == fates(found)["used", "not read"]
    reprocess(totals(col("status") != "failed"), "floor", from_=begins)
    floored = kappa.diff("right", "floor").explain({"day": DAY, "currency": "DKK"})
    # Records were written now: all are read, and those before the time left out.
    below = sum(
        payload is not None
        and is_of(payload)
        and payload["status"] != "failed"
        and payload["amount"] > 0
        and payload["event_time"] < begins.timestamp() * 1000
        for _, _, payload in records()
    )
    assert below > 0
    assert floored.cause == "missing_history"
    assert fates(floored)["used", "below floor"] == below


def test_a_key_that_is_the_same_has_no_cause(log: Path) -> None:
    reprocess(totals(col("status") != "failed"), "again")
    found = kappa.diff("right", "again").explain({"day": DAY, "currency": "DKK"})
    assert not found
    assert (found.cause, found.step, sum(found.parted.values())) == ("none", [], 0)
    assert found.row_a.to_dicts() == found.row_b.to_dicts() != []
    nowhere = kappa.diff("right", "again").explain({"day": date(1999, 1, 1), "currency": "DKK"})
    assert (nowhere.differs, len(nowhere.records), len(nowhere.row_a)) == (False, 0, 0)


def test_what_is_made_of_records_together_is_told_from_what_each_does(log: Path) -> None:
    job = kappa.Job("greatest")
    read = job.read("payments", schema=SCHEMA, event_time="event_time", max_out_of_orderness="1m", on_bad_record="skip")
    gross = read.filter(col("status") != "failed").with_columns(gross=col("amount") * 100).filter(col("amount") > 0)
    keys = gross.group_by("currency", day=col("event_time").dt.date())
    job.write(keys.agg(total=col("gross").max(), captured=kappa.len().filter(col("status") == "captured")))
    reprocess(job, "greatest")
    found = kappa.diff("right", "greatest").explain({"day": DAY, "currency": "DKK"})
    assert (found.cause, found.step) == ("changed_step", ["agg total: gross.sum() → gross.max()"])
    assert sum(found.parted.values()) == 0


def test_values_that_part_before_the_grouping_are_found_where_they_do(log: Path) -> None:
    job = kappa.Job("totals")
    read = job.read("payments", schema=SCHEMA, event_time="event_time", max_out_of_orderness="1m", on_bad_record="skip")
    gross = read.filter(col("status") != "failed").with_columns(gross=col("amount") * 10).filter(col("amount") > 0)
    keys = gross.group_by("currency", day=col("event_time").dt.date())
    job.write(keys.agg(total=col("gross").sum(), captured=kappa.len().filter(col("status") == "pending")))
    reprocess(job, "cents")
    found = kappa.diff("right", "cents").explain({"day": DAY, "currency": "DKK"})
    assert (found.cause, found.step) == ("changed_step", ["with_columns gross: amount * 100 → amount * 10"])
    used = [row for row in found.records if row["fate_a"] == "used"]
    assert all((row["gross_a"], row["gross_b"]) == (100 * row["amount"], 10 * row["amount"]) for row in used)
    assert {(row["captured_a"], row["captured_b"]) for row in used} == {(True, None), (None, True)}


def test_rows_without_a_key_are_explained_by_their_columns(log: Path) -> None:
    def rows(least: int) -> kappa.Job:
        job = kappa.Job("rows")
        read = job.read("payments", schema=SCHEMA, event_time="event_time")
        job.write(read.filter(col("amount") > least).select("status", "event_time", small=col("amount") % 3))
        return job

    reprocess(rows(0), "rows_a")
    reprocess(rows(20), "rows_b")
    found = kappa.diff("rows_a", "rows_b").explain({"small": 1, "status": "pending"})
    of_key = [p for _, _, p in records() if p is not None and p["status"] == "pending" and p["amount"] % 3 == 1]
    assert found.cause == "changed_step"
    assert found.step == ["filter: amount > 0 → amount > 20"]
    assert fates(found)["used", "filtered"] == sum(0 < payload["amount"] <= 20 for payload in of_key)
    assert fates(found)["used", "used"] == sum(payload["amount"] > 20 for payload in of_key)
    with pytest.raises(RefusedError, match="no column colour"):
        kappa.diff("rows_a", "rows_b").explain({"colour": 1})


def test_a_key_of_a_second_grouping_is_followed_to_the_records(log: Path) -> None:
    def monthly(least: int) -> kappa.Job:
        job = kappa.Job("monthly")
        read = job.read("payments", schema=SCHEMA, event_time="event_time")
        days = read.filter(col("amount") > least).group_by("currency", day=col("event_time").dt.date()).agg(n=kappa.len())
        months = days.with_columns(month=col("day").dt.truncate("1mo"))
        job.write(months.group_by("month", "currency").agg(n=col("n").sum()))
        return job

    reprocess(monthly(0), "monthly_a")
    reprocess(monthly(9), "monthly_b")
    found = kappa.diff("monthly_a", "monthly_b").explain({"month": "2026-03-01", "currency": "EUR"})
    of_key = [p for _, _, p in records() if p is not None and p["currency"] == "EUR" and p["event_time"] >= START]
    assert fates(found)["used", "filtered"] == sum(0 < payload["amount"] <= 9 for payload in of_key)
    assert found.step == ["filter: amount > 0 → amount > 9"]


@pytest.mark.slow
def test_records_that_are_gone_from_the_log_are_said_to_be(kafka: Kafka, topic: str, place: Path) -> None:
    from admin import row

    at = {"log.url": kafka.url}
    kafka.create(topic, partitions=1)
    kafka.produce(topic, [row({"k": i % 2, "t": START + i * 1_000}, timestamp_ms=START + i * 1_000) for i in range(400)])

    def counted(job: str = "counted") -> kappa.Job:
        made = kappa.Job(job)
        stream = made.read(topic, schema={"k": kappa.Int64, "t": kappa.Timestamp("ms")}, event_time="t")
        made.write(stream.group_by("k").agg(n=kappa.len()))
        return made

    reprocess(counted(), "whole", config=at)
    reprocess(counted(), "rest", config=at, from_="0:100")
    found = kappa.diff("whole", "rest", config=at).explain(1)
    assert (found.cause, found.parted["missing_history"]) == ("missing_history", 50)
    kafka.delete_records(topic, {0: 150})
    found = kappa.diff("whole", "rest", config=at).explain(1)
    assert (found.cause, found.parted["missing_history"], fates(found)["used", "used"]) == ("missing_history", 0, 125)
    gone = {"topic": topic, "partition": 0, "before": 150, "of_a": 150, "of_b": 50}
    assert found.to_dict()["gone"] == [gone]
    assert "before offset 150 of partition 0 are gone from the log" in str(found)


def test_of_a_table_that_is_not_kappas_only_our_records_are_shown(log: Path, tmp_path: Path) -> None:
    reprocess(totals(), "metric.makes_the_namespace")
    pyarrow.parquet.write_table(kappa.read("right").to_arrow(), tmp_path / "rows.parquet")
    # In a process of its own: another SQLite in this one would take the locks of the catalog's away.
    done = command("-c", FOREIGN, str(log), str(tmp_path / "rows.parquet"))
    assert done.returncode == 0, done.stderr
    found = kappa.diff("metric.flink", "right").explain({"day": DAY, "currency": "DKK"})
    assert (found.differs, found.cause) == (False, "none")
    assert {fate["a"] for fate in found.fates} == {None}
    assert {fate["b"] for fate in found.fates} == {"used", "filtered"}
    assert "metric.flink is not kappa's" in found.notes[0]
    assert "fate_a" not in found.records.schema
    assert len(str(found).splitlines()) < 40


def test_rows_without_a_key_of_a_table_that_is_not_kappas_are_compared_themselves(place: Path, tmp_path: Path) -> None:
    kappa.Log().create("numbers")
    kappa.Log().append("numbers", [{"at": START + i, "kind": "k", "n": i} for i in range(4)])
    job = kappa.Job("numbers")
    schema = {"at": kappa.Timestamp("ms"), "kind": kappa.String, "n": kappa.Int64}
    job.write(job.read("numbers", schema=schema, event_time="at"))
    reprocess(job, "metric.ours")
    rows = kappa.read("metric.ours").to_arrow()
    numbers = rows.column("n").to_pylist()[::-1]
    numbers[0] += 7
    rows = rows.take(list(range(4))[::-1]).set_column(rows.schema.get_field_index("n"), "n", [numbers])
    pyarrow.parquet.write_table(rows, tmp_path / "rows.parquet")
    done = command("-c", FOREIGN, str(place), str(tmp_path / "rows.parquet"))
    assert done.returncode == 0, done.stderr
    explain = kappa.diff("metric.flink", "metric.ours").explain
    assert explain({"kind": "k"}).differs, "as many rows, and one of them is another"
    assert not explain({"n": 1}).differs


def test_the_command_line_prints_a_screen_and_a_document(log: Path) -> None:
    done = cli("diff", "right", "wrong", "--explain", "day=2026-03-02,currency=DKK")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 200
    assert lines[0].startswith("DIFFERENT: ")
    assert 'filter: status != "failed" → status == "failed"' in done.stdout
    done = cli("diff", "right", "wrong", "--explain", "day=2026-03-02,currency=DKK", "--json", "--exit-zero")
    data = document(done)["data"]
    assert (data["cause"], data["key"]) == ("changed_step", {"day": "2026-03-02", "currency": "DKK"})
    assert len(data["records"]) == 20
    done = cli("diff", "right", "wrong", "--explain", "DKK")
    assert done.returncode == 3
    assert "give a value of each" in done.stderr
    same = cli("diff", "right", "again", "--explain", "day=2026-03-02,currency=DKK")
    assert (same.returncode, same.stdout.splitlines()[0][:5]) == (0, "SAME:")


def test_a_notebook_and_a_page_show_it(log: Path, tmp_path: Path) -> None:
    found = kappa.diff("right", "wrong").explain({"day": DAY, "currency": "DKK"})
    for text in (found._repr_html_(), found.to_html()):
        assert "they part at" in text
        assert "&quot;failed&quot;" in text
        assert "#000" not in text
    page = tmp_path / "explained.html"
    done = cli("diff", "right", "wrong", "--explain", "day=2026-03-02,currency=DKK", "--html", str(page))
    assert done.returncode == 1
    assert 'content="light dark"' in page.read_text()
