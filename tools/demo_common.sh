# Sourced by the demos, from the repository's root: how many payments, where they go, and how a step is announced.
events="${KAPPA_DEMO_EVENTS:-5000000}"
table="${KAPPA_DEMO_TABLE:-metric.distinct_merchants_v4}"
topic=payments.captured.v1
root="$PWD"
bin="$root/.venv/bin"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '\n%s\n' "$*"; }
