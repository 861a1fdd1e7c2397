"""Streams: the steps of a plan. Each method asks the engine for its columns, so that a mistake is found on its line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kappa import _kappa
from kappa.callsite import plan_error, truth_error, with_location
from kappa.datatypes import DataType
from kappa.exceptions import KappaError
from kappa.expr import Expr, IntoExpr, Node, all_of, into_expr
from kappa.functions import col
from kappa.units import Duration, Position, duration_ms

if TYPE_CHECKING:
    from kappa.job import Job
    from kappa.rows import Rows


class Stream:
    """Typed rows that are read, filtered, changed or aggregated. Made by `Job.read`; every method gives a new stream.

    >>> import kappa
    >>> job = kappa.Job("docs")
    >>> payments = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
    >>> payments.filter(kappa.col("amount") > 0).schema
    {'at': Timestamp("ms"), 'amount': Int64}
    """

    def __init__(self, job: Job, node: Node) -> None:
        self._job = job
        self._node = node
        self._fields = _fields_of(node)

    @property
    def schema(self) -> dict[str, DataType]:
        """The columns and their types, in order.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.select("x", half=kappa.col("x") / 2).schema
        {'x': Int64, 'half': Float64}
        """
        return dict(self._fields)

    def __repr__(self) -> str:
        columns = ", ".join(f'"{name}": {dtype!r}' for name, dtype in self._fields.items())
        return f"Stream({{{columns}}})"

    def __bool__(self) -> bool:
        raise truth_error("a stream")

    def filter(self, *predicates: Expr) -> Stream:
        """Only rows for which all predicates are true; null counts as false.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.filter(kappa.col("x") > 0, kappa.col("x") < 10)
        Stream({"at": Timestamp("ms"), "x": Int64})
        """
        predicate = all_of(predicates, "filter")
        return Stream(self._job, {"filter": {"input": self._node, "predicate": predicate._value()}})

    def select(self, *exprs: IntoExpr, **named: IntoExpr) -> Stream:
        """Exactly these columns. Text names a column.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.select("x", day=kappa.col("at").dt.date())
        Stream({"x": Int64, "day": Date})
        """
        return Stream(self._job, {"select": {"input": self._node, "columns": _named(exprs, named, "select", columns=True)}})

    def with_columns(self, *exprs: IntoExpr, **named: IntoExpr) -> Stream:
        """The columns that are there, with these added or put in their place. Text is a constant.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.with_columns(kappa.col("x") + 1, source="web")
        Stream({"at": Timestamp("ms"), "x": Int64, "source": String})
        """
        columns = _named(exprs, named, "with_columns", columns=False)
        return Stream(self._job, {"with_columns": {"input": self._node, "columns": columns}})

    def group_by(self, *by: IntoExpr, **named: IntoExpr) -> GroupedStream:
        """Groups rows by a key. Text names a column; null keys form a group.

        A grouped result can be grouped once more, for example users by how much they have done: the second `agg` takes
        `kappa.len()`, `count`, `sum` and `mean`, and follows every change of the first.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.group_by(day=kappa.col("at").dt.date()).agg(rows=kappa.len())
        Stream({"day": Date, "rows": Int64})
        >>> stream.group_by("x").agg(rows=kappa.len()).group_by("rows").agg(values=kappa.len())
        Stream({"rows": Int64, "values": Int64})
        """
        return GroupedStream(self._job, self._node, _named(by, named, "group_by", columns=True))

    def head(self, n: int = 10, *, from_: Position = "earliest", config: Mapping[str, Any] | None = None) -> Rows:
        """The first rows, to look at: computed from the log in a temporary place. Commits nothing.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     appended = kappa.Log().append("t", [{"at": 0, "x": 7}])
        ...     job = kappa.Job("docs")
        ...     stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        ...     stream.select("x").head().to_dicts()
        [{'x': 7}]
        """
        from kappa.head import head

        return head(self, n, from_=from_, config=config)


class GroupedStream:
    """What `Stream.group_by` gives: rows with a key, before they are aggregated.

    >>> import kappa
    >>> job = kappa.Job("docs")
    >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
    >>> stream.group_by("x")
    GroupedStream(x)
    """

    def __init__(self, job: Job, node: Node, keys: list[Node]) -> None:
        self._job = job
        self._node = node
        self._keys = keys

    def __repr__(self) -> str:
        return f"GroupedStream({', '.join(key['name'] for key in self._keys)})"

    def agg(self, *aggs: Expr, expire_after: Duration | None = None, **named: Expr) -> Stream:
        """One row per key, which later records revise: an upsert table with the group key as its primary key.

        `expire_after`: a group is final, and its state is dropped, this long after the end of its interval, once all
        partitions have come so far; its row stays. Records that come later for it are left out, and counted. Only where a key
        truncates the event time to an interval, and under a second `group_by` where the first expires as early.

        >>> import kappa
        >>> from kappa import col
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> stream.group_by(day=col("at").dt.date()).agg(kappa.len(), total=col("x").sum())
        Stream({"day": Date, "len": Int64, "total": Int64})
        >>> hours = stream.group_by(hour=col("at").dt.truncate("1h")).agg(total=col("x").sum(), expire_after="2d")
        >>> job.write(hours)
        >>> "groups expire 2d after the end of their interval" in job.explain()
        True
        """
        aggregates = _named(aggs, named, "agg", columns=False)
        node: Node = {"input": self._node, "keys": self._keys, "aggregates": aggregates}
        if expire_after is not None:
            node["expire_after_ms"] = duration_ms(expire_after, "expire_after")
        return Stream(self._job, {"aggregate": node})


def _fields_of(node: Node) -> dict[str, DataType]:
    try:
        fields = json.loads(_kappa.schema_of(json.dumps(node)))
    except KappaError as error:
        raise with_location(error) from None
    return {field["name"]: DataType(field["type"]) for field in fields}


def _named(exprs: tuple[IntoExpr, ...], named: Mapping[str, IntoExpr], what: str, *, columns: bool) -> list[Node]:
    result = []
    for value in exprs:
        if isinstance(value, str) and not columns:
            raise plan_error(
                f"{what}({value!r}): a constant needs a name", code="unnamed_column", hint=f"write {what}(name={value!r})"
            )
        result.append(_one(value, None, what, columns=columns))
    result.extend(_one(value, name, what, columns=columns) for name, value in named.items())
    if not result:
        raise plan_error(f"{what} needs at least one expression", code="invalid_plan")
    return result


def _one(value: IntoExpr, name: str | None, what: str, *, columns: bool) -> Node:
    expr = col(value) if isinstance(value, str) and columns else into_expr(value)
    name = name if name is not None else expr._name
    if name is None:
        raise plan_error(
            f"{what}: {expr!r} has no column in it to be named after",
            code="unnamed_column",
            hint=f"write {what}(name={expr!r}) or .alias(…)",
        )
    return {"name": name, "expr": expr._value()}
