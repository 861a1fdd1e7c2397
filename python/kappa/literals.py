"""Constants of Python as the plan holds them: a type and a JSON value."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any, TypeAlias

from kappa.callsite import plan_error
from kappa.datatypes import DataType

Constant: TypeAlias = str | int | float | bool | Decimal | date | datetime | None

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def literal(value: Constant, dtype: DataType | None = None) -> dict[str, Any]:
    """The node of a constant."""
    form = dtype.to_json() if dtype is not None else _inferred(value)
    if value is None:
        return {"literal": {"value": None} if form is None else {"type": form, "value": None}}
    return {"literal": {"type": form, "value": _encoded(value, form)}}


def _inferred(value: object) -> Any:
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "int64"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, str):
        return "string"
    if isinstance(value, datetime):
        return {"timestamp": "us"}
    if isinstance(value, date):
        return "date"
    if isinstance(value, Decimal) and value.is_finite():
        _, digits, exponent = value.as_tuple()
        scale = max(0, -int(exponent))
        precision = max(len(digits) + max(0, int(exponent)), scale, 1)
        return {"decimal": {"precision": precision, "scale": scale}}
    raise plan_error(
        f"{value!r} ({type(value).__name__}) cannot be a constant of a plan",
        code="invalid_literal",
        hint="constants are text, numbers, booleans, dates, datetimes with a time zone, and None",
    )


def _encoded(value: object, form: Any) -> Any:
    kind = form if isinstance(form, str) else next(iter(form))
    fits = False
    if kind == "boolean":
        fits = isinstance(value, bool)
    elif kind in ("int32", "int64"):
        bits = 31 if kind == "int32" else 63
        fits = isinstance(value, int) and not isinstance(value, bool) and -(1 << bits) <= value < 1 << bits
    elif kind == "float64" and isinstance(value, int | float) and not isinstance(value, bool):
        return _float(float(value))
    elif kind == "string":
        fits = isinstance(value, str)
    elif kind == "decimal" and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _decimal(Decimal(value), form["decimal"])
    elif kind == "date" and isinstance(value, date) and not isinstance(value, datetime):
        return (value - date(1970, 1, 1)).days
    elif kind == "timestamp" and isinstance(value, datetime):
        return _instant(value, form["timestamp"])
    if not fits:
        raise plan_error(f"{value!r} is not a value of type {DataType(form)!r}", code="invalid_literal")
    return value


def _float(value: float) -> str:
    """As text: not every reader of JSON numbers reads seventeen digits exactly."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _decimal(value: Decimal, form: dict[str, int]) -> str:
    with localcontext() as context:
        context.prec = 1000  # whatever a plan holds is exact
        scaled = value.scaleb(form["scale"]) if value.is_finite() else None
        fits = scaled is not None and scaled == scaled.to_integral_value() and abs(scaled) < 10 ** form["precision"]
    if not fits:
        raise plan_error(f"{value} does not fit Decimal({form['precision']}, {form['scale']}) exactly", code="invalid_literal")
    return f"{value:f}"


def _instant(value: datetime, unit: str) -> int:
    if value.tzinfo is None:
        raise plan_error(
            f"{value!r} has no time zone",
            code="naive_datetime",
            hint="an instant needs one: datetime(…, tzinfo=timezone.utc) or ZoneInfo(…)",
        )
    micros = (value - _EPOCH) // timedelta(microseconds=1)
    scaled, rest = divmod(micros * _PER_SECOND[unit], 1_000_000)
    if rest:
        raise plan_error(f"{value!r} is not a whole number of {unit}", code="invalid_literal")
    return scaled
