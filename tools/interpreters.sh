#!/usr/bin/env bash
# The built wheel, without any other package, on Python 3.10 and on the newest interpreter that is there: installed, and
# the demo's script run over a small log.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel="$(tools/wheel.sh)"
here="$PWD"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

candidates() {
  compgen -c python3. | grep -E '^python3\.[0-9]+$' | sort -u | while read -r name; do command -v "$name" || true; done
  if command -v pyenv >/dev/null; then ls -d "$(pyenv root)"/versions/3.*/bin/python 2>/dev/null || true; fi
  echo "$here/.venv/bin/python"
}
versions() {
  candidates | while read -r python; do
    "$python" -c 'import ensurepip, sys; print(f"{sys.version_info[0]}.{sys.version_info[1]:02d} {sys.executable}")' 2>/dev/null || true
  done | sort -u -k1,1 | awk '$1 >= "3.10"'
}
mapfile -t found < <(versions)
oldest="$(printf '%s\n' "${found[@]}" | awk '$1 == "3.10" {print $2; exit}')"
newest="$(printf '%s\n' "${found[@]}" | tail -n 1 | cut -d' ' -f2)"
if [ -z "$oldest" ]; then echo "SKIPPED: there is no Python 3.10 on this machine; the wheel was not tried on it" >&2; fi
if [ "${#found[@]}" -lt 2 ]; then echo "SKIPPED: only one interpreter (${found[*]}); the wheel is tried on that one" >&2; fi

passed=0
for python in $(printf '%s\n' "$oldest" "$newest" | sort -u); do
  place="$work/$passed"
  mkdir "$place"
  "$python" -m venv "$place/venv"
  "$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-index "$wheel"
  ( cd "$place"
    export PATH="$place/venv/bin:$PATH"
    python "$here/examples/payments.py" --events 50000 > payments.jsonl
    kappa log create payments.captured.v1 --partitions 4
    kappa log append payments.captured.v1 payments.jsonl
    python "$here/examples/kappa_distinct_merchants.py" --mode reprocess --output-table metric.distinct_merchants_v4
    kappa read metric.distinct_merchants_v4 -n 3 )
  echo "the wheel works on $("$python" --version)"
  passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
