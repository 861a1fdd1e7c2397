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
    table: str, *, snapshot: int | None = None, as_of: datetime | None = None, config: Mapping[str, Any] | None = None
) -> Rows:
    """The rows of a table, deletes honoured: now, of a snapshot, or as they were at a time.

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
    if as_of is not None and as_of.tzinfo is None:
        raise ConfigError("as_of has no time zone", code="invalid_argument", hint="datetime(…, tzinfo=timezone.utc)")
    as_of_ms = None if as_of is None else int(as_of.timestamp() * 1000)
    return Rows(_kappa.read(resolve(config), table, snapshot, as_of_ms))
