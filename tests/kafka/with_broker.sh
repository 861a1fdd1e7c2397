#!/usr/bin/env bash
# Runs a command with KAPPA_KAFKA set to the address of an Apache Kafka broker that is there for it alone. Where Java or
# Maven is missing the command runs without one, and its tests say what they have not checked.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
python="$here/../../.venv/bin/python"
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then exec "$@"; fi
work="$(mktemp -d)"
"$python" "$here/broker.py" start --address-file "$work/address" > "$work/log" 2>&1 &
broker=$!
trap 'kill "$broker" 2>/dev/null || true; wait "$broker" || true; rm -rf "$work"' EXIT
until [ -s "$work/address" ]; do
  kill -0 "$broker" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
KAPPA_KAFKA="$(cat "$work/address")" "$@"
