"""The query in Flink SQL, as Flink's own benchmarks set it up: mini-batches, distinct counts split by hash, checkpoints
exactly once every 10 s. The answer goes to Flink's print sink.

python flink_sql.py ADDRESS TOPIC FOLDER [--no-split]
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyflink.table import EnvironmentSettings, TableEnvironment

SETTINGS = {
    "parallelism.default": "2",
    "execution.checkpointing.interval": "10 s",
    "execution.checkpointing.mode": "EXACTLY_ONCE",
    "table.exec.mini-batch.enabled": "true",
    "table.exec.mini-batch.allow-latency": "1 s",
    "table.exec.mini-batch.size": "50000",
    "table.local-time-zone": "Asia/Kolkata",
    "rest.port": "0",
    "rest.bind-port": "0",
}


def main(address: str, topic: str, folder: str, *options: str) -> None:
    """Runs the job to the present end of the topic."""
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    config = tables.get_config()
    for name, value in SETTINGS.items():
        config.set(name, value)
    config.set("execution.checkpointing.dir", Path(folder, "checkpoints").resolve().as_uri())
    config.set("table.optimizer.distinct-agg.split.enabled", "false" if "--no-split" in options else "true")
    config.set("python.executable", sys.executable)
    tables.execute_sql(f"""
        create table payments (status string, amount bigint, merchant_id string, event_time bigint) with (
            'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{address}',
            'properties.group.id' = 'flink-sql', 'scan.startup.mode' = 'earliest-offset',
            'scan.bounded.mode' = 'latest-offset', 'format' = 'json')""")
    tables.execute_sql("create table answer (`day` date, merchants bigint) with ('connector' = 'print')")
    tables.execute_sql("""
        insert into answer
        select cast(to_timestamp_ltz(event_time, 3) as date), count(distinct merchant_id)
        from payments where status = 'captured' and amount > 0
        group by cast(to_timestamp_ltz(event_time, 3) as date)""").wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
