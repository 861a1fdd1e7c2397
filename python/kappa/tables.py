"""Reading result tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kappa import _kappa
from kappa.exceptions import ConfigError
from kappa.rows import Rows
from kappa.settings import resolve


def read(
    table: str, *, snapshot: int | None = None, as_of: datetime | int | None = None, config: Mapping[str, Any] | None = None
) -> Rows:
    """The rows of a table or name, deletes honoured: now, of a snapshot, or as they were at a time. With `as_of=-1` those that
    a name showed before its last promote or rollback, with -2 before the one before that.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     job = kappa.Job("docs")
    ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...     report = job.run(mode="reprocess", output_table="times", progress=False)
    ...     kappa.read("times").to_dicts()
    []
    """
    if snapshot is not None and as_of is not None:
        raise ConfigError("give either snapshot or as_of", code="invalid_argument")
    if isinstance(as_of, datetime):
        if as_of.tzinfo is None:
            raise ConfigError("as_of has no time zone", code="invalid_argument", hint="datetime(…, tzinfo=timezone.utc)")
        return Rows(_kappa.read(resolve(config), table, snapshot, int(as_of.timestamp() * 1000), None))
    if as_of is not None and as_of >= 0:
        hint = "-1 is before the last promote; a time is a datetime"
        raise ConfigError(f"as_of={as_of} is no number of turns back", code="invalid_argument", hint=hint)
    return Rows(_kappa.read(resolve(config), table, snapshot, None, None if as_of is None else -as_of))
