#!/usr/bin/env bash
# Makes .venv with tools/requirements.txt, once for each version of that file.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-python3}"
stamp=".venv/.requirements-$(cat tools/requirements.txt <("$python" --version) | sha256sum | cut -c1-16)"
if [ -f "$stamp" ]; then exit 0; fi
echo "making the virtual environment .venv (a minute)" >&2
rm -rf .venv
"$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement tools/requirements.txt
touch "$stamp"
