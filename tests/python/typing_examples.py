"""Checked by mypy --strict: what users write has the types that it should have."""

from datetime import datetime, timezone
from decimal import Decimal

from typing_extensions import assert_type

import kappa
from kappa import Expr, Rows, RunReport, Stream, col, lit, when

job = kappa.Job("typed")
payments = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
assert_type(payments, Stream)
assert_type(col("amount") > 0, Expr)
assert_type(col("amount") == 0, Expr)
assert_type(1 - col("amount"), Expr)
assert_type((col("a") == 1) & ~col("b") | col("c"), Expr)
assert_type(col("at") >= datetime(2026, 1, 1, tzinfo=timezone.utc), Expr)
assert_type(col("price") * Decimal("1.25"), Expr)
assert_type(when(col("a") > 0).then(1).otherwise(None), Expr)
assert_type(col("a").str.slice(0, 3), Expr)
assert_type(lit(0, kappa.Int32), Expr)
daily = payments.filter(col("amount") > 0).group_by("amount", day=col("at").dt.date()).agg(kappa.len(), n=col("amount").sum())
assert_type(daily, Stream)
job.write(daily)


def later() -> None:
    assert_type(job.run(mode="live", output_table="t", from_="24h"), RunReport)
    assert_type(job.start(mode="reprocess", output_table={"a": "t"}), kappa.Run)
    assert_type(kappa.read("t"), Rows)
    assert_type(kappa.Log().append("payments", [{"a": 1}, b"x", "y"]), int)
