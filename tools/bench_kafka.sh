#!/usr/bin/env bash
# From a real Kafka broker, in one run: librdkafka and the Java client that throw records away, kappa with checkpoints every 1,
# 10 and 60 s, Flink SQL, PyFlink, Pathway and Bytewax on the same query, and kappa's live latency. Writes
# .kappa-bench/kafka/results.md and results.json. KAPPA_BENCH_EVENTS changes the number of records (10 million); options go
# to benches/kafka/bench.py. Peers are fetched into KAPPA_CACHE (2.6 GB); one that cannot be had is named with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v kcat >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing a system package: kcat" >&2
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq kcat; } >/dev/null 2>&1 ||
    echo "kcat cannot be installed; its row will say so" >&2
fi
exec .venv/bin/python benches/kafka/bench.py --events "${KAPPA_BENCH_EVENTS:-10000000}" "$@"
