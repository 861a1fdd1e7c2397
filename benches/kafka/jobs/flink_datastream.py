"""The query in PyFlink's DataStream API, as it is often written: Python lambdas, and a keyed value state that holds a set.
The answer goes to Flink's print sink.

python flink_datastream.py ADDRESS TOPIC FOLDER
"""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pyflink.common import Configuration, Types, WatermarkStrategy
from pyflink.common.serialization import SimpleStringSchema
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors.kafka import KafkaOffsetsInitializer, KafkaSource
from pyflink.datastream.state import ValueStateDescriptor

ZONE = ZoneInfo("Asia/Kolkata")


class DistinctMerchants(KeyedProcessFunction):
    """The merchants of a day."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """The state: one set for each day."""
        self.seen = runtime_context.get_state(ValueStateDescriptor("seen", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, ctx):
        """A new merchant changes the day's number."""
        day, merchant = value
        seen = self.seen.value() or set()
        if merchant not in seen:
            seen.add(merchant)
            self.seen.update(seen)
            yield f"+I[{day}, {len(seen)}]"


def main(address: str, topic: str, folder: str) -> None:
    """Runs the job to the present end of the topic."""
    config = Configuration()
    config.set_string("execution.checkpointing.dir", Path(folder, "checkpoints").resolve().as_uri())
    config.set_string("python.executable", sys.executable)
    config.set_string("rest.port", "0")
    config.set_string("rest.bind-port", "0")
    env = StreamExecutionEnvironment.get_execution_environment(config)
    env.set_parallelism(2)
    env.enable_checkpointing(10_000)
    source = (
        KafkaSource.builder()
        .set_bootstrap_servers(address)
        .set_topics(topic)
        .set_group_id("flink-datastream")
        .set_starting_offsets(KafkaOffsetsInitializer.earliest())
        .set_bounded(KafkaOffsetsInitializer.latest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    (
        env.from_source(source, WatermarkStrategy.no_watermarks(), "payments")
        .map(lambda line: json.loads(line))
        .filter(lambda payment: payment["status"] == "captured" and payment["amount"] > 0)
        .map(
            lambda payment: (
                datetime.fromtimestamp(payment["event_time"] / 1000, ZONE).date().isoformat(),
                payment["merchant_id"],
            ),
            output_type=Types.TUPLE([Types.STRING(), Types.STRING()]),
        )
        .key_by(lambda pair: pair[0], key_type=Types.STRING())
        .process(DistinctMerchants(), output_type=Types.STRING())
        .print()
    )
    env.execute("distinct-merchants")


if __name__ == "__main__":
    main(*sys.argv[1:])
