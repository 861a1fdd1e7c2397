# Every target installs what it needs: system packages through apt-get where it is there, the rest in .venv and in
# $KAPPA_CACHE (default ~/.cache/kappa), outside the checkout.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help setup kafka catalogs wheel demo demo-cutover demo-kafka sim test test-rust test-python test-interpreters check format bench bench-kafka bench-state bench-table bench-diff soak clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: ## system packages and the virtual environment
	@tools/system.sh
	@PYTHON=$(PYTHON) tools/venv.sh

kafka: setup
	@tools/kafka.sh

catalogs: setup
	@tools/catalogs.sh

wheel: setup ## build the wheel (or take it from the cache) and install it in .venv
	@tools/install.sh

demo: wheel ## 5 million payments, one job, checked row by row against DuckDB
	@tools/demo.sh

demo-cutover: wheel ## a metric is wrong: try the fix, build it beside, compare, explain, promote, roll back, promote, collect (a minute)
	@tools/demo_cutover.sh

demo-kafka: wheel kafka ## the same from a real Kafka broker, which it starts and stops
	@tools/demo_kafka.sh

test: check test-rust test-python test-interpreters ## lints and all tests

test-rust: setup kafka catalogs
	@tests/kafka/with_broker.sh $(VENV)/python tests/catalogs/servers.py tools/cargo.sh test --release

test-python: wheel kafka catalogs
	$(VENV)/python -m pytest

test-interpreters: wheel
	@tools/interpreters.sh

check: wheel ## rustfmt, clippy, ruff, mypy, stubtest
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/python -m mypy.stubtest kappa._kappa --mypy-config-file pyproject.toml
	cargo fmt --check
	@tools/cargo.sh clippy --release --all-targets --features python -- -D warnings

format: setup ## rustfmt and ruff, in place
	$(VENV)/ruff format .
	$(VENV)/ruff check --fix .
	cargo fmt

sim: setup ## a thousand seeds of the simulation; about 10 minutes
	KAPPA_SIM_SEEDS=$${KAPPA_SIM_SEEDS:-1000} tools/cargo.sh test --release --test rust sim::seeds -- --nocapture

soak: wheel kafka ## kills by the thousand, outages, failover, random faults, Spark beside a live job; about an hour (KAPPA_SOAK_KILLS, KAPPA_SOAK_SECONDS)
	$(VENV)/python -m pytest -m soak -s --timeout=0

bench: wheel ## a table of speeds, beside DuckDB and Polars
	@tools/bench.sh

bench-kafka: wheel kafka ## from a real Kafka broker, beside raw clients, Flink, Pathway and Bytewax; live latency (half an hour)
	@tools/bench_kafka.sh

bench-state: wheel ## state beyond its budget of memory; what checkpoints and recovery cost (half an hour)
	$(VENV)/python benches/state/bench.py
	$(VENV)/python benches/state/checkpoints.py

bench-table: wheel ## a table of 10,000 commits, one a second: what commits and scans of it cost (a quarter of an hour)
	$(VENV)/python benches/table/age.py

bench-diff: wheel ## a diff of 10 million against 10 million rows, beside DuckDB's full outer join (a few minutes)
	$(VENV)/python benches/query/diff.py

clean: ## what the targets made in the checkout; the cache outside stays
	rm -rf .venv .kappa-demo .kappa-demo-cutover .kappa-demo-kafka .kappa-bench .kappa dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
