"""The query in Pathway, with its persistence on: two group-bys, which it is quick at. The changes go to RESULT as JSON lines.

python pathway_job.py ADDRESS TOPIC FOLDER RESULT
"""

from __future__ import annotations

import sys
from pathlib import Path

import pathway as pw


class Payment(pw.Schema):
    """The columns that the query uses."""

    status: str
    amount: int
    merchant_id: str
    event_time: int


def main(address: str, topic: str, folder: str, result: str) -> None:
    """Runs the job to the present end of the topic."""
    settings = {"bootstrap.servers": address, "group.id": "pathway", "auto.offset.reset": "earliest"}
    payments = pw.io.kafka.read(
        settings, topic=topic, format="json", schema=Payment, mode="static", autocommit_duration_ms=1000, name="payments"
    )
    pairs = payments.filter((pw.this.status == "captured") & (pw.this.amount > 0)).select(
        day=(pw.this.event_time + 19_800_000) // 86_400_000, merchant=pw.this.merchant_id
    )
    distinct = pairs.groupby(pw.this.day, pw.this.merchant).reduce(pw.this.day)
    pw.io.jsonlines.write(distinct.groupby(pw.this.day).reduce(pw.this.day, merchants=pw.reducers.count()), result)
    backend = pw.persistence.Backend.filesystem(str(Path(folder, "persistence")))
    pw.run(
        monitoring_level=pw.MonitoringLevel.NONE,
        persistence_config=pw.persistence.Config(backend, snapshot_interval_ms=10_000),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
