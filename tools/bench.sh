#!/usr/bin/env bash
# Speeds, in one run on the same data: decode alone, log append and scan, the demo's job end to end at 1 and 2 threads, and
# DuckDB and Polars computing the same from the same JSON. Writes .kappa-bench/results.md and results.json.
# KAPPA_BENCH_EVENTS changes the size of the log (20 million).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .kappa-bench
tools/cargo.sh bench --bench decode 2>&1 | tee .kappa-bench/decode.txt
tools/cargo.sh bench --bench log 2>&1 | tee .kappa-bench/log.txt
exec .venv/bin/python tools/bench.py "${KAPPA_BENCH_EVENTS:-20000000}"
