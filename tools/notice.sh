#!/usr/bin/env bash
# Before a first build: how long it will take.
set -euo pipefail
target="${CARGO_TARGET_DIR:-${KAPPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kappa}/target}"
if [ ! -d "$target/release/deps" ]; then
  echo "first build on this machine: about 20 minutes on 2 cores (RocksDB 5 minutes, then 300 crates; each is named" >&2
  echo "below as it starts). The result is kept in $target, outside the checkout." >&2
fi
