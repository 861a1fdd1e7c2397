#!/usr/bin/env bash
# Java, Maven, and Apache Kafka by them: what tests and demos with a real broker need. Where they cannot be had this says so
# and goes on, and the tests that need them are skipped; with KAPPA_REQUIRE_KAFKA=1 it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
if tools/system.sh kafka && .venv/bin/python tests/kafka/broker.py prepare; then exit 0; fi
if [ "${KAPPA_REQUIRE_KAFKA:-}" = 1 ]; then exit 1; fi
echo "SKIPPED: Apache Kafka cannot be started here; what needs a broker is not tested" >&2
