"""kappa: stream-only data engineering without a cluster.

A script describes a job; `--mode live` keeps its Iceberg table up to date, `--mode reprocess` builds another version of it
from the whole log, exactly once. Rows never enter Python.

    >>> import kappa
    >>> from kappa import col
    >>> job = kappa.Job("distinct-merchants")
    >>> payments = job.read(
    ...     "payments.captured.v1",
    ...     schema={"merchant_id": kappa.String, "event_time": kappa.Timestamp("ms")},
    ...     event_time="event_time",
    ... )
    >>> daily = payments.group_by(day=col("event_time").dt.date()).agg(merchants=col("merchant_id").count_distinct())
    >>> job.write(daily)
    >>> daily.schema
    {'day': Date, 'merchants': Int64}
"""

from kappa import exceptions
from kappa._kappa import __version__
from kappa.collection import GcReport, gc
from kappa.comparison import Diff, diff
from kappa.cutover import Promotion, Serving, promote, rollback, serving
from kappa.datatypes import (
    Boolean,
    DataType,
    Date,
    Decimal,
    Float64,
    Int32,
    Int64,
    List,
    String,
    Struct,
    Timestamp,
)
from kappa.explanation import Explanation
from kappa.expr import Expr, IntoExpr
from kappa.functions import coalesce, col, len, lit, when
from kappa.job import Finding, Job
from kappa.log import Log, Record
from kappa.overview import Status, status
from kappa.planning import Plan
from kappa.previewing import Preview
from kappa.queries import sql
from kappa.report import RunReport
from kappa.rows import Rows
from kappa.run import Mode, Run, RunStatus
from kappa.stream import GroupedStream, Stream
from kappa.tables import read
from kappa.topic import KafkaTopic
from kappa.units import Duration, Position

__all__ = [
    "Boolean",
    "DataType",
    "Date",
    "Decimal",
    "Diff",
    "Duration",
    "Explanation",
    "Expr",
    "Finding",
    "Float64",
    "GcReport",
    "GroupedStream",
    "Int32",
    "Int64",
    "IntoExpr",
    "Job",
    "KafkaTopic",
    "List",
    "Log",
    "Mode",
    "Plan",
    "Position",
    "Preview",
    "Promotion",
    "Record",
    "Rows",
    "Run",
    "RunReport",
    "RunStatus",
    "Serving",
    "Status",
    "Stream",
    "String",
    "Struct",
    "Timestamp",
    "__version__",
    "coalesce",
    "col",
    "diff",
    "exceptions",
    "gc",
    "len",
    "lit",
    "promote",
    "read",
    "rollback",
    "serving",
    "sql",
    "status",
    "when",
]
