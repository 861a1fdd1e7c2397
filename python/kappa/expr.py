"""Expressions over columns. They look like Polars', hold a tree, and compute nothing: rows never enter Python."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NoReturn, TypeAlias

from kappa.callsite import plan_error, truth_error
from kappa.datatypes import DataType
from kappa.literals import Constant, literal
from kappa.namespaces import DateTimeNamespace, ListNamespace, StringNamespace, StructNamespace

Text: TypeAlias = str  # inside Expr, `str` is the namespace

Node: TypeAlias = dict[str, Any]


class Expr:
    """A computation over the columns of a row, or inside `agg` over the rows of a group. Made by `kappa.col`, `kappa.lit`,
    `kappa.len`, `kappa.coalesce` and `kappa.when`.

    Operators: `+ - * / // % **`, comparisons, `&` (and), `|` (or), `~` (not). Null follows SQL: a comparison with null is
    null, and `filter` keeps only rows for which the predicate is true.

    >>> from kappa import col
    >>> (col("amount") * 2 > 10) & col("status").is_not_null()
    (((col("amount") * 2) > 10) & col("status").is_not_null())
    """

    __slots__ = ("_filter", "_name", "_node", "_text")

    def __init__(self, node: Node, text: Text, name: Text | None = None, filter_: Expr | None = None) -> None:
        self._node = node
        self._text = text
        self._name = name
        self._filter = filter_

    def __repr__(self) -> Text:
        return self._text

    def __bool__(self) -> NoReturn:
        raise truth_error(f"the expression {self._text}")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"the expression {self._text} cannot be iterated over: it has a value for each row only")

    def __contains__(self, item: object) -> NoReturn:
        hint = "write .is_in([…]), .str.contains(…) or .list.contains(…)"
        raise TypeError(f"`in` has no meaning for the expression {self._text}; {hint}")

    __hash__ = None  # type: ignore[assignment] # an expression compares to an expression, so it cannot be a key

    # -- names and types

    def alias(self, name: Text) -> Expr:
        """Names the column that this expression makes.

        >>> from kappa import col
        >>> (col("amount") / 100).alias("euros")
        (col("amount") / 100).alias("euros")
        """
        return Expr(self._node, f'{self._text}.alias("{name}")', name, self._filter)

    def cast(self, dtype: DataType, *, strict: bool = True) -> Expr:
        """Converts to another type. Strict: a value that does not fit stops the job; otherwise it becomes null.

        >>> import kappa
        >>> kappa.col("amount").cast(kappa.Decimal(12, 2))
        col("amount").cast(Decimal(12, 2))
        """
        if not isinstance(dtype, DataType):
            raise plan_error(f"cast to {dtype!r}, which is not a type of kappa", code="invalid_type")
        node = {"cast": {"input": self._value(), "to": dtype.to_json(), "strict": strict}}
        return Expr(node, f"{self._text}.cast({dtype!r}{'' if strict else ', strict=False'})", self._name)

    # -- nulls and membership

    def is_null(self) -> Expr:
        """True where the value is null.

        >>> from kappa import col
        >>> col("country").is_null()
        col("country").is_null()
        """
        return self._method("is_null", "is_null")

    def is_not_null(self) -> Expr:
        """True where the value is not null.

        >>> from kappa import col
        >>> col("country").is_not_null()
        col("country").is_not_null()
        """
        return self._method("is_not_null", "is_not_null")

    def fill_null(self, value: IntoExpr) -> Expr:
        """The value, or `value` where it is null.

        >>> from kappa import col
        >>> col("country").fill_null("unknown")
        col("country").fill_null("unknown")
        """
        return self._method("coalesce", "fill_null", value)

    def is_in(self, values: Iterable[Constant]) -> Expr:
        """True where the value is among constants.

        >>> from kappa import col
        >>> col("country").is_in(["DK", "SE"])
        col("country").is_in(["DK", "SE"])
        """
        if isinstance(values, Text):
            raise plan_error(f"is_in({values!r}): a text is not a list of values", hint=f"write is_in([{values!r}])")
        items = [into_expr(value) for value in values]
        node = call("is_in", self._value(), *(item._value() for item in items))
        return Expr(node, f"{self._text}.is_in([{', '.join(map(repr, items))}])", self._name)

    def is_between(self, lower: IntoExpr, upper: IntoExpr, closed: Literal["both", "left", "right", "none"] = "both") -> Expr:
        """True where `lower` ≤ value ≤ `upper`; `closed` says which ends belong to it.

        >>> from kappa import col
        >>> col("amount").is_between(1, 100)
        ((col("amount") >= 1) & (col("amount") <= 100))
        """
        if closed not in ("both", "left", "right", "none"):
            raise plan_error(f"is_between(closed={closed!r}) is not understood", hint='"both", "left", "right" or "none"')
        above = self >= lower if closed in ("both", "left") else self > lower
        below = self <= upper if closed in ("both", "right") else self < upper
        return above & below

    # -- numbers

    def abs(self) -> Expr:
        """The value without its sign.

        >>> from kappa import col
        >>> col("amount").abs()
        col("amount").abs()
        """
        return self._method("abs", "abs")

    def round(self, decimals: int = 0) -> Expr:
        """Rounded to so many digits after the point, halves to even, as Python's `round`.

        >>> from kappa import col
        >>> col("rate").round(2)
        col("rate").round(2)
        """
        if decimals < 0:
            raise plan_error(f"round({decimals}): digits after the point cannot be negative")
        return Expr(call({"round": {"decimals": decimals}}, self._value()), f"{self._text}.round({decimals})", self._name)

    # -- aggregates

    def count(self) -> Expr:
        """Inside `agg`: how many values are not null.

        >>> from kappa import col
        >>> col("amount").count()
        col("amount").count()
        """
        return self._aggregate("count")

    def sum(self) -> Expr:
        """Inside `agg`: the sum. Integers give Int64 and an overflow is an error; float sums are exact, rounded once. The
        sum of no values is null.

        >>> from kappa import col
        >>> col("amount").sum()
        col("amount").sum()
        """
        return self._aggregate("sum")

    def min(self) -> Expr:
        """Inside `agg`: the least value; NaN is greater than all others.

        >>> from kappa import col
        >>> col("amount").min()
        col("amount").min()
        """
        return self._aggregate("min")

    def max(self) -> Expr:
        """Inside `agg`: the greatest value; NaN is greater than all others.

        >>> from kappa import col
        >>> col("amount").max()
        col("amount").max()
        """
        return self._aggregate("max")

    def mean(self) -> Expr:
        """Inside `agg`: the mean as Float64: the exact sum divided once.

        >>> from kappa import col
        >>> col("amount").mean()
        col("amount").mean()
        """
        return self._aggregate("mean")

    def first(self, *, ignore_nulls: bool = False) -> Expr:
        """Inside `agg`: the first value by (event time, partition, offset), never by arrival.

        >>> from kappa import col
        >>> col("status").first()
        col("status").first()
        """
        return self._aggregate("first", ignore_nulls=ignore_nulls)

    def last(self, *, ignore_nulls: bool = False) -> Expr:
        """Inside `agg`: the last value by (event time, partition, offset), never by arrival.

        >>> from kappa import col
        >>> col("status").last(ignore_nulls=True)
        col("status").last(ignore_nulls=True)
        """
        return self._aggregate("last", ignore_nulls=ignore_nulls)

    def n_unique(self) -> Expr:
        """Inside `agg`: distinct values, null counted as one, as in Polars.

        >>> from kappa import col
        >>> col("country").n_unique()
        col("country").n_unique()
        """
        return self._aggregate("n_unique")

    def count_distinct(self) -> Expr:
        """Inside `agg`: distinct values without null, as in SQL.

        >>> from kappa import col
        >>> col("merchant_id").count_distinct()
        col("merchant_id").count_distinct()
        """
        return self._aggregate("count_distinct")

    def filter(self, *predicates: Expr) -> Expr:
        """Inside `agg`: only rows for which all predicates are true take part, before or after the aggregate is named.

        >>> from kappa import col
        >>> col("amount").filter(col("status") == "captured").sum()
        col("amount").filter((col("status") == "captured")).sum()
        """
        text = f"{self._text}.filter({', '.join(map(repr, predicates))})"
        condition = all_of(predicates, "filter")
        aggregate = self._node.get("aggregate")
        if aggregate is None:
            both = condition if self._filter is None else self._filter & condition
            return Expr(self._node, text, self._name, both)
        node = dict(aggregate)
        if "filter" in node:
            node["filter"] = call("and", node["filter"], condition._value())
        else:
            node["filter"] = condition._value()
        return Expr({"aggregate": node}, text, self._name)

    # -- namespaces

    @property
    def dt(self) -> DateTimeNamespace:
        """Calendar functions of dates and timestamps, each with an explicit time zone.

        >>> from kappa import col
        >>> col("event_time").dt.date(time_zone="Asia/Kolkata")
        col("event_time").dt.date(time_zone="Asia/Kolkata")
        """
        return DateTimeNamespace(self)

    @property
    def str(self) -> StringNamespace:
        """Functions of text.

        >>> from kappa import col
        >>> col("status").str.to_lowercase()
        col("status").str.to_lowercase()
        """
        return StringNamespace(self)

    @property
    def list(self) -> ListNamespace:
        """Functions of lists.

        >>> from kappa import col
        >>> col("items").list.len()
        col("items").list.len()
        """
        return ListNamespace(self)

    @property
    def struct(self) -> StructNamespace:
        """Members of structs.

        >>> from kappa import col
        >>> col("card").struct.field("country")
        col("card").struct.field("country")
        """
        return StructNamespace(self)

    # -- operators

    def __add__(self, other: IntoExpr) -> Expr:
        return binary("add", "+", self, other)

    def __radd__(self, other: IntoExpr) -> Expr:
        return binary("add", "+", other, self)

    def __sub__(self, other: IntoExpr) -> Expr:
        return binary("sub", "-", self, other)

    def __rsub__(self, other: IntoExpr) -> Expr:
        return binary("sub", "-", other, self)

    def __mul__(self, other: IntoExpr) -> Expr:
        return binary("mul", "*", self, other)

    def __rmul__(self, other: IntoExpr) -> Expr:
        return binary("mul", "*", other, self)

    def __truediv__(self, other: IntoExpr) -> Expr:
        return binary("div", "/", self, other)

    def __rtruediv__(self, other: IntoExpr) -> Expr:
        return binary("div", "/", other, self)

    def __floordiv__(self, other: IntoExpr) -> Expr:
        return binary("floor_div", "//", self, other)

    def __rfloordiv__(self, other: IntoExpr) -> Expr:
        return binary("floor_div", "//", other, self)

    def __mod__(self, other: IntoExpr) -> Expr:
        return binary("mod", "%", self, other)

    def __rmod__(self, other: IntoExpr) -> Expr:
        return binary("mod", "%", other, self)

    def __pow__(self, other: IntoExpr) -> Expr:
        return binary("pow", "**", self, other)

    def __rpow__(self, other: IntoExpr) -> Expr:
        return binary("pow", "**", other, self)

    def __neg__(self) -> Expr:
        return Expr(call("neg", self._value()), f"-{self._text}", self._name)

    def __eq__(self, other: IntoExpr) -> Expr:  # type: ignore[override] # comparisons describe
        return binary("eq", "==", self, other)

    def __ne__(self, other: IntoExpr) -> Expr:  # type: ignore[override]
        return binary("ne", "!=", self, other)

    def __lt__(self, other: IntoExpr) -> Expr:
        return binary("lt", "<", self, other)

    def __le__(self, other: IntoExpr) -> Expr:
        return binary("le", "<=", self, other)

    def __gt__(self, other: IntoExpr) -> Expr:
        return binary("gt", ">", self, other)

    def __ge__(self, other: IntoExpr) -> Expr:
        return binary("ge", ">=", self, other)

    def __and__(self, other: IntoExpr) -> Expr:
        return binary("and", "&", self, other)

    def __rand__(self, other: IntoExpr) -> Expr:
        return binary("and", "&", other, self)

    def __or__(self, other: IntoExpr) -> Expr:
        return binary("or", "|", self, other)

    def __ror__(self, other: IntoExpr) -> Expr:
        return binary("or", "|", other, self)

    def __invert__(self) -> Expr:
        return Expr(call("not", self._value()), f"~{self._text}", self._name)

    # -- inside the package

    def _value(self) -> Node:
        """The tree; refused while a `.filter` waits for its aggregate."""
        if self._filter is not None:
            raise plan_error(
                f"{self._text}: a filtered expression has to be aggregated",
                code="filter_without_aggregate",
                hint="write .filter(…) before .sum(), .count() and so on, inside agg; rows are filtered by Stream.filter",
            )
        return self._node

    def _method(self, function: object, method: Text, *args: IntoExpr) -> Expr:
        values = [into_expr(arg) for arg in args]
        node = call(function, self._value(), *(value._value() for value in values))
        return Expr(node, f"{self._text}.{method}({', '.join(map(repr, values))})", self._name)

    def _aggregate(self, function: Text, *, ignore_nulls: bool = False) -> Expr:
        node: Node = {"function": function, "input": self._node}
        if self._filter is not None:
            node["filter"] = self._filter._value()
        if ignore_nulls:
            node["ignore_nulls"] = True
        return Expr({"aggregate": node}, f"{self._text}.{function}({'ignore_nulls=True' if ignore_nulls else ''})", self._name)


IntoExpr: TypeAlias = Expr | str | int | float | bool | Decimal | date | datetime | None
"""What stands for an expression: text names a column in `select` and `group_by`, and is a constant elsewhere."""


def call(function: object, *args: Node) -> Node:
    """The node of a function call."""
    return {"call": {"function": function, "args": list(args)}}


def into_expr(value: IntoExpr) -> Expr:
    """The expression itself, or a constant."""
    if isinstance(value, Expr):
        return value
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return Expr(literal(value), text)


def binary(function: str, sign: str, left: IntoExpr, right: IntoExpr) -> Expr:
    """`left sign right`, named as its left column."""
    a, b = into_expr(left), into_expr(right)
    return Expr(call(function, a._value(), b._value()), f"({a!r} {sign} {b!r})", a._name if a._name is not None else b._name)


def all_of(predicates: Iterable[Expr], what: str) -> Expr:
    """All predicates joined by `&`."""
    result: Expr | None = None
    for predicate in predicates:
        if not isinstance(predicate, Expr):
            raise plan_error(
                f"{what} takes expressions, found {predicate!r} ({type(predicate).__name__})",
                code="invalid_predicate",
                hint='compare a column: kappa.col("status") == "captured"',
            )
        result = predicate if result is None else result & predicate
    if result is None:
        raise plan_error(f"{what} needs at least one predicate", code="invalid_predicate")
    return result
