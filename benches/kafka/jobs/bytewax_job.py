"""The query in Bytewax: orjson, a stateful step that takes batches. Run by Bytewax's own launcher, which keeps recovery
snapshots; ADDRESS, TOPIC and RESULT come as BENCH_ variables. The changes go to RESULT.<process> as JSON lines.

python -m bytewax.run bytewax_job.py …
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition


class DistinctMerchants(StatefulBatchLogic):
    """The merchants of a day."""

    def __init__(self, seen: set[str] | None) -> None:
        self.seen = seen or set()

    def on_batch(self, values):
        """New merchants change the day's number."""
        before = len(self.seen)
        self.seen.update(values)
        return ([len(self.seen)] if len(self.seen) > before else [], StatefulBatchLogic.RETAIN)

    def snapshot(self):
        """What recovery gives back."""
        return set(self.seen)


class ResultPart(StatelessSinkPartition):
    """A file for each worker."""

    def __init__(self, path: str) -> None:
        self.file = Path(path).open("a")  # noqa: SIM115 (closed by `close`)

    def write_batch(self, items):
        """Appends the changes."""
        self.file.writelines(json.dumps({"day": int(day), "merchants": merchants}) + "\n" for day, merchants in items)

    def close(self):
        """Everything is in the file."""
        self.file.close()


class Result(DynamicSink):
    """The changes as JSON lines."""

    def build(self, step_id, worker_index, worker_count):
        """The part of a worker."""
        return ResultPart(f"{os.environ['BENCH_RESULT']}.{worker_index}")


def decode(messages):
    """The day and merchant of the payments that count."""
    loads = orjson.loads
    payments = [loads(message.value) for message in messages]
    return [
        (str((each["event_time"] + 19_800_000) // 86_400_000), each["merchant_id"])
        for each in payments
        if each["status"] == "captured" and each["amount"] > 0
    ]


flow = Dataflow("distinct_merchants")
source = KafkaSource([os.environ["BENCH_ADDRESS"]], [os.environ["BENCH_TOPIC"]], tail=False, batch_size=10_000)
pairs = op.flat_map_batch("decode", op.input("payments", flow, source), decode)
op.output("answer", op.stateful_batch("distinct", pairs, DistinctMerchants), Result())
