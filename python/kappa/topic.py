"""Topics as places to write to."""

from __future__ import annotations

from collections.abc import Sequence

from kappa.callsite import plan_error
from kappa.expr import Node


class KafkaTopic:
    """A topic of a Kafka cluster that `Job.write` sends its rows to, as JSON: each exactly once, for readers of committed
    records (`isolation.level=read_committed`).

    `key` names the columns that the key of a record is made of, a JSON object of them; without it records have no key. A
    grouped result always has its group key: each change is a record with the new row, or without a value where a filter
    takes the row away. The cluster is that of `sink.url`, which is `log.url` unless it is set.

    >>> import kappa
    >>> job = kappa.Job("daily-totals")
    >>> payments = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
    >>> daily = payments.group_by(day=kappa.col("at").dt.date()).agg(total=kappa.col("amount").sum())
    >>> job.write(daily, to=kappa.KafkaTopic("payments.daily"))
    >>> "upsert, primary key (day), to topic payments.daily" in job.explain()
    True
    """

    __slots__ = ("key", "topic")

    def __init__(self, topic: str, *, key: str | Sequence[str] | None = None) -> None:
        given: object = key
        names = [key] if isinstance(key, str) else list(key or [])
        if not isinstance(topic, str) or not all(isinstance(name, str) for name in names):
            raise plan_error(
                f"KafkaTopic({topic!r}, key={given!r}) is not understood",
                code="invalid_argument",
                hint='a name, and names of columns: kappa.KafkaTopic("payments.daily", key=["merchant_id"])',
            )
        self.topic = topic
        self.key = tuple(names)

    def __repr__(self) -> str:
        key = f", key={list(self.key)}" if self.key else ""
        return f'KafkaTopic("{self.topic}"{key})'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KafkaTopic) and (self.topic, self.key) == (other.topic, other.key)

    def __hash__(self) -> int:
        return hash((self.topic, self.key))

    def _node(self) -> Node:
        return {"topic": self.topic, **({"key": list(self.key)} if self.key else {})}
