"""Where expressions begin: `col`, `lit`, `len`, `coalesce`, `when`."""

from __future__ import annotations

from kappa.callsite import plan_error
from kappa.datatypes import DataType
from kappa.expr import Expr, IntoExpr, Node, call, into_expr
from kappa.literals import Constant, literal


def col(name: str) -> Expr:
    """A column by name.

    >>> col("amount") > 0
    (col("amount") > 0)
    """
    if not isinstance(name, str) or not name:
        raise plan_error(f"col({name!r}): a column is named by text", code="invalid_column")
    return Expr({"column": name}, f'col("{name}")', name)


def lit(value: Constant, dtype: DataType | None = None) -> Expr:
    """A constant, of a type if one is given.

    >>> import kappa
    >>> lit(0, kappa.Int32)
    lit(0, Int32)
    """
    text = f"lit({value!r})" if dtype is None else f"lit({value!r}, {dtype!r})"
    return Expr(literal(value, dtype), text)


def len() -> Expr:  # named as in Polars
    """Inside `agg`: how many rows the group has.

    >>> len()
    len()
    """
    return Expr({"aggregate": {"function": "len"}}, "len()", "len")


def coalesce(*exprs: IntoExpr) -> Expr:
    """The first value that is not null.

    >>> coalesce(col("nickname"), col("name"), "nobody")
    coalesce(col("nickname"), col("name"), "nobody")
    """
    if not exprs:
        raise plan_error("coalesce needs at least one expression")
    values = [into_expr(expr) for expr in exprs]
    node = call("coalesce", *(value._value() for value in values))
    return Expr(node, f"coalesce({', '.join(map(repr, values))})", values[0]._name)


class When:
    """A condition that waits for its value: `kappa.when(p).then(x)`."""

    __slots__ = ("_args", "_condition", "_text")

    def __init__(self, args: list[Node], text: str, condition: Expr) -> None:
        if not isinstance(condition, Expr):
            raise plan_error(f"when({condition!r}): a condition is an expression", code="invalid_predicate")
        self._args = args
        self._text = f"{text}when({condition!r})"
        self._condition = condition

    def then(self, value: IntoExpr) -> Then:
        """The value where the condition is true.

        >>> when(col("amount") > 100).then("large").otherwise("small")
        when((col("amount") > 100)).then("large").otherwise("small")
        """
        expr = into_expr(value)
        return Then([*self._args, self._condition._value(), expr._value()], f"{self._text}.then({expr!r})", expr._name)


class Then:
    """Conditions with their values: go on with `.when(…)`, or end with `.otherwise(…)`."""

    __slots__ = ("_args", "_name", "_text")

    def __init__(self, args: list[Node], text: str, name: str | None) -> None:
        self._args = args
        self._text = text
        self._name = name

    def when(self, condition: Expr) -> When:
        """A further condition, asked where none before was true.

        >>> when(col("a") > 9).then(2).when(col("a") > 0).then(1).otherwise(0)
        when((col("a") > 9)).then(2).when((col("a") > 0)).then(1).otherwise(0)
        """
        return When(self._args, f"{self._text}.", condition)

    def otherwise(self, value: IntoExpr) -> Expr:
        """The value where no condition is true; `None` for null.

        >>> when(col("a") > 0).then(col("a")).otherwise(None)
        when((col("a") > 0)).then(col("a")).otherwise(None)
        """
        expr = into_expr(value)
        return Expr(call("when", *self._args, expr._value()), f"{self._text}.otherwise({expr!r})", self._name)


def when(condition: Expr) -> When:
    """A choice by rows: `when(p).then(x).when(q).then(y).otherwise(z)`. Null counts as false.

    >>> when(col("status") == "captured").then(col("amount")).otherwise(0)
    when((col("status") == "captured")).then(col("amount")).otherwise(0)
    """
    return When([], "", condition)
