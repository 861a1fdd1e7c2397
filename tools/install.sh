#!/usr/bin/env bash
# Installs the wheel of the sources as they are in .venv, unless it is there already.
set -euo pipefail
cd "$(dirname "$0")/.."
wheel="$(tools/wheel.sh)"
if [ "$(cat .venv/.wheel 2>/dev/null)" = "$wheel" ]; then exit 0; fi
rm -f .venv/.wheel
.venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps --no-index "$wheel"
echo "$wheel" > .venv/.wheel
echo "installed $(basename "$wheel") in .venv" >&2
