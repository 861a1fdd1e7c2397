"""The types of columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from kappa.callsite import plan_error

TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]

_SIMPLE = {
    "string": "String",
    "boolean": "Boolean",
    "date": "Date",
    "int32": "Int32",
    "int64": "Int64",
    "float64": "Float64",
    "binary": "Binary",
}


class DataType:
    """The type of a column: one of `kappa.String`, `Boolean`, `Date`, `Int32`, `Int64`, `Float64`, or what
    `kappa.Decimal`, `Timestamp`, `List` and `Struct` make. Two of the same form are equal.

    >>> import kappa
    >>> kappa.List(kappa.Int64)
    List(Int64)
    >>> kappa.Timestamp("ms") == kappa.Timestamp("us")
    False
    """

    __slots__ = ("_json", "_text")

    def __init__(self, form: Any) -> None:
        self._json = form
        self._text = json.dumps(form, sort_keys=True)

    def to_json(self) -> Any:
        """The form that plans hold.

        >>> import kappa
        >>> kappa.Timestamp("ms").to_json()
        {'timestamp': 'ms'}
        """
        return self._json

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DataType) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        form = self._json
        if isinstance(form, str):
            return _SIMPLE.get(form, form)
        ((kind, detail),) = form.items()
        if kind == "decimal":
            return f"Decimal({detail['precision']}, {detail['scale']})"
        if kind == "timestamp":
            return f'Timestamp("{detail}")'
        if kind == "list":
            return f"List({DataType(detail)!r})"
        members = ", ".join(f'"{field["name"]}": {DataType(field["type"])!r}' for field in detail)
        return f"Struct({{{members}}})"


String = DataType("string")
Boolean = DataType("boolean")
Date = DataType("date")
Int32 = DataType("int32")
Int64 = DataType("int64")
Float64 = DataType("float64")


def Decimal(precision: int, scale: int) -> DataType:  # noqa: N802 - named like the other types
    """An exact decimal number: `precision` digits in all (1 to 38), `scale` of them after the point.

    >>> Decimal(10, 2)
    Decimal(10, 2)
    """
    if not 1 <= precision <= 38 or not 0 <= scale <= precision:
        raise plan_error(
            f"Decimal({precision}, {scale}) is not a decimal type",
            code="invalid_type",
            hint="precision is 1 to 38, scale 0 to precision",
        )
    return DataType({"decimal": {"precision": precision, "scale": scale}})


def Timestamp(unit: TimeUnit) -> DataType:  # noqa: N802
    """An instant, UTC. In JSON it is an integer of that unit since 1970, or RFC 3339 text.

    >>> Timestamp("ms")
    Timestamp("ms")
    """
    if unit not in ("s", "ms", "us", "ns"):
        raise plan_error(f"Timestamp({unit!r}) is not a type", code="invalid_type", hint='units: "s", "ms", "us", "ns"')
    return DataType({"timestamp": unit})


def List(inner: DataType) -> DataType:  # noqa: N802
    """A list of values of one type.

    >>> List(Struct({"sku": String, "quantity": Int32}))
    List(Struct({"sku": String, "quantity": Int32}))
    """
    return DataType({"list": _checked(inner, "the inner type of a List")})


def Struct(fields: Mapping[str, DataType]) -> DataType:  # noqa: N802
    """Named members, such as a nested JSON object.

    >>> Struct({"city": String})
    Struct({"city": String})
    """
    if not fields:
        raise plan_error("a Struct needs at least one member", code="invalid_type")
    return DataType({"struct": fields_to_json(fields)})


def fields_to_json(fields: Mapping[str, DataType]) -> list[dict[str, Any]]:
    """The fields of a schema in the form that plans hold."""
    return [{"name": name, "type": _checked(dtype, f"the type of {name!r}")} for name, dtype in fields.items()]


def _checked(dtype: object, what: str) -> Any:
    if isinstance(dtype, DataType):
        return dtype.to_json()
    raise plan_error(
        f"{what} is {dtype!r}, which is not a type of kappa", code="invalid_type", hint="write kappa.String, kappa.Int64, …"
    )
