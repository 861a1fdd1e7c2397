#!/usr/bin/env bash
# Prints the path of the wheel for the sources as they are: from the cache, or built now. The key is made of the lock
# file, the sources and the toolchain, so that a second clone does not build again.
set -euo pipefail
cd "$(dirname "$0")/.."
cache="${KAPPA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kappa}"
key="$({
  find Cargo.toml Cargo.lock pyproject.toml src python tools/env.sh tools/rocksdb.sh -type f -not -path '*/__pycache__/*' -print0 |
    LC_ALL=C sort -z | xargs -0 sha256sum
  rustc --version --verbose
} | sha256sum | cut -c1-24)"
folder="$cache/wheels/$key"
found() { compgen -G "$folder/kappa-*.whl" | head -n 1; }
if found >/dev/null; then found; exit 0; fi
tools/notice.sh
. tools/env.sh
mkdir -p "$cache/wheels"
work="$(mktemp -d "$cache/wheels/building.XXXXXX")"
trap 'rm -rf "$work"' EXIT
echo "building the wheel" >&2
# For this machine: it has the libraries that the wheel links to (OpenSSL, curl). Nothing is copied into it.
.venv/bin/maturin build --release --locked --auditwheel skip --out "$work" --interpreter .venv/bin/python >&2
rm -rf "$folder"
mv "$work" "$folder"
found
