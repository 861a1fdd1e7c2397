#!/usr/bin/env bash
# PostgreSQL, and Java, Maven and Iceberg's REST catalog by them: what tests of the catalogs need. Where they cannot be had this says so
# and goes on, and the tests that need them are skipped; with KAPPA_REQUIRE_CATALOGS=1 it is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
if tools/system.sh catalogs && .venv/bin/python tests/catalogs/servers.py true; then exit 0; fi
if [ "${KAPPA_REQUIRE_CATALOGS:-}" = 1 ]; then exit 1; fi
echo "SKIPPED: the servers of catalogs cannot be started here; what needs them is not tested" >&2
