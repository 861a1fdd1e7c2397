#!/usr/bin/env bash
# The demo from a real Kafka broker: it is started in a temporary folder, gets the demo's payments, the same script reads
# them from there, and DuckDB's answer comes from the same records. All but the broker's data lies in .kappa-demo-kafka.
# KAPPA_DEMO_EVENTS changes how many.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/demo_common.sh

mkdir -p .kappa-demo-kafka
cd .kappa-demo-kafka
# Each run has a broker of its own, so tables and checkpoints of the last one belong to a topic that is gone.
rm -rf .kappa address
if [ "$(cat events 2>/dev/null)" != "$events" ]; then
  rm -f events
  "$bin/python" "$root/examples/payments.py" --events "$events" > payments.jsonl
  echo "$events" > events
fi

say "1. Apache Kafka, one node"
"$bin/python" "$root/tests/kafka/broker.py" start --heap 1g --bench --address-file address > /dev/null &
broker=$!
trap 'kill "$broker" 2>/dev/null || true; wait "$broker" || true' EXIT
until [ -s address ]; do
  kill -0 "$broker" 2>/dev/null || { echo "the broker has not started" >&2; exit 1; }
  sleep 0.1
done
address="$(cat address)"

say "2. $events payments over eight weeks to $topic, 4 partitions, out of order, some late (seeded: the same for everybody)"
"$bin/python" "$root/tests/kafka/fill.py" "$address" "$topic" payments.jsonl --partitions 4

export KAPPA_LOG_URL="kafka://$address"
say "3. KAPPA_LOG_URL=$KAPPA_LOG_URL python kappa_distinct_merchants.py --mode reprocess --output-table $table"
"$bin/python" "$root/examples/kappa_distinct_merchants.py" --mode reprocess --output-table "$table"

say "4. kappa read $table"
"$bin/kappa" read "$table" -n 60

say "5. the same from the same records by DuckDB, compared row by row"
"$bin/python" "$root/tools/check_demo.py" payments.jsonl "$table"
