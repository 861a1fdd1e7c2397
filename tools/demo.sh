#!/usr/bin/env bash
# The demo: a seeded log of payments, the job over all of it, the table, and DuckDB's answer from the same records.
# Everything lies in .kappa-demo. KAPPA_DEMO_EVENTS changes the size of the log.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/demo_common.sh

mkdir -p .kappa-demo
cd .kappa-demo
if [ "$(cat events 2>/dev/null)" != "$events" ]; then
  rm -rf .kappa events payments.jsonl
  say "1. $events payments over eight weeks, 4 partitions, out of order, some late (seeded: the same for everybody)"
  "$bin/python" "$root/examples/payments.py" --events "$events" > payments.jsonl
  "$bin/kappa" log create "$topic" --partitions 4
  "$bin/kappa" log append "$topic" payments.jsonl
  echo "$events" > events
else
  say "1. the log of $events payments is there already"
fi

say "2. python kappa_distinct_merchants.py --mode reprocess --output-table $table"
# A run that was killed resumes; one that has finished is refused (exit status 3), and is replaced.
job=("$bin/python" "$root/examples/kappa_distinct_merchants.py" --mode reprocess --output-table "$table")
status=0
"${job[@]}" || status=$?
if [ "$status" = 3 ]; then
  say "   it is complete already: once more, with --replace"
  "${job[@]}" --replace
elif [ "$status" != 0 ]; then
  exit "$status"
fi

say "3. kappa read $table"
"$bin/kappa" read "$table" -n 60

say "4. the same from the same records by DuckDB, compared row by row"
"$bin/python" "$root/tools/check_demo.py" payments.jsonl "$table"
