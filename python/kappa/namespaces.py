"""The functions of expressions that are grouped by type: `.dt`, `.str`, `.list`, `.struct`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kappa.callsite import plan_error

if TYPE_CHECKING:
    from kappa.datatypes import TimeUnit
    from kappa.expr import Expr, IntoExpr

Text: TypeAlias = str


class _Namespace:
    __slots__ = ("_expr",)

    def __init__(self, expr: Expr) -> None:
        self._expr = expr

    def _call(self, function: object, shown: Text, *args: IntoExpr) -> Expr:
        from kappa.expr import Expr, call, into_expr

        node = call(function, self._expr._value(), *(into_expr(arg)._value() for arg in args))
        return Expr(node, f"{self._expr!r}.{shown}", self._expr._name)


def _zone(time_zone: Text) -> dict[Text, Text]:
    if not isinstance(time_zone, Text):
        raise plan_error(f"time zone {time_zone!r}: a zone is named by text", hint='for example "Asia/Kolkata" or "UTC"')
    return {"time_zone": time_zone}  # whether there is such a zone the engine knows


class DateTimeNamespace(_Namespace):
    """`Expr.dt`."""

    def _part(self, name: Text, time_zone: Text) -> Expr:
        return self._call({f"dt_{name}": _zone(time_zone)}, f'dt.{name}(time_zone="{time_zone}")')

    def date(self, *, time_zone: Text = "UTC") -> Expr:
        """The calendar day in that time zone.

        >>> from kappa import col
        >>> col("at").dt.date()
        col("at").dt.date(time_zone="UTC")
        """
        return self._part("date", time_zone)

    def truncate(self, every: Text, *, time_zone: Text = "UTC") -> Expr:
        """The start of the interval: `"1s"`, `"15m"`, `"1h"`, `"1d"`, `"1w"` (Monday), `"1mo"`, `"1y"`.

        >>> from kappa import col
        >>> col("at").dt.truncate("1h")
        col("at").dt.truncate("1h", time_zone="UTC")
        """
        function = {"dt_truncate": {"every": every, **_zone(time_zone)}}
        return self._call(function, f'dt.truncate("{every}", time_zone="{time_zone}")')

    def year(self, *, time_zone: Text = "UTC") -> Expr:
        """The calendar year.

        >>> from kappa import col
        >>> col("at").dt.year()
        col("at").dt.year(time_zone="UTC")
        """
        return self._part("year", time_zone)

    def month(self, *, time_zone: Text = "UTC") -> Expr:
        """The month, 1 to 12.

        >>> from kappa import col
        >>> col("at").dt.month()
        col("at").dt.month(time_zone="UTC")
        """
        return self._part("month", time_zone)

    def day(self, *, time_zone: Text = "UTC") -> Expr:
        """The day of the month, 1 to 31.

        >>> from kappa import col
        >>> col("at").dt.day()
        col("at").dt.day(time_zone="UTC")
        """
        return self._part("day", time_zone)

    def hour(self, *, time_zone: Text = "UTC") -> Expr:
        """The hour, 0 to 23.

        >>> from kappa import col
        >>> col("at").dt.hour(time_zone="Europe/Copenhagen")
        col("at").dt.hour(time_zone="Europe/Copenhagen")
        """
        return self._part("hour", time_zone)

    def minute(self, *, time_zone: Text = "UTC") -> Expr:
        """The minute, 0 to 59.

        >>> from kappa import col
        >>> col("at").dt.minute()
        col("at").dt.minute(time_zone="UTC")
        """
        return self._part("minute", time_zone)

    def second(self, *, time_zone: Text = "UTC") -> Expr:
        """The second, 0 to 59.

        >>> from kappa import col
        >>> col("at").dt.second()
        col("at").dt.second(time_zone="UTC")
        """
        return self._part("second", time_zone)

    def weekday(self, *, time_zone: Text = "UTC") -> Expr:
        """The day of the week: Monday is 1, Sunday 7.

        >>> from kappa import col
        >>> col("at").dt.weekday()
        col("at").dt.weekday(time_zone="UTC")
        """
        return self._part("weekday", time_zone)

    def epoch(self, unit: TimeUnit = "us") -> Expr:
        """Int64: how many of the unit have passed since 1970 UTC.

        >>> from kappa import col
        >>> col("at").dt.epoch("ms")
        col("at").dt.epoch("ms")
        """
        if unit not in ("s", "ms", "us", "ns"):
            raise plan_error(f"epoch({unit!r}): the unit is not known", hint='units: "s", "ms", "us", "ns"')
        return self._call({"dt_epoch": {"unit": unit}}, f'dt.epoch("{unit}")')


class StringNamespace(_Namespace):
    """`Expr.str`. Patterns are literal text, not regular expressions."""

    def to_lowercase(self) -> Expr:
        """In small letters.

        >>> from kappa import col
        >>> col("status").str.to_lowercase()
        col("status").str.to_lowercase()
        """
        return self._call("str_to_lowercase", "str.to_lowercase()")

    def to_uppercase(self) -> Expr:
        """In capital letters.

        >>> from kappa import col
        >>> col("currency").str.to_uppercase()
        col("currency").str.to_uppercase()
        """
        return self._call("str_to_uppercase", "str.to_uppercase()")

    def strip_chars(self) -> Expr:
        """Without white space at both ends.

        >>> from kappa import col
        >>> col("name").str.strip_chars()
        col("name").str.strip_chars()
        """
        return self._call("str_strip_chars", "str.strip_chars()")

    def starts_with(self, prefix: IntoExpr) -> Expr:
        """True where the text starts so.

        >>> from kappa import col
        >>> col("merchant_id").str.starts_with("m-0")
        col("merchant_id").str.starts_with('m-0')
        """
        return self._call("str_starts_with", f"str.starts_with({prefix!r})", prefix)

    def ends_with(self, suffix: IntoExpr) -> Expr:
        """True where the text ends so.

        >>> from kappa import col
        >>> col("email").str.ends_with(".dk")
        col("email").str.ends_with('.dk')
        """
        return self._call("str_ends_with", f"str.ends_with({suffix!r})", suffix)

    def contains(self, part: IntoExpr) -> Expr:
        """True where the text holds that substring.

        >>> from kappa import col
        >>> col("name").str.contains("test")
        col("name").str.contains('test')
        """
        return self._call("str_contains", f"str.contains({part!r})", part)

    def replace(self, part: IntoExpr, new: IntoExpr) -> Expr:
        """With every occurrence of a substring replaced.

        >>> from kappa import col
        >>> col("name").str.replace("-", "_")
        col("name").str.replace('-', '_')
        """
        return self._call("str_replace", f"str.replace({part!r}, {new!r})", part, new)

    def slice(self, offset: IntoExpr, length: IntoExpr = None) -> Expr:
        """A part of the text, in characters; a negative offset counts from the end.

        >>> from kappa import col
        >>> col("card").str.slice(-4)
        col("card").str.slice(-4)
        """
        if length is None:
            return self._call("str_slice", f"str.slice({offset!r})", offset)
        return self._call("str_slice", f"str.slice({offset!r}, {length!r})", offset, length)

    def len_chars(self) -> Expr:
        """How many characters.

        >>> from kappa import col
        >>> col("name").str.len_chars()
        col("name").str.len_chars()
        """
        return self._call("str_len_chars", "str.len_chars()")


class ListNamespace(_Namespace):
    """`Expr.list`."""

    def len(self) -> Expr:
        """How many elements, nulls included.

        >>> from kappa import col
        >>> col("items").list.len()
        col("items").list.len()
        """
        return self._call("list_len", "list.len()")

    def get(self, index: IntoExpr) -> Expr:
        """The element at a position from 0, or from the end if negative; null where there is none.

        >>> from kappa import col
        >>> col("items").list.get(-1)
        col("items").list.get(-1)
        """
        return self._call("list_get", f"list.get({index!r})", index)

    def contains(self, item: IntoExpr) -> Expr:
        """True where the list holds the value.

        >>> from kappa import col
        >>> col("tags").list.contains("vip")
        col("tags").list.contains('vip')
        """
        return self._call("list_contains", f"list.contains({item!r})", item)


class StructNamespace(_Namespace):
    """`Expr.struct`."""

    def field(self, name: Text) -> Expr:
        """A member by name; the column is named after it.

        >>> from kappa import col
        >>> col("card").struct.field("country")
        col("card").struct.field("country")
        """
        result = self._call({"struct_field": {"name": name}}, f'struct.field("{name}")')
        result._name = name
        return result
