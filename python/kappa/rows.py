"""Rows of a table, as Arrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kappa import _kappa, html, words
from kappa.datatypes import DataType

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

_SHOWN = 20
_SORTED = 10_000


class Rows:
    """Rows of a table, held as Arrow. Anything that takes Arrow takes them without a copy: `polars.DataFrame(rows)`,
    `pyarrow.table(rows)`, `duckdb.sql("select * from rows")`. They have no order of their own; small ones are shown sorted.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("payments", partitions=4)
    ...     rows = kappa.Log().describe()
    >>> rows.to_dicts()[0]["topic"]
    'payments'
    """

    def __init__(self, native: _kappa.Rows) -> None:
        self._native = native

    @property
    def schema(self) -> dict[str, DataType]:
        """The columns and their types, in order.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     "topic" in kappa.Log().describe().schema
        True
        """
        return {field["name"]: DataType(field["type"]) for field in json.loads(self._native.schema())}

    def __len__(self) -> int:
        return self._native.num_rows()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = 4096
        for start in range(0, len(self), step):
            yield from self._native.to_dicts(start, step)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._native.__arrow_c_stream__(requested_schema)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A list of dictionaries, one a row, with Python's own values. Text stands for a day or an instant that Python's
        calendar cannot hold (the years before 1 and after 9999); in Arrow they are what they are.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().describe().to_dicts()
        []
        """
        return self._native.to_dicts(0, len(self))

    def to_arrow(self) -> pyarrow.Table:
        """A `pyarrow.Table`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().describe().to_arrow().num_rows
        0
        """
        try:
            import pyarrow
        except ImportError as error:
            raise _missing("pyarrow", "pandas") from error
        return pyarrow.table(self)

    def to_polars(self) -> polars.DataFrame:
        """A `polars.DataFrame`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().describe().to_polars().height
        0
        """
        try:
            import polars
        except ImportError as error:
            raise _missing("polars", "polars") from error
        return polars.DataFrame(self)

    def to_pandas(self) -> pandas.DataFrame:
        """A `pandas.DataFrame`; needs pandas and pyarrow (the extra `kappa[pandas]`)."""
        try:
            import pandas  # noqa: F401 - so that the message names what is missing
        except ImportError as error:
            raise _missing("pandas", "pandas") from error
        return self.to_arrow().to_pandas()

    def first(self, limit: int) -> list[dict[str, Any]]:
        """The first rows as they are shown: sorted by their columns if there are at most 10,000 in all.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("b")
        ...     kappa.Log().create("a")
        ...     [row["topic"] for row in kappa.Log().describe().first(1)]
        ['a']
        """
        if len(self) > _SORTED:
            return self._native.to_dicts(0, limit)
        return sorted(self.to_dicts(), key=_order)[:limit]

    def __repr__(self) -> str:
        return self.format(_SHOWN)

    def format(self, limit: int | None = None) -> str:
        """The rows as a text table, at most `limit` of them.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("payments")
        ...     print(kappa.Log().describe().format(1).splitlines()[-1])
        1 row
        """
        names, kinds, cells, aligns = self._cells(limit)
        columns = [list(column) for column in zip(names, kinds, *cells, strict=True)]
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(
                value.rjust(width) if align == "right" else value.ljust(width)
                for value, width, align in zip(line, widths, aligns, strict=True)
            ).rstrip()
            for line in [names, kinds, ["─" * width for width in widths], *cells]
        ]
        return "\n".join([*lines, self._footer(limit)])

    def _repr_html_(self) -> str:
        names, kinds, cells, aligns = self._cells(_SHOWN)
        return html.table(names, kinds, cells, aligns) + html.note(self._footer(_SHOWN))

    def _cells(self, limit: int | None) -> tuple[list[str], list[str], list[list[str]], list[str]]:
        schema = self.schema
        shown = len(self) if limit is None else min(limit, len(self))
        cells = [[words.cell(row[name]) for name in schema] for row in self.first(shown)]
        numeric = ("Int", "Float", "Decimal")
        aligns = ["right" if repr(dtype).startswith(numeric) else "left" for dtype in schema.values()]
        return list(schema), [repr(dtype) for dtype in schema.values()], cells, aligns

    def _footer(self, limit: int | None) -> str:
        total = words.count(len(self), "row")
        return total if limit is None or len(self) <= limit else f"{total}, the first {limit} shown"


def _order(row: dict[str, Any]) -> list[tuple[int, Any]]:
    """Null and NaN after all else; lists and structs by their text, as times that Python's calendar cannot hold."""
    return [
        (2, 0) if value is None or value != value else (int(isinstance(value, str)), _comparable(value))
        for value in row.values()
    ]


def _comparable(value: object) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def _missing(package: str, extra: str) -> ImportError:
    return ImportError(f"{package} is not installed: pip install {package} (or the extra kappa[{extra}])")
