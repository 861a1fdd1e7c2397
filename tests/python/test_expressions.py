"""Expressions: what they describe, how they print, what they refuse."""

from __future__ import annotations

import copy
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import kappa
from kappa import col, lit, when
from kappa.exceptions import PlanError


@pytest.mark.parametrize(
    ("expr", "function"),
    [
        (col("a") + 1, "add"),
        (col("a") - 1, "sub"),
        (col("a") * 1, "mul"),
        (col("a") / 1, "div"),
        (col("a") // 1, "floor_div"),
        (col("a") % 1, "mod"),
        (col("a") ** 1, "pow"),
        (col("a") == 1, "eq"),
        (col("a") != 1, "ne"),
        (col("a") < 1, "lt"),
        (col("a") <= 1, "le"),
        (col("a") > 1, "gt"),
        (col("a") >= 1, "ge"),
        (col("a") & col("b"), "and"),
        (col("a") | col("b"), "or"),
    ],
)
def test_operators_have_their_left_side_first(expr: kappa.Expr, function: str) -> None:
    call = expr._node["call"]
    assert call["function"] == function
    assert call["args"][0] == {"column": "a"}


def test_reflected_operators_keep_the_order() -> None:
    for expr in (10 - col("a"), 10 / col("a"), 10 // col("a"), 10 % col("a"), 10 ** col("a")):
        assert expr._node["call"]["args"][0]["literal"]["value"] == 10
    assert (col("a") < 5)._node["call"]["function"] == "lt"


@pytest.mark.parametrize(
    ("value", "form", "encoded"),
    [
        (True, "boolean", True),
        (7, "int64", 7),
        (-(2**63), "int64", -(2**63)),
        (1.5, "float64", "1.5"),
        (float("nan"), "float64", "NaN"),
        (float("-inf"), "float64", "-Infinity"),
        ("x", "string", "x"),
        (date(1970, 1, 2), "date", 1),
        (date(1969, 12, 31), "date", -1),
        (datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=timezone.utc), {"timestamp": "us"}, 1_000_005),
        (datetime(1970, 1, 1, 5, 30, tzinfo=ZoneInfo("Asia/Kolkata")), {"timestamp": "us"}, 0),
        (Decimal("-12.340"), {"decimal": {"precision": 5, "scale": 3}}, "-12.340"),
        (Decimal("0.001"), {"decimal": {"precision": 3, "scale": 3}}, "0.001"),
        (Decimal("1e3"), {"decimal": {"precision": 4, "scale": 0}}, "1000"),
    ],
)
def test_constants_keep_type_and_value(value: Any, form: Any, encoded: Any) -> None:
    assert lit(value)._node == {"literal": {"type": form, "value": encoded}}


def test_none_is_a_null_with_or_without_a_type() -> None:
    assert lit(None)._node == {"literal": {"value": None}}
    assert lit(None, kappa.Int32)._node == {"literal": {"type": "int32", "value": None}}


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (2**63, None),
        (2**31, kappa.Int32),
        (True, kappa.Int64),
        (1.5, kappa.Int64),
        ("1", kappa.Int64),
        (1, kappa.String),
        (datetime(2026, 1, 1), None),
        (datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc), kappa.Timestamp("ms")),
        (datetime(2026, 1, 1, tzinfo=timezone.utc), kappa.Date),
        (Decimal("1.005"), kappa.Decimal(5, 2)),
        (Decimal("1000"), kappa.Decimal(5, 2)),
        (Decimal("NaN"), None),
        (timedelta(seconds=1), None),
        (object(), None),
        ([1], None),
    ],
)
def test_constants_that_do_not_fit_are_refused(value: Any, dtype: kappa.DataType | None) -> None:
    with pytest.raises(PlanError):
        lit(value, dtype)


def test_a_decimal_constant_is_exact_at_any_precision() -> None:
    value = Decimal("12345678901234567890123456789012345678")
    assert lit(value)._node["literal"]["value"] == str(value)
    with pytest.raises(PlanError):
        lit(Decimal("1234567890123456789012345678901234567.9"), kappa.Decimal(38, 0))


def test_names_come_from_the_leftmost_column() -> None:
    assert (col("a") + col("b"))._name == "a"
    assert (1 + col("b"))._name == "b"
    assert col("a").alias("x")._name == "x"
    assert col("a").sum()._name == "a"
    assert kappa.len()._name == "len"
    assert col("card").struct.field("country")._name == "country"
    assert lit(1)._name is None


def test_filters_inside_aggregates() -> None:
    before = col("x").filter(col("y") > 0).sum()
    after = col("x").sum().filter(col("y") > 0)
    assert before._node == after._node
    assert "filter" in before._node["aggregate"]
    twice = kappa.len().filter(col("y") > 0).filter(col("z") > 0)
    assert twice._node["aggregate"]["filter"]["call"]["function"] == "and"
    chained = col("x").filter(col("y") > 0).filter(col("z") > 0).sum()
    assert chained._node["aggregate"]["filter"]["call"]["function"] == "and"


def test_a_filter_that_is_not_aggregated_is_refused() -> None:
    with pytest.raises(PlanError, match="has to be aggregated"):
        col("x").filter(col("y") > 0) + 1


def test_when_has_conditions_values_and_an_end() -> None:
    expr = when(col("a") > 1).then("x").when(col("a") > 0).then("y").otherwise(None)
    assert expr._node["call"]["function"] == "when"
    assert len(expr._node["call"]["args"]) == 5


def test_is_between_and_its_ends() -> None:
    def functions(closed: Any) -> list[str]:
        return [arg["call"]["function"] for arg in col("a").is_between(1, 2, closed)._node["call"]["args"]]

    assert functions("both") == ["ge", "le"]
    assert functions("left") == ["ge", "lt"]
    assert functions("right") == ["gt", "le"]
    assert functions("none") == ["gt", "lt"]


def test_is_in_takes_values_not_a_text() -> None:
    assert len(col("a").is_in(["x", "y"])._node["call"]["args"]) == 3
    with pytest.raises(PlanError, match="not a list"):
        col("a").is_in("xy")


def test_time_zones_are_checked() -> None:
    assert col("t").dt.date(time_zone="Asia/Kolkata")._node["call"]["function"] == {"dt_date": {"time_zone": "Asia/Kolkata"}}
    stream = kappa.Job("j").read("t", schema={"t": kappa.Timestamp("ms")}, event_time="t")
    with pytest.raises(PlanError, match="Asia/Kolkatta"):
        stream.select(d=col("t").dt.date(time_zone="Asia/Kolkatta"))


def test_expressions_cannot_be_iterated_hashed_or_searched() -> None:
    with pytest.raises(TypeError, match="iterated"):
        list(col("a"))
    with pytest.raises(TypeError, match="is_in"):
        "x" in col("a")  # noqa: B015
    with pytest.raises(TypeError, match="unhashable"):
        {col("a")}


def test_expressions_are_not_changed_by_their_methods() -> None:
    base = col("a").sum()
    before = copy.deepcopy(base._node)
    base.filter(col("b") > 0)
    base.alias("other")
    assert base._node == before
    assert base._name == "a"


def test_types_print_as_they_are_written() -> None:
    dtype = kappa.Struct({"items": kappa.List(kappa.Decimal(10, 2)), "at": kappa.Timestamp("us")})
    assert eval(repr(dtype), vars(kappa)) == dtype
    assert kappa.Timestamp("ms") != kappa.Timestamp("us")
    assert len({kappa.String, kappa.String, kappa.Int64}) == 2


@pytest.mark.parametrize("make", [lambda: kappa.Decimal(39, 0), lambda: kappa.Decimal(5, 6), lambda: kappa.Struct({})])
def test_impossible_types_are_refused(make: Any) -> None:
    with pytest.raises(PlanError):
        make()
