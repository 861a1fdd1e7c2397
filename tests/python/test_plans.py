"""Jobs and streams: types are checked where the plan is built, and the error shows that line."""

from __future__ import annotations

import json
import pickle

import pytest

import kappa
from conftest import SCHEMA, daily_job, payments_stream
from kappa import col
from kappa.exceptions import ConfigError, KappaError, PlanError


def test_schemas_follow_the_steps() -> None:
    stream = payments_stream(kappa.Job("j"))
    assert stream.schema == SCHEMA
    assert list(stream.select("amount", twice=col("amount") * 2).schema) == ["amount", "twice"]
    assert stream.with_columns(amount=col("amount") / 2).schema["amount"] == kappa.Float64
    grouped = stream.group_by("status", day=col("event_time").dt.date()).agg(kappa.len(), total=col("amount").sum())
    assert grouped.schema == {"status": kappa.String, "day": kappa.Date, "len": kappa.Int64, "total": kappa.Int64}


def test_a_misspelt_column_is_named_and_its_line_shown() -> None:
    stream = payments_stream(kappa.Job("j"))
    with pytest.raises(PlanError) as caught:
        stream.filter(col("amuont") > 0)
    text = str(caught.value)
    assert "amuont" in text
    assert "amount" in text  # the near one
    assert 'stream.filter(col("amuont") > 0)' in text
    assert "test_plans.py" in text


def test_types_that_do_not_fit_are_found_at_once() -> None:
    stream = payments_stream(kappa.Job("j"))
    with pytest.raises(PlanError):
        stream.with_columns(x=col("amount") + col("status"))
    with pytest.raises(PlanError):
        stream.filter(col("amount"))
    with pytest.raises(PlanError):
        stream.group_by("status").agg(total=col("status").sum())
    with pytest.raises(PlanError):
        stream.select(total=col("amount").sum())


def test_what_has_no_name_must_be_given_one() -> None:
    stream = payments_stream(kappa.Job("j"))
    with pytest.raises(PlanError, match="named"):
        stream.select(kappa.lit(1))
    with pytest.raises(PlanError, match="name"):
        stream.with_columns("text")
    with pytest.raises(PlanError):
        stream.select()
    with pytest.raises(PlanError):
        stream.filter()


def test_predicates_must_be_expressions() -> None:
    stream = payments_stream(kappa.Job("j"))
    with pytest.raises(PlanError, match="takes expressions"):
        stream.filter(True)  # type: ignore[arg-type]


def test_outputs_need_names_when_there_are_several() -> None:
    job = kappa.Job("j")
    stream = payments_stream(job)
    job.write(stream, name="raw")
    with pytest.raises(PlanError, match="name"):
        job.write(stream)
    with pytest.raises(PlanError, match="already"):
        job.write(stream, name="raw")
    with pytest.raises(PlanError, match="another job"):
        kappa.Job("other").write(stream)
    with pytest.raises(PlanError, match="GroupedStream"):
        job.write(stream.group_by("status"), name="x")  # type: ignore[arg-type]


def test_a_job_without_outputs_and_with_impossible_names() -> None:
    with pytest.raises(PlanError, match="writes nothing"):
        kappa.Job("j").explain()
    for name in ("", "a b", "a/b"):
        with pytest.raises(PlanError):
            kappa.Job(name)


def test_read_checks_its_arguments() -> None:
    job = kappa.Job("j")
    with pytest.raises(PlanError):
        job.read("t", schema=SCHEMA, event_time="nowhere")
    with pytest.raises(PlanError):
        job.read("t", schema=SCHEMA, event_time="event_time", late="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        job.read("t", schema=SCHEMA, event_time="event_time", max_out_of_orderness="30 parsecs")
    with pytest.raises(PlanError, match="not a type"):
        job.read("t", schema={"at": int}, event_time="at")  # type: ignore[dict-item]


def test_metadata_columns_have_their_types() -> None:
    stream = kappa.Job("j").read(
        "t", schema=SCHEMA, event_time="event_time", metadata={"p": "partition", "o": "offset", "k": "key", "ts": "timestamp"}
    )
    assert stream.schema["p"] == kappa.Int32
    assert stream.schema["o"] == kappa.Int64
    assert stream.schema["ts"] == kappa.Timestamp("ms")


def test_the_fingerprint_knows_the_plan_and_nothing_else() -> None:
    assert daily_job().fingerprint == daily_job().fingerprint
    one, other = kappa.Job("j"), kappa.Job("j")
    one.write(payments_stream(one).filter(col("amount") > 0))
    other.write(payments_stream(other).filter(col("amount") > 1))
    assert one.fingerprint != other.fingerprint


def test_explain_and_check() -> None:
    job = daily_job()
    assert "payments" in job.explain()
    assert job.check() == [finding for finding in job.check() if finding.level in ("info", "warning", "error")]


def test_the_plan_is_plain_json() -> None:
    plan = json.loads(daily_job().to_json())
    assert plan["format"] == 1
    assert plan["outputs"][0]["plan"]["aggregate"]["keys"][0]["name"] == "day"


def test_errors_survive_pickling_and_map_to_classes() -> None:
    error = PlanError("m", code="c", context={"column": "x"}, hint="h")
    error.location = "  job.py, line 1"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is PlanError
    assert str(again) == str(error) == "m (column=x); h\n  job.py, line 1"
    assert {kind.__name__: kind.exit_status for kind in KappaError.__subclasses__()} == {
        "ConfigError": 2,
        "PlanError": 2,
        "RefusedError": 3,
        "DataError": 4,
        "UnavailableError": 5,
        "ConflictError": 6,
        "CorruptionError": 4,
        "InternalError": 70,
    }


def test_native_errors_carry_code_context_and_hint(place: object) -> None:
    with pytest.raises(ConfigError) as caught:
        kappa.Log().describe("nowhere")
    assert caught.value.context["topic"] == "nowhere"
    assert caught.value.hint
    assert caught.value.code
