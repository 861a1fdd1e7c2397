#!/usr/bin/env bash
# cargo with the project's cache and linker; says how long a first build takes before it starts.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/notice.sh
. tools/env.sh
exec cargo "$@"
