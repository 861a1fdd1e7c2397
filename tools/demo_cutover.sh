#!/usr/bin/env bash
# The incident: a metric is wrong, and dashboards show it. The fix is built beside it, compared, shown, taken back and shown again.
# Everything lies in .kappa-demo-cutover. KAPPA_DEMO_EVENTS changes the size of the log.
set -euo pipefail
cd "$(dirname "$0")/.."
KAPPA_DEMO_EVENTS="${KAPPA_DEMO_EVENTS:-1000000}"
. tools/demo_common.sh
name=metric.distinct_merchants
look() { "$bin/kappa" read "$name" -n 3; }

rm -rf .kappa-demo-cutover
mkdir .kappa-demo-cutover
cd .kappa-demo-cutover
say "1. $events payments over eight weeks"
"$bin/python" "$root/examples/payments.py" --events "$events" > payments.jsonl
"$bin/kappa" log create "$topic" --partitions 4
"$bin/kappa" log append "$topic" payments.jsonl

say "2. version 3, which counts the payments that were NOT captured; the name that dashboards read shows it"
sed 's/status") == "captured"/status") != "captured"/' "$root/examples/kappa_distinct_merchants.py" > wrong.py
"$bin/python" wrong.py --mode reprocess --output-table "${name}_v3"
"$bin/kappa" promote "$name" "${name}_v3"
look

say "3. 02:00: the number is far too low. The script is mended, and tried on the last day beside the plan that serves"
cp "$root/examples/kappa_distinct_merchants.py" right.py
diff wrong.py right.py || true
"$bin/python" right.py --preview 24h --certify --output-table "${name}_v4" || [ $? = 1 ] # 1: something differs

say "4. version 4 is built beside version 3"
"$bin/python" right.py --mode reprocess --output-table "${name}_v4"

say "5. kappa diff ${name}_v3 ${name}_v4"
"$bin/kappa" diff "${name}_v3" "${name}_v4" --exit-zero

say "6. why is one day not the same?"
"$bin/kappa" diff "${name}_v3" "${name}_v4" --explain day=2026-04-25 --exit-zero

say "7. kappa promote $name ${name}_v4"
"$bin/kappa" promote "$name" "${name}_v4"
look

say "8. was that right? kappa rollback $name, and as it was before"
"$bin/kappa" rollback "$name"
look

say "9. it was: once more"
"$bin/kappa" promote "$name" "${name}_v4"
look
"$bin/kappa" serving history "$name"

say "10. and a week later: what goes (here the week is a moment, and the grace another)"
"$bin/kappa" gc --older-than 0s
"$bin/kappa" gc --older-than 0s --grace 0s --apply --quiet
"$bin/kappa" gc --older-than 0s --grace 0s --apply
look
"$bin/kappa" status
